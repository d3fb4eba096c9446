"""What `iapo attribute` is given by files and words: read and checked before anything is loaded, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from iapo.data.formats import own
from iapo.data.rows import Row, without_solution
from iapo.errors import InputError, why
from iapo.records import Sample
from iapo.tools import ToolDefinition
from iapo.tools.program import why_no_call


def read_sample(path: Path) -> Sample:
    """Reads a sample from a JSON file: a line of own data (docs/data.md), or what `Sample.to_json` makes.

    An image's path starts at the file's folder; of own data it must lie in it.

    Raises:
        InputError: If the file or its image cannot be read, or it is not a sample.
    """
    try:
        data = json.loads(path.read_text("utf-8-sig"))
        if not isinstance(data, dict):
            raise InputError(f"it holds a {type(data).__name__}; give one JSON object")
        if "answer" in data or not isinstance(data.get("image"), dict):
            return own.read(Row(1, without_solution(data), path.name, path.parent))
        return Sample.from_json(data, root=path.parent)
    except OSError as error:
        raise InputError(f"cannot read the sample {path}: {why(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a sample: {error}") from error


def read_call(text: str) -> str:
    """Returns a first turn as the command line gives it: the text itself, or `@file` with the text in it.

    Raises:
        InputError: If the file cannot be read.
    """
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"cannot read the first turn from {text[1:]}: it is not UTF-8 text; save it as such"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read the first turn from {text[1:]}: {why(error)}") from error


def check_call(text: str, tools: Mapping[str, ToolDefinition]) -> None:
    """Refuses a first turn in which there is no call, however a prompt has turns read.

    Args:
        text: The turn.
        tools: The offered tools.

    Raises:
        InputError: If so.
    """
    found = [why_no_call(text, tools, lenient=lenient) for lenient in (False, True)]
    if None not in found:
        # A program that is refused says more than that there is none.
        raise InputError(no_call("first turn", max(map(str, found), key=lambda why: "refused" in why), text))


def no_call(which: str, why: str, text: str) -> str:
    """Says that a turn holds nothing that can be attributed.

    Args:
        which: The turn.
        why: The reason, a predicate.
        text: What it says.
    """
    quoted = repr(text if len(text) <= 200 else text[:200] + "...")
    return (
        f"the {which} {why}, so that there is nothing to attribute: {quoted}; take another sample, or give a first "
        "turn with --call"
    )
