"""The outcome reward: is the final answer right? The rules stand in docs/grading.md."""

from __future__ import annotations

import dataclasses
import decimal
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.grading.compound import join_compounds
from iapo.grading.extraction import answer_lines, extract_answer, read_answers, without_stop
from iapo.grading.leads import combines, without_leads, without_sentence
from iapo.grading.lists import MOST_PAIRED, is_list_of, marked_parts, pair_up, readings
from iapo.grading.numbers import LONGEST
from iapo.grading.rules import Rules, find_rules
from iapo.grading.text import CLOSING_STOPS, clean
from iapo.grading.units import Side
from iapo.grading.values import Alternatives, keep_distinct
from iapo.kinds import checks_kinds
from iapo.records import Sample, Score, Trace

LONGEST_ANSWER = 100_000
"""Characters of an answer, beyond a hundred for each of the gold ones'; no model answers at such a length."""

_EXACT = decimal.Context(prec=4 * LONGEST)
"""All digits of a number count, whatever a program, a tool of one's own say, has set for its own numbers."""

_MOST_REPEATED = 20
"""Where lists are sets: how often an item may be said again."""


@checks_kinds
def grade(text: str, answers: Sequence[str], grading: str = "plain", *, tolerance: float | None = None) -> Score:
    """Grades a model's final turn: 1 if its final answer is the gold one, else 0.

    Several gold answers are all asked for, in any order, and are matched one to one with the parts of the model's
    answer. What else is equal depends on the rules; years and counts are exact in all of them.

    Args:
        text: The turn that ends the rollout.
        answers: The gold answers; one text may hold several, joined by `||` or as a bracketed list.
        grading: The data set's rules, a name in `iapo.grading.rules.RULES`.
        tolerance: Largest error of a measured value, as a share of the gold one, if it is not the rules'.

    Raises:
        InputError: If there are no rules of that name, or an argument is of another kind, as a text as `answers`.
    """
    rules = find_rules(grading)
    if tolerance is not None:
        rules = dataclasses.replace(rules, tolerance=tolerance)
    with decimal.localcontext(_EXACT):
        return _grade(text, answers, rules)


def _grade(text: str, answers: Sequence[str], rules: Rules) -> Score:
    answer, ways = extract_answer(text), read_answers(text)
    if not ways:
        return Score(0.0, None, "no final answer in the text")
    if (longest := max(map(len, ways))) > LONGEST_ANSWER + 100 * sum(map(len, answers)):
        return Score(0.0, answer, f"an answer of {longest} characters states more than the gold answer")
    whole = " || ".join(answers)
    if _is_repeated(ways, answer_lines(text), whole):
        return Score(1.0, answer or ways[0], "equals the gold answer")
    gold = _Gold.of(answers, rules)
    for way in ways:
        for form in _forms(clean(way), rules, several=len(gold.parts) > 1):
            if (why := _compare(form, gold, rules)) is not None:
                return Score(1.0, way, why)
    if answer is None:
        return Score(0.0, None, "no final answer in the text")
    return Score(0.0, answer, f"differs from the gold answer {whole}")


def _forms(answer: str, rules: Rules, *, several: bool) -> list[str]:
    """Returns an answer, cleaned, and the list behind `So, the answers are`, where it has brackets or one is asked for.

    Its commas part the list, and a lead's own none.
    """
    if not rules.wide:
        return [answer]
    bare = [without_leads(answer)[-1]] if answer[-1:] == "]" else []
    return list(dict.fromkeys((answer, *bare, *([without_sentence(answer)] if several else []))))


@dataclass(frozen=True, slots=True)
class _Gold:
    """The gold answers.

    Attributes:
        parts: Their texts.
        values: The same, read.
        once: Both, where equal ones count once.
    """

    parts: list[str]
    values: list[Alternatives]
    once: tuple[list[str], list[Alternatives]]

    @classmethod
    def of(cls, answers: Sequence[str], rules: Rules) -> _Gold:
        parts = [part for one in answers for part in marked_parts(clean(one), wide=rules.wide)]
        values = keep_distinct(_read(parts, rules, "gold"))
        return cls(parts, values, _different(parts, values) if rules.sets else (parts, values))


def _is_repeated(ways: Sequence[str], lines: Sequence[str], gold: str) -> bool:
    """Tells whether an answer repeats the gold one word for word, whatever the rules would make of it.

    Args:
        ways: The answer, read in each way.
        lines: All of its lines, which count where the gold answer has several.
        gold: The gold answer.
    """
    wanted = [line for line in map(str.strip, gold.splitlines()) if line]
    if not wanted:
        return False
    spelled = {_spelled(wanted)}
    # The closing stop of a gold answer may be left out, but "..." has none.
    bare = without_stop(wanted[-1])
    if bare and not bare.endswith(CLOSING_STOPS):
        spelled.add(_spelled([*wanted[:-1], bare]))
    if len(wanted) == 1:
        return any(_spelled([way]) in spelled for way in ways)
    # Behind "No" or "U.S" a stop may be the abbreviation's or the sentence's.
    ends = dict.fromkeys([lines[-1], without_stop(lines[-1]), lines[-1].removesuffix(".").rstrip()])
    return not spelled.isdisjoint(_spelled([*lines[:-1], end]) for end in ends)


def _spelled(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean(line) or line for line in lines)


def _compare(answer: str, gold: _Gold, rules: Rules) -> str | None:
    """Returns why one reading of an answer, cleaned, is right; None where it is wrong."""
    count, once = len(gold.parts), len(gold.once[0])
    if not once or (count > 1 and rules.wide and combines(answer)):
        return None
    most = max(count, _MOST_REPEATED * once) if rules.sets else count
    for parts in readings(answer, count, wide=rules.wide):
        if not once <= len(parts) <= most:
            continue
        found = _read(parts, rules, "answer")
        # Of equal items one counts; but two that only look equal may be two gold answers.
        pairs = [(_different(parts, found)[1], gold.once[1]), (found, gold.values)] if rules.sets else []
        for some, golds in pairs or [(found, gold.values)]:
            if _pair_up(some, golds, rules):
                return _why(some, golds, rules)
    lists = [gold.once] if once == count else [gold.once, (gold.parts, gold.values)]
    if rules.wide and any(len(golds[0]) > 1 and _is_list(answer, *golds, rules) for golds in lists):
        return "lists the gold answers"
    return None


def _read(parts: Sequence[str], rules: Rules, side: Side) -> list[Alternatives]:
    """Reads parts, each text once, however often it is repeated."""
    read = {part: Alternatives(part, rules, side) for part in dict.fromkeys(parts)}
    return [read[part] for part in parts]


def _pair_up(found: Sequence[Alternatives], golds: Sequence[Alternatives], rules: Rules) -> bool:
    if len(found) != len(golds):
        return False
    golds, found = (golds, found) if len(golds) <= MOST_PAIRED else _unequal(golds, found)
    return pair_up(len(found), len(golds), lambda gold, one: golds[gold].accepts(found[one], rules))


def _is_list(answer: str, parts: Sequence[str], golds: Sequence[Alternatives], rules: Rules) -> bool:
    @functools.cache
    def read(item: str) -> Alternatives:
        return Alternatives(item, rules, "answer")

    return any(
        is_list_of(
            form,
            parts,
            lambda gold, item: golds[gold].accepts(read(item), rules),
            # Beside pipes, commas are none that part answers: what is said again may be a list of lists.
            (lambda item: read(item).full.identity) if rules.sets and "|" not in answer else None,
        )
        # 6 hours and 22 minutes are one answer or two.
        for form in dict.fromkeys((answer, join_compounds(answer)))
    )


@checks_kinds
def grade_sample(text: str, sample: Sample) -> Score:
    """Grades a model's final turn on a sample, by the rules of its data set, as `grade`."""
    return grade(text, sample.answers, sample.grading)


@checks_kinds
def outcome_reward(trace: Sequence[Trace], **columns: Any) -> list[float]:
    """Grades a batch as a TRL reward function: 1 for a right final answer, else 0.

    Args:
        trace: The batch's rollouts.
        columns: The data set's other columns; unused.
    """
    return [score.value for score in Outcome().scores(trace)]


class Outcome:
    """Grades batches, each once however many reward columns ask.

    Args:
        review: Has the last word on scores of 0, for example `iapo.grading.judge.Judge.review`.
    """

    __name__ = "outcome_reward"

    def __init__(self, review: Callable[[Sequence[Trace], Sequence[Score]], list[Score]] | None = None) -> None:
        self._review = review
        self._last: tuple[Sequence[Trace], list[Score]] | None = None

    def scores(self, traces: Sequence[Trace]) -> list[Score]:
        """Returns scores of the final answers, 0 or 1, one a trace."""
        # The columns of one batch share the list itself.
        if self._last is None or self._last[0] is not traces:
            scores = [grade_sample(one.final_text, one.sample) for one in traces]
            self._last = (traces, scores if self._review is None else self._review(traces, scores))
        return self._last[1]

    def __call__(self, trace: Sequence[Trace], **columns: Any) -> list[float]:
        return [score.value for score in self.scores(trace)]


def _unequal(
    golds: Sequence[Alternatives], found: Sequence[Alternatives]
) -> tuple[list[Alternatives], list[Alternatives]]:
    """Returns gold answers and answers without the pairs that say the same."""
    left = Counter(one.full.identity for one in golds)
    rest: list[Alternatives] = []
    for one in found:
        if left[one.full.identity] > 0:
            left[one.full.identity] -= 1
        else:
            rest.append(one)
    open_golds: list[Alternatives] = []
    for one in golds:
        if left[one.full.identity] > 0:
            left[one.full.identity] -= 1
            open_golds.append(one)
    return open_golds, rest


def _different(texts: Sequence[str], values: Sequence[Alternatives]) -> tuple[list[str], list[Alternatives]]:
    """Returns texts and what they say, equal ones once."""
    once = {value.full.identity: (text, value) for text, value in reversed(list(zip(texts, values, strict=True)))}
    return [text for text, _ in once.values()], [value for _, value in once.values()]


def _why(found: Sequence[Alternatives], golds: Sequence[Alternatives], rules: Rules) -> str:
    if sorted(one.full.key for one in found) == sorted(one.full.key for one in golds):
        return "equals the gold answer"
    near = f"within {rules.tolerance:.0%} of the gold answer"
    if not rules.wide:
        return near
    return f"the gold answer in another form, or {near}" if rules.tolerance else "the gold answer in another form"
