"""`iapo new`: what it writes is whole, refuses to overwrite, and runs at once."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from processes import run as run_process

from iapo.cli.main import main
from iapo.cli.scaffold import KINDS
from iapo.data.sources import SourceSettings, read_source
from iapo.rewards.presets import find_reward
from iapo.tools import offered_tools
from iapo.training.settings import parse

NAMES = {"tool": "my_tool", "reward": "few_calls", "data": "my_data"}


def run(line: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    assert end.value.code == 0, line


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    csv.field_size_limit(131_072)
    for kind in KINDS:
        name = NAMES[kind]
        run(f"new {kind} {name} --out parts")
        out = capsys.readouterr().out.splitlines()
        files = [Path(line) for line in out[: out.index("")]]
        assert all(one.is_file() for one in files)
        assert len(Path(f"parts/{name}.yaml").read_text().splitlines()) == 3
        assert f"pytest parts/test_{name}.py" in "\n".join(out)
        # Its lines are settings of a training.
        assert parse(f"demo-grpo,parts/{name}.yaml")[1].output_dir == f"runs/{name}"
    assert list(offered_tools("parts/my_tool.py")) == ["my_tool"]
    assert find_reward("parts/few_calls.py:few_calls")
    rows = read_source("parts/my_data.py:my_data@parts/my_data-data/rows.csv", SourceSettings(count=0, split="test"))
    assert [one.answers for one in rows] == [("3",), ("B",)]
    # A cell may be longer than the csv module takes unasked.
    table = Path("parts/my_data-data/rows.csv")
    table.write_text(table.read_text().replace("How many bars", "How many bars" + "?" * 200_000))
    rows = read_source(f"parts/my_data.py:my_data@{table}", SourceSettings(count=0, split="test"))
    assert [one.answers for one in rows] == [("3",), ("B",)]


def test_a_damaged_row_of_the_data_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table as a spreadsheet writes it, with rows that cannot be used, is read to its end."""
    monkeypatch.chdir(tmp_path)
    run("new data mine")
    table = Path("mine-data/rows.csv")
    bad = "test,gone.png,Which?,A,{}\ntest,chart.png,Which?,A,not JSON\ntest,chart.png,Which?\n"
    table.write_text("\ufeff" + table.read_text() + bad)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(table), "--format", "mine.py:mine"])
    assert end.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("rows.csv, row ")]
    assert [line.partition(":")[0] for line in lines] == ["rows.csv, row 5", "rows.csv, row 6", "rows.csv, row 7"]
    assert "there is no picture 'gone.png'" in lines[0]
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(table), "--format", "mine.py:nothing"])
    assert end.value.code == 2
    assert "no format 'nothing' in mine.py; use one of mine\n" in capsys.readouterr().err


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test_mine.py").write_text("mine")
    for kind in KINDS:
        with pytest.raises(SystemExit) as end:
            main(["new", kind, "mine"])
        assert end.value.code == 2
        assert "test_mine.py already exists; choose another name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
    assert Path("test_mine.py").read_text() == "mine"


@pytest.mark.slow(30)
def test_it_runs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The tests that were written pass, and commands that are printed run."""
    monkeypatch.chdir(tmp_path)
    commands: dict[str, list[str]] = {}
    place = "-own pä'rts"
    for kind in KINDS:
        run(f"new {kind} {NAMES[kind]} --out={shlex.quote(place)}")
        lines = capsys.readouterr().out.splitlines()
        commands[kind] = [line.strip() for line in lines if line.startswith("  iapo ")]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = run_process([sys.executable, *words], timeout=200, fork=True)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
    (tool, _), (reward,), (data, _) = commands.values()
    reward = re.sub("--eval_samples [0-9]+", "--eval_samples 2", reward)
    for line in (tool, data, f"{reward} --train_samples 8 --per_device_train_batch_size 8"):
        run(f"{line.removeprefix('iapo ')} --quiet")
    assert json.loads(Path("runs/my_data-start/evaluation.json").read_text())["sets"]
    row = json.loads(Path("runs/few_calls/metrics.jsonl").read_text().splitlines()[0])
    assert "reward/few_calls" in row


@pytest.mark.parametrize("out", ["a,b", "a@b", "a\nb", "a\x1bb"])
def test_folders_that_no_setting_can_name(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["new", "tool", "mine", "--out", str(tmp_path / out)])
    assert end.value.code == 2
    assert "choose a folder without" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
