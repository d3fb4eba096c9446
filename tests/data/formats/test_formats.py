"""What is particular to one data set: its traps, its ids, its sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.layouts import LAYOUTS, Layout, box_dict, columnar

from iapo.data.loading import Damage, load, strict
from iapo.records import Sample


def loaded(layout: Layout, folder: Path, change: Any = None, file: str | None = None) -> list[Sample]:
    rows = layout.rows(layout.samples())
    for row in rows if change else ():
        change(row)
    return list(strict(load(layout.write(rows, folder / (file or layout.path(folder).name)))))


@pytest.mark.parametrize("name", ["vtool-struct", "vtool-json", "refocus-hub", "refocus-cot"])
def test_types_tell_the_axis(name: str, tmp_path: Path):
    found = {(one.axis, one.kind, one.source.split("/")[1]) for one in loaded(LAYOUTS[name], tmp_path)}
    assert found == {("columns", "chart", "v_bar"), ("rows", "chart", "h_bar")}


@pytest.mark.parametrize(
    ("file", "axis"),
    [("chartQA_v_bar_wbb.json", "columns"), ("chartQA_h_bar_wbb.json", "rows"), ("charts_wbb.json", None)],
)
def test_the_name_of_a_test_file_tells_the_axis(file: str, axis: str | None, tmp_path: Path):
    one, *_ = loaded(LAYOUTS["chartQA_v_bar_wbb"], tmp_path, file=file)
    assert (one.axis, one.source) == (axis, f"refocus/{file.removesuffix('.json')}")


def test_tables_have_no_axis(tmp_path: Path):
    for name in ("vtool-table", "tablevqa_wbb", "vwtq"):
        assert {(one.axis, one.kind) for one in loaded(LAYOUTS[name], tmp_path)} == {(None, "table")}


@pytest.mark.parametrize(
    ("name", "grading"),
    [
        *((name, "chart") for name in ("chartqa", "refocus-cot", "refocus-hub", "chartQA_v_bar_wbb", "vtool-json")),
        *((name, "exact") for name in ("vwtq", "tablevqa_wbb", "vtool-table", "charxiv", "charxiv-subfigures")),
        *((name, "plain") for name in ("own", "ours")),
    ],
)
def test_formats_know_their_rules(name: str, grading: str, tmp_path: Path):
    assert {one.grading for one in loaded(LAYOUTS[name], tmp_path)} == {grading}


@pytest.mark.parametrize(
    ("name", "file", "grading"),
    [
        ("vwtq", "vtabfact-00000-of-00001.parquet", "claim"),
        ("vwtq", "fintabnetqa-00000-of-00001.parquet", "finance"),
        ("vwtq", "vwtq_syn-00000-of-00001.parquet", "exact"),
        ("tablevqa_wbb", "vtabfact_wbb.json", "claim"),
        ("vtool-table", "tabfact_train.parquet", "claim"),
    ],
)
def test_parts_of_tablevqa_have_rules_of_their_own(name: str, file: str, grading: str, tmp_path: Path):
    assert {one.grading for one in loaded(LAYOUTS[name], tmp_path, file=file)} == {grading}


def test_ids_tell_the_part_of_tablevqa_too(tmp_path: Path):
    ids = iter(["2-17-2.html.csv_8", "DOV_2014_page_13.pdf149186_1", "nu-1740", *map(str, range(100))])
    found = loaded(LAYOUTS["vwtq"], tmp_path, lambda row: row.update(qa_id=next(ids)), "test.parquet")
    assert [one.grading for one in found[:3]] == ["claim", "finance", "exact"]


def test_other_types_load_without_an_axis(tmp_path: Path):
    found = loaded(LAYOUTS["vtool-json"], tmp_path, lambda row: row["metadata"].update(type="line"))
    assert {(one.axis, one.kind, one.source) for one in found} == {(None, "chart", "vtool/line")}


@pytest.mark.parametrize("name", ["vtool-struct", "vtool-json"])
def test_empty_maps_of_vtool(name: str, tmp_path: Path):
    """`{"x1": "none"}` beside boxes of other rows; the struct then has null fields for the others' labels."""
    layout = LAYOUTS[name]
    rows = layout.rows(layout.samples())
    for row in rows[::2]:
        row["metadata"]["x_values_bbox"] = {"x1": "none"}
    found = list(strict(load(layout.write(rows, layout.path(tmp_path)))))
    for one, made in zip(found, layout.samples(), strict=True):
        assert dict(one.row_boxes) == dict(made.row_boxes)
    assert [dict(one.column_boxes) for one in found[::2]] == [{}, {}]
    assert [dict(one.column_boxes) for one in found[1::2]] == [dict(s.column_boxes) for s in layout.samples()[1::2]]


@pytest.mark.parametrize(
    ("name", "written", "answers"),
    [
        ("vtool-json", "3|||5", ("3", "5")),
        ("vtool-json", "St. Louis||Dr. Dre.", ("St. Louis||Dr. Dre.",)),
        ("refocus-cot", ["3", 5, 2.5], ("3", "5", "2.5")),
        ("refocus-cot", 1_000_000, ("1000000",)),
        ("refocus-cot", False, ("false",)),
        ("refocus-hub", " Yes ", ("Yes",)),
        ("chartqa", ["a|||b"], ("a|||b",)),
        ("vwtq", "Apple|Banana", ("Apple", "Banana")),
        ("vwtq", "Apple||Banana", ("Apple", "Banana")),
        ("tablevqa_wbb", "Apple||Banana", ("Apple", "Banana")),
        ("own", "a|||b", ("a|||b",)),
        ("own", ["1", 2], ("1", "2")),
    ],
)
def test_answers(name: str, written: Any, answers: tuple[str, ...], tmp_path: Path):
    layout = LAYOUTS[name]
    assert {one.answers for one in loaded(layout, tmp_path, lambda row: row.update({layout.answer: written}))} == {
        answers
    }


def test_an_answer_missing_among_several(tmp_path: Path):
    layout = LAYOUTS["vtool-json"]
    rows = layout.rows(layout.samples())
    rows[0]["answer"] = "3||| |||5"
    first = next(iter(load(layout.write(rows, layout.path(tmp_path)))))
    assert isinstance(first, Damage)
    assert "the answer is missing" in first.reason


def test_lists_that_did_not_match_are_empty(tmp_path: Path):
    """ReFocus leaves the boxes of a table empty where it could not match them to the names."""
    found = loaded(LAYOUTS["tablevqa_wbb"], tmp_path, lambda row: row.update(columns_bbox=[], column_headers=[]))
    assert [dict(one.column_boxes) for one in found] == [{}] * 4
    assert all(one.row_boxes for one in found)


def test_hub_boxes_without_names(tmp_path: Path):
    def no_names(row: dict[str, Any]) -> None:
        row.update(x_values=[], x_values_bbox=columnar({}))

    assert [dict(one.column_boxes) for one in loaded(LAYOUTS["refocus-hub"], tmp_path, no_names)] == [{}] * 4


def test_refocus_paths_start_two_folders_above(tmp_path: Path):
    """`data/chartqa_vcot/train.jsonl` names its pictures from the folder that holds `data`."""
    layout = LAYOUTS["refocus-cot"]
    (tmp_path / "data/chartqa_vcot").mkdir(parents=True)
    path = layout.make(tmp_path)
    path.rename(tmp_path / "data/chartqa_vcot/train.jsonl")
    assert len(list(strict(load(tmp_path / "data/chartqa_vcot/train.jsonl")))) == 4


def test_boxes_of_a_resized_picture_are_refused(tmp_path: Path):
    """Boxes in pixels of a picture that was made smaller afterwards."""
    layout = LAYOUTS["vtool-json"]

    def larger(row: dict[str, Any]) -> None:
        boxes = row["metadata"]["x_values_bbox"]
        row["metadata"]["x_values_bbox"] = {
            name: box_dict(tuple(4 * number for number in box.values()))  # type: ignore[arg-type]
            for name, box in boxes.items()
        }

    rows = layout.rows(layout.samples())
    for row in rows:
        larger(row)
    items = list(load(layout.write(rows, layout.path(tmp_path))))
    assert all(isinstance(item, Damage) and "in other units" in item.reason for item in items)


def test_several_questions_about_one_figure(tmp_path: Path):
    layout = LAYOUTS["vtool-json"]
    rows = layout.rows(layout.samples())
    for number, row in enumerate(rows):
        row["figure_id"], row["query"] = "f", f"question {number % 3}?"
    *samples, damage = load(layout.write(rows, layout.path(tmp_path)))
    assert [one.id for one in samples if isinstance(one, Sample)] == ["f", "f#2", "f#3"]
    assert isinstance(damage, Damage)
    assert (damage.id, damage.reason) == ("f", "the id was already used in row 1 of vtool-json.parquet")


def test_ids_and_question_types(tmp_path: Path):
    assert [one.id for one in loaded(LAYOUTS["charxiv-subfigures"], tmp_path)] == [
        made.id for made in LAYOUTS["charxiv-subfigures"].samples()
    ]
    chartqa = loaded(LAYOUTS["chartqa"], tmp_path)
    assert [one.question_type for one in chartqa] == ["human", "machine"] * 2
    assert [one.id for one in chartqa] == [f"chartqa-{number}" for number in (1, 2, 3, 4)]
    assert loaded(LAYOUTS["charxiv"], tmp_path)[0].id.startswith("images/")


def test_the_smallest_line_of_your_own(tmp_path: Path):
    layout = LAYOUTS["own"]
    layout.make(tmp_path)
    path = tmp_path / "mine.jsonl"
    # As macOS names screenshots, with a narrow no-break space.
    name = "pictures/Bildschirmfoto 9.41\u202fPM ü.png"
    (tmp_path / "pictures/1.png").rename(tmp_path / name)
    path.write_bytes("\ufeff".encode() + json.dumps({"image": name, "question": "?", "answer": 4}).encode())
    (one,) = strict(load(path))
    assert (one.id, one.answers, one.kind, one.axis, one.source) == ("mine-1", ("4",), "chart", None, "own/mine")
    assert not one.column_boxes
    assert not one.row_boxes


def test_the_rules_of_own_data(tmp_path: Path):
    LAYOUTS["own"].make(tmp_path)
    path = tmp_path / "mine.jsonl"
    line = {"image": "pictures/1.png", "question": "?", "answer": 4}
    path.write_text("\n".join(json.dumps({**line, "grading": name}) for name in ("chart", "plain", None, "strict")))
    *samples, damage = load(path)
    assert [one.grading for one in samples if isinstance(one, Sample)] == ["chart", "plain", "plain"]
    assert isinstance(damage, Damage)
    assert damage.reason == "the field 'grading' is 'strict'; use plain, chart, exact, finance or claim"


def test_whether_names_are_listed(tmp_path: Path):
    LAYOUTS["own"].make(tmp_path)
    path = tmp_path / "mine.jsonl"
    line = {"image": "pictures/1.png", "question": "?", "answer": 4}
    path.write_text("\n".join(json.dumps({**line, "list_names": listed}) for listed in (True, False, None, 1)))
    *samples, damage = load(path)
    assert [one.list_names for one in samples if isinstance(one, Sample)] == [True, False, False]
    assert isinstance(damage, Damage)
    assert damage.reason == "the field 'list_names' is 1; use true or false"
