"""Ways to damage the files of a run folder, by chance."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "../..", "é" * 300, [], [[]],
    [None], [1, 2], {}, {"": None}, {"x": 1}, {"png": "x"}, {"png": None}, {"path": "../../x"}, {"path": 5}, ["x"] * 3,
)  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [way] if way else []
    return found + [place for key, one in inner for place in places(one, (*way, key))]


def spoiled(text: str, lines: bool, chance: random.Random) -> bytes:
    """The file's text with one thing wrong with it: cut off, another byte in it, or junk in a field."""
    kind = chance.random()
    if kind < 0.1:
        return text.encode()[: chance.randrange(len(text))]
    if kind < 0.2:
        data = bytearray(text.encode())
        data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    records = [json.loads(line) for line in text.splitlines()] if lines else [json.loads(text)]
    at = chance.randrange(len(records))
    for _ in range(chance.choice((1, 1, 3))):
        ways = places(records[at])
        if not ways:
            break
        # Deep places are many; each level has its turn.
        depth = chance.choice(sorted({len(way) for way in ways}))
        *way, last = chance.choice([way for way in ways if len(way) == depth])
        target: Any = records[at]
        for key in way:
            target = target[key]
        if isinstance(target, dict) and chance.random() < 0.3:
            del target[last]
        else:
            target[last] = copy.deepcopy(chance.choice(JUNK))
    if chance.random() < 0.05:
        records[at] = copy.deepcopy(chance.choice(JUNK))
    return "".join(json.dumps(record) + "\n" for record in records).encode()
