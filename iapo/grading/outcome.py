"""The outcome reward: is the final answer right? The rules stand in docs/grading.md."""

from __future__ import annotations

import dataclasses
import decimal
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from iapo.grading.lists import MOST_PAIRED, is_list_of, marked_parts, pair_up, readings
from iapo.grading.numbers import LONGEST
from iapo.grading.rules import Rules, find_rules
from iapo.grading.text import clean, extract_answer
from iapo.grading.values import Alternatives, keep_distinct
from iapo.records import Sample, Score, Trace

LONGEST_ANSWER = 100_000
"""Characters of an answer, beyond a hundred for each of the gold ones'; no model answers at such a length."""

_EXACT = decimal.Context(prec=4 * LONGEST)
"""All digits of a number count, whatever a program, a tool of one's own say, has set for its own numbers."""

_MOST_REPEATED = 20
"""Where lists are sets: how often an item may be said again."""


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
        InputError: If there are no rules of that name.
    """
    rules = find_rules(grading)
    if tolerance is not None:
        rules = dataclasses.replace(rules, tolerance=tolerance)
    with decimal.localcontext(_EXACT):
        return _grade(text, answers, rules)


def _grade(text: str, answers: Sequence[str], rules: Rules) -> Score:
    answer = extract_answer(text)
    if answer is None:
        return Score(0.0, None, "no final answer in the text")
    if len(answer) > LONGEST_ANSWER + 100 * sum(map(len, answers)):
        return Score(0.0, answer, f"an answer of {len(answer)} characters states more than the gold answer")
    parts = [part for one in answers for part in marked_parts(clean(one), wide=rules.wide)]
    golds = keep_distinct(Alternatives(part, rules, "gold") for part in parts)
    if rules.sets:
        parts, golds = _different(parts, golds)
    for taken_apart in _ways(clean(answer), len(golds), rules):
        if len(taken_apart) < len(golds) or len(taken_apart) > (_MOST_REPEATED if rules.sets else 1) * len(golds):
            continue
        found = [Alternatives(part, rules, "answer") for part in taken_apart]
        if rules.sets:
            _, found = _different(taken_apart, found)
        open_golds, rest = (golds, found) if len(golds) <= MOST_PAIRED else _unequal(golds, found)
        if pair_up(len(rest), len(open_golds), functools.partial(_accepts, open_golds, rest, rules)):
            return Score(1.0, answer, _why(found, golds, rules))
    if rules.wide and len(golds) > 1 and is_list_of(clean(answer), parts, functools.partial(_is_item, golds, rules)):
        return Score(1.0, answer, "lists the gold answers")
    return Score(0.0, answer, f"differs from the gold answer {' || '.join(answers)}")


def grade_sample(text: str, sample: Sample) -> Score:
    """Grades a model's final turn on a sample, by the rules of its data set, as `grade`."""
    return grade(text, sample.answers, sample.grading)


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


def _accepts(golds: Sequence[Alternatives], found: Sequence[Alternatives], rules: Rules, gold: int, one: int) -> bool:
    return golds[gold].accepts(found[one], rules)


def _is_item(golds: Sequence[Alternatives], rules: Rules, gold: int, item: str) -> bool:
    return golds[gold].accepts(Alternatives(item, rules, "answer"), rules)


def _ways(answer: str, wanted: int, rules: Rules) -> list[list[str]]:
    return [marked_parts(answer, wide=True)] if rules.wide else list(readings(answer, wanted))


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
