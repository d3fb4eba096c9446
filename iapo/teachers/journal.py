"""What a teacher was asked so far: kept batch by batch beside the table that it becomes, so that asking can go on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iapo.errors import InputError
from iapo.storage import append_record, make_folder, read_records
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
            before, now = records[0].get("asked") or {}, wanted["asked"]
            other = next((name for name in now if before.get(name) != now[name]), "form")
            raise InputError(f"{self.path} was begun with another {other}; choose another --out or remove it")
        self._batches = [[_row(one) for one in record.get("rows", [])] for record in records[1:]]

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


def _row(data: Mapping[str, Any]) -> TeacherRow:
    values = data["distribution"]
    return TeacherRow(
        data["sample"],
        tuple(data["block_names"]),
        None if values is None else tuple(values),
        data["call"],
        data["prompt"],
    )
