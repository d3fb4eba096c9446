"""What all verbs share: help, version, completion, quiet, JSON, and how errors end."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from agent.asked import boxes_of, charts
from processes import run as run_process

from iapo.cli.base import Verb
from iapo.cli.main import Root, _report, app, main
from iapo.endpoints.chat import EndpointError
from iapo.experiments.processes import JobError
from iapo.tools import TOOLS
from iapo.training.settings import parse

COMMANDS: dict[str, Any] = {}
for _name, _command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
    if hasattr(_command, "commands"):
        COMMANDS |= {f"{_name} {name}": command for name, command in _command.commands.items()}
    else:
        COMMANDS[_name] = _command


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(words)
    return (end.value.code, *capsys.readouterr())  # type: ignore[return-value]


def process(*words: str, code: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    program = ["-m", "iapo"] if code is None else ["-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *program, *words]
    return run_process(command, env=environment)


def test_each_verb_is_a_verb() -> None:
    """Quiet, and with underscores as hyphens; `--json` where a table is printed."""
    assert set(Root.verbs) == {name.split()[0] for name in COMMANDS}
    without_table = {"train", "sft", "serve", "tiny stand-in", "data show", "data make", "new"}
    for name, command in COMMANDS.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert isinstance(command, Verb), name
        assert "--quiet" in options, name
        assert ("--json" in options) == (name not in without_table), name
        assert not [option for option in options if "_" in option], name


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_plain_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *name.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(['iapo', *name.split()])} ")
    assert out.isascii()


def test_a_group_alone_says_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert [line.split()[0] for line in out[out.index("Commands:") :].splitlines()[1:]] == list(Root.verbs)
    assert "ablate" in run(capsys, "study")[1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"iapo {importlib.metadata.version('iapo')}\n", "")


def test_completion() -> None:
    """The shell that asks is told by its process; its question is answered."""
    done = run_process(["bash", "-c", f"{sys.executable} -m iapo --show-completion; true"])
    assert "_IAPO_COMPLETE=complete_bash" in done.stdout
    asked = process(_IAPO_COMPLETE="complete_bash", COMP_WORDS="iapo study ", COMP_CWORD="2")
    assert asked.stdout.split() == ["misuse", "curves", "ablate", "forms", "faithfulness"]


@pytest.mark.parametrize(
    "line",
    [
        "data make vbar 2 out.parquet --quiet",
        pytest.param(
            "tiny evaluate --models tiny-student --families vbar --samples 2 --quiet", marks=pytest.mark.slow(3)
        ),
        pytest.param(
            "train --config demo-iapo --max_steps=1 --eval_samples=2 --train_samples=8 --quiet --output-dir=run "
            "--per-device-train-batch-size=8 --case_study_steps=0",
            marks=pytest.mark.slow(3),
        ),
    ],
)
def test_quiet_prints_nothing(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capfd, *line.split()) == (0, "", "")


def test_json_holds_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "data", "make", "vbar", "2", "out.parquet")[0] == 0
    assert run(capsys, "data", "check", "out.parquet", "--json", "deep/check.json")[0] == 0
    assert json.loads(Path("deep/check.json").read_text())["all"]["samples"] == 2
    words = ["--model", "tiny-student", "--sets", "vbar", "--samples", "2", "--out", "e", "--json", "e.json"]
    code, out, _ = run(capsys, "evaluate", *words)
    assert code == 0
    assert "tiny-student" in out
    found = json.loads(Path("e.json").read_text())
    assert found == json.loads(Path("e/evaluation.json").read_text())
    assert not list(tmp_path.rglob("*.part"))


def test_numbers_go_to_the_standard_output_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "data", "make", "vbar", "2", "rows.parquet")[0] == 0
    code, out, err = run(capsys, "data", "check", "rows.parquet", "--json", "-")
    assert code == 0
    assert json.loads(out)
    assert "rows.parquet" in err
    code, quiet, err = run(capsys, "data", "check", "rows.parquet", "--json=-", "--quiet")
    assert (code, quiet, err) == (0, out, "")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


NOISY = '''
print("the file is read")
import os
import sys
from subprocess import run

from iapo import define


def noisy(image, names, boxes):
    """Shade the named parts."""
    print("called")
    os.write(1, b"aloud\\n")
    run([sys.executable, "-c", "print('by another')"], check=True)
    return image.convert("L").convert("RGB")
'''


@pytest.mark.slow(1)
@pytest.mark.parametrize("limit", [[], ["--tool-timeout", "60"]])
def test_what_tools_print_is_not_among_the_numbers(tmp_path: Path, limit: list[str]) -> None:
    """In a process of its own, whose descriptors are what the shell gave it."""
    text = NOISY
    for name, tool in TOOLS.items():
        parameters = ", ".join([*inspect.signature(tool.function).parameters][:3])
        text += f"\ndef {name}({parameters}):\n    {tool.function.__doc__!r}\n    return noisy({parameters})\n"
        text += f"{name} = define({name}, axis={tool.axis!r}, style={tool.style!r})\n"
    (tmp_path / "noisy.py").write_text(text)
    sample = charts(1)[1]
    sample.image.save(tmp_path / "chart.png")
    (tmp_path / "boxes.json").write_text(json.dumps(boxes_of(sample)))
    words = ["ask", "chart.png", sample.question, "--model", "tiny-student", "--boxes", "boxes.json"]
    words += ["--tools", "noisy.py", "--json", "-", *limit]
    done = run_process([sys.executable, "-m", "iapo", *words], cwd=tmp_path, fork=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "edited", done.stderr
    for line in ("the file is read", "called", "aloud", "by another", "program   "):
        assert line in done.stderr


def test_a_home_folder_that_the_shell_left_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(capsys, "data", "make", "vbar", "2", "~/rows.parquet")[0] == 0
    assert run(capsys, "data", "check", "~/rows.parquet", "--json=~/check.json")[0] == 0
    assert (tmp_path / "home" / "check.json").exists()
    (tmp_path / "home" / "mine.yaml").write_text("base: demo-iapo\noutput_dir: ~/run\ndata: ~/rows.parquet\n")
    arguments, training = parse(str(tmp_path / "home" / "mine.yaml"), {})
    assert (training.output_dir, arguments.data) == (str(tmp_path / "home/run"), str(tmp_path / "home/rows.parquet"))
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(("error", "code"), [(EndpointError("no answer"), 3), (JobError("the run failed"), 1)])
def test_failures_have_their_codes(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from iapo.experiments import demo

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(demo, "run_demo", fail)
    assert run(capsys, "demo") == (code, "", f"iapo: {error}\n")
    # Errors are printed in quiet, too.
    assert run(capsys, "demo", "--quiet") == (code, "", f"iapo: {error}\n")


@pytest.mark.parametrize(
    ("text", "together", "sentence"),
    [
        ("[gloo/transport/tcp/pair.cc:547] Connection closed by peer", True, "the other processes of this run"),
        ("[gloo/transport/tcp/pair.cc:547] Connection closed by peer", False, "this is a bug of iapo"),
        ("Distributed package doesn't have NCCL built in", True, "this is a bug of iapo"),
        ("NCCL error: CUDA out of memory", True, "this is a bug of iapo"),
    ],
)
def test_a_process_that_is_left_alone_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, together: bool, sentence: str
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: together)
    _report(RuntimeError, RuntimeError(text), None)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"iapo: {sentence}")


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        ("zip([1], [], strict=True).__next__()", "this is a bug of iapo, not of the input"),
        ("open('gone')", "this is no fault of the input, but of a file"),
        ("bytearray(1 << 62)", "memory ran out; this is no bug of iapo"),
        ("__import__('torch').empty(1 << 58)", "memory ran out; this is no bug of iapo"),
    ],
)
def test_the_unexpected_keeps_its_traceback(raised: str, sentence: str, tmp_path: Path) -> None:
    """A `ValueError` from deep inside is no refused input. A folder is named where there is one."""
    there = not raised.startswith("open")
    if there:
        (tmp_path / "runs").mkdir()
    code = (
        "import iapo.experiments.demo as demo\n"
        f"def run(*_, **__): {raised}\n"
        "demo.run_demo = run\nfrom iapo.cli.main import main\nmain()\n"
    )
    done = process("demo", "--out", str(tmp_path / "runs"), "--quiet", code=code)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"iapo: {sentence}")
    assert last.endswith(f"; the run folder is {tmp_path / 'runs'}") == there
