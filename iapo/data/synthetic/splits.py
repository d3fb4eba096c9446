"""Which structures belong to which split, so that a held-out image is new in its structure and not only in its seed.

A structure is what stays the same while values, order and style change: the labels of a small chart, the column and row
names of a small table, the topic and shape of an image of real size. A stable hash puts each structure in one part:
three fifths for training, one fifth each for validation and test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Part = Literal["train", "validation", "test"]

_BUCKETS: tuple[Part, ...] = ("test", "validation", "train", "train", "train")


def part_of_split(split: str) -> Part:
    """Returns the part that a split draws from: its own for `validation` and `test`, `train` for every other name."""
    if split == "validation":
        return "validation"
    return "test" if split == "test" else "train"


def part_of(*groups: Iterable[str]) -> Part:
    """Returns the part that a structure belongs to.

    Args:
        groups: Sets of names, for example a table's columns and its rows; the order within a group does not matter,
            the order of the groups does.
    """
    text = "\n".join("\t".join(sorted(group)) for group in groups)
    return _BUCKETS[int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % len(_BUCKETS)]
