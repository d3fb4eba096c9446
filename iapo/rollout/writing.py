"""Folders of weights: written whole or taken away, and one sentence where a disk is at fault."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from iapo.errors import InputError, PlaceError
from iapo.storage import FULL, check_place, make_folder, without_empty

_SAID = ("PytorchStreamWriter", "unexpected pos", "No space left", "os error", "I/O error")
"""What torch, safetensors and tokenizers say of a file that they could not write; they give no error number."""


@contextmanager
def writing(folder: Path, then: str = "", *, keep: bool = False) -> Iterator[None]:
    """Takes a folder away again where the block ends with an error, and says so where a disk is at fault.

    Args:
        folder: Folder that is written to within the block.
        then: More of the sentence: what happens when the same command is started again.
        keep: Whether the folder stays after an error, since others write into it, or it held something before.

    Raises:
        PlaceError: If the disk took no more, whatever the writing library made of that.
    """
    try:
        yield
    except BaseException as error:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        # Tokenizers raise the base of all exceptions itself.
        theirs = isinstance(error, RuntimeError | SafetensorError) or type(error) is Exception
        said = theirs and any(one in str(error) for one in _SAID)
        if said or (isinstance(error, OSError) and error.errno in FULL):
            reason = " ".join(str(error).split())[:200]
            raise PlaceError(
                f"{folder} could not be written ({reason}); make room there and start the same command again{then}"
            ) from error
        raise


def folder_at(given: str | os.PathLike[str], name: str) -> Path:
    """Returns where a folder is to be written.

    Args:
        given: Its path.
        name: Name of the argument, for messages.

    Raises:
        InputError: If it is no path or an empty one, or as `iapo.storage.check_place`.
    """
    if not isinstance(given, str | Path) or not str(given).strip():
        what = "empty" if isinstance(given, str) else f"of type {type(given).__name__}"
        raise InputError(f"{name} is {what}; give the path of a folder")
    check_place(folder := Path(given))
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to write to, beside the one that it becomes when the block ends; with an error it is taken away,
    and so is what was made around it.

    Args:
        folder: The folder; it does not exist yet, or is empty.

    Raises:
        PlaceError: If the disk took no more.
    """
    part = folder.with_name(f"{folder.name}.part")
    # What a dead process left there.
    shutil.rmtree(part, ignore_errors=True)
    with without_empty(), writing(part):
        make_folder(part)
        yield part
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
