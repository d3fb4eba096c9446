"""How tables look: one plain ruled family of styles, and many others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from iapo.data.synthetic.chart_data import pick

Colour = tuple[int, int, int]
Rules = Literal["grid", "horizontal", "header", "frame", "none"]

WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class TableStyle:
    """One look.

    Attributes:
        rules: `grid` around every cell, `horizontal` between rows, one under the `header`, a `frame` around the table
            with one under the header, or `none`.
        rule: Their colour.
        header: Fill of the header row.
        header_ink: Its lettering.
        names: Fill of the row names.
        stripe: Fill of every second row.
        ink: Lettering of all but the header.
    """

    rules: Rules
    rule: Colour
    header: Colour
    header_ink: Colour
    names: Colour
    stripe: Colour
    ink: Colour = (0, 0, 0)


_BLACK: Colour = (0, 0, 0)
_PLAIN_RULES: tuple[Colour, ...] = ((160, 160, 160), (120, 120, 120), (90, 90, 90))
_PLAIN_HEADERS: tuple[Colour, ...] = (WHITE, (234, 236, 240))

# None is reddish, since red marks edits.
_PALE: tuple[Colour, ...] = ((226, 236, 248), (228, 242, 228), (240, 236, 250), (246, 242, 222), (236, 236, 236))
_DARK: tuple[Colour, ...] = ((45, 45, 50), (31, 78, 160), (20, 110, 60), (96, 50, 140), (0, 105, 115))
_OTHER_RULES: tuple[Rules, ...] = ("horizontal", "header", "frame", "none")


def plain_style(rng: np.random.Generator) -> TableStyle:
    """Returns a ruled table on white, its header white or faintly grey."""
    header = pick(rng, _PLAIN_HEADERS)
    return TableStyle("grid", pick(rng, _PLAIN_RULES), header, _BLACK, WHITE, WHITE)


def other_style(rng: np.random.Generator) -> TableStyle:
    """Stripes, coloured or dark headers, few rules or none: never the grid of `plain_style`."""
    dark, striped, named = rng.random(3) < (0.5, 0.5, 0.25)
    pale = pick(rng, _PALE)
    header = pick(rng, _DARK) if dark else pick(rng, (WHITE, pale))
    return TableStyle(
        rules=pick(rng, _OTHER_RULES),
        rule=pick(rng, (_BLACK, (110, 110, 110), (90, 110, 150))),
        header=header,
        header_ink=WHITE if dark else _BLACK,
        names=pale if named else WHITE,
        stripe=pale if striped else WHITE,
    )


def draw_style(family: str, rng: np.random.Generator) -> TableStyle:
    """Returns a style of the family: plain for `vwtq`, another for `vwtq_syn`, one or the other for `vtabfact`."""
    if family == "vtabfact":
        return pick(rng, (plain_style, other_style))(rng)
    return plain_style(rng) if family == "vwtq" else other_style(rng)
