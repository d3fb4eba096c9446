"""The user's own code that settings name, by its contents: whoever goes on compares it and not where it lies."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iapo.errors import InputError
from iapo.plugins import is_reference, load_module

PART = "code"
"""Name of the digests in the configuration that a manifest keeps."""

_READERS = ("data", "eval_data", "sets")
"""Settings that name sources, before whose `@` a reader may stand."""

_BETWEEN = {"reward": "+"}
"""What stands between the parts of a setting; else a comma."""

_TABLE = "teacher_table"
"""A setting that names one file, which is no code but is compared as such."""

_NAMING = ("tools", "reward", "attribution_method", _TABLE, *_READERS)
"""Settings that may name code of the user's own."""

Digests = Mapping[str, Mapping[str, str]]
"""SHA-256 of files, by the setting that names them and by how it does: a path, or a module's name."""


def digest_of(file: Path) -> str:
    """Returns the SHA-256 of a file's bytes.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def code_digests(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Returns digests of the files of the user's own code that settings name: tools, reward, method, readers of data;
    and of a teacher's table.

    It is the files that are named, not what they import; of iapo's own there is none.

    Args:
        settings: Settings by name: texts, or lists of them. Others than those that may name code are not looked at.

    Returns:
        Digests by setting and place; no setting is there that names no file. A file that is not there has none, and is
        refused by who reads it.

    Raises:
        InputError: If a file cannot be read, or a module not be imported.
    """
    found: dict[str, dict[str, str]] = {}
    for name in _NAMING:
        for text in _texts(settings.get(name)):

            def note(place: str, name: str = name) -> str:
                if (file := _file_of(place, name)) is not None:
                    found.setdefault(name, {})[place] = digest_of(file)
                return place

            _placed(name, text, note)
    return found


def by_contents(name: str, value: Any, digests: object) -> Any:
    """Returns a setting with the digest of each own file in the place of where it lies.

    Args:
        name: Name of the setting.
        value: Its value: a text, or a list of them; what is neither stays.
        digests: What `code_digests` returned, as a manifest may give it back; what is missing there stays, too.
    """
    of = digests.get(name) if isinstance(digests, Mapping) else None
    if not isinstance(of, Mapping) or name not in _NAMING:
        return value
    if isinstance(value, str):
        return _placed(name, value, lambda place: str(of.get(place, place)))
    return [by_contents(name, one, digests) for one in value] if isinstance(value, list) else value


def changed_file(before: object, now: Digests) -> str | None:
    """Names a file that has other contents than it had, where its setting is as it was.

    Args:
        before: Digests that a manifest holds; a setting that is missing there, as in one of an earlier version, cannot
            differ.
        now: Digests now.

    Returns:
        The file and the setting that names it; None where none has.
    """
    known = before if isinstance(before, Mapping) else {}
    for name, places in now.items():
        then = known.get(name)
        if isinstance(then, Mapping) and (
            place := next((one for one, digest in places.items() if then.get(one, digest) != digest), None)
        ):
            return f"{place} ({name})"
    return None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def _placed(name: str, text: str, put: Callable[[str], str]) -> str:
    """Returns a setting's text with something else in the place of each file or module of own code."""
    if name in _READERS and os.path.exists(text):
        return text
    if name == _TABLE:
        return put(text)
    between, parts = _BETWEEN.get(name, ","), []
    for part in text.split(between):
        part = part.strip()
        reference, at, rest = part.partition("@") if name in _READERS else (part, "", "")
        if is_reference(reference):
            place, colon, of = reference.rpartition(":")
            part = f"{put(place)}{colon}{of}{at}{rest}"
        elif name == "tools" and reference.endswith(".py"):
            part = put(reference)
        parts.append(part)
    return between.join(parts)


def _file_of(place: str, name: str) -> Path | None:
    if place.endswith(".py") or name == _TABLE:
        return Path(place) if os.path.isfile(place) else None
    if place.partition(".")[0] == __name__.partition(".")[0]:
        return None
    module = sys.modules.get(place) or load_module(place, name)
    file = getattr(module, "__file__", None)
    return Path(file) if file is not None and Path(file).is_file() else None
