"""Sums, differences, products and quotients that stand in answers, worked out (docs/grading.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal

from iapo.grading.numbers import Quantity

_LONGEST = 100
"""Characters, which bound the number of steps."""
_DEEPEST = 10
"""Brackets within brackets."""
_LARGEST_BASE = Decimal(10) ** 12
_LARGEST_EXPONENT = 20

_TERM = r"[$€£¥]?(?:(?:\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.\d{1,9})?|\.\d{1,9})%?"
_TOKENS = re.compile(rf"(?: ?(?:\*\*|[-+*x×/÷()]|{_TERM}(?![\d.,])))++ ?", re.ASCII)
_TOKEN = re.compile(rf"\*\*|[-+*x×/÷()]|{_TERM}", re.ASCII)
_SIGNS = frozenset(("**", *"-+*x×/÷"))
_TIMES = frozenset("*x×")
_DIVIDES = frozenset("/÷")
# 12/31/2015 = 24, 65+ = 24.
_LABEL = re.compile(r"\d\d?/\d\d?/\d{4}|[\d.,]+ ?\+", re.ASCII)


def calculated(text: str) -> Decimal | None:
    """Returns what a calculation comes to: `2 + 12` is 14, `(2 + 26) / 2` too; None where a text is none.

    Args:
        text: The text, cleaned.
    """
    tokens = _read(text.removeprefix("=").strip())
    # 2 + 12% are no 14.
    if len({token.strip("0123456789.,") for token in tokens if token[-1] in "0123456789.%"}) > 1:
        return None
    return _Calculation(tokens).result()


def comes_to(terms: str, number: Quantity) -> bool:
    """Tells whether a calculation comes to a number, as far as the number says; also where it is a label.

    In `45 - 30 = 15%` the percent sign is the answer's unit, in `21 / 42 = 50%` it means hundredths, and so
    it may in terms: `20% * 50% = 10%`.

    Args:
        terms: What stands before the equals sign, cleaned.
        number: What stands behind it.
    """
    tokens = _read(terms)
    if not tokens or _LABEL.fullmatch(terms):
        return True
    results = [_Calculation(tokens).result(), _Calculation(tokens, hundredths=True).result()]
    exponent = int(number.value.as_tuple().exponent)
    # 45 - 30 = 15 million, and 45,000,000 - 30,000,000 = 15 million.
    ways = {number.scale: min(0, exponent - number.scale), 0: exponent if number.scale else min(0, exponent)}
    # A quotient may be cut short: 200 / 3 = 66.6.
    part = 1 if not _DIVIDES.isdisjoint(tokens) else Decimal("0.5")
    return any(
        abs(result.scaleb(percent) - number.value.scaleb(-scale)) <= part * Decimal(1).scaleb(last)
        for scale, last in ways.items()
        for result in results
        if result is not None
        for percent in ((0, 2) if number.unit == "%" else (0,))
    )


def _read(text: str) -> list[str]:
    """Returns the numbers, signs and brackets of a calculation; none where it has no sign, or anything else in it."""
    if len(text) > _LONGEST or not _TOKENS.fullmatch(text):
        return []
    tokens = _TOKEN.findall(text)
    return [] if _SIGNS.isdisjoint(tokens) else tokens


class _UnreadError(Exception):
    """No calculation, or one without a result."""


@dataclass
class _Calculation:
    """Works out a calculation, what multiplies before what adds.

    Attributes:
        tokens: Its numbers, signs and brackets.
        hundredths: Whether a percent sign means hundredths, and behind plus and minus those of what stands before.
    """

    tokens: list[str]
    hundredths: bool = False
    _place: int = field(default=0, init=False)
    _depth: int = field(default=0, init=False)

    def result(self) -> Decimal | None:
        """Returns what it comes to; None where it is no calculation, or has no result."""
        try:
            value, _ = self._sum()
            if self._place < len(self.tokens):
                return None
        except (_UnreadError, ZeroDivisionError):
            return None
        return value

    def _next(self) -> str:
        return self.tokens[self._place] if self._place < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self._place += 1
        return token

    def _sum(self) -> tuple[Decimal, bool]:
        value, is_share = self._product()
        while self._next() in ("+", "-"):
            sign = self._take()
            number, other = self._product()
            # 200 + 10% = 220.
            if other and not is_share:
                number *= value
            value = value + number if sign == "+" else value - number
        return value, is_share

    def _product(self) -> tuple[Decimal, bool]:
        value, is_share = self._power()
        while (sign := self._next()) in _TIMES | _DIVIDES | {"("}:
            # 3 (4 + 5).
            if sign != "(":
                self._take()
            number, _ = self._power()
            if sign in _DIVIDES and not number:
                raise ZeroDivisionError
            value, is_share = value / number if sign in _DIVIDES else value * number, False
        return value, is_share

    def _power(self) -> tuple[Decimal, bool]:
        if self._next() in ("-", "+"):
            sign = self._take()
            if self._next() in ("-", "+"):
                raise _UnreadError
            value, is_share = self._power()
            return (-value if sign == "-" else value), is_share
        value, is_share = self._term()
        if self._next() != "**":
            return value, is_share
        self._take()
        exponent, _ = self._term()
        whole = exponent == exponent.to_integral_value() and 0 <= exponent <= _LARGEST_EXPONENT
        if not whole or abs(value) > _LARGEST_BASE or self._next() == "**":
            raise _UnreadError
        return (value ** int(exponent) if exponent else Decimal(1)), False

    def _term(self) -> tuple[Decimal, bool]:
        token = self._take()
        if token == "(":
            self._depth += 1
            if self._depth > _DEEPEST:
                raise _UnreadError
            value, is_share = self._sum()
            if self._take() != ")":
                raise _UnreadError
            self._depth -= 1
            return value, is_share
        if not token or token in _SIGNS or token == ")":
            raise _UnreadError
        value = Decimal(token.strip("$€£¥%").replace(",", ""))
        is_share = self.hundredths and token.endswith("%")
        return (value.scaleb(-2) if is_share else value), is_share
