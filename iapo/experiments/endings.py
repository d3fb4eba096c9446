"""How a process of an experiment ends where it cannot go on: with a sentence and an exit code of `iapo`, of which the
process that started it makes the error again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from iapo.endpoints.chat import EndpointError
from iapo.errors import DISK, InputError, NumberError, PlaceError, one_line
from iapo.storage import FULL

_CODES: dict[type[Exception], int] = {NumberError: 4, InputError: 2, EndpointError: 3, PlaceError: DISK}
"""Exit codes by error, the narrower ones before."""

_MARK = "iapo: "


@contextmanager
def ending() -> Iterator[None]:
    """Ends the process with a sentence and a code where the block raises an error that has them."""
    try:
        yield
    except tuple(_CODES) as error:
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        _end(str(error), code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = error.filename or "a file"
        _end(f"{where} could not be written: {error.strerror}; make room there and start the same command again", DISK)


def _end(text: str, code: int) -> NoReturn:
    sys.stderr.write(f"{_MARK}{one_line(text)}\n")
    raise SystemExit(code)


def error_of(name: str, code: int, log: Path) -> Exception | None:
    """Returns the error that ended a process; None where its log does not end with a sentence of `iapo`.

    Args:
        name: Name of the run.
        code: Exit code of the process.
        log: File that its output went to.
    """
    kind = next((kind for kind, one in _CODES.items() if one == code), None)
    lines = log.read_text(errors="replace").splitlines()
    if kind is None or not lines or not lines[-1].startswith(_MARK):
        return None
    return kind(f"the run {name}: {lines[-1].removeprefix(_MARK)}")
