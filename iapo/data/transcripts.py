"""Transcripts: samples with the turns that solve them, for supervised training (docs/real-models.md).

ReFocus' rows (`conversations`, `thoughts`), lines of one's own with a field `turns`, and the traces of a run folder.
Turns are read from nowhere else: what loads for reinforcement learning or evaluation never has them.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.bounds import TURNS
from iapo.data.choosing import Chosen, choose
from iapo.data.damage import Damage, RowError
from iapo.data.fields import refuse_control_tokens, with_answer_flaws
from iapo.data.formats.known import Format, format_of
from iapo.data.rows import Row, columns_of, without_solution
from iapo.errors import InputError
from iapo.records import Sample, Trace
from iapo.storage import read_records

TRACES = ("traces.jsonl", "held-out.jsonl")
"""Files of a run folder that hold traces."""

_TRACE_COLUMNS = (frozenset({"sample", "turn_1", "result", "turn_2"}), frozenset({"sample", "turns", "scores"}))

# ReFocus names the tools of charts by the axis' values; its tables and this project name them alike.
_REFOCUS = {
    r"focus_on_x_values_with_": "focus_on_columns_with_",
    r"focus_on_y_values_with_": "focus_on_rows_with_",
    r"\bx_values_bbox\b": "columns_bbox",
    r"\by_values_bbox\b": "rows_bbox",
}


@dataclass(frozen=True, slots=True)
class Transcript:
    """One solved sample.

    Attributes:
        sample: The sample.
        turns: What is to be written: turns with a program, if any, and the turn with the answer.
        where: Place that it was read from, for messages.
        sampled: Whether a model wrote it in a rollout; then a program that fails is no damage of the data.
    """

    sample: Sample
    turns: tuple[str, ...]
    where: str
    sampled: bool = False


def read_transcripts(source: str | Path, *, split: str | None = None) -> Iterator[Transcript | Damage]:
    """Yields a transcript for each row, or the damage that stands in its place.

    Args:
        source: A file or a folder: ReFocus' `chartqa_vcot`, rows with `thoughts` or `turns`, or a run folder or one of
            its files of traces.
        split: Split, as `iapo.data.loading.load` takes it; run folders have none.

    Raises:
        InputError: At the call: if there is no such source, or its rows have no turns.
    """
    path = Path(source)
    if not path.exists():
        raise InputError(f"there is no file or folder {str(source)!r} of transcripts")
    traces = [path / name for name in TRACES if (path / name).exists()] if path.is_dir() else []
    if traces:
        return (one for file in traces for one in _read_traces(file))
    chosen = choose(path, split)
    files = list(chosen.files)
    columns = columns_of(files[0], solutions=True)
    if any(columns >= some for some in _TRACE_COLUMNS):
        return (one for file in files for one in _read_traces(file))
    if not columns & {"turns", "thoughts", "conversations"}:
        raise InputError(
            f"{source} has no turns; its rows need a field `turns` (a list of texts), ReFocus' "
            "`conversations` or `thoughts`, or give a run folder with traces"
        )
    known = format_of(columns_of(files[0]), str(source))
    return _read_rows(chosen, known)


def _read_traces(path: Path) -> Iterator[Transcript | Damage]:
    for number, record in enumerate(read_records(path), start=1):
        try:
            trace = Trace.from_json(record, path.parent)
        except InputError as error:
            yield Damage(number, None, f"the line is no rollout: {error}", path.name)
            continue
        turns = tuple(one.text for one in trace.turns)
        yield Transcript(trace.sample, turns, f"{path.name}, row {number}", sampled=True)


def _read_rows(chosen: Chosen, known: Format) -> Iterator[Transcript | Damage]:
    splits = chosen.rows()
    counts: Counter[str] = Counter()
    for file, origin in chosen.files.items():
        for row in chosen.read_file(file, solutions=True):
            counts[origin.series] += 1
            if isinstance(row, Damage):
                yield row
                continue
            try:
                if not splits.takes(row):
                    continue
                turns = turns_of(row.fields)
                fields, ordinal = without_solution(row.fields), counts[origin.series]
                sample = known.read(dataclasses.replace(row, fields=fields, ordinal=ordinal))
                refuse_control_tokens(sample)
                sample = with_answer_flaws(sample)
            except RowError as error:
                yield Damage(row.number, _id(row), str(error), row.file)
                continue
            yield Transcript(sample, turns, f"{row.file}, row {row.number} (id {sample.id!r})")


def turns_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the turns of a row, ReFocus' names of tools and boxes translated.

    Args:
        fields: The row's fields: `turns`, else `conversations` with `response`, else `thoughts`.

    Raises:
        RowError: If there are none, more than eight, or one that is no text.
    """
    found = fields.get("turns")
    if found is None and isinstance(fields.get("conversations"), list):
        found = [one.get("response") if isinstance(one, Mapping) else None for one in fields["conversations"]]
    if found is None:
        found = fields.get("thoughts")
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not found:
        raise RowError("the row has no turns; `turns` is a list of texts")
    if not all(isinstance(one, str) and one.strip() for one in found):
        raise RowError("one of the turns is no text, or an empty one")
    if len(found) > TURNS.high:
        raise RowError(f"the row has {len(found)} turns; a rollout has at most {TURNS.high}")
    return tuple(_translated(one) for one in found)


def _translated(text: str) -> str:
    for name, ours in _REFOCUS.items():
        text = re.sub(name, ours, text)
    return text


def _id(row: Row) -> str | None:
    value = row.fields.get("id", row.key)
    return str(value) if isinstance(value, str | int) else None
