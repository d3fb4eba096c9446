"""Columns of a parquet file of one's own: numbers, dates and boxes of any type that such a file has for them."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own import bars
from PIL import Image

from iapo.data.loading import Damage, load
from iapo.data.rows import Row, read_rows
from iapo.errors import InputError
from iapo.grading.outcome import grade, grade_sample
from iapo.records import Sample

DAY = datetime.datetime(2021, 3, 4)
BOX = [10.0, 20.0, 50.0, 180.0]


def read(folder: Path, **columns: pa.Array) -> list[Sample | Damage]:
    bars().save(folder / "bars.png")
    (count,) = {len(column) for column in columns.values()}
    given = {"answer": ["1"] * count, **columns}
    table = pa.table({"image": ["bars.png"] * count, "question": ["how?"] * count, **given})
    pq.write_table(table, folder / "own.parquet")
    return list(load(folder / "own.parquet"))


def sound(item: Sample | Damage) -> Sample:
    assert isinstance(item, Sample), str(item)
    return item


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        (pa.float32(), [0.1, 16777216.0, 98.0, 1.5e-7], ["0.1", "16777216", "98", "1.5e-07"]),
        (pa.float16(), [0.1, 98.0], ["0.1", "98"]),
        (pa.list_(pa.float32()), [[0.1, 2.0]], ["0.1|2"]),
        (
            pa.float64(),
            [0.1, 98.0, -3.0, -0.0, 98.5, 1e15, 1e22],
            ["0.1", "98", "-3", "0", "98.5", f"1{'0' * 15}", "1e+22"],
        ),
        (pa.int64(), [98], ["98"]),
        (pa.decimal128(9, 2), [Decimal("98.50"), Decimal("100.00"), Decimal("-0.00")], ["98.5", "100", "0"]),
        (pa.string(), ["98.0", "98.50"], ["98.0", "98.50"]),
        (pa.date32(), [DAY.date()], ["2021-03-04"]),
        (pa.timestamp("ns"), [DAY, DAY.replace(hour=5)], ["2021-03-04", "2021-03-04T05:00:00"]),
        (pa.timestamp("us", "UTC"), [DAY.replace(tzinfo=datetime.UTC)], ["2021-03-04"]),
        (pa.time64("us"), [datetime.time(9, 30)], ["09:30:00"]),
    ],
    ids=str,
)
def test_answers_of_any_type(kind: pa.DataType, values: list[Any], texts: list[str], tmp_path: Path):
    found = read(tmp_path, answer=pa.array(values, kind))
    assert ["|".join(one.answers) if isinstance(one, Sample) else str(one) for one in found] == texts


def test_a_short_float_is_graded_as_it_was_written(tmp_path: Path):
    (one,) = read(tmp_path, answer=pa.array([0.1], pa.float32()))
    assert isinstance(one, Sample)
    assert grade("FINAL ANSWER: 0.1. TERMINATE", one.answers, "exact").value == 1


def test_a_whole_number_stays_a_count_beside_empty_rows(tmp_path: Path):
    """As pandas writes a column of integers in which a row is empty."""
    whole, empty = read(tmp_path, answer=pa.array([98.0, None], pa.float64()))
    assert isinstance(whole, Sample)
    assert isinstance(empty, Damage)
    assert [grade(f"FINAL ANSWER: {text}. TERMINATE", whole.answers, "plain").value for text in ("98", "94")] == [1, 0]


@pytest.mark.parametrize("value", [98.0, "98.0"])
def test_numbers_and_texts_of_json(value: float | str, tmp_path: Path):
    bars().save(tmp_path / "bars.png")
    (tmp_path / "own.jsonl").write_text(json.dumps({"image": "bars.png", "question": "?", "answer": value}))
    (one,) = load(tmp_path / "own.jsonl")
    assert isinstance(one, Sample)
    assert one.answers == ("98" if isinstance(value, float) else "98.0",)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (pa.duration("s"), datetime.timedelta(1), "is of type timedelta; it must be text, a number or a date"),
        (pa.binary(), b"1", "is of type bytes; it must be text, a number or a date"),
        (pa.float32(), float("nan"), "is nan; it must be finite"),
    ],
    ids=str,
)
def test_answers_that_are_none(kind: pa.DataType, value: Any, reason: str, tmp_path: Path):
    (found,) = read(tmp_path, answer=pa.array([value], kind))
    assert isinstance(found, Damage)
    assert found.reason.endswith(reason)


MAP = pa.map_(pa.string(), pa.list_(pa.float64()))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[("a", BOX), ("b", BOX)]], MAP),
        pa.array([json.dumps({"a": BOX, "b": BOX})]),
        pa.array([{"a": BOX, "b": BOX}]),
    ],
    ids=["map", "text", "struct"],
)
def test_boxes_as_a_map_a_text_or_a_struct(column: pa.Array, tmp_path: Path):
    (one,) = read(tmp_path, column_boxes=column)
    assert isinstance(one, Sample)
    assert one.column_boxes == {"a": tuple(BOX), "b": tuple(BOX)}


@pytest.mark.parametrize("field", ["column_boxes", "row_boxes"])
@pytest.mark.parametrize(
    ("kind", "names", "texts"),
    [
        (pa.int64(), [2020, 2021], ["2020", "2021"]),
        (pa.uint8(), [0, 1], ["0", "1"]),
        (pa.float64(), [2020.0, 0.5], ["2020", "0.5"]),
        (pa.date32(), [DAY.date()], ["2021-03-04"]),
    ],
    ids=str,
)
def test_names_of_boxes_that_are_numbers_or_dates_are_texts(
    kind: pa.DataType, names: list[Any], texts: list[str], field: str, tmp_path: Path
):
    column = pa.array([[(name, BOX) for name in names]], pa.map_(kind, pa.list_(pa.float64())))
    (one,) = read(tmp_path, **{field: column})
    assert isinstance(one, Sample)
    assert getattr(one, field) == dict.fromkeys(texts, tuple(BOX))


@pytest.mark.parametrize(
    ("kind", "name", "shown"),
    [
        (pa.struct({"a": pa.int64()}), {"a": 1}, "dict"),
        (pa.binary(), b"a", "bytes"),
        (pa.list_(pa.int64()), [1], "list"),
    ],
    ids=str,
)
def test_names_of_boxes_that_are_none(kind: pa.DataType, name: Any, shown: str, tmp_path: Path):
    boxes = [[(name, BOX)], []]
    found, whole = read(tmp_path, column_boxes=pa.array(boxes, pa.map_(kind, pa.list_(pa.float64()))))
    assert isinstance(found, Damage)
    assert isinstance(whole, Sample)
    assert found.reason == f"a name of the column boxes is of type {shown}; it must be text, a number or a date"


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (
            pa.array([[(2020, BOX), (2020, BOX)]], pa.map_(pa.int64(), pa.list_(pa.float64()))),
            "two boxes of the column '2020'",
        ),
        (pa.array([[("a", BOX), ("a", BOX)]], MAP), "there are two boxes of the column 'a'; leave one of them"),
        (pa.array(['{"a": [1, 2, 30, 40], "a": [1, 2, 30, 40]}']), "is JSON in which the key 'a' stands twice"),
        (pa.array(["a: 1"]), "the field 'column_boxes' is not JSON: "),
        (pa.array(["[1]"]), "the field 'column_boxes' is of type list; it must map names to boxes"),
    ],
    ids=["twice a number", "twice in a map", "twice in a text", "no JSON", "a list"],
)
def test_boxes_that_are_none(column: pa.Array, reason: str, tmp_path: Path):
    (found,) = read(tmp_path, column_boxes=column)
    assert isinstance(found, Damage)
    assert reason in found.reason


def test_names_that_are_short_floats(tmp_path: Path) -> None:
    kind = pa.map_(pa.float32(), pa.list_(pa.float32()))
    (one,) = read(tmp_path, column_boxes=pa.array([[(0.1, [0, 0, 20, 40]), (2002.0, [20, 0, 40, 40])]], kind))
    assert list(sound(one).column_boxes) == ["0.1", "2002"]


@pytest.mark.parametrize("registered", [False, True])
def test_extension_types_are_read_as_no_other_value(registered: bool, tmp_path: Path) -> None:
    """As pandas writes a period; whether a process knows the type is a matter of what it has imported."""
    months = pa.array([614, None], pa.int64())

    class Period(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "test.period")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: pa.DataType, data: bytes) -> Period:
            return cls()

    if registered:
        pa.register_extension_type(Period())
    try:
        found = read(tmp_path, answer=pa.ExtensionArray.from_storage(Period(), months))
        listed = read(tmp_path, answer=pa.array([["x"]], pa.list_(pa.string())))
    finally:
        if registered:
            pa.unregister_extension_type("test.period")
    assert [one.reason for one in found if isinstance(one, Damage)] == [
        "an answer in the field 'answer' is of type test.period; it must be text, a number or a date",
        "the field 'answer' is missing; image (or images), question, answer must be there",
    ]
    assert sound(listed[0]).answers == ("x",)


def test_values_between_tabs_as_pandas_writes_them(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": text, "answer": "1"} for text in ('Which is "x"?', "5 inches", '"all"')]
    pd.DataFrame(rows).to_csv(tmp_path / "train.tsv", sep="\t", index=False)
    assert [sound(one).question for one in load(tmp_path / "train.tsv")] == [one["question"] for one in rows]
    lines = [
        'image\tquestion\t"answer"',
        'a.png\tHow many 5" bars?\t1',
        'a.png\t"Two\t1',
        'a.png\t"a" b\t1',
        'a.png\tq\t"2"',
    ]
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    first, open_one, half, last = load(tmp_path / "train.tsv")
    assert (sound(first).question, sound(last).answers) == ('How many 5" bars?', ("2",))
    assert str(open_one) == "train.tsv, row 3: the value '\"Two' begins with a quote, and no other one ends it"
    assert isinstance(half, Damage)
    (tmp_path / "train.tsv").write_text('"image\tquestion\tanswer\na.png\tq\t1\n')
    with pytest.raises(InputError, match="begins with a quote"):
        load(tmp_path / "train.tsv")


@pytest.mark.parametrize(
    "head", ["id\tutterance\tcontext\ttargetValue\ttokens", "context\ttokens\tid\tutterance\ttargetValue"]
)
def test_quotes_of_wikitablequestions_with_further_columns(tmp_path: Path, head: str) -> None:
    values = {"id": "nu-0", "utterance": '"who" won?', "context": "csv/0.csv", "targetValue": '"Bob', "tokens": '"x'}
    (tmp_path / "train.tsv").write_text(head + "\n" + "\t".join(values[name] for name in head.split("\t")) + "\n")
    (row,) = read_rows(tmp_path / "train.tsv")
    assert isinstance(row, Row)
    assert row.fields == values


@pytest.mark.parametrize("answer", ["TERMINATE", "FINAL ANSWER: 3", "x TERMINATE y", "_TERMINATE_"])
def test_answers_that_nothing_is_graded_equal_to(answer: str, tmp_path: Path) -> None:
    (one,) = read(tmp_path, answer=[answer])
    (flaw,) = sound(one).flaws
    assert flaw.startswith(f"the answer {answer!r} holds a mark of the final answer itself")
    assert not grade_sample(f"FINAL ANSWER: {answer}. TERMINATE", sound(one)).value


@pytest.mark.parametrize("answer", ["Terminated", "Terminator 2", "the final answers", "exterminate"])
def test_answers_that_only_sound_like_it(answer: str, tmp_path: Path) -> None:
    (one,) = read(tmp_path, answer=[answer])
    assert not sound(one).flaws
    assert grade_sample(f"FINAL ANSWER: {answer}. TERMINATE", sound(one)).value
