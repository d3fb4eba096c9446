"""The run folder: manifest, metrics, traces, evaluation. Studies and the report read nothing else; no torch here."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from iapo.records import Sample, Trace, image_digest, save_png

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
their weights come after these, as `reward/<component>` and `weight/<component>`."""

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
    found = {"python": platform.python_version()}
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
    """Computes the SHA-256 of the samples' questions, answers, boxes and pixels, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        record = sample.to_json(image_path="")
        digest.update(json.dumps(record, sort_keys=True).encode())
        digest.update(image_digest(sample.image).encode())
    return digest.hexdigest()


class RunFolder:
    """One run on disk.

    Args:
        path: The folder; created where it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "pictures").mkdir(parents=True, exist_ok=True)

    def write_manifest(self, config: Mapping[str, Any], seeds: Mapping[str, int], data: Mapping[str, Any]) -> None:
        """Writes `manifest.json`: the resolved configuration, versions, seeds, data hashes and commit."""
        manifest = {"config": config, "versions": versions(), "seeds": seeds, "data": data, "commit": commit()}
        self._write("manifest.json", manifest)

    def append_metrics(self, row: Mapping[str, float | int | None]) -> None:
        """Appends one step's line to `metrics.jsonl`: `METRICS` in their order, then the reward's components."""
        components = {key: value for key, value in row.items() if key.startswith(("reward/", "weight/"))}
        self._append("metrics.jsonl", {key: row.get(key) for key in METRICS} | components)

    def append_traces(self, traces: Iterable[Trace]) -> None:
        """Appends traces to `traces.jsonl`, their images as PNG files beside it, each distinct image once."""
        for trace in traces:
            self._append("traces.jsonl", self._packed(trace))

    def write_held_out(self, traces: Iterable[Trace]) -> None:
        """Writes `held-out.jsonl`: rollouts on held-out samples, with `step` 0 before training and the last after."""
        text = "".join(json.dumps(self._packed(trace)) + "\n" for trace in traces)
        self._replace("held-out.jsonl", text)

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Writes `evaluation.json`."""
        self._write("evaluation.json", evaluation)

    def quarantine(self, part: str) -> Callable[[Any], None]:
        """Returns what keeps damaged rows in `<part>.quarantine.jsonl`, a line each; no file without damage."""
        return lambda damage: self._append(f"{part}.quarantine.jsonl", dataclasses.asdict(damage))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads `metrics.jsonl`."""
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    def read_traces(self) -> list[Trace]:
        """Reads `traces.jsonl` with its images."""
        lines = (self.path / "traces.jsonl").read_text().splitlines()
        return [Trace.from_json(json.loads(line), self.path) for line in lines]

    def read_held_out(self) -> list[Trace]:
        """Reads `held-out.jsonl` with its images."""
        lines = (self.path / "held-out.jsonl").read_text().splitlines()
        return [Trace.from_json(json.loads(line), self.path) for line in lines]

    def read_evaluation(self) -> dict[str, Any]:
        """Reads `evaluation.json`."""
        evaluation: dict[str, Any] = json.loads((self.path / "evaluation.json").read_text())
        return evaluation

    def _packed(self, trace: Trace) -> dict[str, Any]:
        original = self._picture(trace.sample.image)
        edited = None if trace.result.image is None else self._picture(trace.result.image)
        return trace.to_json(original, edited)

    def _picture(self, image: Image.Image) -> str:
        relative = f"pictures/{image_digest(image)[:20]}.png"
        if not (self.path / relative).exists():
            save_png(image, self.path / relative)
        return relative

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        self._replace(name, json.dumps(data, indent=2) + "\n")

    def _replace(self, name: str, text: str) -> None:
        # Written beside and renamed, so that a stopped run never leaves half a file.
        temporary = self.path / f"{name}.part"
        temporary.write_text(text)
        temporary.replace(self.path / name)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a") as file:
            file.write(json.dumps(row) + "\n")
