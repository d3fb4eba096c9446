"""Records: what is accepted, and that JSON keeps everything."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample, Score, ToolCall, ToolResult, Trace, Turn, image_digest, image_from_text, image_to_text


def picture(colour: tuple[int, int, int] = (10, 20, 30)) -> Image.Image:
    image = Image.new("RGB", (9, 7), colour)
    image.putpixel((3, 2), (255, 0, 1))
    return image


def a_sample(**changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "id": "s-1",
        "image": picture(),
        "question": "Wie groß ist “A”? 📊\n",
        "answers": ("3.5", "Zürich"),
        "column_boxes": {"A": (0, 0, 4.5, 7), "B": (4.5, 0, 9, 7)},
        "row_boxes": {"x": (0, 1, 9, 2)},
        "kind": "table",
        "axis": "rows",
        "source": "synthetic/vbar",
        "question_type": "value",
        "list_names": True,
    }
    return Sample(**{**fields, **changes})


CALL = ToolCall("focus_on_rows_with_draw", ("x", "ü"), "rows_bbox", "rows")
EDITED = ToolResult("edited", (CALL,), picture((1, 2, 3)), None, (4, 90))
RESULTS = [
    EDITED,
    ToolResult("no_call"),
    ToolResult("refused", error="no imports", span=(0, 3)),
    ToolResult("failed", (CALL, CALL), error="there is no column 'ß'", span=(1, 2)),
]


def plain(record: Any) -> Any:
    """A record as comparable data; pictures read from a file are of another class than those made here."""
    if isinstance(record, Image.Image):
        return record.mode, record.size, record.tobytes()
    if dataclasses.is_dataclass(record):
        return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, tuple):
        return tuple(plain(item) for item in record)
    return {key: plain(value) for key, value in record.items()} if hasattr(record, "items") else record


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


def trace(result: ToolResult, turn_2: str | None) -> Trace:
    return Trace.of(
        sample=a_sample(),
        turn_1="I look at A.\n```python\ndisplay(…)\n```",
        result=result,
        turn_2=turn_2,
        scores={"outcome": Score(1.0, "3.5", "equals the gold answer"), "divergence": Score(0.1 + 0.2)},
        attribution={"student": {"query": 0.25, "tool:x": 0.75}, "teacher": {"query": 1 / 3, "tool:x": 2 / 3}},
        step=12,
        patches={"student": (((0.012, -0.3), (0.0, 1.5e-05)),), "teacher": (((0.5, 0.25, -0.125),),)},
    )


@pytest.mark.parametrize("changes", [{}, {"axis": None, "kind": "chart", "column_boxes": {}, "question_type": ""}])
def test_sample_through_json(changes: dict[str, Any]):
    sample = a_sample(**changes)
    assert plain(Sample.from_json(through_json(sample.to_json()))) == plain(sample)


def test_plain_samples_are_written_as_they_were_before_there_were_rules():
    """So that older files load, and the hashes of published data stay."""
    assert "grading" not in a_sample().to_json()
    graded = a_sample(grading="claim")
    assert graded.to_json()["grading"] == "claim"
    assert plain(Sample.from_json(through_json(graded.to_json()))) == plain(graded)
    assert Sample.from_json(a_sample().to_json()).grading == "plain"
    assert "judge" not in a_sample().to_json()
    assert Sample.from_json(a_sample(judge="mine").to_json()).judge == "mine"
    with pytest.raises(InputError, match="sample 's-1' has grading 'strict'; use one of plain, chart"):
        a_sample(grading="strict")


def test_sample_with_its_picture_elsewhere(tmp_path: Path):
    sample = a_sample()
    sample.image.save(tmp_path / "one.png")
    data = through_json(sample.to_json("one.png"))
    assert data["image"] == {"path": "one.png"}
    assert plain(Sample.from_json(data, tmp_path)) == plain(sample)
    assert Sample.from_json(data, tmp_path / "nowhere", image=sample.image).image is sample.image
    with pytest.raises(InputError, match=r"the image 'one.png' cannot be read \(FileNotFoundError: No such") as caught:
        Sample.from_json(data, tmp_path / "nowhere")
    assert str(caught.value).count("one.png") == 1
    (tmp_path / "one.png").write_text("no image")
    with pytest.raises(InputError, match=r"the image 'one.png' is in no known format; give an image file$"):
        Sample.from_json(data, tmp_path)
    with pytest.raises(ValueError, match="'s-1' has no picture"):
        Sample.from_json({**data, "image": None})


def test_tool_call_and_score_through_json():
    assert ToolCall.from_json(through_json(CALL.to_json())) == CALL
    for score in (Score(0.1), Score(0.0, None, "none"), Score(-1.5, "1 || 2", "differs")):
        assert Score.from_json(through_json(score.to_json())) == score


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.status)
@pytest.mark.parametrize("turn_2", [None, "", "FINAL ANSWER: 3.5. TERMINATE"])
def test_trace_through_json(result: ToolResult, turn_2: str | None):
    one = trace(result, turn_2)
    again = Trace.from_json(through_json(one.to_json()))
    assert plain(again) == plain(one)
    assert plain(ToolResult.from_json(through_json(result.to_json()))) == plain(result)


def test_traces_of_earlier_versions_have_no_patches():
    data = through_json(trace(ToolResult("no_call"), None).to_json())
    del data["patches"]
    again = Trace.from_json(data)
    assert again.patches == {}
    assert again.step == 12


def test_grids_of_one_image_are_written_as_before_there_were_several():
    one = trace(EDITED, "x")
    data = through_json(one.to_json())
    assert data["patches"]["student"] == [[0.012, -0.3], [0.0, 1.5e-05]]
    assert "more_patches" not in data
    two = dataclasses.replace(one, patches={who: (*grids, ((0.25,),)) for who, grids in one.patches.items()})
    data = through_json(two.to_json())
    assert data["patches"] == through_json(one.to_json())["patches"]
    assert data["more_patches"] == {"student": [[[0.25]]], "teacher": [[[0.25]]]}
    assert Trace.from_json(data).patches == two.patches
    # What an earlier version wrote of a sample with several images has the first one's alone.
    del data["more_patches"]
    assert Trace.from_json(data).patches == one.patches
    with pytest.raises(InputError, match="more_patches"):
        Trace.from_json({**data, "more_patches": [1]})


def test_trace_with_its_pictures_elsewhere(tmp_path: Path):
    one = trace(EDITED, "x")
    one.sample.image.save(tmp_path / "a.png")
    EDITED.image.save(tmp_path / "b.png")
    data = through_json(one.to_json("a.png", ["b.png", None]))
    assert "png" not in data["sample"]["image"]
    assert "png" not in data["result"]["image"]
    assert plain(Trace.from_json(data, tmp_path)) == plain(one)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"])
def test_png_keeps_these_modes(mode: str):
    image = picture().convert("L").convert(mode) if mode == "I;16" else picture().convert(mode)
    again = image_from_text(image_to_text(image))
    assert (again.mode, again.size, again.tobytes()) == (image.mode, image.size, image.tobytes())
    assert again.getpalette() == image.getpalette()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa", "PA", "I", "F"])
def test_other_modes_become_rgb(mode: str):
    """A picture may have any mode, for example a CMYK JPEG; PNG does not have them all."""
    image = {
        "LAB": lambda: Image.new("LAB", (9, 7), (100, 0, 0)),
        "RGBa": lambda: picture().convert("RGBA").convert("RGBa"),
        "PA": lambda: picture().convert("P").convert("PA"),
    }.get(mode, lambda: picture().convert(mode))()
    assert image.mode == mode
    again = image_from_text(image_to_text(image))
    assert (again.mode, again.size) == ("RGB", (9, 7))


def test_digest_sees_mode_size_pixels_and_palette():
    base = picture()
    palette = base.quantize(4)
    recoloured = palette.copy()
    recoloured.putpalette([255 - value for value in palette.getpalette()])
    assert recoloured.tobytes() == palette.tobytes()
    changed = base.copy()
    changed.putpixel((8, 6), (10, 20, 31))
    turned = Image.frombytes("RGB", (7, 9), base.tobytes())
    digests = [image_digest(image) for image in (base, changed, base.convert("L"), turned, palette, recoloured)]
    assert len(set(digests)) == len(digests)
    assert image_digest(base.copy()) == image_digest(base)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (a_sample(), "question"),
        (CALL, "name"),
        (EDITED, "status"),
        (Score(1.0), "value"),
        (trace(EDITED, None), "step"),
    ],
)
def test_frozen(record: Any, field: str):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, None)
    with pytest.raises((AttributeError, TypeError)):
        record.more = 1


def test_boxes_are_floats_that_cannot_be_changed():
    given = {"A": [0, 1, 4, 7]}
    sample = a_sample(column_boxes=given)
    given["B"] = [0, 0, 1, 1]
    assert dict(sample.column_boxes) == {"A": (0.0, 1.0, 4.0, 7.0)}
    assert all(isinstance(value, float) for value in sample.column_boxes["A"])
    with pytest.raises(TypeError):
        sample.column_boxes["A"] = (0, 0, 1, 1)  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": ()}, "'s-1' has no answer"),
        ({"axis": "diagonals"}, "use 'columns', 'rows' or None"),
        ({"column_boxes": {"A": (4, 0, 4, 7)}}, "box of column 'A' is empty"),
        ({"row_boxes": {"x": (0, 5, 9, 2)}}, "box of row 'x' is empty"),
        ({"row_boxes": {"x": (0, float("nan"), 9, 2)}}, r"row_boxes have \(0.0, nan, .*; give four finite numbers"),
        ({"row_boxes": {"x": (0, 0, 1e12, 2)}}, r"give four finite numbers, each less than 1e\+09 pixels away"),
        ({"kind": np.array(["chart", "table"])}, "is of the kind .*; use chart or table"),
        ({"axis": np.array(["columns", "rows"])}, "use 'columns', 'rows' or None"),
        ({"grading": np.array(["plain", "exact"])}, "use one of plain"),
        ({"column_boxes": {"A": (0, 0, float("inf"), 7)}}, r"\(0.0, 0.0, inf, 7.0\) for 'A'; give four finite numbers"),
        ({"column_boxes": {1: (0, 0, 4, 7)}}, "column_boxes have the name 1 of type int; give texts"),
        (
            {"answers": "12"},
            r"'s-1': its answers are the text '12'; give a tuple of texts, .* \(TEXT,\)",
        ),
        ({"answers": 12}, "its answers are of type int"),
        ({"answers": None}, "its answers are of type NoneType"),
        ({"answers": {"12"}}, "its answers are of type set"),
        ({"answers": ("12", None)}, "an answer that is no text, finite number or date, but 'None'"),
        ({"answers": (float("nan"),)}, "an answer that is no text, finite number or date, but 'nan'"),
        ({"answers": (["1", "2"],)}, "an answer that is no text"),
        ({"id": 1}, "sample 1: its id is of type int; give a text"),
        ({"question": None}, "its question is of type NoneType; give a text"),
        ({"source": None}, "its source is of type NoneType"),
        ({"question_type": 1}, "its question_type is of type int"),
        ({"judge": True}, "its judge is of type bool"),
        ({"image": None}, "its image is of type NoneType; give a Pillow image"),
        ({"image": "x.png"}, "its image is of type str; give a Pillow image"),
        ({"more_images": "ab"}, "its more_images is of type str; give a tuple of Pillow images"),
        ({"more_images": (Image.new("RGB", (9, 9)), "x.png")}, "its image_3 is of type str; give a Pillow image"),
        ({"list_names": "no"}, "its list_names is of type str; give True or False"),
        ({"list_names": 1}, "its list_names is of type int"),
        ({"flaws": "none"}, "its flaws is of type str; give a tuple of texts"),
        ({"flaws": (1,)}, "a flaw is of type int; give texts"),
        ({"kind": "foo"}, "is of the kind 'foo'; use chart or table"),
        ({"kind": None}, "is of the kind 'None'; use chart or table"),
        ({"row_boxes": {"x": (0, 5, 9)}}, r"row_boxes have \(0, 5, 9\) for 'x'; give four numbers"),
        ({"row_boxes": {"x": (0, 5, 9, None)}}, r"row_boxes have \(0, 5, 9, None\) for 'x'; give four numbers"),
        ({"column_boxes": [(0, 5, 9, 7)]}, "column_boxes are of type list; give a map"),
    ],
)
def test_refused_samples(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        a_sample(**changes)


COLUMN_CALL = ToolCall("focus_on_columns_with_mask", ("A",), "columns_bbox", "columns")


@pytest.mark.parametrize(
    ("status", "calls", "axis", "misuse"),
    [
        ("edited", (COLUMN_CALL,), "columns", False),
        ("edited", (COLUMN_CALL,), "rows", True),
        ("edited", (CALL,), "columns", True),
        ("edited", (COLUMN_CALL, CALL), "columns", True),
        # No axis is the right one here, so none is the wrong one.
        ("edited", (COLUMN_CALL, CALL), None, None),
        # The picture itself was displayed.
        ("edited", (), "columns", False),
        # It did not execute: a failure, not a misuse.
        ("failed", (CALL,), "columns", None),
        ("refused", (), "columns", None),
        ("no_call", (), "columns", None),
    ],
)
def test_misuse(status: Any, calls: tuple[ToolCall, ...], axis: Any, misuse: bool | None):
    result = ToolResult(status, calls)
    assert result.misuse(axis) is misuse
    assert Trace.of(a_sample(axis=axis), "", result).misused is bool(misuse)


def test_the_graded_turn():
    assert trace(EDITED, "second").final_text == "second"
    assert trace(EDITED, "").final_text == ""
    assert trace(RESULTS[1], None).final_text.startswith("I look")


def test_answers_become_texts() -> None:
    """As those of rows of data do; a list is as good as a tuple."""
    given = ["a", 12, 12.0, 0.5, True, datetime.date(2024, 2, 1), Decimal("3.10")]
    assert a_sample(answers=given).answers == ("a", "12", "12", "0.5", "true", "2024-02-01", "3.1")


def test_answers_of_numpy_are_texts() -> None:
    given = (np.int64(5), np.float32(0.1), np.bool_(True))
    sample = Sample("a", Image.new("RGB", (40, 40)), "How many?", given)  # type: ignore[arg-type]
    assert sample.answers == ("5", "0.1", "true")


@pytest.mark.parametrize(
    "box",
    [
        *("1234", {1.0, 2.0, 3.0, 4.0}, {1: 1, 2: 2, 3: 3, 4: 4}, (0, 0, True, 5), (0, 0, np.True_, 5)),
        *(("0", "0", "9", "9"), (0, 0, "９", 9), (0, 0, b"9", 9), np.ones((4,), bool), (0, 0, 10**400, 9)),
    ],
)
def test_a_box_is_a_list_of_four_numbers(box: Any) -> None:
    with pytest.raises(InputError, match="give four numbers"):
        Sample("a", Image.new("RGB", (40, 40)), "How many?", ("5",), column_boxes={"A": box})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Score("1"), "the score's value is '1'; it takes a number"),
        (lambda: Score(1.0, explanation=None), "the score's explanation is None; it takes a text"),
        (lambda: ToolCall("f", "A", "columns_bbox", "columns"), "the call's targets is 'A'; it takes a list of texts"),
        (lambda: ToolCall("f", ("A",), "", np.array(["rows", "columns"])), "the call's axis is array"),
        (lambda: ToolResult("done"), "the result's status is 'done'; it takes edited or no_call"),
        (lambda: ToolResult("edited", [CALL, "f"]), "the result's calls is .*; it takes a list of iapo.calls.ToolCall"),
        (lambda: Turn(None), "the turn's text is None; it takes a text"),
        (lambda: Trace(None, (Turn("a"),)), "the trace's sample is None; it takes iapo.samples.Sample"),
        (lambda: Trace(a_sample(), ("a",)), "the trace's turns is .*; it takes a list of iapo.records.Turn"),
        (lambda: Trace(a_sample(), ()), "the trace of sample 's-1' has no turn; give at least one"),
        (lambda: Trace(a_sample(), (Turn("a"),), {"outcome": 1.0}), "the trace's scores is .*; it takes a mapping"),
    ],
)
def test_records_of_other_kinds_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


def test_truth_values_in_records_are_no_numbers() -> None:
    data = through_json(a_sample().to_json())
    data["column_boxes"]["A"] = [0, 0, True, 5]
    with pytest.raises(InputError, match="the field A is a list of other things"):
        Sample.from_json(data)
    trace = through_json(Trace(a_sample(), (Turn("a"), Turn("b", cut=True))).to_json())
    with pytest.raises(InputError, match="the field cut_turns is a list of other things"):
        Trace.from_json({**trace, "cut_turns": [True]})


def test_what_records_hold_is_pythons_and_read_only() -> None:
    shares: Any = {"student": {"query": np.float32(0.5)}}
    found = Trace(a_sample(), [Turn("a")], {"outcome": Score(np.float64(1))}, shares, np.int64(3))  # type: ignore
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    kept: Any = found
    for changed in (
        kept.scores,
        kept.attribution,
        kept.attribution["student"],
        kept.patches,
        kept.turns[0].attribution,
    ):
        for change in (lambda one: one.update(outcome=5), lambda one: one.clear(), lambda one: one.pop("student")):
            with pytest.raises(TypeError, match="a record's map cannot be changed; change a copy of it"):
                change(changed)
        with pytest.raises(TypeError):
            changed["outcome"] = 5
    assert json.loads(json.dumps(found.attribution)) == {"student": {"query": 0.5}}
    assert copy.deepcopy(found.attribution) == pickle.loads(pickle.dumps(found.attribution)) == found.attribution
    again = dataclasses.replace(found, step=4)
    assert again.scores is found.scores


def test_records_go_to_another_process() -> None:
    """As a loader's workers, or a reward that grades in a pool, are handed them."""
    boxed = Sample("s", Image.new("RGB", (28, 28)), "How many?", ("5",), column_boxes={"a": (0, 0, 9, 9)})
    found = Trace.of(boxed, "FINAL ANSWER: 5", ToolResult("no_call"))
    for one in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert one.sample.column_boxes == {"a": (0, 0, 9, 9)}
        assert one.turns == found.turns
    assert dataclasses.asdict(boxed)["column_boxes"] == {"a": (0.0, 0.0, 9.0, 9.0)}


@pytest.mark.parametrize("text", ["", " \n", "\u200b\ufeff", "\u2060\u3164 \u2800"])
def test_what_nobody_sees_is_an_empty_turn(text: str) -> None:
    assert Turn(text).empty
    assert not Turn(f"{text}.").empty


@pytest.mark.parametrize("value", [True, np.True_, np.float32(1), np.int64(1)])
def test_a_comparison_is_a_score(value: Any) -> None:
    score = Score(value)
    assert json.dumps(score.to_json()["value"]) in ("1.0", "1")
    assert score.value == 1
