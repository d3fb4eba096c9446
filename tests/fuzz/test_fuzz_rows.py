"""Rows of every format with anything in their fields, and files with bytes changed: samples, damage or a sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from fixtures.layouts import LAYOUTS
from fuzzing import JSON, fuzz, is_sentence, mutated
from hypothesis import strategies as st
from test_anything import places

from iapo.data.loading import Damage, load
from iapo.errors import InputError
from iapo.records import Sample

TEXT = [name for name, layout in LAYOUTS.items() if layout.suffix != ".parquet"]
_rows: dict[str, list[dict[str, Any]]] = {}


def healthy(name: str) -> list[dict[str, Any]]:
    if name not in _rows:
        _rows[name] = LAYOUTS[name].rows(LAYOUTS[name].samples()[:2])
    return _rows[name]


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    name = draw(st.sampled_from(TEXT))
    rows = copy.deepcopy(healthy(name))
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.sampled_from(rows))
        ways = [way for way in places(row) if way != ("key",)]
        depth = draw(st.sampled_from(sorted({len(way) for way in ways})))
        *way, last = draw(st.sampled_from([one for one in ways if len(one) == depth]))
        target: Any = row
        for key in way:
            target = target[key]
        if isinstance(target, dict) and draw(st.integers(0, 4)) == 0:
            if len(target) > 2:
                del target[last]
        else:
            target[last] = draw(JSON)
    return name, rows


def check(item: object) -> None:
    if isinstance(item, Damage):
        assert item.reason
        assert "\n" not in item.reason
    else:
        assert isinstance(item, Sample)
        json.dumps(item.to_json()).encode()


@fuzz("rows of data", spoiled(), 60)
def test_rows(data: tuple[str, list[dict[str, Any]]], folder: Path) -> None:
    name, rows = data
    layout = LAYOUTS[name]
    items = list(load(layout.write(rows, layout.path(folder)), format=layout.format))
    assert len(items) == 2
    for item in items:
        check(item)


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, int, bytes]:
    """A layout, and its file's first bytes with some changed: the rest of it follows."""
    return draw(st.sampled_from(sorted(LAYOUTS))), draw(st.integers(0, 2**32)), mutated(b"\0" * 40, draw)


@fuzz("files of data", broken(), 60)
def test_files(data: tuple[str, int, bytes], folder: Path) -> None:
    name, place, difference = data
    layout = LAYOUTS[name]
    path = folder / f"whole{layout.suffix}"
    if not (folder / name).exists():
        layout.write(copy.deepcopy(healthy(name)), path)
        (folder / name).write_bytes(path.read_bytes())
    whole = bytearray((folder / name).read_bytes())
    # The ends are where a parquet file says what is in it.
    at = place % len(whole) if place % 3 else max(0, len(whole) - 1 - place % 1500)
    for offset, byte in enumerate(difference):
        if at + offset < len(whole):
            whole[at + offset] ^= byte
    if len(difference) < 40:
        del whole[at + len(difference) : at + len(difference) + (40 - len(difference))]
    path.write_bytes(whole)
    try:
        for item in load(path, format=layout.format):
            check(item)
    except InputError as error:
        is_sentence(error, path.name)
