"""Ends a run in which a tool never works: one failed call is data, all of them are a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from iapo.errors import InputError
from iapo.records import ToolResult

FEWEST = 3
"""Failed calls in a row before which no run is ended, so that a rare tool may fail once."""


class Failing:
    """Counts the calls of tools that failed by their own fault, over the steps of a run."""

    def __init__(self) -> None:
        self._in_a_row: Counter[str] = Counter()

    def step(self, results: Iterable[ToolResult]) -> None:
        """Takes up what came of a step's programs.

        Args:
            results: Results of all of them.

        Raises:
            InputError: If every call of a tool failed in this step, and `FEWEST` at least since it last worked.
        """
        results = list(results)
        worked = {call.name for one in results for call in one.calls}
        failed = Counter(one.broken for one in results if one.broken)
        for name in worked:
            del self._in_a_row[name]
        for name, count in failed.items():
            if name in worked:
                continue
            self._in_a_row[name] += count
            if self._in_a_row[name] >= FEWEST:
                reason = next(one.error for one in results if one.broken == name)
                raise InputError(
                    f"the tool {name} failed in every call of this step, {self._in_a_row[name]} times in a row "
                    f"({reason}); mend it, or offer other tools"
                )
