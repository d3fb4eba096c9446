"""`show`: the boxes are drawn where they are, and text from data stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from own import ESCAPES, HOSTILE, MIXED, bars, row, write
from PIL import Image

from iapo.data.damage import Damage
from iapo.data.sheet import contact_sheet, html_sheet, show
from iapo.records import Sample


class Elements(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def test_files_hold_all_rows(tmp_path: Path):
    picture, page = show(str(write(tmp_path / "own", MIXED)), tmp_path / "sheet")
    assert picture.name == "sheet.png"
    with Image.open(picture) as image:
        assert image.width > 900
    elements = parsed(page.read_text(encoding="utf-8"))
    assert elements.tags.count("article") == len(MIXED)
    assert elements.tags.count("image") == 3
    assert elements.text.count("damaged") >= 4
    assert "no boxes" in elements.text


def test_flaws_are_shown_and_chosen(tmp_path: Path):
    boxes = {"a": [40, 80, 70, 180], "b": [100, 80, 130, 180], "crossed": [190, 80, 160, 10]}
    rows = [row("whole", column_boxes={"a": boxes["a"]}), row("doubtful", column_boxes=boxes), "{", row("more")]
    path = str(write(tmp_path / "own", rows))
    picture, page = show(path, tmp_path / "sheet", flawed=True)
    elements = parsed(page.read_text(encoding="utf-8"))
    assert elements.tags.count("article") == 2
    assert "doubtful" in elements.text
    assert "whole" not in elements.text
    assert "the box of column 'crossed' has no width: (190.0, 80.0, 160.0, 10.0); it is left out" in elements.text
    with Image.open(picture) as image:
        # In red below the cell, and the names in the boxes' blue over the image.
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(0xBB, 0, 0), (0x1F, 0x4E, 0x9C)} <= colours
    with pytest.raises(ValueError, match="has no doubtful rows to show"):
        show(str(write(tmp_path / "good", [row("whole")])), tmp_path / "sheet", flawed=True)


def test_names_are_drawn(tmp_path: Path):
    plain = Sample("s", bars(), "?", ("1",), column_boxes={"": (10, 10, 200, 190)})
    named = Sample("s", bars(), "?", ("1",), column_boxes={"sales": (10, 10, 200, 190)})
    assert contact_sheet([plain]).tobytes() != contact_sheet([named]).tobytes()


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path):
    _, page = show(str(write(tmp_path / HOSTILE.replace("/", "."), MIXED)), tmp_path / "sheet")
    text = page.read_text(encoding="utf-8")
    elements = parsed(text)
    assert not {"script", "img"} & set(elements.tags)
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert elements.text.count(HOSTILE) >= 3
    assert not set(ESCAPES) & {"\x1b", "\r", "\u202e"} & set(text)
    # No other file is asked for, whatever the data holds.
    links = [value or "" for name, value in elements.attributes if name in ("href", "src")]
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "default-src 'none'" in text


def test_boxes_stand_where_they_are(tmp_path: Path):
    sample = Sample("s", bars(), "q", ("a",), {"c": (40, 80, 70, 180)}, {"r": (0, 100, 300, 150)})
    page = html_sheet([sample], "title")
    assert 'viewBox="0 0 300 200"' in page
    assert '<rect class="column" x="40.0" y="80.0" width="30.0" height="100.0"/>' in page
    assert '<rect class="row" x="0.0" y="100.0" width="300.0" height="50.0"/>' in page
    sheet = contact_sheet([sample])
    scale, gap = 320 / 300, 8
    assert sheet.getpixel((gap + int(40 * scale), gap + int(170 * scale))) == (31, 78, 156)
    assert sheet.getpixel((gap + int(150 * scale), gap + int(100 * scale))) == (224, 130, 20)


def test_large_pictures_are_shown_smaller_with_their_boxes(tmp_path: Path):
    bars().resize((3000, 2000)).save(tmp_path / "large.png")
    source = write(tmp_path, [row("large", image="large.png", column_boxes={"c": [300, 400, 600, 2000]})])
    _, page = show(str(source), tmp_path / "sheet")
    text = page.read_text()
    assert 'viewBox="0 0 800 533"' in text
    assert 'x="80.0" y="106.7" width="80.0" height="426.7"' in text


def test_found_boxes_are_shown_on_demand(tmp_path: Path):
    source = str(write(tmp_path, [row("bare")]))
    counts = []
    for find_boxes in (False, True):
        _, page = show(source, tmp_path / "sheet", find_boxes=find_boxes)
        counts.append(len(re.findall("<rect", page.read_text())))
    assert counts == [0, 6]


def test_count_and_damage(tmp_path: Path):
    source = str(write(tmp_path, MIXED))
    _, page = show(source, tmp_path / "sheet", count=1)
    assert parsed(page.read_text()).tags.count("article") == 1
    with pytest.raises(ValueError, match="number of rows is 0; give at least 1"):
        show(source, tmp_path / "sheet", count=0)
    assert contact_sheet([Damage(1, None, "because " * 40)]).size == (336, 399)
