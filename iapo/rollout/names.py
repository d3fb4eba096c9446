"""Names of checkpoints: packaged ones by name, folders, hub ids; without torch."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from iapo.errors import InputError

ADAPTER = "adapter_config.json"
"""By this file PEFT tells an adapter's folder from a checkpoint's."""

PACKAGED = Path(str(resources.files("iapo"))) / "checkpoints"
"""Where the packaged tiny checkpoints lie, one folder each."""

_LONGEST, _LONGEST_PART = 4095, 255
"""Bytes of a path, and of a name in it."""

# A folder has one of them: a whole checkpoint, or an adapter.
_KNOWN_BY = ("config.json", ADAPTER)


def resolve(name: str | os.PathLike[str]) -> str:
    """Turns the name of a packaged checkpoint into its folder; any other name is returned as it is, as a text.

    Raises:
        InputError: If it is no text or path, or an empty one.
    """
    text = check_name(name)
    folder = PACKAGED / text
    return str(folder) if any(os.path.isfile(folder / one) for one in _KNOWN_BY) else text


def check_name(name: str | os.PathLike[str]) -> str:
    """Returns the name of a model as a text.

    Raises:
        InputError: If it is no text or path, an empty one, or too long.
    """
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip():
        what = "empty" if isinstance(text, str) else f"of type {type(name).__name__}"
        raise InputError(f"model is {what}; give the name of a policy, a folder or a hub id")
    if _bytes(text) > _LONGEST or any(_bytes(part) > _LONGEST_PART for part in Path(text).parts):
        raise InputError(
            f"model is {text[:40]!r}..., of {len(text)} characters, which no file may have; give the name of a policy, "
            "a folder or a hub id"
        )
    return text


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


def packaged() -> list[str]:
    """Returns the names of the packaged checkpoints."""
    return sorted({path.parent.name for one in _KNOWN_BY for path in PACKAGED.glob(f"*/{one}")})


def check_teacher(student: str, teacher: str, revision: str | None = None, teacher_revision: str | None = None) -> None:
    """Refuses the student's own checkpoint as its teacher: there is nothing to learn from it, and nothing says so.

    Args:
        student: The student: a packaged name, a folder or a hub id.
        teacher: The teacher, likewise.
        revision: Branch, tag or commit of the student on the hub.
        teacher_revision: The teacher's; one model at two revisions is two checkpoints.

    Raises:
        InputError: If they are one.
    """
    if revision == teacher_revision and _place(student) == _place(teacher):
        raise InputError(
            f"the teacher is the student's own checkpoint, {teacher}, so that a penalty would hold it where it begins; "
            "name a stronger model as teacher"
        )


def _place(name: str) -> str:
    path = resolve(name)
    return os.path.realpath(path) if os.path.isdir(path) else path
