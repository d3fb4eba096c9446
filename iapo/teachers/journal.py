"""What a teacher was asked so far: kept batch by batch beside the table that it becomes, so that asking can go on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from iapo.errors import InputError
from iapo.storage import append_record, make_folder, read_records, take, take_list
from iapo.teachers.table import TeacherRow


class Journal:
    """The explained batches of a table that is being made.

    Args:
        table: Path of the table; the journal is `TABLE.begun.jsonl` beside it.
        asked: What the rows depend on: the teacher's fingerprint, and the settings.

    Raises:
        InputError: If there is a journal of another teacher or other settings, or it is damaged.
    """

    def __init__(self, table: Path, asked: Mapping[str, Any]) -> None:
        self.path = table.with_name(f"{table.name}.begun.jsonl")
        wanted = json.loads(json.dumps({"asked": dict(asked)}))
        records = read_records(self.path) if self.path.exists() else []
        if not records:
            make_folder(self.path.parent)
            append_record(self.path, wanted)
        elif records[0] != wanted:
            before, now = records[0].get("asked"), wanted["asked"]
            known = before if isinstance(before, dict) else {}
            other = next((name for name in now if known.get(name) != now[name]), "form")
            raise InputError(f"{self.path} was begun with another {other}; choose another --out or remove it")
        self._batches = [self._rows(record, number) for number, record in enumerate(records[1:], 2)]

    def _rows(self, record: Mapping[str, Any], number: int) -> list[TeacherRow]:
        try:
            return [_row(one) for one in take_list(record, "rows", dict)]
        except InputError as error:
            raise InputError(f"{self.path} is damaged: line {number}: {error}; remove the file") from error

    def take(self, names: Sequence[tuple[str, str]]) -> list[TeacherRow] | None:
        """Returns the rows of the next batch; None where it is not explained yet.

        Args:
            names: Each sample's name, and the digest of its prompt.

        Raises:
            InputError: If the batch is of other samples.
        """
        if not self._batches:
            return None
        rows = self._batches.pop(0)
        if [(row.sample, row.prompt) for row in rows] != list(names):
            raise InputError(f"{self.path} was begun with other samples or prompts; choose another --out or remove it")
        return rows

    def add(self, rows: Sequence[TeacherRow]) -> None:
        """Keeps the rows of a batch, all of them or none."""
        append_record(self.path, {"rows": [dataclasses.asdict(row) for row in rows]})

    def close(self) -> None:
        """Removes the journal, once the table is there."""
        self.path.unlink(missing_ok=True)


def _row(record: Mapping[str, Any]) -> TeacherRow:
    values = None if record.get("distribution", []) is None else tuple(take_list(record, "distribution", int, float))
    return TeacherRow(
        take(record, "sample", str),
        tuple(take_list(record, "block_names", str)),
        values,
        take(record, "call", str, NoneType),
        take(record, "prompt", str),
    )
