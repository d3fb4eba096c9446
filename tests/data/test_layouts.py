"""Data as they lie in the repositories that they come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repositories import SECRET, annotation, cells, chartqa, charxiv, refocus, tabfact, write_json, wtq

from iapo.data.check import check
from iapo.data.damage import Damage
from iapo.data.drawn import draw_table
from iapo.data.files import files_of
from iapo.data.intake import take_in
from iapo.data.loading import detect, load, strict
from iapo.data.sources import SourceSettings, read_source
from iapo.data.synthetic.table_data import HEADER
from iapo.errors import InputError
from iapo.records import Sample

BARS = [(10, 20, 50, 90), (60, 20, 100, 90), (110, 20, 150, 90)]


def samples(path: Path, split: str | None = None, format: str | None = None) -> list[Sample]:
    found = list(strict(load(path, split=split, format=format)))
    assert all(SECRET not in json.dumps(sample.to_json(image_path="")) for sample in found)
    return found


def test_chartqa(tmp_path: Path):
    chartqa(tmp_path)
    found = samples(tmp_path)
    assert [one.id for one in found] == ["test_augmented-1", "test_human-2", "test_human-3"]
    assert [one.question_type for one in found] == ["machine", "human", "human"]
    assert [one.question for one in samples(tmp_path, "test_human")] == ["What is A in one?", "What is A in two?"]
    assert all(not one.column_boxes and not one.list_names and one.axis is None for one in found)
    assert len(samples(tmp_path / "ChartQA Dataset" / "test" / "test_human.json", format="chartqa")) == 2


@pytest.mark.parametrize("kind", ["v_bar", "h_bar"])
def test_boxes_of_chartqa_come_from_its_annotations(kind: str, tmp_path: Path):
    chartqa(tmp_path, {"one": annotation(kind), "two": annotation("line")})
    bars, line = samples(tmp_path, "test_human")
    assert (line.axis, line.column_boxes, line.row_boxes, line.list_names) == (None, {}, {}, False)
    assert bars.list_names
    assert bars.axis == ("columns" if kind == "v_bar" else "rows")
    boxes = bars.column_boxes if kind == "v_bar" else bars.row_boxes
    # From midway to midway; across from the plot's edge to the end of the labels, and the other way round.
    expected = {
        "v_bar": {"A": (20, 5, 65, 112), "B, C": (65, 5, 115, 112), "D": (115, 5, 170, 112)},
        "h_bar": {"A": (4, 5, 170, 35), "B, C": (4, 35, 170, 65), "D": (4, 65, 170, 100)},
    }
    assert dict(boxes) == expected[kind]


@pytest.mark.parametrize(
    ("change", "boxes"),
    [
        # Without labels and without the plot, the bars say what there is.
        ({"general_figure_info": None}, {"A": (30, 40, 65, 100), "B, C": (65, 40, 115, 100), "D": (115, 40, 150, 100)}),
        # Without the bars, the labels do.
        ({"models": []}, {"A": (20, 5, 65, 112), "B, C": (65, 5, 115, 112), "D": (115, 5, 170, 112)}),
        # One bar has no box, and the bars of another colour say nothing of whose they are.
        (
            {
                "models": [
                    {"x": ["A", "B, C", "D"], "bboxes": [None, {"x": 84, "y": 40, "w": 20, "h": 60}, {}]},
                    {"x": ["A"], "bboxes": []},
                    {"bboxes": [{"x": 0, "y": 0, "w": 5, "h": 5}]},
                ]
            },
            {"A": (20, 5, 67, 112), "B, C": (67, 5, 117, 112), "D": (117, 5, 170, 112)},
        ),
    ],
)
def test_what_an_annotation_lacks(change: dict[str, Any], boxes: dict[str, Any], tmp_path: Path):
    chartqa(tmp_path, {"one": annotation(**change)})
    one, _ = samples(tmp_path, "test_human")
    assert (dict(one.column_boxes), one.flaws) == (boxes, ())


@pytest.mark.parametrize(
    "broken",
    [
        annotation(general_figure_info={}, models=[]),
        annotation(general_figure_info={"x_axis": {"major_labels": {"values": ["A"], "bboxes": []}}}),
        annotation(general_figure_info={"x_axis": {"major_labels": {"values": ["A"], "bboxes": [{"x": "a"}]}}}),
        annotation(general_figure_info=[1]),
        annotation(general_figure_info={"figure_info": {"bbox": {"x": 10**400, "y": 0, "w": 1, "h": 1}}}),
        annotation(models={"name": "one"}),
        annotation(models=[None], general_figure_info=None),
        annotation(models=3),
        [1, 2],
    ],
)
def test_a_broken_annotation_costs_its_boxes_alone(broken: Any, tmp_path: Path):
    chartqa(tmp_path, {"one": broken})
    one, two = samples(tmp_path, "test_human")
    assert not one.column_boxes
    (flaw,) = one.flaws
    assert flaw.startswith("the annotation one.json cannot be read")
    assert not two.flaws


def test_other_spellings_of_an_annotation(tmp_path: Path):
    listed = annotation(type="V_BAR")
    for model in listed["models"]:
        model["bboxes"] = [list(box.values()) for box in model["bboxes"]]
    chartqa(tmp_path, {"one": listed, "two": annotation("v_bar")})
    one, two = samples(tmp_path, "test_human")
    assert dict(one.column_boxes) == dict(two.column_boxes)
    assert len(one.column_boxes) == 3


def test_an_ending_in_capitals_is_one(tmp_path: Path):
    chartqa(tmp_path)
    human = tmp_path / "ChartQA Dataset" / "test" / "test_human.json"
    human.rename(human.with_suffix(".JSON"))
    assert [one.id for one in samples(tmp_path)] == ["test_augmented-1", "test_human-2", "test_human-3"]


def test_an_image_of_chartqa_is_in_its_folder(tmp_path: Path):
    chartqa(tmp_path)
    write_json(
        tmp_path / "ChartQA Dataset" / "test" / "test_human.json",
        [{"imgname": "../../../x.png", "query": "?", "label": "1"}, {"imgname": "no.png", "query": "?", "label": "1"}],
    )
    out, missing = load(tmp_path, split="test_human")
    assert isinstance(out, Damage)
    assert "must be the name of a file in png/" in out.reason
    assert isinstance(missing, Damage)
    assert "there is no picture 'png/no.png'" in missing.reason


def test_charxiv(tmp_path: Path):
    charxiv(tmp_path)
    reasoning = samples(tmp_path, "validation")
    assert [(one.id, one.question_type) for one in reasoning] == [("0", "reasoning"), ("7", "reasoning")]
    described = samples(tmp_path, "descriptive_val")
    assert [one.id for one in described] == ["0-1", "0-2", "7-1", "7-2", "7-3"]
    assert [one.answers for one in described] == [("60",), ("2",), ("Not Applicable",), ("x",), ("y",)]
    assert "the subplot in row 1 and column 2" in described[0].question
    assert "the bottom plot" in described[3].question
    assert {one.question_type for one in described} == {"descriptive"}
    assert check(str(tmp_path)).keys() == {"descriptive_val", "validation"}


def test_an_unknown_descriptive_question_is_damage(tmp_path: Path):
    charxiv(tmp_path)
    entry = {"figure_id": 0, "num_subplots": 1, "subplot_loc": [0, 0], "qids": [20, 1, 2], "answers": ["1", "2"]}
    write_json(tmp_path / "data" / "descriptive_val.json", {"0": entry, "7": {**entry, "subplot_loc": 3}})
    first, second, third, *more = load(tmp_path, split="descriptive_val")
    assert isinstance(first, Damage)
    assert "is number 20; there are 1 to 19" in first.reason
    assert isinstance(second, Sample)
    assert "of the plot?" in second.question
    assert isinstance(third, Damage)
    assert "the answer is missing" in third.reason
    assert "the subplot's place is 3" in str(more[1])


def test_wikitablequestions(tmp_path: Path):
    wtq(tmp_path)
    assert detect(tmp_path, split="train") == "wtq"
    first, second = samples(tmp_path, "train")
    assert (first.id, first.question, first.answers) == ("nt-0", "which team won in 1999?", ("Ajax", "PSV"))
    assert (second.question, second.answers) == ("what is a|b?", ("x|y",))
    assert list(first.column_boxes) == ["Year", "Team", "Team (2)"]
    assert list(first.row_boxes) == [HEADER, "1999", "2001", "2001 (2)"]
    assert (first.kind, first.axis, first.list_names) == ("table", None, True)
    assert len(samples(tmp_path, "random-split-1-train")) == 1
    assert len(samples(tmp_path / "data" / "training.tsv")) == 2
    assert read_source(f"wtq@{tmp_path}", SourceSettings(1, split="train"))[0].id == "nt-0"


def test_damage_in_wikitablequestions(tmp_path: Path):
    wtq(tmp_path)
    head = "id\tutterance\tcontext\ttargetValue\n"
    lines = ["a\tq?\tcsv/200-csv/9.csv\t1", "b\tq?\t../secret.csv\t1", "c\tq?\t1", "d\tq?\tcsv/200-csv/0.csv\t"]
    (tmp_path / "data" / "training.tsv").write_text(head + "\n".join(lines))
    (tmp_path / "csv" / "200-csv" / "0.csv").write_text('"Year"\n')
    reasons = [item.reason for item in load(tmp_path, split="train") if isinstance(item, Damage)]
    expected = [
        "there is no table 'csv/200-csv/9.csv'",
        "leads out of",
        "has 3 values, and the first line 4",
        "missing",
    ]
    assert len(reasons) == len(expected)
    assert all(part in reason for part, reason in zip(expected, reasons, strict=True)), reasons


def test_tabfact(tmp_path: Path):
    tabfact(tmp_path)
    found = samples(tmp_path, "validation")
    assert [one.id for one in found] == [f"1-1.html.csv_{index}" for index in range(3)]
    assert [one.answers for one in found] == [("true",), ("false",), ("true",)]
    assert found[0].question.endswith("ajax won in 1999")
    assert "true or false" in found[0].question
    assert list(found[0].column_boxes) == ["Year", "Team", "Team (2)"]
    (tmp_path / "data" / "all_csv" / "1-1.html.csv").unlink()
    assert all("there is no table" in str(item) for item in load(tmp_path, split="validation"))


def test_boxes_of_a_drawn_table_are_exact():
    image, columns, rows, flaws = draw_table([["a", "b"], ["1", "漢"], ["2", "word " * 60]])
    assert list(columns) == ["a", "b"]
    assert flaws == ["the font has no glyph for 1 letter(s) of the table (漢); boxes stand in their places"]
    pixels = np.asarray(image.convert("L"))
    left, right = columns["a"], columns["b"]
    assert left[2] == right[0]
    assert [box[3] for box in rows.values()][:-1] == [box[1] for box in rows.values()][1:]
    # A rule lies on every edge, from one end of the table to the other, and none between them.
    top, bottom = int(left[1]), int(left[3])
    for x in (left[0], left[2], right[2]):
        assert len(set(pixels[top:bottom, int(x)])) == 1
    for box in rows.values():
        assert len(set(pixels[int(box[1]), int(left[0]) : int(right[2])])) == 1
    assert image.width <= 1030
    # The long cell is broken into lines, and its row alone is higher.
    heights = [box[3] - box[1] for box in rows.values()]
    assert heights[0] == heights[1] < heights[2]


def test_cells_give_the_boxes_of_a_drawn_table(tmp_path: Path):
    cells(tmp_path)
    (one,) = samples(tmp_path)
    assert dict(one.column_boxes) == {"Year": (10, 30, 110, 90), "Won": (110, 30, 210, 90)}
    rows = {"header": (10, 30, 210, 50), "1999": (10, 50, 210, 70), "2001": (10, 70, 210, 90)}
    assert dict(one.row_boxes) == rows
    assert list(one.row_boxes) == list(rows)
    assert (one.answers, one.list_names) == (("1",), True)
    (tmp_path / "t.cells.json").write_text("{}")
    (one,) = samples(tmp_path)
    assert not one.column_boxes
    assert "t.cells.json cannot be read" in one.flaws[0]


def test_refocus_beside_chartqa(tmp_path: Path):
    refocus(tmp_path, BARS)
    assert files_of(tmp_path) == [tmp_path / "chartqa_vcot" / "test.jsonl"]
    columns, rows = samples(tmp_path, "test")
    assert list(columns.column_boxes) == list(rows.row_boxes) == ["bar 0", "bar 1", "bar 2"]
    assert columns.list_names
    assert rows.list_names
    assert len(read_source(f"refocus@{tmp_path}", SourceSettings(0))) == 2


def test_the_papers_sets_of_bars_with_a_crossed_box(tmp_path: Path):
    refocus(tmp_path, [*BARS, (154, 20, 150, 90)])
    for name, kind in (("chartqa_v_bar", "v_bar"), ("chartqa_h_bar", "h_bar")):
        source = f"{name}@{tmp_path}"
        (one,) = read_source(source, SourceSettings(1))
        assert (one.id, len(one.flaws)) == (kind, 1)
        with pytest.raises(InputError, match=r"has 1 questions, and .* set data_damage to quarantine"):
            take_in(source, SourceSettings(0), "strict")
        found, damages, intake = take_in(source, SourceSettings(0), "quarantine")
        assert [sample.id for sample in found] == [kind]
        assert not damages
        size = {"v_bar": 382, "h_bar": 444}[kind]
        assert str(intake) == f"1 of {size} questions; 1 with a flaw"


def test_strict_says_how_to_leave_rows_out(tmp_path: Path):
    charxiv(tmp_path)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(InputError, match=r"row 1 .*images/0\.jpg.* set data_damage to quarantine"):
        read_source(str(tmp_path), SourceSettings(0, split="validation"))
    with pytest.raises(InputError, match=r"that loads; the first reason: .*images/0\.jpg"):
        take_in(str(tmp_path), SourceSettings(0, split="validation"), "quarantine")


@pytest.mark.parametrize(
    ("make", "gone", "reason"),
    [
        (chartqa, "*/test/*.json", r"looks like a split of ChartQA, but its questions, such as test_human.json"),
        (tabfact, "tokenized_data/*", r"looks like TabFact, but its statements, such as tokenized_data/train_examples"),
        (wtq, "data/*", r"looks like WikiTableQuestions, but its questions, such as data/training.tsv"),
    ],
)
def test_a_folder_without_its_questions_is_told(make: Any, gone: str, reason: str, tmp_path: Path):
    make(tmp_path)
    for path in tmp_path.glob(gone):
        path.unlink()
    with pytest.raises(InputError, match=reason):
        load(tmp_path)


def test_the_code_of_tablevqa_bench_has_no_images(tmp_path: Path):
    write_json(tmp_path / "outputs" / "gpt4v" / "vwtq.json", [{"qa_id": "a", "answer": "x"}])
    (tmp_path / "src").mkdir()
    (tmp_path / "evaluate_tablevqa.sh").touch()
    with pytest.raises(InputError, match="looks like the code of TableVQA-Bench, but the data set itself"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "nearest"),
    [
        ({"imgname": "a.png", "query": "?"}, "the nearest is chartqa, for which label is missing"),
        ({"id": 1, "utterance": "?", "context": "t"}, "the nearest is wtq, for which targetValue is missing"),
        ({"figure_id": 1, "inst_category": 2}, "the nearest is charxiv, for which query is missing"),
    ],
)
def test_the_nearest_format_is_named(fields: dict[str, Any], nearest: str, tmp_path: Path):
    write_json(tmp_path / "x.json", [fields])
    with pytest.raises(InputError, match=nearest):
        load(tmp_path / "x.json")


def test_files_of_two_formats_are_not_mixed(tmp_path: Path):
    write_json(tmp_path / "a" / "test_human.json", [{"imgname": "a.png", "query": "?", "label": "1"}])
    write_json(tmp_path / "b" / "x_test.json", {"a": {"figure_path": "a.png", "query": "?", "answer": "1"}})
    with pytest.raises(
        InputError, match=r"several formats: .*test_human\.json is chartqa, .*x_test\.json is charxiv-sub"
    ):
        load(tmp_path, split="test")
    assert len(list(load(tmp_path / "a", split="test"))) == 1


def test_folders_of_ones_own_stay_data(tmp_path: Path):
    for name in ("png/x.txt", "csv/x.csv", "data/train.json", "tables/train.json", "notes.tsv"):
        write_json(tmp_path / name, [{"image": "a.png", "question": "?", "answer": "1"}])
    assert [str(file.relative_to(tmp_path)) for file in files_of(tmp_path)] == ["data/train.json", "tables/train.json"]


def test_repeated_reasons_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    refocus(tmp_path, [*BARS, (154, 20, 150, 90)])
    path = tmp_path / "chartqa_vcot" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    many = [{**rows[0], "id": f"v{n}"} for n in range(5)] + [{**rows[0], "id": f"n{n}", "answer": ""} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, many)))
    counts = check(str(tmp_path))["test"] if "test" in check(str(tmp_path)) else check(str(tmp_path))["all"]
    assert (counts.samples, counts.damaged, counts.flawed) == (5, 4, 5)
    assert sorted(counts.reasons.values()) == [4, 5]
    shown = capsys.readouterr().out
    assert "5 times: the box of column ... has no width" in shown
    assert shown.count("sample 'v") % 3 == 0
    assert "'v3'" not in shown


REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real data beside the repository, where somebody keeps some."""


@pytest.mark.skipif(not REAL.is_dir(), reason=f"there are no real data in {REAL}")
@pytest.mark.parametrize(
    ("folder", "split", "count", "boxed", "flawed"),
    [
        ("refocus_small", "test", 24, 24, 2),
        ("chartqa", "test", 139, 0, 0),
        ("chartqa_hub", None, 60, 0, 0),
        ("tablevqa", "vwtq", 3, 0, 0),
        ("wtq_rendered", None, 13, 13, 0),
        ("tabfact_rendered", None, 9, 9, 0),
    ],
)
def test_real_data_load_whole(folder: str, split: str | None, count: int, boxed: int, flawed: int):
    found = list(strict(load(REAL / folder, split=split)))
    assert len(found) == count
    assert sum(bool(one.column_boxes or one.row_boxes) for one in found) == boxed
    assert sum(bool(one.flaws) for one in found) == flawed
    assert all(one.list_names == bool(one.column_boxes or one.row_boxes) for one in found)
