"""Reads run folders as they are: finished, still going, or of an earlier version. Nothing is written into them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iapo.errors import InputError
from iapo.report.foreign import foreign_evaluation
from iapo.report.numbers import finite
from iapo.results import EVALUATION, MANIFEST, Evaluation, Manifest, read_evaluation, read_result
from iapo.runs import CASE_STUDY, CASE_STUDY_KIND, measured_lines
from iapo.storage import parse_record, read_lines

Part = Literal["training", "held-out"]

TRACE_FILES: Mapping[str, Part] = {"traces.jsonl": "training", "held-out.jsonl": "held-out"}
"""Which file of a training run holds which rollouts; all rollouts of an `iapo evaluate` are held out."""


@dataclass(frozen=True, slots=True)
class TraceFile:
    """One file of traces.

    Attributes:
        path: The file.
        part: Kind of its rollouts.
        prefix: A letter that tells the run's trace files apart in links.
        lines: Its whole lines.
        manifest: Manifest of the evaluation that it is of, where that is in the run's folder; else None.
    """

    path: Path
    part: Part
    prefix: str
    lines: Sequence[bytes] = field(repr=False)
    manifest: Manifest | None = None

    def read(self, index: int) -> dict[str, Any]:
        """Reads one trace as JSON data.

        Raises:
            InputError: If the line is not a trace.
        """
        return parse_record(self.path, index, self.lines[index])


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder.

    Attributes:
        name: Unique among the report's runs.
        path: The folder.
        method: Name of its reward (`iapo`, `grpo`, ...), or the evaluated model.
        manifest: Contents of `manifest.json`.
        metrics: The lines of `metrics.jsonl`.
        traces: Its files of traces.
        evaluations: Contents of `evaluation.json`, of the run itself and of an `evaluation` folder in it.
        case_study: Contents of `case-study.json`.
        notes: Sentences about what is missing or not whole.
        foreign: Sentences about what seems to be of another run.
    """

    name: str
    path: Path
    method: str
    manifest: Manifest
    metrics: Sequence[Mapping[str, Any]]
    traces: Sequence[TraceFile]
    evaluations: Sequence[Evaluation]
    case_study: Mapping[str, Any] | None
    notes: Sequence[str]
    foreign: Sequence[str] = ()

    @property
    def trained(self) -> bool:
        """Whether it is a training, and not an evaluation alone."""
        return self.manifest.kind == "training"

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration."""
        return self.manifest.config


@dataclass(frozen=True, slots=True)
class Found:
    """What the given folders hold.

    Attributes:
        runs: The runs, in order.
        comparisons: Contents of `table1.json`, by the name of the `iapo compare` folder.
        notes: Sentences that concern no single run.
    """

    runs: Sequence[Run]
    comparisons: Mapping[str, Mapping[str, Any]]
    notes: Sequence[str]


def find_runs(folders: Sequence[Path]) -> Found:
    """Reads run folders, and all run folders in a folder that is none itself.

    Args:
        folders: Run folders, parents of some, or folders of `iapo compare`.

    Raises:
        InputError: If a folder does not exist, holds no run, or a file in it is damaged.
    """
    places: list[tuple[str, Path]] = []
    comparisons: dict[str, Mapping[str, Any]] = {}
    notes: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give run folders, or a folder that holds some")
        label = folder.resolve().name
        if (folder / MANIFEST).is_file():
            places.append((label, folder))
            continue
        inner = [path.parent for path in sorted(folder.rglob(MANIFEST)) if not _inside_run(path.parent, folder)]
        if not inner:
            raise InputError(
                f"{folder} holds no run: there is no manifest.json in it or below; give the folder of a run"
            )
        several = f"{label}/" if len(folders) > 1 else ""
        places += [(several + _relative(path, folder), path) for path in inner]
        if _there(folder / "table1.json"):
            comparisons[label] = read_result(folder / "table1.json", "table")
        elif _there(folder / "comparison.json"):
            notes.append(f"The comparison {label} is not finished; it has no table yet.")
    # A run may be given, and lie in another folder that is given; it is one run.
    once: dict[Path, tuple[str, Path]] = {}
    for name, path in places:
        once.setdefault(path.resolve(), (name, path))
    names = _unique([name for name, _ in once.values()])
    runs = [_read_run(name, path) for name, (_, path) in zip(names, once.values(), strict=True)]
    return Found(runs, comparisons, notes)


def _inside_run(path: Path, top: Path) -> bool:
    """Tells whether a folder with a manifest is a part of a run, such as a comparison's evaluation of it."""
    return any((parent / MANIFEST).is_file() for parent in path.parents if parent.is_relative_to(top))


def _relative(path: Path, top: Path) -> str:
    """Returns the path below `top`; the evaluation of what was not trained goes by the name of the folder around it."""
    parts = path.relative_to(top).parts
    return "/".join(parts[:-1] if len(parts) > 1 and parts[-1] == "evaluation" else parts)


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, one = 2, name
        while one in found:
            one, number = f"{name} ({number})", number + 1
        found.append(one)
    return found


def _read_run(name: str, path: Path) -> Run:
    notes: list[str] = []
    manifest = Manifest.read(path / MANIFEST)
    trained = manifest.kind == "training"
    logged = path / "metrics.jsonl"
    metrics = list(measured_lines(logged, _lines(logged, notes)).values())
    files = [(path / file, part, part[0]) for file, part in TRACE_FILES.items()]
    if not trained:
        files = [(path / "traces.jsonl", "held-out", "e")]
    inner = None
    if trained and _there(path / "evaluation" / MANIFEST):
        inner = Manifest.read(path / "evaluation" / MANIFEST)
        files.append((path / "evaluation" / "traces.jsonl", "held-out", "e"))
    traces = [
        TraceFile(file, part, prefix, lines, inner if file.parent != path else None)
        for file, part, prefix in files
        if (lines := _whole_lines(file, notes))
    ]
    evaluations, foreign = [], []
    for file, of in ((path / EVALUATION, manifest), (path / "evaluation" / EVALUATION, inner)):
        if _there(file):
            evaluations.append(read_evaluation(file))
            if of is not None and (what := foreign_evaluation(of, evaluations[-1])):
                foreign.append(f"{name}: {file.relative_to(path)} is of another run: {what}.")
    study = path / CASE_STUDY
    if trained and not metrics:
        notes.append("has no metrics.jsonl yet, so it has no curves")
    if not evaluations:
        notes.append("has no evaluation.json: it has not ended, or evaluated nothing")
    if not traces:
        notes.append("kept no traces")
    return Run(
        name=name,
        path=path,
        method=_method(manifest.config),
        manifest=manifest,
        metrics=metrics,
        traces=traces,
        evaluations=evaluations,
        case_study=_case_study(study) if _there(study) else None,
        notes=notes,
        foreign=foreign,
    )


def _case_study(path: Path) -> dict[str, Any]:
    found = read_result(path, CASE_STUDY_KIND)
    points, teacher = found.get("points") or [], found.get("teacher")
    if not isinstance(points, list) or not all(isinstance(one, dict) and _is_point(one) for one in points):
        raise InputError(f"{path} is damaged: points holds no list of steps with their estimates; remove it")
    if teacher is not None and not (isinstance(teacher, dict) and all(map(_is_estimate, teacher.values()))):
        raise InputError(f"{path} is damaged: teacher holds no estimates; remove it")
    return found


def _is_point(point: Mapping[str, Any]) -> bool:
    rest = (value for name, value in point.items() if name not in ("step", "samples"))
    return finite(point.get("step")) is not None and all(map(_is_estimate, rest))


def _is_estimate(value: Any) -> bool:
    if isinstance(value, dict) and "value" in value:
        return all(one is None or finite(one) is not None for one in value.values())
    return value is None or finite(value) is not None


def _method(config: Mapping[str, Any]) -> str:
    if "training" not in config:
        return str(config["evaluation"].get("model", "evaluation"))
    training = config["training"]
    reward = str(training.get("reward", "iapo"))
    # With the weight 0 the reward `iapo` is the outcome alone.
    return "grpo" if reward == "iapo" and training.get("penalty_weight") == 0 else reward


def _there(path: Path) -> bool:
    """Tells whether a file is there, or something in its place, which reading refuses by name: a folder, a pipe, or a
    link to nothing.
    """
    return os.path.lexists(path)


def _whole_lines(path: Path, notes: list[str]) -> list[bytes]:
    return [line for line in _lines(path, notes) if line.strip()]


def _lines(path: Path, notes: list[str]) -> list[bytes]:
    """Reads a file's lines; half a line at its end is left out and noted."""
    if not _there(path):
        return []
    lines, rest = read_lines(path)
    if rest.strip():
        notes.append(f"is still being written, or was stopped: half a line at the end of {path.name} is left out")
    return lines


def walk_notes(found: Found) -> Iterator[str]:
    """Yields all notes as sentences, each with its run."""
    yield from found.notes
    for run in found.runs:
        for note in run.notes:
            yield f"{run.name} {note}."
        yield from run.foreign
