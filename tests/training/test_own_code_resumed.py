"""A training goes on with the own code that it was begun with alone: tools, reward, reader of data."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_resume import TINY, trained

from iapo.errors import InputError
from iapo.runs import run_id
from iapo.training.checkpoints import last_whole
from iapo.training.contents import CONTENTS
from iapo.training.resume import check_begun

TOOL = '''"""A tool."""

from PIL import Image


def sharpen(image: Image.Image, times: int = 1) -> Image.Image:
    """Sharpens the image."""
    return image
'''
REWARD = "def short(trace):\n    return float(len(trace.turn_1) < 200)\n"
READER = '''"""Synthetic images under another name."""

from iapo.data.sources import SourceSettings, read_source


def charts(path, split):
    yield from read_source("vbar", SourceSettings(count=int(path.read_text()), split=split))
'''


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run with own code that was stopped after its first step, and its settings."""
    folder, rows = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("rows") / "rows.txt"
    rows.write_text("16")
    for name, text in (("tool", TOOL), ("reward", REWARD), ("reader", READER)):
        (folder / f"{name}.py").write_text(text)
    given = {
        "tools": f"standard,{folder / 'tool.py'}",
        "reward": f"{folder / 'reward.py'}:short",
        "data": f"{folder / 'reader.py'}:charts@{rows}",
        "max_steps": 2,
        "teacher": "none",
        "penalty_weight": 0,
        "threads": 1,
    }
    given = {**{key: value for key, value in TINY.items() if key != "train_samples"}, **given}
    out = trained(folder / "run", **given)
    (out / "finished.json").unlink()
    for name in ("policy", "checkpoint-2"):
        shutil.rmtree(out / name)
    return out, given


def copied(stopped: tuple[Path, dict[str, Any]], folder: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of the run, with its own code beside it; the paths are others, the contents the same."""
    out, given = stopped
    shutil.copytree(out, folder / "run")
    for file in out.parent.glob("*.py"):
        shutil.copy(file, folder / file.name)
    moved = {name: value.replace(str(out.parent), str(folder)) for name, value in given.items() if type(value) is str}
    return folder / "run", {**given, **moved}


@pytest.mark.slow(4)
@pytest.mark.parametrize("name", ["tool", "reward", "reader"])
def test_other_code_is_refused(stopped: tuple[Path, dict[str, Any]], name: str) -> None:
    out, given = stopped
    file = out.parent / f"{name}.py"
    before = file.read_text()
    try:
        # A docstring is a part of the prompt; here it is not even the text that differs.
        file.write_text(f"{before}\n# Otherwise.\n")
        setting = {"tool": "tools", "reader": "data"}.get(name, name)
        with pytest.raises(InputError, match=rf"was begun with other contents of {file} \({setting}\); a run goes on"):
            trained(out, **given)
        with pytest.raises(InputError, match=f"other contents of {file}"):
            trained(out.parent / "other", **given, resume_from_checkpoint=str(out / "checkpoint-1"))
        # What `IAPOTrainer` asks, also from Python, where no command looks first.
        if name == "reward":
            with pytest.raises(InputError, match=f"other contents of {file}"):
                check_begun(out, {"training": {"reward": given["reward"]}}, {})
    finally:
        file.write_text(before)


@pytest.mark.slow(4)
def test_code_that_moved_is_the_same(
    stopped: tuple[Path, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, given = copied(stopped, tmp_path)
    run = run_id(out)
    assert run is not None
    trained(out, **{**given, "max_steps": 3}, resume_from_checkpoint="true")
    # The manifest of a longer run is another one, with the new places.
    assert str(tmp_path) in (out / "manifest.json").read_text()
    assert run_id(out) == run
    assert "goes on from step 1" in caplog.text
    assert last_whole(out) == (out / "checkpoint-3", 3)
    assert "passed over" not in caplog.text


@pytest.mark.slow(2)
def test_a_run_of_an_earlier_version_goes_on(
    stopped: tuple[Path, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its manifest has no digests, nor what tells it from other runs; neither have its checkpoints."""
    out, given = copied(stopped, tmp_path)
    given = {name: stopped[1][name] if name != "tools" else value for name, value in given.items()}
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["config"].pop("code")) == {"tools", "reward", "data"}
    manifest["config"]["run"]["tools"] = given["tools"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    del manifest["id"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    contents = json.loads((out / "checkpoint-1" / CONTENTS).read_text())
    del contents["run"]
    (out / "checkpoint-1" / CONTENTS).write_text(json.dumps(contents))
    (tmp_path / "tool.py").write_text(TOOL.replace("Sharpens", "Blurs"))
    with caplog.at_level(logging.WARNING):
        trained(out, **{**given, "max_steps": 3}, resume_from_checkpoint="true")
    assert "goes on from step 1" in caplog.text
    assert last_whole(out) == (out / "checkpoint-3", 3)
    assert run_id(out) == json.loads((out / "checkpoint-3" / CONTENTS).read_text())["run"] is not None
