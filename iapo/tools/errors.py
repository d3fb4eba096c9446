"""What a tool says when its arguments are wrong, and how names are put into such sentences."""

from __future__ import annotations

from collections.abc import Iterable

from iapo.errors import written

UNCHANGED = (
    "the displayed picture looks as the given one, since nothing of it is left out or marked; focus on fewer names, or "
    "use another tool"
)
"""Of a program that ran, but changed no pixel; only a mask does that, one that leaves everything."""

BLANK = "nothing is left in the displayed picture; focus on names whose boxes hold something"

ERASED = (
    "nothing is left of what the masks focus on, since each erases what another one leaves; give one mask all of the "
    "names"
)

_LONGEST_NAME = 60
_MOST_NAMES = 12


class ToolError(ValueError):
    """A tool was called with arguments that it cannot work with; the text is one sentence for the user."""


def quoted(name: object) -> str:
    """Returns the name in quotes, shortened where a model wrote a very long one."""
    text = written(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 4]}...{text[-1]}"


def listed(names: Iterable[str]) -> str:
    """Returns the names in quotes with commas between them, the first dozen only."""
    names = list(names)
    text = ", ".join(quoted(name) for name in names[:_MOST_NAMES])
    rest = len(names) - _MOST_NAMES
    return f"{text} and {rest} more" if rest > 0 else text


def reason_of(error: BaseException) -> str:
    """Returns the text of an error that a user's function raised, whose class may be the user's own, too."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its `__str__` may raise whatever there is
        return "(it has no text)"
