"""Objects that come several times in a batch, such as a group's image, found once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

_Item = TypeVar("_Item")


def distinct(items: Iterable[_Item]) -> tuple[list[_Item], list[int]]:
    """Lists each object once, in order of first appearance.

    Only what is one object counts as one: comparing images pixel by pixel costs more than sharing saves. What is
    worked out once for each object must therefore be equal for equal objects.

    Args:
        items: Any objects; they need neither be hashable nor comparable.

    Returns:
        The objects, and for each item its place among them.
    """
    objects: list[_Item] = []
    places: list[int] = []
    place_of: dict[int, int] = {}
    for item in items:
        # The list keeps each object alive, so that no identity is given away a second time.
        place = place_of.setdefault(id(item), len(objects))
        if place == len(objects):
            objects.append(item)
        places.append(place)
    return objects, places
