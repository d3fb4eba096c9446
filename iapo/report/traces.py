"""Traces as the page's browser takes them: some of each run, distinct questions once, grids of shares in bytes."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.errors import InputError, brief
from iapo.records import Axis, ToolResult, recorded_grids
from iapo.report.foreign import foreign_lines
from iapo.report.groups import Credit, Group, credit, weights_in
from iapo.report.lines import Line
from iapo.report.numbers import finite
from iapo.report.pictures import Pictures
from iapo.report.prompts import Prompts, RunPrompt, Texts
from iapo.report.read import Run, TraceFile
from iapo.report.turns import turns_of

LEVELS = 127
"""Steps of a share in the page, up to the largest share of its grid: finer than a heat map shows."""


@dataclass(frozen=True, slots=True)
class Browsed:
    """What the trace browser shows.

    Attributes:
        samples: The distinct questions: id, source, question, answers, axis and image.
        blocks: The distinct lists of block names.
        prompts: The distinct prompts (`iapo.report.prompts.Prompts`).
        texts: Texts that traces name by their place: questions as the prompts have them, observations.
        groups: The groups of training rollouts: `asked` (how many), `mean` reward, `deviation`, and why advantages are
            `missing`.
        traces: The traces, each with places among runs, samples, blocks, prompts and groups.
        total: Number of traces there are, shown or not.
        without_patches: Number of the shown ones have an attribution but no shares of an image's tokens.
        notes: Sentences about what cannot be shown.
        foreign: Sentences about files that seem to hold traces of another run.
    """

    samples: list[dict[str, Any]]
    blocks: list[list[str]]
    prompts: list[dict[str, Any]]
    texts: list[str]
    groups: list[dict[str, Any]]
    traces: list[dict[str, Any]]
    total: int
    without_patches: int
    notes: list[str]
    foreign: list[str]


def browse(runs: Sequence[Run], pictures: Pictures, most: int) -> Browsed:
    """Collects traces of all runs.

    Args:
        runs: The runs.
        pictures: Store of the images.
        most: Largest number of traces, 0 for all; of each file about the same number, evenly spaced in it, and the
            rollouts of one prompt together where they fit.

    Raises:
        InputError: If a line is not a trace.
    """
    files = [(place, run, file) for place, run in enumerate(runs) for file in run.traces]
    counts = share_out([len(file.lines) for _, _, file in files], most)
    collector = _Collector(pictures)
    notes: list[str] = []
    foreign: list[str] = []
    prompts = [collector.prompts.of_run(run) for run in runs]
    notes += [f"{run.name} {prompt.note}." for run, prompt in zip(runs, prompts, strict=True) if prompt.note]
    for (place, run, file), count in zip(files, counts, strict=True):
        lines = [_checked(file, index, Line.of, file.read(index)) for index in range(len(file.lines))]
        if what := foreign_lines(file.manifest or run.manifest, file.part, lines):
            foreign.append(f"{run.name}: {file.path.name} may hold traces of another run, too: {what}.")
        try:
            groups, credits = credit(run, lines) if file.part == "training" else ([], [])
        except (ValueError, ArithmeticError) as error:
            raise InputError(
                f"{file.path} has scores too large to be added up; remove their lines or run again"
            ) from error
        weights = {finite(row.get("step")): weights_in(row) for row in run.metrics}
        first_group = collector.add_groups(groups)
        together = [one.lines for one in groups] if groups else _by_sample(lines)
        for index in pick(together, count):
            given = None if not credits else (first_group, credits[index], weights.get(lines[index].step, {}))
            add = functools.partial(collector.add, place, file, index, prompts[place], given)
            _checked(file, index, add, file.read(index))
    total = sum(len(file.lines) for _, _, file in files)
    return collector.browsed(total, notes, foreign)


def _checked(file: TraceFile, index: int, read: Callable[[dict[str, Any]], Any], record: dict[str, Any]) -> Any:
    try:
        return read(record)
    except InputError as error:
        if str(file.path) in str(error):
            raise
        raise InputError(
            f"{file.path} is damaged: line {index + 1} is no trace ({error}); remove the line or run again"
        ) from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{file.path} is damaged: line {index + 1} is no trace ({brief(error)}); remove the line or run again"
        ) from error


def _by_sample(lines: Sequence[Line]) -> list[list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for place, line in enumerate(lines):
        found.setdefault(line.sample, []).append(place)
    return list(found.values())


def pick(together: Sequence[Sequence[int]], count: int) -> list[int]:
    """Picks about `count` of a file's lines, and no more: evenly, those that belong together as a whole.

    Args:
        together: Places of the lines that belong together; each line is in one of them.
        count: Largest number.

    Returns:
        Places in order; where not even one of `together` fits, of the lines themselves.
    """
    total = sum(map(len, together))
    if count >= total:
        return list(range(total))
    for number in range(len(together) * count // max(1, total) + 1, 0, -1):
        found = [place for index in evenly(len(together), number) for place in together[index]]
        if len(found) <= count:
            return sorted(found)
    return evenly(total, count)


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
        self.texts = Texts()
        self.prompts = Prompts(self.texts)
        self.samples: list[dict[str, Any]] = []
        self.blocks: list[list[str]] = []
        self.groups: list[dict[str, Any]] = []
        self.traces: list[dict[str, Any]] = []
        self.without_patches = 0
        self._samples: dict[str, int] = {}
        self._blocks: dict[tuple[str, ...], int] = {}

    def add_groups(self, groups: Sequence[Group]) -> int:
        """Adds the groups of a file; returns the place of the first."""
        first = len(self.groups)
        self.groups += [
            {"asked": one.asked, "mean": _short(one.mean), "deviation": _short(one.deviation), "missing": one.missing}
            for one in groups
        ]
        return first

    def add(
        self,
        run: int,
        file: TraceFile,
        index: int,
        prompt: RunPrompt,
        given: tuple[int, Credit, Mapping[str, float]] | None,
        data: dict[str, Any],
    ) -> None:
        """Adds one trace; `given` is the first group's place, what training made of it, and the step's weights."""
        turns, scores, step = turns_of(data), data["scores"], data["step"]
        root = file.path.parent
        of = data.get("evaluation")
        trace: dict[str, Any] = {
            # The place in the file: it stays the same while a run goes on.
            "id": f"{file.prefix}{index + 1}",
            "run": run,
            "part": file.part,
            "step": step,
            "repeat": of.get("repeat") if isinstance(of, dict) else None,
            "sample": self._sample(data["sample"], file),
            "turns": [self._turn(turns, place, prompt, root) for place in range(len(turns))],
            "status": turns[0]["status"],
            "cut": bool(data.get("observation_cut")),
            # None of a rollout that is not judged.
            "misused": _misused(turns, data["sample"]["axis"]),
            "outcome": finite(scores["outcome"]["value"]) if "outcome" in scores else None,
            "divergence": finite(scores["divergence"]["value"]) if "divergence" in scores else None,
            "reward": None,
            "advantage": None,
        }
        weights: Mapping[str, float] = {}
        parts: Mapping[str, float] = {}
        if given is not None:
            first, credited, weights = given
            parts = credited.parts
            trace |= {"group": first + credited.group, "reward": _short(credited.reward)}
            trace |= {"advantage": _short(credited.advantage)}
        trace["scores"] = [_score(name, score, weights.get(name), parts.get(name)) for name, score in scores.items()]
        attribution = data["attribution"]
        names: tuple[str, ...] = ()
        if attribution:
            names = tuple(next(iter(attribution.values())))
            trace["blocks"] = self._blocks.setdefault(names, len(self._blocks))
            if trace["blocks"] == len(self.blocks):
                self.blocks.append(list(names))
            trace["shares"] = {who: [round(blocks[name], 5) for name in names] for who, blocks in attribution.items()}
            grids = recorded_grids(data).items()
            trace["patches"] = {who: list(map(pack_grid, some)) for who, some in grids if some[0] and some[0][0]}
            self.without_patches += not trace["patches"]
        sample = self.samples[trace["sample"]]
        sizes = [None if one is None else self.pictures.sizes[one] for one in (sample["picture"], *sample["more"])]
        if (found := prompt.place(data["sample"], sizes, names)) is not None:
            trace["prompt"], trace["query"] = found
        self.traces.append(trace)

    def browsed(self, total: int, notes: list[str], foreign: list[str]) -> Browsed:
        """Returns all that was added."""
        return Browsed(
            samples=self.samples,
            blocks=self.blocks,
            prompts=self.prompts.found,
            texts=self.texts.found,
            groups=self.groups,
            traces=self.traces,
            total=total,
            without_patches=self.without_patches,
            notes=notes,
            foreign=foreign,
        )

    def _turn(self, turns: Sequence[Mapping[str, Any]], place: int, prompt: RunPrompt, root: Path) -> dict[str, Any]:
        """Lays out a turn; what was not there is left out, since traces are many."""
        turn = turns[place]
        found: dict[str, Any] = {"text": turn["text"]}
        if turn["status"] is None:
            return found
        found |= {"status": turn["status"], "edited": self.pictures.add(turn["image"], root)}
        found |= {key: turn[key] for key in ("span", "calls", "error", "said") if turn[key]}
        # Where a rollout has several programs, each may have been compared with the teacher's.
        if (divergence := finite(turn.get("divergence"))) is not None:
            found["divergence"] = divergence
        if place + 1 < len(turns):
            seen = turn["image"] is not None
            found["told"] = prompt.observation(edited=seen, error=turn["error"], said=turn["said"], turn=place)
        return found

    def _sample(self, data: Mapping[str, Any], file: TraceFile) -> int:
        sample = {
            "id": str(data["id"]),
            "source": str(data["source"]),
            "question": str(data["question"]),
            "answers": [str(answer) for answer in data["answers"]],
            "axis": data["axis"],
            "picture": self.pictures.add(data["image"], file.path.parent),
            "more": [self.pictures.add(one, file.path.parent) for one in data.get("more_images", ())],
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


def _misused(turns: Sequence[Mapping[str, Any]], axis: Axis | None) -> bool | None:
    judged = []
    for turn in turns:
        if turn["status"] is not None:
            # The page keeps of a call what misuse is judged by.
            calls = [{**call, "boxes": ""} for call in turn["calls"]]
            result = ToolResult.from_json({**turn, "calls": calls, "image": None})
            judged += [verdict for verdict in (result.misuse(axis),) if verdict is not None]
    return any(judged) if judged else None


def _score(name: str, score: Mapping[str, Any], weight: float | None, part: float | None) -> dict[str, Any]:
    found = {key: score[key] for key in ("answer", "explanation")}
    return {"name": name, "value": finite(score["value"]), **found, "weight": weight, "part": _short(part)}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
