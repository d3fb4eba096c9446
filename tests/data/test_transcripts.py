"""Transcripts: read from every source, and from nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iapo.data.damage import Damage, RowError
from iapo.data.loading import load
from iapo.data.synthetic import generate
from iapo.data.transcripts import Transcript, read_transcripts, turns_of
from iapo.errors import InputError
from iapo.records import Sample, ToolResult, Trace, Turn, save_png
from iapo.runs import RunFolder

CODE = '```python\nimage = focus_on_x_values_with_mask(image_1, ["A"], x_values_bbox)\ndisplay(image)\n```'
ANSWER = "THOUGHT 1: I see it.\nANSWER: it is 3. FINAL ANSWER: 3. TERMINATE"


@pytest.fixture
def chart() -> Sample:
    return next(iter(generate("vbar", 1, seed=0, split="transcripts")))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def own_row(chart: Sample, folder: Path, **more: Any) -> dict[str, Any]:
    save_png(chart.image, folder / "chart.png")
    return {"image": "chart.png", "question": "How much?", "answer": "3", **more}


def test_lines_of_ones_own_are_read_with_their_turns(chart: Sample, tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [own_row(chart, tmp_path, turns=["do", ANSWER]), own_row(chart, tmp_path)])
    first, second = read_transcripts(path)
    assert isinstance(first, Transcript)
    assert (first.sample.question, first.turns) == ("How much?", ("do", ANSWER))
    assert isinstance(second, Damage)
    assert "turns" in second.reason


def test_what_is_loaded_for_training_never_has_turns(chart: Sample, tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [own_row(chart, tmp_path, turns=["secret", ANSWER])])
    (sample,) = load(path)
    assert isinstance(sample, Sample)
    assert "secret" not in json.dumps(sample.to_json(image_path=""))


def test_refocus_conversations_are_read_and_translated(chart: Sample, tmp_path: Path) -> None:
    save_png(chart.image, tmp_path / "chart.png")
    box = {"x1": 5, "y1": 5, "x2": 30, "y2": 90}
    row = {
        "id": "train-1",
        "conversations": [{"images": ["chart.png"], "response": CODE}, {"images": [], "response": ANSWER}],
        "query": "How much is A?",
        "answer": "3",
        "source": "chartqa_v_bar",
        "focus_areas": ["A"],
        "x_values_bbox": {"A": box},
        "y_values_bbox": {},
        "figure_bbox": box,
    }
    (one,) = read_transcripts(write(tmp_path / "train.jsonl", [row]))
    assert isinstance(one, Transcript)
    assert "focus_on_columns_with_mask(image_1" in one.turns[0]
    assert "columns_bbox" in one.turns[0]
    assert "x_values" not in one.turns[0]
    assert list(one.sample.column_boxes) == ["A"]


def test_traces_of_a_run_folder_are_transcripts(chart: Sample, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.append_traces([Trace.of(chart, "FINAL ANSWER: 3", ToolResult("no_call"))])
    for source in (tmp_path / "run", tmp_path / "run" / "traces.jsonl"):
        (one,) = read_transcripts(source)
        assert isinstance(one, Transcript)
        assert one.turns == ("FINAL ANSWER: 3",)
        assert one.sampled
        assert one.sample.image.tobytes() == chart.image.tobytes()


def test_traces_with_more_turns_are_transcripts_of_as_many(chart: Sample, tmp_path: Path) -> None:
    call = ToolResult("failed", error="no", span=(0, 1))
    written = Trace(chart, (Turn("one", call), Turn("two", call), Turn("FINAL ANSWER: 3")))
    RunFolder(tmp_path).append_traces([written])
    (one,) = read_transcripts(tmp_path / "traces.jsonl")
    assert isinstance(one, Transcript)
    assert one.turns == ("one", "two", "FINAL ANSWER: 3")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "no turns"),
        ({"turns": []}, "no turns"),
        ({"turns": ["a"] * 9}, "9 turns"),
        ({"turns": ["a", " "]}, "no text"),
        ({"turns": [1]}, "no text"),
        ({"conversations": [{"images": []}]}, "no text"),
        ({"conversations": ["a"]}, "no text"),
        ({"turns": {"a": 1}}, "no turns"),
    ],
)
def test_rows_without_usable_turns_say_why(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        turns_of(fields)


def test_thoughts_stand_in_for_turns() -> None:
    assert turns_of({"thoughts": [CODE, ANSWER]})[1] == ANSWER
    assert turns_of({"thoughts": ANSWER}) == (ANSWER,)


def test_sources_without_turns_are_refused(chart: Sample, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no turns"):
        read_transcripts(write(tmp_path / "train.jsonl", [own_row(chart, tmp_path)]))
    with pytest.raises(InputError, match="no file or folder"):
        read_transcripts(tmp_path / "missing")


def test_the_split_of_a_row_counts(chart: Sample, tmp_path: Path) -> None:
    rows = [own_row(chart, tmp_path, turns=[ANSWER], split=split, id=split) for split in ("train", "dev")]
    path = write(tmp_path / "all.jsonl", rows)
    (one,) = read_transcripts(path, split="validation")
    assert isinstance(one, Transcript)
    assert one.sample.id == "dev"
