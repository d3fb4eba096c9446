"""Tool names that have to be read: invented ones for pretraining, and others that no lesson ever holds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from iapo.records import Axis
from iapo.tools import TOOLS, ToolDefinition

Naming = Literal["canonical", "invented", "unseen"]
"""How a prompt's tools are called: by their own names, by names of the lessons, by names that no lesson holds."""

CANONICAL = tuple(TOOLS)
"""The six names of the paper."""

NAME_PATTERN = r"\b(?:[bcdfghjklmnprstvwz][aeiou]){2}(?=\()"
"""An invented name is two syllables before a bracket; the tokenizer keeps each whole."""

_KINDS = tuple(TOOLS.values())
_CANONICAL_SHARE = 0.1
"""So often a lesson's tool has one of the six names, which then may stand for any of the tools."""


def _words(count: int) -> list[str]:
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    words = ["".join(word) for word in itertools.product(syllables, repeat=2)]
    return [words[index] for index in np.random.default_rng(0).permutation(len(words))[:count]]


INVENTED = tuple(_words(512))
"""Names of the lessons."""

UNSEEN = tuple(_words(544)[512:])
"""Names for measurements alone: in no lesson, and their embeddings stay as they were drawn."""


def rename(tools: Iterable[ToolDefinition], names: Iterable[str]) -> dict[str, ToolDefinition]:
    """Returns the same tools under other names, in order."""
    return {name: dataclasses.replace(tool, name=name) for tool, name in zip(tools, names, strict=True)}


def draw_tools(rng: np.random.Generator, naming: Naming) -> dict[str, ToolDefinition]:
    """Returns the six tools as a prompt may define them.

    Args:
        rng: Draws order and names.
        naming: `canonical` gives the standard prompt's six, in their order and with their own names; otherwise the
            order is random, and so are the names.
    """
    if naming == "canonical":
        return dict(TOOLS)
    tools = [_KINDS[index] for index in rng.permutation(len(_KINDS))]
    if naming == "unseen":
        return rename(tools, _some(rng, UNSEEN, len(tools)))
    names = _some(rng, INVENTED, len(tools))
    for place, canonical in enumerate(_some(rng, CANONICAL, len(tools))):
        if rng.random() < _CANONICAL_SHARE:
            names[place] = canonical
    return rename(tools, names)


def offer_some(
    rng: np.random.Generator, tools: Mapping[str, ToolDefinition], axes: Iterable[Axis]
) -> dict[str, ToolDefinition]:
    """Returns a random part of a tool set, in its order, of at least two tools that cover the axes."""
    items = list(tools.items())
    while True:
        chosen = sorted(rng.permutation(len(items))[: rng.integers(2, len(items))])
        some = dict(items[index] for index in chosen)
        if set(axes) <= {tool.axis for tool in some.values()}:
            return some


def _some(rng: np.random.Generator, names: Sequence[str], count: int) -> list[str]:
    return [names[index] for index in rng.permutation(len(names))[:count]]
