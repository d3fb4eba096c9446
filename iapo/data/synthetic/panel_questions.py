"""Questions about line and scatter panels, in words that no other family uses."""

from __future__ import annotations

import numpy as np

from iapo.data.synthetic.chart_data import pick
from iapo.data.synthetic.chart_questions import Asked
from iapo.data.synthetic.panel_data import PanelData, letter

_TINY = {
    "value": ("reading at {a}?",),
    "largest": ("where is the peak?",),
    "difference": ("drop from {a} to {b}?",),
}

_NATURAL = {
    "value": (
        "In {where}, which reading does {s} show at {a}?",
        "What does the marker of {s} at {a} read in {where}?",
        "Reading {where}, where does {s} stand on the vertical axis at {a}?",
    ),
    "largest": (
        "In {where}, at which {time} does {s} peak?",
        "At which tick of the horizontal axis does {s} reach its peak in {where}?",
    ),
    "difference": (
        "In {where}, how far does {s} at {b} lie below its own level at {a}?",
        "How far apart are the markers of {s} at {a} and {b} on the vertical axis of {where}?",
    ),
}


def ask(question_type: str, data: PanelData, rng: np.random.Generator) -> Asked:
    """Asks about one series in one panel.

    Args:
        question_type: `value` (the reading at a place), `largest` (the place of the peak) or `difference` (between a
            higher and a lower place).
        data: The panels.
        rng: The source of all randomness.

    Returns:
        The question; `focus` is the name of the box asked for, of the peak's, or of the higher's and the lower's.

    Raises:
        KeyError: If the question type is unknown.
    """
    index, series = int(rng.integers(len(data.panels))), int(rng.integers(len(data.series)))
    panel = data.panels[index]
    line = panel.raw[series]
    focus: tuple[int, ...]
    if question_type == "value":
        place = int(rng.integers(len(line)))
        focus, answer = (place,), panel.text(line[place])
    elif question_type == "largest":
        focus = (line.index(max(line)),)
        answer = data.places[focus[0]]
    elif question_type == "difference":
        places = range(len(line))
        focus = pick(rng, [(one, other) for one in places for other in places if line[one] > line[other]])
        answer = panel.text(line[focus[0]] - line[focus[1]])
    else:
        raise KeyError(question_type)
    names = {"a": data.places[focus[0]], "b": data.places[focus[-1]], "s": data.series[series], "time": data.time}
    names["where"] = "the plot" if len(data.panels) == 1 else f"panel {letter(index)}"
    wordings = _TINY if data.topic is None else _NATURAL
    question = pick(rng, wordings[question_type]).format(**names)
    return Asked(question, answer, tuple(data.name(index, place) for place in focus))
