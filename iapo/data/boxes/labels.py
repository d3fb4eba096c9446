"""Labels below a chart's base line and numbers above its bars, told by where lettering is; nothing is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iapo.data.boxes.groups import Bar
from iapo.data.boxes.pixels import Mask, Span, spans


class Labels:
    """The lettering around bars, in the frame of upright ones."""

    def __init__(self, ink: Mask, em: float, base: int, bars: Sequence[Bar], *, lying: bool) -> None:
        """Searches the lettering below the base line.

        Args:
            ink: The lettering.
            em: Its size in pixels.
            base: The row of pixels on which the bars stand.
            bars: The bars.
            lying: Whether the lettering stands upright, because the image was turned.
        """
        self.em = em
        self._lying = lying
        self._bars = bars
        self._base = base
        self._ink = ink.copy()
        for bar in bars:
            self._ink[max(0, bar.y1) : bar.y2, bar.x1 : bar.x2] = False
        # Rests of lines across the chart, which bars cut into pieces.
        free = np.ones(ink.shape[1], dtype=np.bool_)
        for bar in bars:
            free[max(0, bar.x1 - 2) : bar.x2 + 2] = False
        inside = np.flatnonzero(free[bars[0].x1 : bars[-1].x2]) + bars[0].x1
        if inside.size:
            self._ink[self._ink[:, inside].mean(axis=1) >= 0.6] = False
        self._crossing = self._lines_across() if lying else np.zeros(ink.shape[1], dtype=np.bool_)
        self._ink[:, self._crossing] = False
        self._zone = self._label_zone()
        self._beside = self._zone[:0]

    def below(self, middle: float, half: float) -> bool:
        """Tells whether there is a label below this place."""
        return bool(self._at(self._zone, middle, half).any())

    def keep_names(self, middles: Sequence[float], half: float) -> None:
        """Forgets what is written beside the names of these places, such as headings above the bars."""
        named = np.sum([self._at(self._zone, middle, half).any(axis=1) for middle in middles], axis=0)
        # An axis' title, set beside the names, meets few of them.
        rows = np.flatnonzero(named >= min(2, len(middles)))
        if not rows.size:
            return
        # Names do not end at one pixel.
        self._beside = self._zone[: max(0, rows[0] - round(0.5 * self.em))]
        self._zone = self._zone[rows[0] : rows[-1] + 1]

    def runs_on(self, middle: float, half: float) -> bool:
        """Tells whether lettering runs on from where the names end towards the base line, as notes do."""
        return bool(self._at(self._beside, middle, half).sum() >= 3)

    def above(self, middle: float, half: float, bars: Sequence[Bar], *, far: bool = False) -> bool:
        """Tells whether there is a number near above these bars, or near above the base line where there are none.

        Args:
            middle: The place.
            half: Half of the width to look at.
            bars: The bars there.
            far: Whether the number may be anywhere above, as at the end of a bar as pale as the page.
        """
        end = min((bar.y1 for bar in bars), default=self._base - 1)
        zone = self._ink[0 if far else max(0, round(end - 3 * self.em)) : max(0, end)]
        return bool(self._at(zone, middle, half).sum() >= 3)

    def on_base(self, middle: float, half: float) -> bool:
        """Tells whether lettering crosses the base line here, as the zero of an axis does."""
        rows = self._ink[max(0, self._base - 2) : self._base + 3]
        return bool(self._at(rows, middle, half).any(axis=1).all())

    def of_its_own(self, bar: Bar) -> bool:
        """Tells whether a line of lettering stands beside the middle of a lying bar, and not between two bars."""
        return any(abs(line.middle - bar.middle) <= max(1.5, 0.25 * bar.width) for line in self.lines())

    def aligned(self, middle: float, half: float, others: Sequence[float]) -> bool | None:
        """Tells whether the label ends at the base line where the others end, as a name does and a heading does not;
        None where the others do not end at one line.
        """
        ends = [self._top(other, half) for other in others]
        known = [end for end in ends if end is not None]
        own = self._top(middle, half)
        if own is None or not known:
            return None
        usual = float(np.median(known))
        if np.mean([abs(end - usual) <= 0.4 * self.em for end in known]) < 0.7:
            return None
        return abs(own - usual) <= 0.4 * self.em

    def lines(self) -> list[Span]:
        """Returns the lines of lettering of a turned image."""
        return [span for span in spans(self._zone.any(axis=0)) if span.length >= 0.35 * self.em]

    def between(self, left: float, right: float) -> float:
        """Returns how surely a label stands by itself half-way between two slots: 1 is sure, as a lying bar's label
        with a number is; 0.5 is one that many others must bear out; 0 is none.
        """
        middle, reach = (left + right) / 2, 0.15 * (right - left)
        pieces = spans(self._zone.any(axis=0), gap=0 if self._lying else round(0.6 * self.em))
        alone = any(
            abs(piece.middle - middle) <= reach and left < piece.start and piece.end < right for piece in pieces
        )
        free = all(bar.x2 <= middle - reach or middle + reach <= bar.x1 for bar in self._bars)
        if not (alone and free):
            return 0.0
        if not self._lying:
            return 0.5
        if self.above(middle, reach, []):
            return 1.0
        return 0.5 if self.aligned(middle, reach, [left, right]) else 0.0

    def _top(self, middle: float, half: float) -> int | None:
        rows = np.flatnonzero(self._at(self._zone, middle, half).any(axis=1))
        return int(rows[0]) if rows.size else None

    def _at(self, zone: Mask, middle: float, half: float) -> Mask:
        return zone[:, max(0, round(middle - half)) : max(0, round(middle + half))]

    def _lines_across(self) -> Mask:
        """Returns the columns of pixels of lines that run across the base line: titles, notes, the axis' numbers."""
        beside = np.ones(self._ink.shape[1], dtype=np.bool_)
        for bar in self._bars:
            beside[bar.x1 : bar.x2] = False
        across = np.zeros_like(beside)
        for line in spans(self._ink.any(axis=0)):
            part = slice(line.start, line.end)
            rows = np.flatnonzero(self._ink[:, part].any(axis=1))
            over, under = rows[rows < self._base], self._behind_tick(rows[rows >= self._base], part)
            # Words of a line are closer to one another than a name and a number are to the base line between them.
            joined = bool(over.size and under.size and under[0] - over[-1] < 0.6 * self.em)
            across[part] = joined and bool(beside[part].all())
        return across

    def _behind_tick(self, under: np.ndarray, part: slice) -> np.ndarray:
        """Leaves out the tick of the axis: what begins at the base line and is thin."""
        thin = self._ink[under, part].sum(axis=1) <= max(2.0, 0.2 * self.em)
        tick = (under - self._base <= np.arange(len(under)) + 3) & thin
        return under[int(np.argmin(tick)) :] if tick.any() and not tick.all() else under

    def _label_zone(self) -> Mask:
        """Returns the rows of pixels of the labels: all below the base of lying bars, else the one line of lettering
        that most bars have.
        """
        lowest = max(self._base, *(bar.y2 for bar in self._bars))
        if self._lying:
            # The names of bars to both sides of a line are beside all of them, the headings above the bars.
            return self._ink[lowest + 2 :]
        first, last = self._bars[0].x1, self._bars[-1].x2
        area = self._ink[lowest + 1 : lowest + 1 + round(0.25 * self._ink.shape[0])]
        best, most = area[:0], 0.0
        for band in spans(area[:, first:last].any(axis=1), gap=1):
            if band.start > 8 * self.em:
                break
            # Slanted labels are long: their ends are below the bars.
            zone = area[band.start : min(band.end, band.start + round(1.2 * self.em))]
            share = float(np.mean([self._at(zone, bar.middle, 0.5 * bar.width + 2).any() for bar in self._bars]))
            if band.length >= 0.35 * self.em and share > 1.2 * most:
                best, most = zone, share
        return best
