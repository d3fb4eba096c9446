"""The user's home folder, where a shell has not put it in the place of `~`."""

from __future__ import annotations

import os
from typing import Any


def with_home(value: Any) -> Any:
    """Replaces `~/` at the beginning of texts by the home folder, in lists and mappings as well.

    Args:
        value: A word of a command line (`NAME=~/PLACE` is one, too), or what a YAML file holds; other values stay.
    """
    if isinstance(value, str):
        name, equals, rest = value.partition("=")
        if name.startswith("--") and rest.startswith("~/"):
            return f"{name}{equals}{os.path.expanduser(rest)}"
        return os.path.expanduser(value) if value.startswith("~/") else value
    if isinstance(value, dict):
        return {key: with_home(one) for key, one in value.items()}
    return [with_home(one) for one in value] if isinstance(value, list) else value
