"""Files of results: written whole or not at all, appended and read by whole lines; the standard library alone."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from iapo.errors import InputError
from iapo.kinds import checks_kinds

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS))
"""Numbers of the errors that say that a disk takes no more: full, over a quota or a limit, or read-only."""

NEEDED: Any = object()
"""Stands for no default."""

_HUGE = 1e300


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and puts what is there in its place when the block ends.

    After an error, or where nothing was written, `path` stays as it was. The path is of this one writing alone, so
    that several processes never write into one another's file; the last one to end wins.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        if part.exists():
            # Renamed before its bytes are on the disk, a file may be empty after a power cut.
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
    except OSError as error:
        # A write names no file, and the temporary one is nobody's.
        if error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


_made: list[Path] = []


def make_folder(folder: Path) -> list[Path]:
    """Makes a folder, and those above it, where they are not there; `without_empty` knows of them.

    Returns:
        Those that it made, the outermost first; what another process made at the same time is not among them.
    """
    made = []
    for one in reversed([one for one in (folder, *folder.parents) if not one.is_dir()]):
        with suppress(FileExistsError):
            one.mkdir()
            # At once, since the next one may fail.
            _made.append(one.absolute())
            made.append(_made[-1])
    # Says what is in the way where that is no folder.
    folder.mkdir(exist_ok=True)
    return made


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders that hold nothing, of those that `make_folder` made, in its order."""
    for one in reversed(folders):
        with suppress(OSError):
            one.rmdir()


@contextmanager
def without_empty() -> Iterator[None]:
    """Removes folders that this process made within the block and that hold nothing, where it ends with an error."""
    before = len(_made)
    try:
        yield
    except BaseException:
        remove_empty(_made[before:])
        raise
    finally:
        del _made[before:]


def check_place(path: Path) -> None:
    """Refuses a path that nothing can be written to: below a file, a link in a circle, where this user may not write,
    or where the system makes nothing.

    Raises:
        InputError: If so.
        OSError: If the disk takes no more.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise InputError(f"{str(path)[:200]} cannot be written: {error.strerror}; choose another place") from error
    above = next((one for one in path.absolute().parents if one.exists() or one.is_symlink()), path.absolute())
    if not above.exists():
        raise InputError(f"{path} lies below {above}, a link to nothing; make its target or choose another place")
    if not above.is_dir():
        raise InputError(f"{path} lies below {above}, which is a file; choose another place")
    if not os.access(above, os.W_OK):
        raise InputError(f"{path} cannot be written: {above} is read-only for this user; choose another place")
    if path.exists():
        return
    try:
        # Some places, /proc for one, say only when asked that nothing can be made there.
        os.rmdir(tempfile.mkdtemp(prefix=".iapo-", dir=above))
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(f"{path} cannot be made: {error.strerror}; choose another place") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    write_all({path: content})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Writes files that belong together, whole, and all of them or none."""
    with ExitStack() as stack:
        for path, content in files.items():
            stack.enter_context(whole_file(path)).write_bytes(content)


@contextmanager
def together(paths: Iterable[Path]) -> Iterator[None]:
    """Takes away files that belong together and that the block has written, where it ends with an error."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def create_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a JSON file as `write_json` does where there is none: of several processes the first one wins.

    Raises:
        FileExistsError: If there is one.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            file.write((json.dumps(data, indent=2) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        # Unlike a renaming, a link takes the place of nothing.
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


@checks_kinds
def write_text(path: Path, text: str) -> None:
    """Writes a text file as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a JSON file, indented, whole or not at all."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Writes lines without their ends, whole or not at all."""
    write_bytes(path, b"".join(line + b"\n" for line in lines))


@checks_kinds
def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a JSON record a line, whole or not at all."""
    write_lines(path, (json.dumps(record).encode() for record in records))


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Appends a JSON record as one whole line; half a line that an earlier process left at the end is dropped."""
    line = json.dumps(record).encode() + b"\n"
    # Unbuffered: the line reaches the file in one piece, or an error tells.
    with path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
        end = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(end)
            raise OSError(errno.ENOSPC, "only a part of a line could be written", str(path))


def read_lines(path: Path) -> tuple[list[bytes], bytes]:
    """Reads a file's whole lines, without their ends, and what follows the last line end: half a line, or nothing.

    Raises:
        InputError: If the file cannot be read.
    """
    *lines, rest = _read(path).split(b"\n")
    return lines, rest


def parse_record(path: Path, index: int, line: bytes) -> dict[str, Any]:
    """Reads one line of a file as a JSON record.

    Args:
        path: The file, for the message.
        index: The line's place in it, from 0.
        line: The line.

    Raises:
        InputError: If the line is not a JSON record.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: line {index + 1} is not JSON; remove the line or run again") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is damaged: line {index + 1} is no record; remove the line or run again")
    return record


@checks_kinds
def read_records(path: Path) -> list[dict[str, Any]]:
    """Reads the JSON records of a file's whole lines; half a line at the end is left out.

    Raises:
        InputError: If the file cannot be read, or a line is damaged; the message says which.
    """
    lines, _ = read_lines(path)
    return [parse_record(path, index, line) for index, line in enumerate(lines)]


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds one record.

    Raises:
        InputError: If the file cannot be read, or does not hold a JSON record.
    """
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: it is not JSON; restore it or give another folder") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it holds no record; restore it or give another folder")
    return found


def _read(path: Path) -> bytes:
    try:
        # A pipe that nobody writes to, and a device, may never end.
        if path.exists() and not path.is_file():
            what = "folder" if path.is_dir() else "pipe or a device"
            raise InputError(f"cannot read {path} (it is a {what}); restore it or give another folder")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); restore it or give another folder") from error


def take(record: Any, name: str, *kinds: type, default: Any = NEEDED) -> Any:
    """Takes a field out of a JSON record.

    Args:
        record: The record.
        name: Name of the field.
        kinds: Types that it may have. With `float` it may be a whole number that a float holds, too; a truth value is
            no number.
        default: Value where there is no such field; without one it must be there.

    Raises:
        InputError: If it is not there, or of another type.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"there is something of the type {type(record).__name__} in the place of the record of {name}")
    if name not in record:
        if default is NEEDED:
            raise InputError(f"the field {name} is missing")
        return default
    value = record[name]
    if isinstance(value, bool):
        fits = bool in kinds
    elif isinstance(value, int) and float in kinds:
        fits = abs(value) < _HUGE
    else:
        fits = isinstance(value, kinds)
    if not fits:
        raise InputError(f"the field {name} is of the type {type(value).__name__}, or too large, and cannot be that")
    return value


def take_list(record: Any, name: str, *kinds: type) -> list[Any]:
    """Takes a list out of a JSON record, as `take` does.

    Args:
        record: The record.
        name: Name of the field.
        kinds: Types that what is in the list may have; a truth value is no number.
    """
    found: list[Any] = take(record, name, list)
    if not all(isinstance(one, kinds) and (bool in kinds or not isinstance(one, bool)) for one in found):
        raise InputError(f"the field {name} is a list of other things than there should be")
    return found


def check_new(folder: Path, *names: str) -> None:
    """Refuses to write over what is there.

    Args:
        folder: Folder that is written to.
        names: Names of the files.

    Raises:
        InputError: If there is one of them.
    """
    taken = next((folder / name for name in names if (folder / name).exists()), None)
    if taken is not None:
        raise InputError(f"{taken} already exists; choose another --out or remove it")
