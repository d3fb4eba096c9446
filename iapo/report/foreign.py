"""What of a run folder's files tells that it is of another run or model: told in a line, and shown all the same."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from iapo.errors import QUOTED, brief
from iapo.report.lines import Line
from iapo.results import Evaluation, Manifest, SetsEvaluation, TrainingEvaluation

_SETTINGS = {
    "temperature": ("run", "eval_temperature"),
    "seed": ("run", "eval_seed"),
    "batch_size": ("run", "eval_batch_size"),
    "max_turns": ("training", "max_turns"),
    "top_p": ("training", "top_p"),
}
"""Settings of a training's evaluation -> where the manifest has them."""


def foreign_lines(manifest: Manifest, part: str, lines: Sequence[Line]) -> str:
    """Says whether a file of traces seems to hold those of another run, too; lines of a training do not name theirs.

    Args:
        manifest: Manifest of the run whose file it is.
        part: Kind of its rollouts, `training` or `held-out`.
        lines: The file's lines, in order.

    Returns:
        What tells so, as a sentence without its end; empty where nothing does.
    """
    if manifest.kind == "evaluation":
        return _of_evaluation(lines)
    return _of_training(manifest, lines) if part == "training" else _of_held_out(lines)


def _of_evaluation(lines: Sequence[Line]) -> str:
    trained = next((number for number, line in enumerate(lines, 1) if line.step is not None), None)
    if trained is not None:
        return f"line {trained} is of step {lines[trained - 1].step:g} of a training"
    evaluations = dict.fromkeys(line.evaluation for line in lines if line.evaluation is not None)
    return f"they are of {len(evaluations)} evaluations" if len(evaluations) > 1 else ""


def _of_training(manifest: Manifest, lines: Sequence[Line]) -> str:
    for number, line in enumerate(lines, 1):
        if line.evaluation is not None:
            return f"line {number} is of an iapo evaluate"
        if line.step is None or line.step < 1:
            return f"line {number} is of {_step(line)}, and training begins with step 1"
    steps = [(number, line.step) for number, line in enumerate(lines, 1) if line.step is not None]
    for (_, before), (number, step) in itertools.pairwise(steps):
        if step < before:
            return f"line {number} is of step {step:g} and the one before it of step {before:g}"
    if (most := _most_in_step(manifest.config.get("training"))) is None:
        return ""
    counts = collections.Counter(step for _, step in steps)
    return next(
        (
            f"it has {count} rollouts of step {step:g}, and a step makes {most}"
            for step, count in counts.items()
            if count > most
        ),
        "",
    )


def _of_held_out(lines: Sequence[Line]) -> str:
    for number, line in enumerate(lines, 1):
        if line.evaluation is not None or line.step is None:
            what = "an iapo evaluate" if line.evaluation is not None else _step(line)
            return f"line {number} is of {what}, and these are of the run's first and last policy"
    last = dict.fromkeys(line.step for line in lines if line.step)
    if len(last) > 1:
        return (
            f"it has rollouts of the steps {', '.join(f'{step:g}' for step in last)}, and these are of the last alone"
        )
    return ""


def _step(line: Line) -> str:
    return "no step" if line.step is None else f"step {line.step:g}"


def _most_in_step(training: Any) -> int | None:
    """Returns how many rollouts a step of a training makes; None where its settings do not say."""
    if not isinstance(training, dict) or training.get("dynamic_sampling"):
        return None
    found = [
        one
        for name in ("generation_batch_size", "gradient_accumulation_steps", "steps_per_generation")
        if isinstance(one := training.get(name), int) and one > 0
    ]
    if len(found) < 3:
        return None
    batch, passes, together = found
    return batch * math.ceil(passes / together)


def foreign_evaluation(manifest: Manifest, evaluation: Evaluation) -> str:
    """Says whether an `evaluation.json` is of another run than the manifest beside it.

    Returns:
        What tells so, as a sentence without its end; empty where nothing does.
    """
    if isinstance(evaluation, SetsEvaluation):
        if manifest.kind == "training":
            return f"it is of an iapo evaluate of {evaluation.model[:QUOTED]}, and the run is a training"
        return next(_other_sets(manifest, evaluation), "")
    if manifest.kind == "evaluation":
        return "it is of a training, and the run is an iapo evaluate"
    return next(_other_settings(manifest, evaluation), "")


def _other_sets(manifest: Manifest, evaluation: SetsEvaluation) -> Iterator[str]:
    model = manifest.config["evaluation"].get("model")
    if isinstance(model, str) and evaluation.model and model != evaluation.model:
        yield f"it is of the model {evaluation.model[:QUOTED]}, and the run of {model[:QUOTED]}"
    for name, one in evaluation.sets.items():
        if manifest.data and manifest.data.get(name) != one.data:
            yield f"its set {name[:QUOTED]} has other data than the run's"


def _other_settings(manifest: Manifest, evaluation: TrainingEvaluation) -> Iterator[str]:
    for name, (part, key) in _SETTINGS.items():
        given: Any = manifest.config.get(part)
        wanted = given.get(key) if isinstance(given, Mapping) else None
        found = evaluation.settings.get(name) if isinstance(evaluation.settings, Mapping) else None
        if None not in (wanted, found) and wanted != found:
            yield f"its {name} is {brief(found)}, and the run's {brief(wanted)}"
