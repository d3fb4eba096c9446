"""Names of boxes as models write them: white space of any kind is one space, as it looks in an image."""

from __future__ import annotations

from collections.abc import Iterable


def known_name(name: str, known: Iterable[str]) -> str:
    """Returns the known name that a name stands for, and the name itself where it stands for none.

    That is the same name, or the only one that differs from it in white space alone: a line break or a no-break space
    in the place of a space.

    Args:
        name: Name as a program gives it.
        known: Names of boxes.
    """
    known = list(known)
    if name in known:
        return name
    alike = [one for one in known if _spaced(one) == _spaced(name)]
    return alike[0] if len(alike) == 1 else name


def _spaced(name: str) -> str:
    return " ".join(name.split())
