"""Names of boxes as models write them: those that look alike in an image are the same."""

from __future__ import annotations

from collections.abc import Iterable

from iapo.box_names import one_form


def known_name(name: str, known: Iterable[str]) -> str:
    """Returns the known name that a name stands for, and the name itself where it stands for none.

    That is the same name, or the only one that differs from it in what is not seen: a line break or a no-break space in
    the place of a space, an accent as a character of its own.

    Args:
        name: Name as a program gives it.
        known: Names of boxes.
    """
    known = list(known)
    if name in known:
        return name
    alike = [one for one in known if _seen(one) == _seen(name)]
    return alike[0] if len(alike) == 1 else name


def _seen(name: str) -> str:
    return " ".join(one_form(name).split())
