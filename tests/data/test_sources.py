"""The name of a test set becomes samples."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from iapo.data.benchmarks import BENCHMARKS
from iapo.data.sources import SourceSettings, read_source, source_names
from iapo.data.synthetic import generate
from iapo.own_files import code_digests

SETTINGS = SourceSettings(count=3, question_types=("value",))


def own_file(path: Path, count: int = 4) -> list[str]:
    """Charts in the project's own format; returns their ids."""
    lines = []
    for chart in generate("vbar", count, seed=5):
        chart.image.save(path.parent / f"{chart.id}.png")
        fields = {"id": chart.id, "image": f"{chart.id}.png", "question": chart.question, "answer": chart.answers[0]}
        lines.append({**fields, "split": "test"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [line["id"] for line in lines]


def test_families():
    found = read_source("hbar", dataclasses.replace(SETTINGS, seed=4))
    wanted = list(generate("hbar", 3, seed=4, question_types=("value",), split="test"))
    assert [one.to_json() for one in found] == [one.to_json() for one in wanted]


def test_a_file(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    ids = own_file(path)
    assert [one.id for one in read_source(str(path), SETTINGS)] == ids[:3]
    assert [one.id for one in read_source(str(path), SourceSettings(count=0))] == ids


def test_a_list_of_files_may_be_long(tmp_path: Path):
    names = []
    for number in range(9):
        path = tmp_path / f"{number}{'x' * 40}.jsonl"
        own_file(path, 1)
        names.append(str(path))
    text = ",".join(names)
    assert len(text) > 255
    assert source_names(text) == tuple(names)
    assert code_digests({"data": text}) == {}


def test_a_test_set_of_the_paper_needs_its_size(tmp_path: Path):
    path = tmp_path / "vwtq.jsonl"
    ids = own_file(path)
    assert [one.id for one in read_source(f"vwtq@{path}", SETTINGS)] == ids[:3]
    with pytest.raises(ValueError, match=f"has 4 questions.*{BENCHMARKS['vwtq'].size}"):
        read_source(f"vwtq@{path}", SourceSettings(count=0))


@pytest.mark.parametrize(
    ("name", "count", "sentence"),
    [
        ("nothing", 3, "'nothing' is no family"),
        ("vbar", 0, "have no end"),
        ("vbar", -1, "at least 0"),
        ("nothing@hub", 3, "unknown test set 'nothing'"),
    ],
)
def test_bad_sources_are_refused(name: str, count: int, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        read_source(name, SourceSettings(count=count))


def test_a_damaged_row_is_refused(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    own_file(path, 1)
    with path.open("a") as file:
        file.write(json.dumps({**json.loads(path.read_text()), "id": "other", "answer": None}) + "\n")
    with pytest.raises(ValueError, match="other"):
        read_source(str(path), SourceSettings(count=0))
