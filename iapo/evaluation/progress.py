"""What of an evaluation is done: the rollouts in its `traces.jsonl`, each paired with its sample by name."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.errors import InputError
from iapo.records import Sample, Trace, recorded_turns
from iapo.results import EVALUATION
from iapo.runs import RunFolder
from iapo.storage import parse_record, read_lines, take, write_lines

TRACES = "traces.jsonl"

_NOTHING_ELSE: dict[str, Any] = {"attribution": {}, "patches": {}, "step": None}
"""Of a record what an evaluation has no use for."""

_OF = "evaluation"
"""Key of a record that says which rollout of which evaluation it is."""


def has_rollouts(folder: Path) -> bool:
    """Tells whether an evaluation has left anything of its own in a folder: a whole rollout, or its end."""
    path = folder / TRACES
    if (folder / EVALUATION).exists():
        return True
    if not path.is_file():
        return path.exists()
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rollouts that are sampled together.

    Attributes:
        start: Place of the first one among all rollouts of the evaluation.
        samples: The samples.
        seed: Seed of the sampling.
        name: Name of their test set.
        repeat: Which rollout of each sample this is, from 0.
    """

    start: int
    samples: Sequence[Sample]
    seed: int
    name: str = ""
    repeat: int = 0

    @property
    def places(self) -> range:
        """Places of its rollouts among all."""
        return range(self.start, self.start + len(self.samples))


class Done:
    """The finished rollouts of an evaluation, in memory and in its folder.

    Each record says which evaluation it is of, which set and which repeat; with the sample's source and id that is its
    place, wherever it stands in the file. Records of earlier versions say the sample alone, and take the places of that
    sample in order.

    Args:
        folder: The run folder; its `traces.jsonl` is read.
        batches: All batches of the evaluation.
        settings: What the rollouts depend on; records of another evaluation are refused.
        together: Whether a batch counts as a whole alone, since its rollouts are sampled together.

    Attributes:
        traces: The finished rollouts by place, without their edited images.

    Raises:
        InputError: If the file is damaged, or holds a rollout that is none of this evaluation's.
    """

    def __init__(
        self, folder: RunFolder, batches: Sequence[Batch], settings: Mapping[str, Any], *, together: bool
    ) -> None:
        self.folder, self.path = folder, folder.path / TRACES
        self.run = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._batch_of = {place: batch for batch in batches for place in batch.places}
        self.traces: dict[int, Trace] = {}
        lines = self._read()
        if together:
            cut = [batch for batch in batches if any(place not in lines for place in batch.places)]
            for place in [place for batch in cut for place in batch.places]:
                lines.pop(place, None)
        self.traces = {place: self._reread(place, record) for place, (_, record) in lines.items()}
        self._write(lines)
        self._in_order = True

    def missing(self, batch: Batch) -> list[int]:
        """Returns the places of a batch that are not finished."""
        return [place for place in batch.places if place not in self.traces]

    def add(self, place: int, trace: Trace) -> None:
        """Appends a finished rollout."""
        batch = self._batch_of[place]
        if self.traces and place < max(self.traces):
            self._in_order = False
        self.folder.append_traces([trace], {_OF: {"run": self.run, "set": batch.name, "repeat": batch.repeat}})
        self.traces[place] = trace

    def finish(self) -> list[Trace]:
        """Returns all rollouts in the order of their places, in which the file then has them as well."""
        if not self._in_order:
            self._write(self._read())
        return [self.traces[place] for place in sorted(self.traces)]

    def _sample(self, place: int) -> Sample:
        batch = self._batch_of[place]
        return batch.samples[place - batch.start]

    def _read(self) -> dict[int, tuple[bytes, dict[str, Any]]]:
        """Reads the file's records by place."""
        if not self.path.exists():
            return {}
        lines, _ = read_lines(self.path)
        records = [parse_record(self.path, index, line) for index, line in enumerate(lines)]
        # Samples may bear one name, and a set may be taken twice under two names.
        free: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for place in sorted(self._batch_of, reverse=True):
            batch, sample = self._batch_of[place], self._sample(place)
            free[batch.name, batch.repeat, sample.source, sample.id].append(place)
            free[sample.source, sample.id].append(place)
        found: dict[int, tuple[bytes, dict[str, Any]]] = {}
        # Those that say all choose first.
        for index in sorted(range(len(lines)), key=lambda index: _OF not in records[index]):
            place = self._place(index, records[index], free, found)
            found[place] = lines[index], records[index]
        return found

    def _place(
        self, index: int, record: Mapping[str, Any], free: Mapping[tuple[Any, ...], list[int]], taken: Iterable[int]
    ) -> int:
        where = f"{self.path}, line {index + 1}"
        sample, of = record.get("sample"), record.get(_OF)
        if not isinstance(sample, dict):
            raise InputError(f"{where} is no rollout; remove the line or choose another --out")
        name: tuple[Any, ...] = (sample.get("source"), sample.get("id"))
        if isinstance(of, dict):
            if of.get("run") != self.run:
                raise InputError(f"{where} is a rollout of another evaluation; remove the line or choose another --out")
            name = (of.get("set"), of.get("repeat"), *name)
        if not all(isinstance(one, str | int) for one in name):
            raise InputError(f"{where} names no sample; remove the line or choose another --out")
        places = [place for place in free.get(name, ()) if place not in taken]
        if not places:
            known = "is not asked about in this evaluation" if name not in free else "is there more often than asked"
            raise InputError(f"{where}: the sample {name[-1]!r} {known}; remove the line or choose another --out")
        return places[-1]

    def _reread(self, place: int, record: dict[str, Any]) -> Trace:
        try:
            return _reread(record, self._sample(place))
        except InputError as error:
            raise InputError(
                f"{self.path}: the rollout on the sample {self._sample(place).id!r} is damaged, or on another one of "
                f"that name: {error}; remove its line or choose another --out"
            ) from error

    def _write(self, lines: Mapping[int, tuple[bytes, object]]) -> None:
        """Writes records in the order of their places, where the file is otherwise."""
        wanted = [lines[place][0] for place in sorted(lines)]
        if self.path.exists() and self.path.read_bytes() != b"".join(line + b"\n" for line in wanted):
            write_lines(self.path, wanted)
        self._in_order = True


def _reread(data: dict[str, Any], sample: Sample) -> Trace:
    """Returns a recorded rollout, on the sample as it was read; sums need no edited image, and they are many.

    Raises:
        InputError: If it is none, or on a sample with another question or other answers.
    """
    asked = take(data, "sample", dict)
    if (asked.get("question"), asked.get("answers")) != (sample.question, list(sample.answers)):
        raise InputError("its question or its answers are others")
    turns = [{**one, "result": {**take(one, "result", dict), "image": None}} for one in recorded_turns(data)]
    trace = Trace.from_json({**data, **_NOTHING_ELSE, "turns": turns}, sample=sample)
    if (outcome := trace.scores.get("outcome")) is None or outcome.value not in (0, 1):
        raise InputError("it has no outcome of 0 or 1")
    return trace
