"""The box finder on charts as real ones are drawn: each kind of bar that was missed, and what is said in doubt."""

from __future__ import annotations

import pytest
from drawn import BLUE, GOLD, GREEN, NAVY, RED, Drawn, columns, countries, diverging, font, panels, sections, slanted
from PIL import Image, ImageDraw
from plotted import pairs, styled, zeros

from iapo.data.boxes import find_boxes
from iapo.data.boxes.names import Text, named

MEN, WOMEN = [("White", [31]), ("Black", [12]), ("Other", [7])], [("White", [20]), ("Black", [5]), ("Other", [8])]
TINY = [("White", [31]), ("Black", [1]), ("Other", [0])]
AGES = [("18-29", [31, 45]), ("30-49", [41, 42]), ("50-64", [58, 33]), ("65+", [68, 26])]
ALL = ("", [("All", [51, 36])])
CHARTS = {
    "sections": lambda: sections([ALL, ("", AGES), ("", [("Postgrad", [42, 38]), ("College", [45, 40])])]),
    "sections with headings": lambda: sections([("Among men", TINY), ("Among women", WOMEN)]),
    "headings in the rows' step": lambda: sections([("Among men", MEN), ("Among women", TINY)], gap=0),
    "numbers inside": lambda: sections([ALL, ("Age of them", AGES)], numbers="inside"),
    "no length": lambda: sections([("", [("A", [51]), ("B", [30]), ("C", [0]), ("D", [1]), ("E", [12])])]),
    "no length, no numbers": lambda: sections(
        [("", [("A", [51]), ("B", [30]), ("C", [0]), ("D", [1]), ("E", [12])])], numbers="no"
    ),
    "sections of one size": lambda: sections(
        [("", [("A", [51]), ("B", [40])]), ("", [("C", [31]), ("D", [20])]), ("", [("E", [61]), ("F", [9])])], gap=14
    ),
    "diverging": lambda: diverging([("Total", 28, 71), ("One side", 42, 57), ("Other side", 16, 83)]),
    "diverging without a line": lambda: diverging([("Total", 28, 71), ("One", 42, 57), ("Rest", 3, 50)], line=False),
    "panels": lambda: panels([("One", 50, 20), ("Two", 40, 0), ("Three", 0, 60), ("Four", 10, 70)]),
    "lying, no length": lambda: countries([85, 50, 40, 0, 30, 0, 0], [BLUE, GREEN, RED, GOLD, NAVY]),
    "lying, pale": lambda: countries([85, 50, 40, 30, 20], ["#2b6fb0", "#4aa0cc", "#8fd2c8", "#d3efcb", "#f1fae5"]),
    "upright, no length": lambda: columns([[0], [30], [10], [50], [0.2], [0]]),
    "upright, no length, no numbers": lambda: columns([[0], [30], [10], [50], [0.2], [0]], numbers=False),
    "groups with tiny bars": lambda: columns([(20, 30, 10), (10, 40, 0.2), (5, 9, 12), (0, 0.1, 3), (20, 3, 0)]),
    "groups with missing bars": lambda: columns([(20, 30, None), (41, None, 4), (53, 12, 4), (None, 12, 5)]),
    "a series without bars": lambda: columns([(20, None, None, None), (41, 12, 4, None), (53, 12, 4, None)]),
    "a group of no length": lambda: columns([(20, 30), (41, 12), (53, 12), (0, 0)]),
    "negative": lambda: columns([[20], [-10], [5], [-6.8], [12]]),
    "stacked": lambda: columns([(20, 10, 5), (5, 6.8, 9), (12, 4, 1)], stacked=True),
    "equal heights": lambda: columns([[23.5], [23.6], [23.6], [23.7]]),
    "a name at every second": lambda: columns([[value % 17 + 3] for value in range(30)], every=2, numbers=False),
    "zeros behind ticks": lambda: zeros([90, 0, 44, 12, 0, 31, 0, 0, 20]),
    "pairs with a name each": lambda: pairs([(40, 50), (80, 30), (25, 61), (70, 44), (33, 35)]),
    "zero of an axis without a line": lambda: styled([84, 20, 66, 15, 50, 48, 30], "fivethirtyeight"),
    "zero of an axis on grey": lambda: styled([84, 20, 66, 15, 50, 48, 30, 71, 22], "ggplot"),
    "tinted ground, slanted names": lambda: slanted([0, 2, 25, 62, 0, 211, 0]),
}


def slots(drawn: Drawn) -> list[tuple[float, float]]:
    found = find_boxes(drawn.image, "chart")
    assert found.axis == drawn.axis, found.reason
    side = 0 if found.axis == "columns" else 1
    boxes = found.column_boxes if found.axis == "columns" else found.row_boxes
    return [(box[side], box[side + 2]) for box in boxes.values()]


@pytest.mark.parametrize("name", CHARTS)
def test_every_slot_is_found(name: str):
    drawn = CHARTS[name]()
    found = slots(drawn)
    assert len(found) == len(drawn.middles)
    assert all(start < middle < end for (start, end), middle in zip(found, drawn.middles, strict=True))


def test_a_name_without_bar_and_number_is_in_doubt():
    drawn = sections([("", [("One", [51]), ("Two", [30]), ("Three", [0]), ("Four", [12]), ("Five", [20])])])
    # Where its number stood.
    ImageDraw.Draw(drawn.image).rectangle((151, 132, 190, 158), fill="white")
    found = find_boxes(drawn.image, "chart")
    assert not found.row_boxes
    assert found.reason.startswith("found 4 bars")


def test_every_second_bar_without_length_is_in_doubt():
    lying = sections([("", [("A", [51]), ("B", [0]), ("C", [12])])], numbers="no")
    assert find_boxes(lying.image, "chart").reason == "found 2 bars where about 3 labels stand"
    upright = columns([[20], [0], [30], [0], [10]], numbers=False)
    assert find_boxes(upright.image, "chart").reason == "found 3 bars where about 5 labels stand"


def test_a_table_of_filled_cells_keeps_its_columns():
    image = Image.new("RGB", (420, 240), "white")
    draw = ImageDraw.Draw(image)
    for row in range(8):
        for column, (x, end) in enumerate(((10, 110), (110, 250), (250, 400))):
            fill = "#eaecf0" if not row else ("#ddffdd", "#ffdddd")[row % 2] if column == 2 else "#f8f9fa"
            draw.rectangle((x, 10 + 26 * row, end, 36 + 26 * row), fill=fill, outline="#a2a9b1")
            draw.text(
                (x + 8, 17 + 26 * row),
                ("Week", "Opponent", "Result")[column] if not row else f"W {row}-{column}",
                fill="black",
            )
    found = find_boxes(image, "table")
    assert [round(box[0]) for box in found.column_boxes.values()] == pytest.approx([110, 250], abs=2)
    assert list(found.row_boxes) == ["header", *map(str, range(1, 8))]


def test_rows_of_a_table_of_cells_in_many_colours():
    image = Image.new("RGB", (420, 300), "white")
    draw = ImageDraw.Draw(image)
    for row in range(9):
        for column in range(4):
            colours = ["#f4cccc", "#fff2cc", "#d9ead3", "#cfe2f3"]
            fill = "#dddddd" if not row else colours[(3 * row * row + column * (row + 1)) % 4] if column else "white"
            x, y = 20 + 95 * column, 20 + 28 * row
            draw.rectangle((x, y, x + 95, y + 28), fill=fill, outline="#888888")
            draw.text((x + 8, y + 7), f"{1000 * row + 137 * column}", fill="black", font=font(14))
    found = find_boxes(image, "table")
    assert [round(box[1]) for box in found.row_boxes.values()] == pytest.approx(range(20, 272, 28), abs=2)


def test_a_header_above_the_first_rule_is_the_header():
    image = Image.new("RGB", (420, 240), "white")
    draw = ImageDraw.Draw(image)
    for column, x in enumerate((10, 160, 300)):
        draw.text((x, 10), ("Kind", "First", "Second")[column], fill="black")
        for row in range(6):
            draw.text((x, 42 + 26 * row), ("Name", "12.5", "7.25")[column], fill="black")
    draw.line((6, 32, 400, 32), fill="black")
    draw.line((6, 196, 400, 196), fill="black")
    found = find_boxes(image, "table")
    assert list(found.row_boxes) == ["header", *map(str, range(1, 7))]
    assert found.row_boxes["header"][1] < 15


def text(words: str, x1: float, y1: float, x2: float, y2: float) -> Text:
    import numpy as np

    return Text(words, np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], float))


def test_texts_at_boxes_become_their_names():
    drawn = columns([[20], [30], [10]])
    found = find_boxes(drawn.image, "chart")
    # One line of text through two slots, and one that is no label.
    read = [text("2003 2004", 185, 390, 428, 402), text("30%", 400, 60, 420, 70), text("Jan", 600, 390, 625, 402)]
    names = named(found, read)
    assert list(names.column_boxes) == list(names.row_boxes) == ["2003", "2004", "Jan"]
    same = named(found, [text("Jan", x, 390, x + 20, 402) for x in (190, 400)])
    assert list(same.column_boxes) == ["Jan", "Jan (2)", "3"]


def test_names_by_ocr():
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    pytest.importorskip("onnxruntime", reason="the extra ocr is not installed")
    from iapo.data.boxes import add_boxes
    from iapo.records import Sample

    drawn = columns([[20], [30], [10], [15]])
    sample, reason = add_boxes(Sample("a", drawn.image, "Which?", ("2003",)), "ocr")
    assert not reason
    assert list(sample.column_boxes) == ["2003", "2004", "2005", "2006"]
