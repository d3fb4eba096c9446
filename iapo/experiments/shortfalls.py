"""What came short in the rollouts of trials: told beside their table, as `iapo evaluate` tells it beside its own."""

from __future__ import annotations

from pathlib import Path

from iapo.experiments.orders import MEASURED
from iapo.results import EVALUATION, SetsEvaluation, read_evaluation

_FOLDERS = ("*", "*/seed-*", "*/*/seed-*")
"""Where policies are measured: the start and the teacher, the runs of a comparison, and those of an ablation."""


def shortfalls(out: Path) -> list[str]:
    """Returns a line for each row and test set of which many rollouts have empty or cut-off turns, all seeds together.

    Args:
        out: Folder of the trials.
    """
    # With torch, which the names do without.
    from iapo.evaluation.shortfalls import shortfall_lines

    rows: dict[str, list[SetsEvaluation]] = {}
    for pattern in _FOLDERS:
        for path in sorted(out.glob(f"{pattern}/{MEASURED}/{EVALUATION}")):
            run = path.parent.parent.relative_to(out)
            name = run.parent if run.name.startswith("seed-") else run
            if isinstance(found := read_evaluation(path), SetsEvaluation):
                rows.setdefault(str(name), []).append(found)
    longest = "max_turn_tokens, in a new folder"
    return [line for name, some in rows.items() for line in shortfall_lines(some, f"{name}, ", longest)]
