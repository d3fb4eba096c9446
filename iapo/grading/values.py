"""One answer, read: as yes or no, a number, a range, a ratio, a date, or words; and when two are the same."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from iapo.grading.compound import read_compound
from iapo.grading.doubts import is_doubted
from iapo.grading.forms import WEEKDAYS, Ratio, Span, read_date, read_ordinal, read_ratio, read_span
from iapo.grading.leads import without_label, without_leads, without_part
from iapo.grading.limits import Limit, read_limit
from iapo.grading.number_words import IRREGULAR_PLURAL, in_digits
from iapo.grading.numbers import Quantity, read_quantity
from iapo.grading.periods import read_period
from iapo.grading.rules import Rules
from iapo.grading.spelling import items_of, keep_minus, space_commas, spell, spell_alike
from iapo.grading.sums import calculated
from iapo.grading.text import CLOSING_STOPS, tighten
from iapo.grading.times import read_decade, read_season
from iapo.grading.truth import is_title, read_claim, read_plain_truth, read_truth
from iapo.grading.units import Side, changes_number, is_known, is_percentage, multiplies, spell_measures

_DOT = re.compile(r"\.(?!\d)")
_ARTICLE = re.compile(r"^(?:the|an|a) ")
_MARKS = "*\u2020\u2021\u2022\u2666\u00a7"
_CITATION = re.compile(r"\[(?:\d{1,3}|[a-z]|(?:note|nb|n) ?\d{1,3})\]", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:no|nr|number|#) ?(\d{1,6})|number ([a-z]{3,9})", re.ASCII)
_SHORT_DECADE = re.compile(r"([2-9]0)s", re.ASCII)
_YEAR = re.compile(r"[12]\d{3}", re.ASCII)
# With a capital it is a name: 12 Angry Men.
_PLURAL = re.compile(rf" (?:{IRREGULAR_PLURAL})$")
_SINGULAR = re.compile(r"(?:1|one|One) (?!people\b|men\b|women\b|children\b)[a-z]{3,20}", re.ASCII)
_CAPITAL = re.compile(r"[A-Z]")
_NOTE = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,4}")
_WITH_MEASURE = re.compile(r"(?P<base>[^,:;|]{1,80})(?:, with |, |: )(?P<note>[$€£¥]?\d[^,:;|]{0,40})")
_LONGEST_NAMED = 150
_LONGEST = 1000
"""Characters; a longer text has no note and no form but its words."""


@dataclass(frozen=True, slots=True)
class Value:
    """One answer, read.

    Attributes:
        key: Equal for answers that are equal without any tolerance, units aside.
        quantity: The number, where it is one.
        truth: Yes or no, where it says so.
        span: The range, where it is one.
        ratio: The ratio or the fraction, where it is one.
        ordinal: The place in an order, where it is one.
        limit: The bound, where it is one.
        words: One spelling of the text, equal for answers that are equal whatever they mean; empty of a plain number.
        wholes: The same with words before an answer that say nothing, where it has such; a gold answer may have them
            too (`Only One`, `In 2015`, `FY2013`).
        named: The words of a name with one spelling of its measures, `110m hurdles`; empty where it has none.
        items: The items of words with commas, sorted; empty where their order may count.
    """

    key: str
    quantity: Quantity | None = None
    truth: bool | None = None
    span: Span | None = None
    ratio: Ratio | None = None
    ordinal: int | None = None
    limit: Limit | None = None
    words: str = ""
    wholes: tuple[str, ...] = ()
    named: str = ""
    items: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Equal for answers that are the same item of a list."""
        number = self.quantity if self.limit is None else self.limit.number
        return self.key if number is None else f"{self.key} {number.unit}"

    def accepts(self, answer: Value, rules: Rules) -> bool:
        """Returns whether an answer is right where this is the gold one."""
        if self.words and self.words in (answer.words, *answer.wholes):
            return True
        if self.items and self.items == answer.items:
            return True
        if self.named and self.named == answer.named:
            return True
        if self.quantity is not None and answer.quantity is not None:
            return self.quantity.accepts(answer.quantity, rules)
        if self.limit is not None and answer.limit is not None:
            return self.limit.accepts(answer.limit, rules)
        if self.key == answer.key:
            return True
        if self.span is not None and answer.span is not None:
            return self.span.accepts(answer.span, rules)
        if self.ratio is not None and answer.ratio is not None:
            return (self.ratio.one, self.ratio.other, self.ratio.slash) == (
                answer.ratio.one,
                answer.ratio.other,
                answer.ratio.slash,
            )
        if self.ratio is not None and answer.quantity is not None:
            return self.ratio.is_number(answer.quantity, rules)
        if self.quantity is not None and answer.ratio is not None:
            return answer.ratio.is_number(self.quantity, rules)
        if self.ordinal is not None and answer.quantity is not None:
            return answer.quantity.value == self.ordinal and not answer.quantity.unit
        return False


class Alternatives:
    """A gold answer or a part of the model's, read with and without the note behind it.

    Args:
        text: The text, cleaned.
        rules: The data set's rules.
        side: Who wrote it.
    """

    __slots__ = ("bare", "full", "named")

    def __init__(self, text: str, rules: Rules, side: Side) -> None:
        self.full = read_value(text, rules, side)
        self.bare: Value | None = None
        self.named: Value | None = None
        if rules.wide and len(text) <= _LONGEST:
            base = _without_rest(text, rules, side)
            self.bare = None if base is None else read_value(base, rules, side)
            # Germany: 45% is the answer to either question.
            name = _before_measure(text) if side == "answer" else None
            self.named = None if name is None else read_value(name, rules, side)

    def accepts(self, answer: Alternatives, rules: Rules) -> bool:
        """Returns whether an answer is right where this is the gold one; two notes must agree."""
        if self.full.accepts(answer.full, rules):
            return True
        if self.bare is not None and self.bare.accepts(answer.full, rules):
            return True
        # "Yes (no)" is no yes.
        if self.full.truth is not None:
            return False
        return any(one is not None and self.full.accepts(one, rules) for one in (answer.bare, answer.named))


def keep_distinct(golds: Iterable[Alternatives]) -> list[Alternatives]:
    """Returns the gold answers, the note kept where only notes tell two of them apart."""
    golds = list(golds)
    # The same gold answer twice is not told apart at all.
    once = {one.full.identity: one for one in golds}
    said = Counter(one.bare.identity for one in once.values() if one.bare is not None)
    said.update(list(once))
    for gold in golds:
        if gold.bare is not None and said[gold.bare.identity] > 1:
            gold.bare = None
    return golds


def read_value(text: str, rules: Rules, side: Side) -> Value:
    """Reads one answer.

    Args:
        text: The text, cleaned.
        rules: The data set's rules.
        side: Who wrote it.
    """
    wide = rules.wide and len(text) <= _LONGEST
    text = _unquoted(_without_marks(text) or text if wide else text)
    return _wide(text, rules, side) if wide else _plain(text, side)


def _unquoted(text: str) -> str:
    # The apostrophe of '90s says which century.
    if read_decade(text) is not None:
        return text
    bare = text.strip("\"' ")
    # Dots alone have no closing one.
    if bare.endswith(CLOSING_STOPS) and bare.strip("".join(CLOSING_STOPS)):
        bare = bare[:-1]
    return bare.rstrip("\"',; ") or text


def _plain(text: str, side: Side) -> Value:
    quantity = read_quantity(text)
    if quantity is not None:
        return _number(quantity)
    said = text.casefold()
    words = space_commas(_DOT.sub("", said) or said).replace(" & ", " and ")
    words = tighten(" ".join(_ARTICLE.sub("", " ".join(words.split())).split()))
    truth = None if is_title(text) else read_plain_truth(said, side)
    return Value(f"text {words}" if truth is None else f"truth {truth}", truth=truth, words=words)


def _wide(text: str, rules: Rules, side: Side) -> Value:
    text = _without_marks(text) or text
    if side == "gold":
        return _wide_value(text, rules, side)
    *leading, bare = without_leads(text)
    # The answer is "Germany".
    bare = _unquoted(bare) if leading else bare
    wholes = tuple(spell_alike(spell(keep_minus(one).casefold())) for one in leading)
    if (short := _SHORT_DECADE.fullmatch(bare)) is not None:
        # 90 seconds, but where the gold answer is the 1990s.
        wholes = (*wholes, f"19{short[1]}s")
    return dataclasses.replace(_wide_value(bare, rules, side), wholes=wholes)


def _wide_value(text: str, rules: Rules, side: Side) -> Value:
    measured = spell_measures(text)
    named = "" if measured is None else spell_alike(spell(measured.casefold()))
    return dataclasses.replace(_read_wide(text, rules, side), named=named)


def _read_wide(text: str, rules: Rules, side: Side) -> Value:
    said = text.casefold()
    spelled = spell(said)
    words = spell_alike(spell(keep_minus(text).casefold()))
    truth = {"0": False, "1": True}.get(said, read_claim(said)) if rules.claims else read_truth(said, side)
    if truth is not None and not is_title(text):
        return Value(f"truth {truth}", truth=truth, words=words)
    # Before numbers: 2020 Q1 is none with a unit.
    if (date := read_date(spelled)) is not None:
        return Value(f"date {date}", words=words)
    if (weekday := WEEKDAYS.get(said)) is not None:
        return Value(f"weekday {weekday}", words=words)
    if (decade := read_decade(said)) is not None:
        return Value(f"decade {decade}", words=words)
    if (compound := read_compound(said)) is not None:
        return Value(f"measures {compound}", words=words)
    if (season := read_season(said)) is not None:
        return Value(f"season {season}", words=words)
    if (period := read_period(said)) is not None:
        return Value(f"period {period}", words=words)
    quantity = read_quantity(text, side)
    plural = rules.sets and side == "answer"
    if quantity is not None and not (plural and _is_named(text, quantity)):
        return dataclasses.replace(_number(quantity), words=words)
    if (ordinal := read_ordinal(words)) is not None and not said.startswith("a "):
        return Value(f"ordinal {ordinal}", ordinal=ordinal, words=words)
    # No. 5 and #5; 5 says the same where it is the gold answer.
    if (numbered := _NUMBERED.fullmatch(spelled)) is not None:
        # Number one.
        place = numbered[1] or in_digits(numbered[2])
        if place.isdecimal():
            return Value(f"numbered {int(place)}", ordinal=int(place), words=words)
    if (limit := read_limit(text, side)) is not None:
        return Value(f"limit {limit.key}", limit=limit, words=words)
    span = read_span(text, side)
    # 2010-11 season is no name of something else.
    if span is not None and plural and span.end.unit != "season" and _is_named(text, span.end):
        span = None
    return Value(f"text {words}", span=span, ratio=read_ratio(text), words=words, items=items_of(spelled))


def _is_named(text: str, quantity: Quantity) -> bool:
    """Tells whether the words behind a number are no plural, and so name something: `76 trombone`, `20 Athens`."""
    head = quantity.unit.split(" per ")[0].split(" of ")[0]
    if not head or head.startswith("per_") or is_known(head):
        return False
    if quantity.value == 1 and _SINGULAR.fullmatch(text):
        return False
    return not (text.endswith("s") or (_PLURAL.search(text) is not None and not _CAPITAL.search(text)))


def _number(quantity: Quantity) -> Value:
    return Value(f"number {quantity.value.normalize():f}", quantity)


def _without_marks(text: str) -> str:
    """Leaves out the marks of footnotes behind a text: stars, daggers, `[1]`; `#` only behind a word."""
    while text:
        bare = text.rstrip(_MARKS + " ")
        if bare.endswith("]") and (place := bare.rfind("[")) > 0 and _CITATION.fullmatch(bare[place:]):
            bare = bare[:place].rstrip()
        if bare.endswith("#") and bare[-5:-1].isalpha() and len(bare) > 4:
            bare = bare[:-1]
        if bare == text:
            break
        text = bare
    return text


def _without_rest(text: str, rules: Rules, side: Side) -> str | None:
    """Returns a text without a note behind it, or a label or the name of a part around it; None where there is none."""
    text = _without_marks(_unquoted(_without_marks(text)))
    part = without_part(text, side)
    return part or _without_note(text, rules, side) or without_label(text, side)


def _without_note(text: str, rules: Rules, side: Side) -> str | None:
    """Returns a text without the note in brackets behind it, or None where there is none.

    A note of the model's must not hold another answer: where a note may tell two things apart it must be the measure
    of a name or a year, `Germany (45%)`, or say a number again, `five (5)`, and elsewhere words.
    """
    place = text.rfind(" (")
    if not text.endswith(")") or place <= 0:
        return None
    note = text[place + 2 : -1]
    if "(" in note or ")" in note or not note.strip():
        return None
    base = text[:place].rstrip()
    says_nothing_else = _is_measure(note, base) or _says_again(note, base)
    # "five (six)" names two.
    is_aside = rules.sets and _is_aside(note, base) and read_quantity(note, "answer") is None
    if side == "answer" and not (says_nothing_else or is_aside):
        return None
    return base or None


def _before_measure(text: str) -> str | None:
    """Returns the name in `Germany, 45%`, `Germany, with 45%` or `Germany: 45%`; None where there is none."""
    found = _WITH_MEASURE.fullmatch(_unquoted(text)) if len(text) <= _LONGEST_NAMED else None
    if found is None or not _is_measure(found["note"], found["base"]):
        return None
    number = read_quantity(found["note"], "answer")
    # `Germany, 3 others` names more than one.
    if number is None or (number.unit and not (is_known(number.unit) or is_percentage(number.unit))):
        return None
    # 2015, 2.5 may be two answers.
    return None if _YEAR.fullmatch(found["base"]) and not (number.unit or number.scale) else found["base"]


def _says_again(note: str, base: str) -> bool:
    """Tells whether a note says the number before it again, or how it comes about: `five (5)`, `14 (2 + 12)`."""
    number = read_quantity(without_leads(base)[-1], "answer")
    if number is None:
        return False
    again = read_quantity(note, "answer")
    if again is not None:
        return again.value == number.value and again.unit in ("", number.unit)
    return calculated(note) == number.value


def _is_aside(note: str, base: str) -> bool:
    """Tells whether a note is words that neither doubt the answer before it nor make another one of it."""
    if _NOTE.fullmatch(note) is None or is_doubted(note.casefold().split()) or multiplies(note):
        return False
    return not (changes_number(note) and read_quantity(base, "answer") is not None)


def _is_measure(note: str, base: str) -> bool:
    """Tells whether a note is a number with a unit, a scale or a point, behind a name or a year."""
    if any(letter.isdigit() for letter in base) and not _YEAR.fullmatch(base):
        return False
    number = read_quantity(note, "answer")
    return number is not None and bool(number.unit or number.scale or "." in note)
