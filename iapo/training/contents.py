"""What a checkpoint consists of: its files with their lengths and checksums, and by how many processes it was written.

Each process writes files of its own, and a directory with some of them missing looks like a whole one. So the list is
written last, when all have written theirs.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.errors import InputError
from iapo.storage import write_json

CONTENTS = "contents.json"
INCOMPLETE = "checkpoint-is-incomplete.txt"
"""Lies in a checkpoint while it is being written, as Transformers has it, too."""
_ARCHIVES = (".pt", ".pth", ".bin")
"""Files of torch: archives with a list of their parts and the checksum of each, made as they were written."""
_LONGEST = 255
"""Letters that a file's name has at most."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint consists of.

    Attributes:
        processes: Number of processes that wrote it.
        engine: What splits its state over them, as `iapo.training.shards.engine_of` names it.
        files: Length in bytes and checksum by name, relative to the folder; the latter is None for torch's archives
            in lists of earlier versions.
        run: What tells the run from others (`iapo.runs.run_id`); None where nothing does.
        best: Where the best checkpoint so far is, in the run's folder relative to that; None where none is, or the list
            is of an earlier version.
    """

    processes: int
    engine: str
    files: Mapping[str, tuple[int, int | None]]
    run: str | None = None
    best: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Contents | None:
        """Reads a checkpoint's list; None where it has none, being of an earlier version or of another program.

        Raises:
            ValueError: If it is cut off or damaged.
        """
        try:
            found: Any = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, RecursionError) as error:
            raise ValueError(f"{CONTENTS} cannot be read") from error
        try:
            files = {
                str(name): (int(size), None if crc is None else int(crc))
                for name, (size, crc) in found["files"].items()
            }
            run, best = (None if found.get(key) is None else str(found[key]) for key in ("run", "best"))
            return cls(int(found["processes"]), str(found["engine"]), files, run, best)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{CONTENTS} is no list of files") from error

    def write(self, folder: Path) -> None:
        """Writes the list into its folder."""
        files = {name: list(told) for name, told in self.files.items()}
        told = {"processes": self.processes, "engine": self.engine, "run": self.run, "best": self.best}
        write_json(folder / CONTENTS, {**told, "files": files})

    def fault_of(self, folder: Path) -> str | None:
        """Says which file of a checkpoint is missing or not as it was written; None where all are."""
        for name, (size, crc) in self.files.items():
            file = folder / name
            # A name of more letters than a file's may have is of none.
            if max(map(len, file.parts)) > _LONGEST or not file.is_file():
                return f"its {name} is missing"
            if file.stat().st_size != size:
                return f"its {name} is cut off" if file.stat().st_size < size else f"its {name} is damaged"
            if crc is not None and checksum_of(file) != crc:
                return f"its {name} is damaged or another checkpoint's"
        return None

    def check(self, folder: Path, processes: int, engine: str | None = None) -> None:
        """Refuses to go on from a checkpoint in another number of processes, or under another engine.

        Args:
            folder: The checkpoint.
            processes: Number of processes.
            engine: What splits the state; None where it is not known yet.

        Raises:
            InputError: If so.
        """
        if processes == self.processes and engine in (None, self.engine):
            return
        now = _words(processes, engine)
        raise InputError(
            f"{folder} was written by {_words(self.processes, self.engine)}, and cannot be gone on from by {now}: its "
            "states are of each process; start as before, or begin anew in another output_dir with the checkpoint as "
            "model"
        )


def _words(processes: int, engine: str | None) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}{f' ({engine})' if engine else ''}"


def list_contents(folder: Path, names: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """Returns length and checksum of some of a folder's files by name."""
    found: dict[str, tuple[int, int | None]] = {}
    for name in names:
        file = folder / name
        found[name] = file.stat().st_size, checksum_of(file)
    return found


def names_in(folder: Path) -> list[str]:
    """Returns the names of all files in a folder and below, in order, but for the list of them and the mark of what is
    being written.
    """
    found = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
    return sorted(found - {CONTENTS, INCOMPLETE})


def checksum_of(file: Path) -> int:
    """Returns the CRC-32 of a file's bytes; of torch's archives, whose parts have their own, that of their list.

    So a state of many gigabytes is not read again as soon as it is written.
    """
    if file.suffix in _ARCHIVES:
        try:
            with zipfile.ZipFile(file) as archive:
                parts = [(one.filename, one.CRC, one.file_size) for one in archive.infolist()]
            return zlib.crc32(repr(parts).encode())
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError):
            # None of torch's, or damaged: then another than was noted.
            pass
    crc = 0
    with file.open("rb") as opened:
        while part := opened.read(1 << 24):
            crc = zlib.crc32(part, crc)
    return crc
