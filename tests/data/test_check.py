"""`check`: every problem in a line of its own, and the counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from own import DAMAGED, HOSTILE, MIXED, row, write

from iapo.cli.main import main
from iapo.data.check import check, kind_of
from iapo.data.choosing import expected_rows
from iapo.data.convert import make
from iapo.display.terminal import plain, progress


def test_each_problem_has_its_row_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write(tmp_path, MIXED)
    (counts,) = check(str(path)).values()
    assert (counts.format, counts.samples, counts.damaged) == ("own", 3, 4)
    assert counts.kinds == {"chart": 2, "table": 1}
    assert counts.axes == {"columns": 1, "either": 2}
    assert counts.boxless == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("own.jsonl, row ")]
    assert len(lines) == len(DAMAGED)
    for line, (number, reason) in zip(lines, DAMAGED.items(), strict=True):
        assert line.startswith(f"own.jsonl, row {number}")
        assert reason in line


def test_every_split_of_a_folder_is_read(tmp_path: Path):
    make("vbar", 2, tmp_path / "train.parquet")
    make("hbar", 3, tmp_path / "test.parquet", split="test")
    found = check(str(tmp_path))
    assert {split: counts.samples for split, counts in found.items()} == {"test": 3, "train": 2}
    assert found["test"].axes == {"rows": 3}
    assert list(check(str(tmp_path), split="train")) == ["train"]


def test_judges_are_counted_and_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = write(tmp_path, [row("one", judge="mine"), row("two", judge="mine"), row("three")])
    assert check(str(data))["all"].judges == {"mine": 2}
    assert "2 of 3 samples name the judge 'mine'" in capsys.readouterr().out
    tools = tmp_path / "judging.py"
    text = "from iapo import define\nfrom iapo.tools import add_judge\n@define\ndef twice(number: int) -> int:\n"
    tools.write_text(
        text + '    """Doubles a number."""\n    return 2 * number\nadd_judge("other", lambda sample, call: None)\n'
    )
    for judge, code in (("mine", 2), ("other", 0)):
        write(tmp_path, [row("one", judge=judge)])
        with pytest.raises(SystemExit) as ended:
            main(["data", "check", str(data), "--tools", str(tools)])
        assert ended.value.code == code
        assert ("no judge 'mine', which samples name" in capsys.readouterr().err) == bool(code)


def test_several_images_and_judges_are_said_of_their_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, [row("one", judge="mine", image=None, images=["bars.png", "bars.png"]), row("two")])
    (tmp_path / "own.jsonl").rename(tmp_path / "train.jsonl")
    check(str(tmp_path))
    printed = capsys.readouterr().out
    assert "1 of 2 samples have several images" in printed
    assert "1 of 2 samples name the judge 'mine'" in printed
    (tmp_path / "test.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    check(str(tmp_path))
    printed = capsys.readouterr().out
    for split in ("train", "test"):
        assert f"1 of 2 samples of the split {split} have several images" in printed
        assert f"1 of 2 samples of the split {split} name the judge 'mine'" in printed


def test_text_from_data_does_nothing_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, [row("fine"), row("bad\x1b[2J", kind="[red]\x1b[31m")])
    check(str(tmp_path))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[red]" in printed


def test_plain_text():
    assert plain("a\x1b[2J\r\n\tb\ud800\u202ec") == "a [2J b? c"
    assert plain("abcdefgh", 6) == "abc..."
    assert plain("abcdef", 6) == "abcdef"
    assert plain(HOSTILE) == HOSTILE


def test_progress_yields_everything():
    assert list(progress(iter("abc"), "spelling")) == ["a", "b", "c"]


def test_expected_rows(tmp_path: Path):
    make("vbar", 2, tmp_path / "vbar.parquet")
    assert expected_rows(str(tmp_path), None) == 2
    assert expected_rows("some/where", None) is None
    (tmp_path / "vbar.parquet").write_bytes(b"no parquet")
    assert expected_rows(str(tmp_path), None) is None
    assert expected_rows(str(write(tmp_path / "own", MIXED)), None) is None


@pytest.mark.parametrize("unit", ["\\'", '\\"', "'", "("])
def test_the_kind_of_a_long_reason_is_told_by_its_beginning(unit: str) -> None:
    kinds = {kind_of(f"the name {number} is odd: {unit * 2**20}") for number in range(3)}
    assert len(kinds) == 1
    assert kinds.pop().startswith("the name # is odd")
