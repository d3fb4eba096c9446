"""The six named test sets, and what a training set shares with them."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from fixtures.layouts import (
    LAYOUTS,
    bars,
    charxiv_subset,
    refocus_boxes,
    samples_of,
    tablevqa,
    write_map,
    write_parquet,
)
from PIL import Image

from iapo.data import benchmarks
from iapo.data.benchmarks import BENCHMARKS, load_benchmark, report_leaks
from iapo.data.damage import Damage, strict
from iapo.data.leakage import leaks, look
from iapo.data.synthetic import generate
from iapo.records import Sample


def write_all(folder: Path) -> None:
    """All six, as ReFocus has them, the tables as on the hub; each with four questions."""
    write_map(refocus_boxes(samples_of("hbar")), folder / "chartQA_h_bar_wbb.json")
    for number, (name, rows) in enumerate(
        {
            "chartQA_v_bar_wbb": refocus_boxes(samples_of("vbar")),
            "charxiv-subfigures": charxiv_subset(bars()),
        }.items()
    ):
        (folder / f"{number}").mkdir()
        write_map(rows, folder / f"{number}" / f"{name}.json")
    for name in ("vwtq", "vwtq_syn", "vtabfact"):
        write_parquet(tablevqa(samples_of(name)), folder / f"{name}-00000-of-00001.parquet")


def test_names_and_sizes_are_the_papers():
    assert {name: one.size for name, one in BENCHMARKS.items()} == {
        "chartqa_h_bar": 444,
        "chartqa_v_bar": 382,
        "charxiv": 143,
        "vwtq": 750,
        "vwtq_syn": 250,
        "vtabfact": 250,
    }


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_loads_from_a_folder(name: str, tmp_path: Path):
    write_all(tmp_path)
    found = list(strict(load_benchmark(name, tmp_path, any_size=True)))
    one = BENCHMARKS[name]
    assert len(found) == 4
    assert {(sample.kind, sample.axis) for sample in found} == {(one.kind, one.axis)}
    with pytest.raises(ValueError, match=rf"has 4 questions, and {one.title} has {one.size} in the paper, .* any_size"):
        list(load_benchmark(name, tmp_path))


def test_the_papers_size_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_all(tmp_path)
    monkeypatch.setitem(benchmarks.BENCHMARKS, "vwtq", dataclasses.replace(BENCHMARKS["vwtq"], size=4))
    assert len(list(load_benchmark("vwtq", tmp_path))) == 4


def test_damage_counts_as_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = tablevqa(samples_of("vwtq"))
    rows[0]["gt"] = None
    write_parquet(rows, tmp_path / "vwtq.parquet")
    monkeypatch.setitem(benchmarks.BENCHMARKS, "vwtq", dataclasses.replace(BENCHMARKS["vwtq"], size=4))
    first, *others = load_benchmark("vwtq", tmp_path / "vwtq.parquet")
    assert isinstance(first, Damage)
    assert len(others) == 3


def test_a_renamed_file_keeps_its_axis(tmp_path: Path):
    path = write_map(refocus_boxes(samples_of("hbar")), tmp_path / "bars.json")
    assert {one.axis for one in strict(load_benchmark("chartqa_h_bar", path, any_size=True))} == {"rows"}


def test_a_file_with_both_kinds_of_bars(tmp_path: Path):
    LAYOUTS["vtool-json"].make(tmp_path).rename(tmp_path / "test_full.parquet")
    for name, family in (("chartqa_h_bar", "hbar"), ("chartqa_v_bar", "vbar")):
        found = strict(load_benchmark(name, tmp_path, any_size=True))
        assert [one.id for one in found] == [made.id for made in samples_of(family, 2)]


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown test set 'gqa'; use one of chartqa_h_bar, "):
        load_benchmark("gqa")
    with pytest.raises(ValueError, match=r"no hub set holds the 143 questions .* with charxiv-subfigures\.json"):
        load_benchmark("charxiv")
    LAYOUTS["own"].make(tmp_path)
    with pytest.raises(ValueError, match="has no file of VTabFact; name it tablevqa-vtabfact_wbb or vtabfact"):
        load_benchmark("vtabfact", tmp_path)


def real(count: int = 6) -> list[Sample]:
    return [sample for family in ("vbar", "vwtq") for sample in generate(family, count, seed=1, size=400)]


def changed(sample: Sample, name: str) -> Sample:
    image = sample.image.convert("RGB")
    if name == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=60)
        image = Image.open(buffer)
    elif name == "larger":
        image = image.resize((image.width * 5 // 4, image.height * 5 // 4), Image.Resampling.BICUBIC)
    elif name == "alpha":
        image.putalpha(255)
    return dataclasses.replace(sample, id=f"{sample.id}-copy", image=image)


def test_no_leak_between_other_pictures():
    train, test = real()[::2], real()[1::2]
    assert leaks(train, test) == []


@pytest.mark.parametrize(("name", "exact"), [("same", True), ("alpha", True), ("jpeg", False), ("larger", False)])
def test_copies_are_found(name: str, exact: bool):
    train = real(3)
    test = [changed(sample, name) for sample in train]
    found = leaks(iter(train), iter(test))
    assert [(leak.train, leak.test, leak.exact) for leak in found] == [
        (one.id, copy.id, exact) for one, copy in zip(train, test, strict=True)
    ]
    assert all(leak.same_question for leak in found)
    assert len(leaks(train, test, near=-1)) == (len(train) if exact else 0)


def test_another_question_about_the_same_picture_is_a_leak():
    one = real(1)[0]
    other = dataclasses.replace(one, id="other", question="Which is the last?")
    (leak,) = leaks([one], [other])
    assert (leak.exact, leak.same_question) == (True, False)
    (leak,) = leaks([one, dataclasses.replace(other, id="t")], [other])
    assert (leak.train, leak.same_question) == (one.id, True)


def test_transparent_is_white():
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert set(look(image)) == {255}


def test_report(tmp_path: Path):
    write_all(tmp_path)
    train = [*samples_of("vwtq", 1), *samples_of("vtabfact", 2)]
    found = report_leaks(iter(train), ["vwtq", "vtabfact", "chartqa_h_bar"], tmp_path)
    assert {name: [leak.train for leak in some if leak.exact] for name, some in found.items()} == {
        "vwtq": [train[0].id],
        "vtabfact": [train[1].id, train[2].id],
        "chartqa_h_bar": [],
    }
