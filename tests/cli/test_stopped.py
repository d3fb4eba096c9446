"""What stops a verb from outside, signals and places that go away: one sentence, an exit code, nothing half written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from documented import DOCUMENTS
from processes import iapo_here
from processes import run as run_process
from report_runs import make_run, make_trace
from test_bounds import verbs
from typer.main import get_command

import iapo.tiny.command
import iapo.training.run
from iapo.cli.main import app
from iapo.data import sheet
from iapo.data.convert import make
from iapo.report import command
from iapo.stopping import stoppable, writes_to
from iapo.storage import whole_file


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", [make_trace(1)], steps=1)
    return tmp_path / "run"


def halfway(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Has something happen when half of a report is in its temporary file."""

    def write(files: Mapping[Path, bytes]) -> None:
        *_, (path, content) = files.items()
        with whole_file(path) as part:
            part.write_bytes(content[: len(content) // 2])
            what()

    monkeypatch.setattr(command, "write_all", write)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C"),
        (signal.SIGTERM, 75, "stopped by SIGTERM"),
        (signal.SIGHUP, 75, "stopped by SIGHUP"),
        (signal.SIGUSR1, 75, "stopped by SIGUSR1"),
    ],
)
@pytest.mark.usefixtures("heeded")
def test_a_signal_ends_with_a_sentence_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, said: str
) -> None:
    halfway(monkeypatch, lambda: os.kill(os.getpid(), number))
    done = iapo_here("report", run, "--out", tmp_path / "new" / "page.html")
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert done.stderr == f"iapo: {said}; nothing goes on from here: another start begins anew\n"
    # Nor is a folder left in which nothing came to be.
    assert not (tmp_path / "new").exists()


NOT_BEGUN = "it had not begun yet"
ANEW = "nothing was saved yet that the same command could go on from; it begins anew"
GOES_ON = "what is saved stays, and the same command goes on from it"


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_what_goes_on_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    """Where something is saved, and only there."""
    code = 130 if number == signal.SIGINT else 75
    monkeypatch.setattr(iapo.tiny.command, "build_models", lambda *_, **__: os.kill(os.getpid(), number))
    done = iapo_here("tiny", "build", "--out", tmp_path / "built")
    assert (done.returncode, done.stderr) == (code, f"iapo: stopped by {said}; {NOT_BEGUN}\n")
    monkeypatch.setattr(iapo.training.run, "_run", lambda *_, **__: os.kill(os.getpid(), number))
    train = ("train", "--config", "demo-iapo", "--output_dir", tmp_path / "run")
    done = iapo_here(*train)
    assert (done.returncode, done.stderr) == (code, f"iapo: stopped by {said}; {ANEW}\n")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "checkpoint-1").mkdir(parents=True)
    for name in ("trainer_state.json", "rng_state.pth"):
        (tmp_path / "run" / "checkpoint-1" / name).write_text("{}")
    done = iapo_here(*train)
    assert (done.returncode, done.stderr) == (code, f"iapo: stopped by {said}; {GOES_ON}\n")


@pytest.mark.parametrize(
    ("place", "files", "ending"),
    [
        ("run", ["run/manifest.json", "run/prompt.yaml", "run/run.lock", "run/pictures/a.png"], ANEW),
        # A training begins anew without a checkpoint, whatever it has logged.
        ("run", ["run/manifest.json", "run/traces.jsonl", "run/metrics.jsonl"], ANEW),
        ("run", ["run/manifest.json", "run/traces.jsonl"], GOES_ON),
        ("full", ["full/comparison.json", "full/iapo/seed-0/log.txt"], ANEW),
        (
            "full",
            [f"full/iapo/seed-0/checkpoint-5/{name}" for name in ("trainer_state.json", "rng_state_0.pth")],
            GOES_ON,
        ),
        # Weights alone, half of one, and a policy that is not marked as the last.
        (
            "run",
            ["run/metrics.jsonl", "run/checkpoint-5/model.safetensors", "run/checkpoint-5/trainer_state.json"],
            ANEW,
        ),
        (
            "run",
            [
                "run/metrics.jsonl",
                *(
                    f"run/checkpoint-5/{name}"
                    for name in ("trainer_state.json", "rng_state.pth", "checkpoint-is-incomplete.txt")
                ),
            ],
            ANEW,
        ),
        ("run", ["run/metrics.jsonl", "run/checkpoint-5/model.safetensors", "run/checkpoint-5/optimizer.pt"], ANEW),
        ("run", ["run/metrics.jsonl", "run/policy/model.safetensors"], ANEW),
        ("run", ["run/metrics.jsonl", "run/policy/model.safetensors", "run/trained.json"], GOES_ON),
        ("teacher.parquet", ["other.begun.jsonl", ".teacher.parquet.lock"], ANEW),
        ("teacher.parquet", ["teacher.parquet.begun.jsonl"], GOES_ON),
        ("tiny-student", ["tiny-teacher-sight/state.pt"], ANEW),
        ("tiny-student", ["tiny-student-sight/state.pt"], GOES_ON),
    ],
)
def test_what_is_there_to_go_on_from(tmp_path: Path, place: str, files: list[str], ending: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with stoppable() as stop:
        assert stop.ending == NOT_BEGUN
        writes_to(tmp_path / place)
        assert stop.ending == ending


def test_what_goes_on_is_what_the_document_has() -> None:
    table = DOCUMENTS["docs/resuming.md"].read_text().partition("\n\n**")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`iapo ([a-z ]+?)(?: --\w+)?`", row)}
    assert documented == {name for name, verb in verbs(get_command(app)) if getattr(verb, "goes_on", False)}


def test_ctrl_c_while_modules_are_imported_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    code = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"sys.path.insert(0, {str(tmp_path)!r})\nfrom iapo.__main__ import start\nstart()"
    done = run_process([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (130, "iapo: stopped by Ctrl-C before it began\n")
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(9)\n")
    done = run_process([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (75, "iapo: stopped by SIGTERM before it began\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["import", "__del__", "weakref"])
def test_a_signal_where_it_would_be_lost_comes_again(tmp_path: Path, number: int, place: str) -> None:
    """An import is whole then, and what deletes an object is done."""
    kill = f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(0.2)\nprint('whole', flush=True)\n"
    (tmp_path / "library.py").write_text(kill)
    code = f"import signal, sys, time, weakref\nsys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from iapo.stopping import Stopped, interrupt, stoppable\nsignal.signal(signal.SIGINT, interrupt)\n"
    code += f"def one(*_):\n    exec({kill!r})\nclass Thing:\n    pass\n"
    code += {
        "import": "def go():\n    import library\n",
        "__del__": "class Thing:\n    def __del__(self):\n        one()\ndef go():\n    Thing()\n",
        "weakref": "def go():\n    thing = Thing()\n    weakref.finalize(thing, one)\n    del thing\n",
    }[place]
    code += "try:\n    with stoppable():\n        go()\n        time.sleep(20)\n        print('went on')\n"
    code += "except KeyboardInterrupt:\n    sys.exit(130)\n"
    done = run_process([sys.executable, "-c", code])
    assert (done.returncode, done.stdout) == (130 if number == signal.SIGINT else 75, "whole\n")
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_while_the_interpreter_ends_changes_nothing(number: int) -> None:
    code = "import atexit, os, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    # Whenever in the end: before and after the interpreter has taken back its handlers of signals.
    code += "class Late:\n    def __del__(self, kill=os.kill, pid=os.getpid()):\n"
    code += f"        kill(pid, {int(number)})\n"
    code += "from iapo.__main__ import start\nsys.argv = ['iapo', '--version']\nsys.late = Late()\n"
    for line in (f"atexit.register(os.kill, os.getpid(), {int(number)})\n", ""):
        done = run_process([sys.executable, "-c", f"{code}{line}start()"])
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("iapo ")


@pytest.mark.usefixtures("heeded")
def test_of_several_processes_the_first_says_so(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    halfway(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
    done = iapo_here("report", run, "--out", tmp_path / "page.html")
    assert (done.returncode, done.stderr) == (75, "")


@pytest.mark.usefixtures("heeded")
def test_what_is_told_to_outlive_its_terminal_does(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    halfway(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert iapo_here("report", run, "--out", tmp_path / "page.html").returncode == 0


def test_a_full_disk_is_said_with_the_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    halfway(monkeypatch, full)
    done = iapo_here("report", run, "--out", tmp_path / "page.html")
    assert done.returncode == 74
    assert done.stderr.startswith(f"iapo: {tmp_path / 'page.html'} could not be written: No space left on device")
    assert not (tmp_path / "page.html").exists()
    done = iapo_here("report", run, "--out", tmp_path / "a" / "b" / "page.html")
    assert done.returncode == 74
    assert not (tmp_path / "a").exists()
    done = iapo_here("report", run, "--out", tmp_path / "page.html", "--pictures", "folder")
    assert (done.returncode, sorted(path.name for path in tmp_path.iterdir())) == (74, ["run"])


def test_a_folder_that_goes_away_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("vbar", 1, tmp_path / "rows.parquet")
    out = tmp_path / "sheet"

    def taken(files: Mapping[Path, bytes]) -> None:
        shutil.rmtree(out)
        for path, content in files.items():
            path.write_bytes(content)

    monkeypatch.setattr(sheet, "write_all", taken)
    done = iapo_here("data", "show", tmp_path / "rows.parquet", "--out", out)
    assert done.returncode == 74
    assert done.stderr == f"iapo: {out} was taken away while it was written to; start the same command again\n"


def test_a_current_folder_that_is_gone_is_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    done = iapo_here("report", run, "--out", "page.html")
    assert done.returncode == 74
    assert done.stderr.startswith("iapo: the current folder is gone")


def test_pipes_and_links_to_nothing_are_refused(run: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    below = tmp_path / "nowhere" / "page.html"
    for words, said in (
        (("report", run, "--out", tmp_path / "pipe"), "is a pipe or a device"),
        (("report", run, "--out", below), f"{below} lies below {tmp_path / 'nowhere'}, a link to nothing"),
        (("data", "check", tmp_path / "pipe"), "is a pipe or a device"),
        (("plan", "--config", tmp_path / "pipe"), "is a pipe or a device"),
    ):
        done = iapo_here(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
    (run / "manifest.json").unlink()
    os.mkfifo(run / "manifest.json")
    assert "it is a pipe or a device" in iapo_here("report", run, "--out", tmp_path / "page.html").stderr
