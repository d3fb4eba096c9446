"""Traces as the page's browser takes them: some of each run, distinct questions once, grids of shares in bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.errors import InputError
from iapo.records import ToolResult
from iapo.report.numbers import finite
from iapo.report.pictures import Pictures
from iapo.report.read import Run, TraceFile

LEVELS = 127
"""Steps of a share in the page, up to the largest share of its grid: finer than a heat map shows."""


@dataclass(frozen=True, slots=True)
class Browsed:
    """What the trace browser shows.

    Attributes:
        samples: The distinct questions: id, source, question, answers, axis and image.
        blocks: The distinct lists of block names.
        traces: The traces, each with places among runs, samples and blocks.
        total: Number of traces there are, shown or not.
        without_patches: Number of the shown ones have an attribution but no shares of the image's tokens.
    """

    samples: list[dict[str, Any]]
    blocks: list[list[str]]
    traces: list[dict[str, Any]]
    total: int
    without_patches: int


def browse(runs: Sequence[Run], pictures: Pictures, most: int) -> Browsed:
    """Collects traces of all runs.

    Args:
        runs: The runs.
        pictures: Store of the images.
        most: Largest number of traces, 0 for all; of each file about the same number, evenly spaced in it.

    Raises:
        InputError: If a line is not a trace.
    """
    files = [(place, run, file) for place, run in enumerate(runs) for file in run.traces]
    counts = share_out([len(file.lines) for _, _, file in files], most)
    collector = _Collector(pictures)
    for (place, run, file), count in zip(files, counts, strict=True):
        weights = {finite(row.get("step")): _weights(row) for row in run.metrics}
        for index in evenly(len(file.lines), count):
            try:
                collector.add(place, file, index, weights)
            except InputError:
                raise
            except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError) as error:
                raise InputError(
                    f"{file.path} is damaged: line {index + 1} is no trace ({error!r}); remove the line or run again"
                ) from error
    total = sum(len(file.lines) for _, _, file in files)
    return Browsed(collector.samples, collector.blocks, collector.traces, total, collector.without_patches)


def share_out(lengths: Sequence[int], most: int) -> list[int]:
    """Says how many of each list are taken, `most` in all (0: everything): the same number where a list has so many."""
    if most == 0 or sum(lengths) <= most:
        return list(lengths)
    counts = [0] * len(lengths)
    left, open_places = most, sorted(range(len(lengths)), key=lambda place: lengths[place])
    for number, place in enumerate(open_places):
        counts[place] = min(lengths[place], left // (len(open_places) - number))
        left -= counts[place]
    return counts


def evenly(length: int, count: int) -> list[int]:
    """Picks `count` places out of `length`, evenly spaced, from the first."""
    return [index * length // count for index in range(count)] if count else []


class _Collector:
    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.samples: list[dict[str, Any]] = []
        self.blocks: list[list[str]] = []
        self.traces: list[dict[str, Any]] = []
        self.without_patches = 0
        self._samples: dict[str, int] = {}
        self._blocks: dict[tuple[str, ...], int] = {}

    def add(self, run: int, file: TraceFile, index: int, weights: Mapping[Any, Mapping[str, float]]) -> None:
        data = file.read(index)
        result, scores, step = data["result"], data["scores"], data["step"]
        if step is not None and finite(step) is None:
            raise TypeError("its step is no number")
        trace: dict[str, Any] = {
            # The place in the file: it stays the same while a run goes on.
            "id": f"{file.prefix}{index + 1}",
            "run": run,
            "part": file.part,
            "step": step,
            "sample": self._sample(data["sample"], file),
            "turn1": str(data["turn_1"]),
            "turn2": None if data["turn_2"] is None else str(data["turn_2"]),
            "status": str(result["status"]),
            "error": result["error"],
            "span": result["span"],
            "calls": [_call(call) for call in result["calls"]],
            **({"text": str(result["text"])} if result.get("text") else {}),
            "edited": self.pictures.add(result["image"], file.path.parent),
            # None of a rollout that is not judged.
            "misused": ToolResult.from_json({**result, "image": None}).misuse(data["sample"]["axis"]),
            "outcome": scores["outcome"]["value"] if "outcome" in scores else None,
            "scores": [
                _score(name, score, weights.get(step, {}) if file.part == "training" else {})
                for name, score in scores.items()
            ],
        }
        attribution = data["attribution"]
        if attribution:
            names = tuple(next(iter(attribution.values())))
            trace["blocks"] = self._blocks.setdefault(names, len(self._blocks))
            if trace["blocks"] == len(self.blocks):
                self.blocks.append(list(names))
            trace["shares"] = {who: [round(blocks[name], 5) for name in names] for who, blocks in attribution.items()}
            patches = data.get("patches", {})
            trace["patches"] = {who: pack_grid(grid) for who, grid in patches.items() if grid and grid[0]}
            self.without_patches += not trace["patches"]
        self.traces.append(trace)

    def _sample(self, data: Mapping[str, Any], file: TraceFile) -> int:
        sample = {
            "id": str(data["id"]),
            "source": str(data["source"]),
            "question": str(data["question"]),
            "answers": [str(answer) for answer in data["answers"]],
            "axis": data["axis"],
            "picture": self.pictures.add(data["image"], file.path.parent),
        }
        key = json.dumps(sample, sort_keys=True)
        if key not in self._samples:
            self._samples[key] = len(self.samples)
            self.samples.append(sample)
        return self._samples[key]


def pack_grid(grid: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Packs a grid of signed shares as one byte each.

    Returns:
        `rows`, `columns`, `most` (the largest absolute share), `sum` (of the absolute shares), and `data`: base64 of
        signed bytes, `LEVELS` for `most`.

    Raises:
        InputError: If the rows are not of one length.
    """
    columns = len(grid[0])
    if any(len(row) != columns for row in grid):
        raise ValueError("a grid of shares has rows of different lengths")
    flat = [float(share) for row in grid for share in row]
    most = max(map(abs, flat))
    levels = [round(LEVELS * share / most) if most else 0 for share in flat]
    data = base64.b64encode(bytes(level % 256 for level in levels)).decode("ascii")
    total = round(sum(map(abs, flat)), 5)
    return {"rows": len(grid), "columns": columns, "most": most, "sum": total, "data": data}


def _weights(row: Mapping[str, Any]) -> dict[str, float]:
    """Reads the weight of each component of the reward in one step."""
    return {
        key.removeprefix("weight/"): value
        for key, value in row.items()
        if key.startswith("weight/") and value is not None
    }


def _score(name: str, score: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": name,
        "value": score["value"],
        "answer": score["answer"],
        "explanation": score["explanation"],
        "weight": weights.get(name),
    }


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": str(call["name"]), "targets": [str(target) for target in call["targets"]], "axis": call["axis"]}
