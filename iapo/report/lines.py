"""A line of a file of traces, as far as the report groups rollouts by it and tells those of other runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iapo.report.numbers import finite


@dataclass(frozen=True, slots=True)
class Line:
    """What of a trace's line is needed to group it.

    Attributes:
        step: Its step.
        sample: Name of its sample.
        values: Values of the reward's components.
        cut: Whether training left the rollout out (`Trace.observation_cut`).
        evaluation: Digest of the `iapo evaluate` that it is of; None of a training's.
    """

    step: float | None
    sample: tuple[str, str]
    values: Mapping[str, float]
    cut: bool
    evaluation: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Line:
        """Reads a trace's JSON record.

        Raises:
            TypeError: If its step or a score is no number.
        """
        step = record["step"]
        if step is not None and finite(step) is None:
            raise TypeError("its step is no number")
        sample = record["sample"]
        for name, score in record["scores"].items():
            if isinstance(score["value"], bool) or not isinstance(score["value"], int | float | None):
                raise TypeError(f"its score {name} is no number")
        values = {
            name: number for name, score in record["scores"].items() if (number := finite(score["value"])) is not None
        }
        of = record.get("evaluation")
        return cls(
            finite(step),
            (str(sample["source"]), str(sample["id"])),
            values,
            bool(record.get("observation_cut")),
            str(of.get("run")) if isinstance(of, dict) else None,
        )
