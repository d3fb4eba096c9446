"""The run folder: manifest, metrics, traces, evaluation. Studies and the report read nothing else; no torch here."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from iapo.endpoints.address import hide_credentials
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Sample, Trace, image_digest, images_digest, save_png
from iapo.results import (
    EVALUATION,
    MANIFEST,
    Manifest,
    TrainingEvaluation,
    evaluation_kind,
    read_evaluation,
    read_result,
    write_result,
)
from iapo.storage import append_record, make_folder, parse_record, read_lines, read_records, write_lines, write_records

CASE_STUDY, CASE_STUDY_KIND = "case-study.json", "case_study"
"""Where a run folder keeps its case study, and the kind of that file."""

PACKAGES = (
    "iapo",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "peft",
    "vllm",
    "openai",
    "pillow",
    "numpy",
)

METRICS = (
    "step",
    "reward/total",
    "reward/outcome",
    "attribution/divergence",
    "attribution/misuse_auc",
    "attribution/misuse_auc_shuffled",
    "attribution/misuse_auc_surprise",
    "attribution/student_entropy",
    "attribution/teacher_entropy",
    "attribution/tied_groups_ranked",
    "attribution/lambda",
    "tools/call_ratio",
    "tools/success_rate",
    "tools/misuse_rate",
    "loss",
    "kl",
    "time/rollout",
    "time/attribution",
    "time/update",
)
"""Keys of each line of `metrics.jsonl`; a value that a run does not measure is null. The components of its reward and
their weights come after these, as `reward/<component>` and `weight/<component>`, and then what is told of groups, as
`groups/<name>`."""

MORE_METRICS = ("tools/turns", "tools/calls_per_turn")
"""Keys that only lines of runs with more than two turns have."""

_MORE = ("reward/", "weight/", "groups/", *MORE_METRICS)
"""What the names of a line's further keys begin with."""

COMPONENTS = {"mean": "reward", "weight": "weight"}
"""What a trainer logs of a component, as `rewards/<component>/<this>` -> the first part of its name here."""


def metric_name(name: str) -> str:
    """Returns the run folder's name of a number that a trainer logs; its own where the folder has none."""
    if name == "reward":
        return "reward/total"
    group, _, rest = name.partition("/")
    component, _, kind = rest.rpartition("/")
    if group == "rewards" and kind in COMPONENTS:
        return f"{COMPONENTS[kind]}/{component.removesuffix('_reward')}"
    return name


def versions() -> dict[str, str]:
    """Collects versions of Python and of the installed packages that matter to a run."""
    return {"python": platform.python_version(), **_installed()}


@functools.cache
def _installed() -> Mapping[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Returns the source tree's commit, with `+changes` where it was edited since; None outside a checkout."""
    root = Path(__file__).resolve().parent
    try:
        head = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changes else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def data_hash(samples: Iterable[Sample]) -> str:
    """Returns SHA-256 over the samples' questions, answers, boxes and pixels, in order."""
    return records_hash((sample.to_json(image_path=""), images_digest(sample.images)) for sample in samples)


def records_hash(records: Iterable[tuple[Mapping[str, Any], str]]) -> str:
    """Returns `data_hash` of samples that are laid out already: each one's JSON without its images, and its images'
    digest.
    """
    digest = hashlib.sha256()
    for record, image in records:
        digest.update(json.dumps(record, sort_keys=True).encode())
        digest.update(image.encode())
    return digest.hexdigest()


MOST_STEPS = 2**53
"""Steps from here on are damage: a page's numbers do not tell them apart."""


def step_of(path: Path, index: int, record: Mapping[str, Any]) -> int:
    """Returns the optimiser step that a line of a run is of.

    Args:
        path: The file, for the message.
        index: The line's place in it, from 0.
        record: What the line holds.

    Raises:
        InputError: If it says none, or what is no whole number from 0.
    """
    step = record.get("step")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < MOST_STEPS:
        said = (
            f"the step of line {index + 1} is {repr(step)[:50]}"
            if "step" in record
            else f"line {index + 1} has no step"
        )
        raise InputError(f"{path} is damaged: {said}; a step is a whole number from 0: remove the line or run again")
    return step


_LARGEST = 1e100
"""Larger measurements overflow where they are added up, or where axes are laid out; no run makes them."""


def measured_lines(path: Path, lines: Iterable[bytes]) -> dict[int, dict[str, Any]]:
    """Reads the lines of a `metrics.jsonl`; those of white space are passed over.

    Args:
        path: The file, for the message.
        lines: Its lines.

    Returns:
        The lines' numbers, from 0, and their records, in order. What a run logs is a number in them, or null.

    Raises:
        InputError: If a line is no record, its step is none, a value of a run's own keys is no number or too large, or
            two lines are of one step; the message names them.
    """
    found: dict[int, dict[str, Any]] = {}
    seen: dict[int, int] = {}
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        record = parse_record(path, index, line)
        _check_measured(path, index, record)
        if (step := step_of(path, index, record)) in seen:
            raise InputError(
                f"{path} is damaged: lines {seen[step] + 1} and {index + 1} are both of step {step}, as those of two "
                "runs are; keep the lines of one run"
            )
        seen[step] = index
        found[index] = record
    return found


def _check_measured(path: Path, index: int, record: Mapping[str, Any]) -> None:
    for key, value in record.items():
        if value is None or key == "step" or not (key in METRICS or key.startswith(_MORE)):
            continue
        # A truth value is no measurement.
        number = not isinstance(value, bool) and isinstance(value, int | float)
        if number and (abs(value) <= _LARGEST or (isinstance(value, float) and not math.isfinite(value))):
            continue
        what = "too large for a measurement" if number else "no number"
        raise InputError(
            f"{path} is damaged: the value of {key} in line {index + 1} is {what}, {repr(value)[:50]}; remove the line "
            "or run again"
        )


def rewind(folder: Path, step: int) -> None:
    """Drops what a run logged after a step, so that going on from there logs nothing twice.

    Args:
        folder: The run folder.
        step: The step; at 0 nothing is left, what was measured before the first step (`eval_on_start`) included.
    """
    for name in ("metrics.jsonl", "traces.jsonl"):
        path = folder / name
        if not path.exists():
            continue
        lines, rest = read_lines(path)
        steps = [step_of(path, index, parse_record(path, index, line)) for index, line in enumerate(lines)]
        kept = [line for line, its in zip(lines, steps, strict=True) if its <= step and step > 0]
        if not kept:
            path.unlink()
        elif rest or len(kept) < len(lines):
            write_lines(path, kept)
    path = folder / CASE_STUDY
    if path.exists():
        study = read_result(path, CASE_STUDY_KIND)
        points = study.get("points")
        if not isinstance(points, list) or not all(
            isinstance(one, dict) and isinstance(one.get("step"), int) for one in points
        ):
            raise InputError(f"{path} is damaged: its points have no steps; remove it, and the study measures anew")
        kept_points = [one for one in points if one["step"] <= step]
        if len(kept_points) < len(points):
            write_result(path, CASE_STUDY_KIND, {**study, "points": kept_points})


def run_id(folder: Path) -> str | None:
    """Returns what tells a folder's run from all others, as its manifest has it from its beginning on.

    Args:
        folder: The run folder; moved or copied, it stays the same run.

    Returns:
        The name; None where there is no manifest, a damaged one, or one of an earlier version.
    """
    try:
        found = read_result(folder / MANIFEST, "training", "supervised", "evaluation").get("id")
    except InputError:
        return None
    return found if isinstance(found, str) else None


def known_or_new_id(folder: Path) -> str:
    """Returns the `run_id` that a manifest is written with: the folder's own where it has one."""
    return run_id(folder) or uuid.uuid4().hex[:16]


class RunFolder:
    """One run on disk.

    Args:
        path: The folder; created where it does not exist.
    """

    @checks_kinds
    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path / "pictures")

    def write_manifest(
        self,
        config: Mapping[str, Any],
        seeds: Mapping[str, int],
        data: Mapping[str, Any],
        *,
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
        again: bool = False,
    ) -> None:
        """Writes `manifest.json`: the resolved configuration, versions, seeds, data hashes and commit.

        Args:
            config: `evaluation` is in it where the run is an evaluation; credentials in addresses are left out.
            seeds: Seeds by what they are of.
            data: Hashes by what the data are for.
            defaults: Defaults of the settings that were given otherwise, by part of `config` and name.
            again: Whether it takes the place of one that is there.

        Raises:
            InputError: If there is one and `again` is not set.
        """
        kind: Literal["training", "evaluation"] = "evaluation" if "evaluation" in config else "training"
        facts = hide_credentials(config), versions(), seeds, data, commit(), defaults or {}
        manifest = Manifest(kind, *facts, id=known_or_new_id(self.path))
        (manifest.write if again else manifest.create)(self.path / MANIFEST)

    def append_metrics(self, row: Mapping[str, float | int | None]) -> None:
        """Appends one step's line to `metrics.jsonl`: `METRICS` in their order, then the reward's components, what
        is told of groups, and `MORE_METRICS` where they are there.
        """
        components = {key: value for key, value in row.items() if key.startswith(_MORE)}
        append_record(self.path / "metrics.jsonl", {key: row.get(key) for key in METRICS} | components)

    def append_traces(self, traces: Iterable[Trace], more: Mapping[str, Any] | None = None) -> None:
        """Appends traces to `traces.jsonl`, their images as PNG files beside it, each distinct image once.

        Args:
            traces: The traces.
            more: Further keys of their records.
        """
        for trace in traces:
            append_record(self.path / "traces.jsonl", self._packed(trace) | dict(more or {}))

    def write_held_out(self, traces: Iterable[Trace]) -> None:
        """Writes `held-out.jsonl`: rollouts on held-out samples, with `step` 0 before training and the last after."""
        write_records(self.path / "held-out.jsonl", map(self._packed, traces))

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Writes `evaluation.json`, as the readers of `iapo.results` take it up."""
        write_result(self.path / EVALUATION, evaluation_kind(evaluation), evaluation)

    def write_losses(self, part: str, damages: Sequence[Mapping[str, Any]], flaws: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of the data that were left out to `<part>.quarantine.jsonl`, and those that were used without
        some of their boxes to `<part>.flawed.jsonl`, a line each; no file where there are none.
        """
        for name, records in (("quarantine", damages), ("flawed", flaws)):
            if records:
                write_records(self.path / f"{part}.{name}.jsonl", records)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads `metrics.jsonl`."""
        return read_records(self.path / "metrics.jsonl")

    def read_measured(self) -> dict[int, dict[str, Any]]:
        """Reads the whole lines of `metrics.jsonl`, each of another step (`measured_lines`)."""
        path = self.path / "metrics.jsonl"
        return measured_lines(path, read_lines(path)[0])

    def read_traces(self) -> list[Trace]:
        """Reads `traces.jsonl` with its images."""
        return self._read_rollouts("traces.jsonl")

    def read_held_out(self) -> list[Trace]:
        """Reads `held-out.jsonl` with its images."""
        return self._read_rollouts("held-out.jsonl")

    def read_evaluation(self) -> TrainingEvaluation:
        """Reads a training's `evaluation.json`.

        Raises:
            InputError: If the file cannot be read, or is another kind of evaluation.
        """
        found = read_evaluation(self.path / EVALUATION)
        if not isinstance(found, TrainingEvaluation):
            raise InputError(f"{self.path / EVALUATION} is an evaluation on test sets; give the folder of a training")
        return found

    def _read_rollouts(self, name: str) -> list[Trace]:
        found = []
        for number, record in enumerate(read_records(self.path / name), start=1):
            try:
                found.append(Trace.from_json(record, self.path))
            except InputError as error:
                raise InputError(
                    f"{self.path / name} is damaged: line {number} is no rollout ({error}); remove the line"
                ) from error
        return found

    def _packed(self, trace: Trace) -> dict[str, Any]:
        original, *more = map(self._picture, trace.sample.images)
        images = (one.result.image for one in trace.turns)
        return trace.to_json(original, [None if image is None else self._picture(image) for image in images], more)

    def _picture(self, image: Image.Image) -> str:
        relative = f"pictures/{image_digest(image)[:20]}.png"
        if not (self.path / relative).exists():
            save_png(image, self.path / relative)
        return relative
