"""Boxes in all their spellings."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from iapo.box_names import unique_names
from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError

SIZE = (200, 100)
A, B = (10.0, 20.0, 50.0, 90.0), (60.0, 20.0, 100.0, 90.0)


def edges(box: Any) -> dict[str, Any]:
    return dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"A": edges(A), "B": edges(B)}, None),
        ({"A": list(A), "B": list(B)}, None),
        ({"A": edges(A), "other row": None, "B": edges(B), "x1": "none"}, None),
        ({"A": edges(A), "other row": edges([None] * 4), "B": edges(B)}, None),
        ([edges(A), edges(B)], ["A", "B"]),
        ([list(A), list(B)], ["A", "B"]),
        ({edge: [a, b] for edge, a, b in zip(("x1", "y1", "x2", "y2"), A, B, strict=True)}, ["A", "B"]),
        ([("A", edges(A)), ("B", edges(B))], None),
        ({"A": edges([0.05, 0.2, 0.25, 0.9]), "B": edges([0.3, 0.2, 0.5, 0.9])}, None),
    ],
)
def test_every_spelling(value: Any, names: Any):
    boxes = named_boxes(value, names, "column", SIZE)
    assert list(boxes) == ["A", "B"]
    assert boxes["A"] == pytest.approx(A)
    assert boxes["B"] == pytest.approx(B)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, None),
        ({}, None),
        ({"x1": "none"}, None),
        ({"A": None, "B": None, "x1": "none"}, None),
        ({"A": None, "x1": None}, None),
        ([], []),
        ([], ["A"]),
        ([edges(A)], []),
        ({"x1": [], "y1": [], "x2": [], "y2": []}, []),
    ],
)
def test_no_boxes(value: Any, names: Any):
    assert named_boxes(value, names, "row", SIZE) == {}


def test_a_label_may_be_called_x1():
    assert named_boxes({"x1": edges(A)}, None, "column", SIZE) == {"x1": A}


def test_a_name_that_is_missing_is_empty():
    assert list(named_boxes([list(A), list(B), None], ["A", None, "C"], "row", SIZE, [])) == ["A", ""]


def test_names_that_stand_twice_get_numbers():
    boxes = named_boxes([list(A), list(B), list(A), list(B)], ["2001", "2001", "2001 (2)", "2001"], "row", SIZE)
    assert list(boxes) == ["2001", "2001 (2)", "2001 (2) (2)", "2001 (3)"]
    assert boxes["2001 (3)"] == B


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((-5, 10, 50, 104), (0, 10, 50, 100)),
        ((150, 10, 210, 90), (150, 10, 200, 90)),
        ((-0.01, 0.1, 0.5, 1.05), (0, 10, 100, 100)),
        ((0, 0, 1, 1), (0, 0, 200, 100)),
        ((0, 0, 200, 100), (0, 0, 200, 100)),
    ],
)
def test_a_little_over_the_border_is_cut_off(box: Any, cut: Any):
    assert named_boxes({"A": box}, None, "column", SIZE)["A"] == pytest.approx(cut)


C, D = (110.0, 20.0, 150.0, 90.0), (160.0, 20.0, 200.0, 90.0)
ALL = {"A": A, "B": B, "C": C, "D": D}


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((64, 20, 60, 90), r"'B' has no width: \(64"),
        ((60, 20, 60, 90), "'B' has no width"),
        ((100, 60, 60, 20), "'B' has no width"),
        ((0, 0, 0, 0), "'B' has no width"),
        # As wide as the others, and in the place of one of them.
        ((150, 20, 110, 90), "'B' has no width"),
        ((60, 20, 260, 90), "'B', .* lies outside of the picture of 200 x 100"),
        ((0.3, 0.2, 0.5, 0.9), "mix units: 'B' has fractions"),
        ((60, math.nan, 100, 90), "y1 of the box of column 'B' is nan"),
        ((60, None, 100, 90), "y1 of the box of column 'B' is nan"),
        ((60, 20, 10**400, 90), "x2 of the box of column 'B' is 1000"),
        ("60,20,100,90", "'B' is of type str"),
        ((60, 20, 100), "'B' has 3 numbers; it must have 4"),
        ({"x1": 60, "y1": 20, "x2": 100}, "'B' has no y2"),
        ({"x1": "60", "y1": 20, "x2": 100, "y2": 90}, "x1 of the box of column 'B' is of type str"),
    ],
)
def test_a_box_of_no_use_is_left_out_and_said(box: Any, reason: str):
    flaws: list[str] = []
    assert named_boxes({**ALL, "B": box}, None, "column", SIZE, flaws) == {"A": A, "C": C, "D": D}
    (flaw,) = flaws
    assert re.search(reason, flaw), flaw
    assert flaw.endswith("; it is left out")


@pytest.mark.parametrize("box", [(100, 20, 60, 90), (60, 90, 100, 20), (100, 90, 60, 20), (103, 20, 61, 90)])
def test_edges_in_the_wrong_order_are_sorted_where_the_box_is_like_the_others(box: Any):
    flaws: list[str] = []
    boxes = named_boxes({**ALL, "B": box}, None, "column", SIZE, flaws)
    assert list(boxes) == ["A", "B", "C", "D"]
    assert boxes["B"] == pytest.approx(B, abs=3)
    assert [flaw.endswith("; its edges were put in order") for flaw in flaws] == [True]


def test_flaws_of_fractions():
    value = {name: [x / (200, 100)[i % 2] for i, x in enumerate(box)] for name, box in ALL.items()}
    value["B"][0], value["B"][2] = value["B"][2], value["B"][0]
    value["C"] = [110, 20, 150, 90]
    flaws: list[str] = []
    boxes = named_boxes(value, None, "row", SIZE, flaws)
    assert list(boxes) == ["A", "B", "D"]
    assert boxes["B"] == pytest.approx(B)
    assert len(flaws) == 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        # Two of four outside: the boxes are meant for a larger image, and the other two are wrong as well.
        ({name: [2 * x for x in box] for name, box in ALL.items()}, "meant for another size"),
        ({"A": A, "B": (0.3, 0.2, 0.5, 0.9)}, "mix units"),
        ({**ALL, "B": "60,20,100,90", "C": (1, 2, 3)}, "'C' has 3 numbers"),
    ],
)
def test_boxes_that_cannot_be_trusted_as_a_whole_cost_the_row(value: Any, reason: str):
    with pytest.raises(RowError, match=reason):
        named_boxes(value, None, "column", SIZE, [])


@pytest.mark.parametrize(
    ("value", "names", "reason"),
    [
        ({"A": (10, 10, 211, 90)}, None, r"'A', \(10.0, 10.0, 211.0, 90.0\), lies outside of the picture of 200 x 100"),
        ({"A": (200, 10, 205, 90)}, None, "lies outside"),
        ({"A": (-9, 10, 0, 90)}, None, "lies outside"),
        ({"A": (0.1, 0.1, 1.2, 0.9)}, None, "lies outside"),
        ({"A": (400, 300, 500, 400)}, None, "another size or in other units"),
        ({"A": (50, 10, 50, 90)}, None, "has no width"),
        ({"A": (60, 10, 50, 90)}, None, "has no width"),
        ({"A": (10, 90, 50, 10)}, None, "has no height"),
        ({"A": (10, math.nan, 50, 10)}, None, "y1 of the box of column 'A' is nan"),
        ({"A": (10, 10, 10**400, 90)}, None, "x2 of the box of column 'A' is "),
        ({"A": (10, 10, 50, -(10**400))}, None, "must be less than 1e\\+12"),
        ({"A": (10, 10, 50, True)}, None, "y2 of the box of column 'A' is of type bool"),
        ({"A": edges(A), "B": edges([0.3, 0.2, 0.5, 0.9])}, None, "mix units: 'B' has fractions .* 'A' has pixels"),
        ("none", None, "the column boxes are of type str"),
        ([list(A)], ["A", "B"], "there are 2 column names and 1 column boxes"),
        ([list(A)], "A", "the names of the column boxes are of type str"),
        ({"x1": [1], "y1": [1, 2], "x2": [3], "y2": [4]}, ["A"], "lists of different lengths"),
        ({"A": b"1234"}, None, "is of type bytes"),
    ],
)
def test_what_is_no_box(value: Any, names: Any, reason: str):
    with pytest.raises(RowError, match=reason):
        named_boxes(value, names, "column", SIZE)


def test_many_names_that_are_equal_are_numbered_in_time_that_grows_with_them():
    """One by one from the first, 50,000 would take days."""
    names = unique_names(["a (3)", *["a"] * 50_000], "column")
    assert names[:5] == ["a (3)", "a", "a (2)", "a (4)", "a (5)"]
    assert len(set(names)) == len(names) == 50_001


def test_where_many_boxes_are_crossed_none_is_a_slip():
    for count, kept in ((20, 80), (21, 59)):
        boxes = {f"n{index}": (2 * index, 10, 2 * index + 2, 90) for index in range(80)}
        boxes |= {f"n{index}": (2 * index + 2, 90, 2 * index, 10) for index in range(count)}
        flaws: list[str] = []
        assert len(named_boxes(boxes, None, "column", SIZE, flaws)) == kept
        assert len(flaws) == count


@pytest.mark.parametrize(
    "box", [np.array([10, 10, 50, 90]), [np.float32(10), np.int64(10), 50, 90], torch.tensor([10.0, 10, 50, 90])]
)
def test_boxes_as_detectors_give_them(box: Any):
    assert named_boxes({"A": box}, None, "column", SIZE) == {"A": (10, 10, 50, 90)}


def test_names_that_look_alike_are_one() -> None:
    boxes = {"Caf\u00e9": [0, 0, 50, 50], "Cafe\u0301": [50, 0, 90, 50]}
    with pytest.raises(RowError, match=r"two boxes of the column .*, which is written in two ways"):
        named_boxes(boxes, None, "column", (100, 100))
    assert unique_names(["Caf\u00e9", "Cafe\u0301"], None) == ["Caf\u00e9", "Cafe\u0301 (2)"]
