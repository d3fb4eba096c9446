"""Questions about a synthetic chart, answered from its data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from iapo.data.synthetic.chart_data import ChartData, pick


class Asked(NamedTuple):
    """A question, its one answer, and the labels that it is about."""

    question: str
    answer: str
    focus: tuple[str, ...]


_TINY = {
    "value": ("value of {a}?",),
    "largest": ("largest label?",),
    "difference": ("{a} minus {b}?",),
    "count_above": ("how many above {limit}?",),
}

_NATURAL = {
    "value": (
        "What is the value of {a}?",
        "What is the value for {a}?",
        "What value does the bar for {a} show?",
        "How high is the {measure} for {a}?",
        "What does the chart give as the {measure} for {a}?",
    ),
    "largest": (
        "Which {noun} has the largest value?",
        "Which {noun} has the highest {measure}?",
        "What is the {noun} with the biggest bar?",
        "For which {noun} is the {measure} greatest?",
    ),
    "difference": (
        "What is the difference between {a} and {b}?",
        "By how much does {a} exceed {b}?",
        "How much larger is the value of {a} than that of {b}?",
        "What is the {measure} of {a} minus that of {b}?",
    ),
    "count_above": (
        "How many {plural} have a value above {limit}?",
        "How many bars are greater than {limit}?",
        "How many {plural} exceed {limit}?",
        "For how many {plural} is the {measure} more than {limit}?",
    ),
}


def _limit(data: ChartData, rng: np.random.Generator) -> int:
    """Returns a round threshold, in raw units, that at least one value lies above.

    On named charts, one that no bar hits is preferred: whether a bar touches a line is no fair question
    there.
    """
    limits = range(data.unit, max(data.raw), data.unit)
    clear = [limit for limit in limits if limit not in data.raw]
    return pick(rng, clear if clear and data.topic is not None else limits)


def ask(question_type: str, data: ChartData, rng: np.random.Generator) -> Asked:
    """Asks one question: in a few words about letters, in plain English about named bars.

    Args:
        question_type: One of `iapo.data.synthetic.families.BARS`.
        data: The chart's data; its largest value must be unique.
        rng: The source of all randomness.

    Returns:
        The question; `focus` is the label asked for (`value`), the winner (`largest`), the larger and the
        smaller (`difference`), or all that lie above, in the chart's order (`count_above`; never empty).

    Raises:
        KeyError: If the question type is unknown.
    """
    names: dict[str, str] = {}
    focus: tuple[str, ...]
    if question_type == "value":
        index = int(rng.integers(len(data.labels)))
        focus, answer = (data.labels[index],), data.text(data.raw[index])
    elif question_type == "largest":
        focus = (data.labels[data.raw.index(max(data.raw))],)
        answer = focus[0]
    elif question_type == "difference":
        bars = tuple(zip(data.labels, data.raw, strict=True))
        pairs = [(one, other) for one in bars for other in bars if one[1] > other[1]]
        (larger, high), (smaller, low) = pick(rng, pairs)
        focus, answer = (larger, smaller), data.text(high - low)
        names["b"] = smaller
    elif question_type == "count_above":
        limit = _limit(data, rng)
        focus = tuple(label for label, raw in zip(data.labels, data.raw, strict=True) if raw > limit)
        answer = str(len(focus))
        names["limit"] = data.text(limit)
    else:
        raise KeyError(question_type)
    names["a"] = focus[0]
    if data.topic is None or data.measure is None:
        return Asked(pick(rng, _TINY[question_type]).format(**names), answer, focus)
    names |= {"noun": data.topic.noun, "plural": data.topic.plural, "measure": data.measure.name}
    return Asked(pick(rng, _NATURAL[question_type]).format(**names), answer, focus)
