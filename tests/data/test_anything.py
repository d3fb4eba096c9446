"""Whatever stands in a row, it gives a sample or a damage, and never an exception."""

from __future__ import annotations

import copy
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from fixtures.layouts import EDGES, LAYOUTS, Layout, Picture
from PIL import Image

from iapo.data.loading import Damage, load
from iapo.records import Sample

JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 10**400, 1e308, -0.0, 1e-300, float("nan"), float("inf"), "", " ", "x", "none", "|||",
    "|", "a\0b", "\ud800", "..", "/", "pictures", "é" * 3000, [], [[]], [None], [1, 2, 3, 4], [0.1, 0.1, 0.2], {},
    {"x1": "none"}, {"x1": None}, {"": None}, {edge: [] for edge in EDGES}, dict.fromkeys(EDGES, "0"),
    {edge: [1, 2] for edge in EDGES}, {"bytes": None, "path": None}, {"bytes": "x"}, {"path": 3},
)  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a row."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [way] if way else []
    return found + [place for key, one in inner for place in places(one, (*way, key))]


def spoiled(rows: list[dict[str, Any]], chance: random.Random) -> list[Any]:
    """Rows with some of their contents replaced by junk, swapped or taken away."""
    rows = copy.deepcopy(rows)
    for row in rows:
        for _ in range(chance.choice((0, 1, 1, 3))):
            *way, last = chance.choice([place for place in places(row) if place != ("key",)])
            target: Any = row
            for key in way:
                target = target[key]
            if isinstance(target, dict) and chance.random() < 0.2:
                del target[last]
                target[chance.choice(("x1", "id", "split", "columns_bbox", ""))] = copy.deepcopy(chance.choice(JUNK))
            else:
                target[last] = copy.deepcopy(chance.choice(JUNK))
            if not row or ("key" not in row and "key" in rows[0]):
                break
    return rows


TEXT = [layout for layout in LAYOUTS.values() if layout.suffix != ".parquet"]


@pytest.mark.parametrize("layout", TEXT, ids=[layout.name for layout in TEXT])
def test_junk(layout: Layout, tmp_path: Path):
    chance = random.Random(layout.name)
    healthy = layout.rows(layout.samples())
    counts = {Sample: 0, Damage: 0}
    for _ in range(60):
        items = list(load(layout.write(spoiled(healthy, chance), layout.path(tmp_path)), format=layout.format))
        assert len(items) == 4
        for item in items:
            counts[type(item)] += 1
            if isinstance(item, Damage):
                assert item.reason
                assert "\n" not in item.reason
            else:
                json.dumps(item.to_json())
    # Both happen often, so that neither is tested in vain.
    assert min(counts.values()) > 20


@pytest.mark.parametrize("name", ["vtool-json", "vtool-table"])
def test_junk_in_metadata(name: str, tmp_path: Path):
    layout = LAYOUTS[name]
    chance = random.Random(name)
    healthy = layout.rows(layout.samples())
    counts = {Sample: 0, Damage: 0}
    for _ in range(60):
        metadata = spoiled([{"metadata": row["metadata"]} for row in healthy], chance)
        rows = [
            {**row, "metadata": json.dumps(one.get("metadata"))} for row, one in zip(healthy, metadata, strict=True)
        ]
        for item in load(layout.write(rows, layout.path(tmp_path))):
            counts[type(item)] += 1
    assert sum(counts.values()) == 240
    assert min(counts.values()) > 20


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "ICO"])
@pytest.mark.filterwarnings("ignore")
def test_junk_in_pictures(format: str, tmp_path: Path):
    """Single bytes changed anywhere in the file: the picture still loads, or is called damaged."""
    layout = LAYOUTS["own"]
    chance = random.Random(format)
    rows = layout.rows(layout.samples()[:1])
    buffer = io.BytesIO()
    if format not in Image.SAVE:
        pytest.skip(f"Pillow is built without {format}")
    layout.samples()[0].image.convert("RGB").save(buffer, format=format)
    for _ in range(80 if format in ("PNG", "JPEG") else 40):
        data = bytearray(buffer.getvalue()[: chance.choice((None, None, chance.randrange(20, 2000)))])
        for _ in range(chance.choice((1, 5))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        rows[0]["image"] = Picture(bytes(data))
        (item,) = load(layout.write(rows, layout.path(tmp_path)))
        if isinstance(item, Sample):
            item.image.load()


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, '{"a":' * 700 + "1" + "}" * 700, "9" * 5000, "\\"])
def test_lines_that_break_parsers(line: str, tmp_path: Path):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    (item,) = load(tmp_path / "x.jsonl", format="own")
    assert isinstance(item, Damage)
    assert item.row == 1
