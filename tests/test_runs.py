"""The run folder: what is written is what is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image
from processes import run as run_process

from iapo import runs
from iapo.estimates import Estimate
from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
from iapo.runs import METRICS, RunFolder, commit, data_hash, versions


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    return Image.frombytes("RGB", (8, 6), bytes((seed * 31 + i * 7) % 256 for i in range(8 * 6 * 3))).convert(mode)


def a_sample(name: str = "s", image: Image.Image | None = None) -> Sample:
    return Sample(name, image or picture(1), "Wie viel? 📊", ("3", "ü"), {"A": (0, 0, 4, 6)}, {"B": (0, 0, 8, 3)})


def edited(sample: Sample, image: Image.Image) -> Trace:
    call = ToolCall("focus_on_rows_with_draw", ("B",), "rows_bbox", "rows")
    return Trace.of(
        sample,
        "turn “1”\n",
        ToolResult("edited", (call,), image, span=(0, 4)),
        "FINAL ANSWER: 3 || ü. TERMINATE",
        {"outcome": Score(1.0, "3 || ü", "equals")},
        {"student": {"query": 1.0}},
        step=4,
    )


def test_metrics(tmp_path: Path):
    run = RunFolder(tmp_path / "deep" / "run")
    run.append_metrics({"loss": 0.5, "step": 1, "unknown": 3.0})
    run.append_metrics({"step": 2, "kl": None, "reward/total": -1})
    rows = run.read_metrics()
    assert [tuple(row) for row in rows] == [METRICS, METRICS]
    assert {key: value for key, value in rows[0].items() if value is not None} == {"step": 1, "loss": 0.5}
    assert {key: value for key, value in rows[1].items() if value is not None} == {"step": 2, "reward/total": -1}
    # One line a step, so that a run can be followed and survives being stopped.
    assert (tmp_path / "deep" / "run" / "metrics.jsonl").read_text().count("\n") == 2


def test_traces_with_pictures(tmp_path: Path):
    one = a_sample("one")
    traces = [
        edited(one, picture(2)),
        edited(one, picture(3)),
        Trace.of(a_sample("two", picture(1)), "no tool", ToolResult("no_call")),
    ]
    RunFolder(tmp_path).append_traces(traces[:2])
    RunFolder(tmp_path).append_traces(traces[2:])
    # Samples one and two have the same picture: one original, two edits.
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    assert "png" not in json.loads((tmp_path / "traces.jsonl").read_text().splitlines()[0])["sample"]["image"]
    again = RunFolder(tmp_path).read_traces()
    for written, read in zip(traces, again, strict=True):
        assert read.sample.image.tobytes() == written.sample.image.tobytes()
        assert (read.result.image is None) == (written.result.image is None)
        if written.result.image is not None:
            assert read.result.image.tobytes() == written.result.image.tobytes()
        pathless = [
            one.to_json("", [None if turn.result.image is None else "" for turn in one.turns])
            for one in (written, read)
        ]
        assert pathless[0] == pathless[1]


def test_held_out_rollouts_are_written_anew(tmp_path: Path):
    run = RunFolder(tmp_path)
    ends = [dataclasses.replace(edited(a_sample(), picture(seed)), step=step) for seed, step in ((2, 0), (3, 80))]
    run.write_held_out(ends)
    run.write_held_out(iter(ends))
    assert [(one.step, one.result.image.tobytes()) for one in run.read_held_out()] == [
        (0, picture(2).tobytes()),
        (80, picture(3).tobytes()),
    ]
    assert not (tmp_path / "traces.jsonl").exists()


def test_a_moved_folder_still_reads(tmp_path: Path):
    RunFolder(tmp_path / "a").append_traces([edited(a_sample(), picture(2))])
    (tmp_path / "a").rename(tmp_path / "b")
    (read,) = RunFolder(tmp_path / "b").read_traces()
    assert read.result.image.tobytes() == picture(2).tobytes()


def test_pictures_of_other_modes(tmp_path: Path):
    """A CMYK picture has no PNG; two palette pictures may differ in the palette alone."""
    palette = picture(4).quantize(4)
    recoloured = palette.copy()
    recoloured.putpalette([255 - value for value in palette.getpalette()])
    images = [picture(1, "CMYK"), palette, recoloured, picture(5, "RGBA"), picture(6, "L")]
    run = RunFolder(tmp_path)
    run.append_traces(Trace.of(a_sample(image=image), "", ToolResult("no_call")) for image in images)
    for image, read in zip(images, run.read_traces(), strict=True):
        assert read.sample.image.convert("RGB").tobytes() == image.convert("RGB").tobytes()


def test_manifest(tmp_path: Path):
    run = RunFolder(tmp_path)
    url = "http://me:secret@host/v1"
    run.write_manifest({"training": {"learning_rate": 1e-4, "judge_url": url}}, {"train": 3}, {"train": "abc"})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["format"], manifest["kind"]) == (1, "training")
    assert manifest["config"] == {"training": {"learning_rate": 1e-4, "judge_url": "http://host/v1"}}
    assert (manifest["seeds"], manifest["data"]) == ({"train": 3}, {"train": "abc"})
    assert manifest["versions"] == versions()
    assert manifest["commit"] == commit()
    assert not list(tmp_path.glob("*.part"))


def test_evaluation(tmp_path: Path):
    run = RunFolder(tmp_path)
    run.write_evaluation({"after": {"accuracy": {"value": 0.5, "low": None}}})
    run.write_evaluation({"after": {"accuracy": {"value": 0.6, "low": None}}})
    assert run.read_evaluation().after == {"accuracy": Estimate(0.6, None, None, 0)}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    run = RunFolder(tmp_path)
    run.write_evaluation({"samples": 1})
    with pytest.raises(TypeError):
        run.write_evaluation({"samples": object()})
    assert run.read_evaluation().samples == 1


def test_versions():
    found = versions()
    assert {"python", "torch", "transformers", "trl", "pillow"} <= found.keys()
    assert all(isinstance(value, str) for value in found.values())


def test_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = run_process(["git", *names, *words], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    file = tmp_path / "runs.py"
    file.write_text("1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(runs, "__file__", str(file))
    assert commit() is None
    git("init", "-q")
    git("add", "runs.py")
    git("commit", "-q", "--no-gpg-sign", "-m", "x")
    head = git("rev-parse", "HEAD")
    (tmp_path / "new").write_text("untracked files do not count")
    assert commit() == head
    file.write_text("2")
    assert commit() == head + "+changes"


def changed_pixel() -> Image.Image:
    image = picture(1)
    image.putpixel((7, 5), (0, 0, 0))
    return image


@pytest.mark.parametrize(
    "change",
    [
        {"image": changed_pixel()},
        {"image": picture(1).convert("RGBA")},
        {"image": Image.frombytes("RGB", (6, 8), picture(1).tobytes())},
        {"question": "Wie viele?"},
        {"answers": ("3",)},
        {"answers": ("ü", "3")},
        {"column_boxes": {"A": (0, 0, 4, 5)}},
        {"axis": "rows"},
        {"id": "t"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_data_hash_sees_every_change(change: dict[str, object]):
    sample = a_sample()
    others = [a_sample("u", picture(9))]
    before = data_hash([sample, *others])
    assert data_hash(iter([a_sample(), *others])) == before
    assert data_hash([dataclasses.replace(sample, **change), *others]) != before


def test_data_hash_sees_order_and_number():
    one, two = a_sample("one"), a_sample("two", picture(2))
    assert len({data_hash(samples) for samples in ([], [one], [one, two], [two, one], [one, one])}) == 5
    assert len(data_hash([])) == 64
