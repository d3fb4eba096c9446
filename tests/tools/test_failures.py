"""Tools that fail by their own fault: in this process, in one of their own, and in every call of a step."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from processes import started as start_process
from processes import wait_for

from iapo.errors import InputError
from iapo.records import Sample, ToolResult
from iapo.stopping import Stopped
from iapo.tools import define, execute, offered_tools
from iapo.tools.failing import Failing

FILE = '''
import os
import sys
import time
from subprocess import Popen, run

from PIL import Image

from iapo import Observation, ToolError, define




class MuteError(Exception):
    def __str__(self):
        raise RuntimeError


@define
def act(how: str, image: Image.Image | None = None):
    """Do what is said."""
    if how == "raise":
        raise RuntimeError("no luck\\nat all <|im_end|>")
    if how == "recurse":
        return act.function(how)
    if how == "unfit":
        raise ToolError("I would rather not")
    if how == "memory":
        raise MemoryError
    if how == "none":
        return None
    if how == "dict":
        return {}
    if how == "nan":
        return float("nan")
    if how == "narrow":
        return Image.new("RGB", (900, 2))
    if how == "empty":
        return Image.new("RGB", (0, 5))
    if how == "huge":
        return Image.new("1", (20000, 20000))
    if how == "three":
        return ("a", "b", "c")
    if how == "hang":
        time.sleep(60)
    if how == "exit":
        sys.exit(0)
    if how == "mute":
        raise MuteError
    if how == "half":
        raise ValueError("bad \\ud800")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "die":
        os._exit(3)
    if how == "pid":
        return os.getpid()
    if how == "print":
        print("said")
        os.write(1, b"aloud\\n")
        run([sys.executable, "-c", "print('by another')"])
    if how.startswith("children"):
        child = Popen(["sleep", "300"])
        with open(how.split()[1], "w") as file:
            print(os.getpid(), child.pid, file=file)
        sum(range(10**13))
    if how == "draw":
        image.paste((255, 0, 0), (0, 0, *image.size))
        return "drawn"
    return Observation(image, how * 2000)


@define
def wrong(how: str) -> str:
    """Say a number."""
    return 3


@define
def edit(how: str) -> Image.Image:
    """Say a text."""
    return how
'''

SAMPLE = Sample("s", Image.new("RGB", (30, 20), "white"), "?", ("1",), column_boxes={"a": (0, 0, 9, 9)})


@pytest.fixture
def setting(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(FILE)
    return str(tmp_path / "mine.py")


def call(text: str, setting: str, timeout: float | None = None) -> ToolResult:
    return execute(f"```python\ndisplay({text})\n```", SAMPLE, offered_tools(setting, timeout))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('act("raise")', "the tool act failed: RuntimeError: no luck at all"),
        ('act("recurse")', "the tool act failed: RecursionError"),
        ('act("memory")', "the tool act failed: MemoryError"),
        ('act("none")', "it returned an object of type NoneType; return an image, a text or a number"),
        ('act("dict")', "it returned an object of type dict"),
        ('act("three")', "it returned an object of type tuple"),
        ('act("nan")', "it returned nan, which is no number"),
        ('act("narrow")', "it returned an image of 900 x 2 pixels, which is too narrow to be seen"),
        ('act("empty")', "it returned an image of 0 x 5 pixels"),
        ('act("huge")', "it returned an image of 20000 x 20000 pixels; return at most"),
        ('wrong("x")', "it returned number (an object of type int), not text"),
        ('edit("x")', "it returned text (an object of type str), not image"),
    ],
)
def test_a_failure_is_data(setting: str, text: str, reason: str) -> None:
    result = call(text, setting)
    assert (result.status, result.broken, result.calls) == ("failed", text.partition("(")[0], ())
    assert reason in (result.error or "")
    assert "\n" not in (result.error or "")
    assert ToolResult.from_json(result.to_json()) == result


def test_what_a_tool_refuses_is_the_programs_fault(setting: str) -> None:
    result = call('act("unfit")', setting)
    assert (result.status, result.broken) == ("failed", "")
    assert result.error == "line 1, act: I would rather not"


def test_long_texts_are_cut(setting: str) -> None:
    result = call('act("ab")', setting)
    assert result.text is not None
    assert len(result.text) <= 1000
    assert call('act("x")', setting).text == "x" * 1000


def test_a_tool_gets_a_copy_of_the_image(setting: str) -> None:
    before = SAMPLE.image.tobytes()
    assert call('act("draw", image_1)', setting).text == "drawn"
    assert SAMPLE.image.tobytes() == before


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no word")


def test_interrupts_are_not_caught() -> None:
    def stop(how: str) -> str:
        """Stop."""
        raise {
            "key": KeyboardInterrupt(),
            "signal": Stopped("stopped"),
            "exit": SystemExit(3),
            "left": GeneratorExit(),
            "cancelled": asyncio.CancelledError(),
            "mute": MuteError(),
            "half": ValueError("bad \ud800 <x>"),
        }[how]

    tools = {"stop": define(stop)}
    with pytest.raises(KeyboardInterrupt):
        execute('```python\ndisplay(stop("key"))\n```', SAMPLE, tools)
    with pytest.raises(Stopped):
        execute('```python\ndisplay(stop("signal"))\n```', SAMPLE, tools)
    # Its own end of the process is what it raised, as all else.
    for how, error in (
        ("exit", "SystemExit: 3"),
        ("left", "GeneratorExit: "),
        ("cancelled", "CancelledError: "),
        ("mute", "MuteError: (it has no text)"),
        ("half", "ValueError: bad ? <x>"),
    ):
        found = execute(f'```python\ndisplay(stop("{how}"))\n```', SAMPLE, tools)
        assert (found.status, found.error) == ("failed", f"line 1, stop: the tool stop failed: {error}".rstrip())


def test_calls_in_a_process_of_their_own(setting: str) -> None:
    first = call('act("pid")', setting, 20)
    assert first.status == "edited", first.error
    assert int(first.text or 0) != os.getpid()
    assert call('act("pid")', setting, 20).text == first.text
    start = time.monotonic()
    hung = call('act("hang")', setting, 0.5)
    assert time.monotonic() - start < 30
    assert (hung.status, hung.broken) == ("failed", "act")
    assert "the tool act failed: it took longer than 0.5 s" in (hung.error or "")
    # The hung process is gone, and another one serves.
    with pytest.raises(ProcessLookupError):
        os.kill(int(first.text or 0), 0)
    assert call('act("pid")', setting, 20).text != first.text
    died = call('act("die")', setting, 20)
    assert "its process ended with code 3" in (died.error or "")
    for text, reason in (
        ('act("raise")', "RuntimeError: no luck"),
        ('act("unfit")', "I would rather not"),
        ('act("exit")', "SystemExit: 0"),
        ('act("interrupt")', "KeyboardInterrupt"),
        ('act("mute")', "MuteError: (it has no text)"),
        ('act("half")', "ValueError: bad ?"),
    ):
        assert reason in (call(text, setting, 20).error or "")
    both = call('act("", image_1)', setting, 20)
    assert both.image is not None
    assert both.image.tobytes() == SAMPLE.image.tobytes()


def started(setting: str, calls: str, timeout: float) -> Any:
    """A process that calls tools in a process of their own."""
    code = f"from test_failures import call\nfor text in {calls!r}.split(';'):\n"
    code += f"    print(call(text, {setting!r}, {timeout}), flush=True)\nimport os; os._exit(0)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return start_process(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_process_ends_with_the_one_that_asks(setting: str) -> None:
    with started(setting, 'act("print")', 30) as process:
        # The output is at its end where the process that serves has ended, too: it writes to the same place.
        output, errors = process.communicate(timeout=100)
    assert output.startswith("ToolResult(status='edited'"), errors
    # What a tool prints is not where results go.
    assert errors == "said\naloud\nby another\n"


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow(3)
def test_a_process_that_hangs_ends_with_the_one_that_asks(setting: str, tmp_path: Path, number: int) -> None:
    file = tmp_path / "children"
    with started(setting, f'act("children {file}")', 300) as process:
        wait_for(lambda: file.exists() and len(file.read_text().split()) == 2, 100)
        process.send_signal(number)
        process.communicate(timeout=100)
    wait_for(lambda: not any(map(psutil.pid_exists, map(int, file.read_text().split()))), 30)


@pytest.mark.slow(3)
def test_what_a_tool_started_ends_with_it(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "children"
    hung = call(f'act("children {file}")', setting, 1.0)
    assert "it took longer than 1 s" in (hung.error or "")
    children = list(map(int, file.read_text().split()))
    assert len(children) == 2
    wait_for(lambda: not any(map(psutil.pid_exists, children)), 30)


def test_a_process_of_its_own_needs_a_file(setting: str) -> None:
    with pytest.raises(InputError, match=r"tool_timeout is 0; give a number above 0"):
        offered_tools(setting, 0)
    with pytest.raises(InputError, match=r"tool_timeout is nan"):
        offered_tools(setting, float("nan"))
    Path(setting).write_text(
        'def make():\n    def inner(how: str) -> str:\n        """Do."""\n    return inner\n\ninner = make()\n'
    )
    os.utime(setting, (1, 1))
    with pytest.raises(InputError, match="tool inner cannot run in a process of its own"):
        offered_tools(f"{setting}:inner", 5)
    # The six stay in this one.
    assert all(tool.timeout is None for tool in offered_tools(None, 5).values())


def result(*worked: str, broken: str = "") -> ToolResult:
    from iapo.records import ToolCall

    calls = tuple(ToolCall(name, (), "", None) for name in worked)
    return ToolResult("failed" if broken else "edited", calls, error="why" if broken else None, broken=broken)


def test_a_run_ends_where_every_call_fails() -> None:
    failing = Failing()
    # One that works keeps a run going, in the same program or in another one.
    failing.step([result(broken="a")] * 9 + [result("a")])
    failing.step([result("a", broken="a")] * 9)
    failing.step([result("b")] * 9)
    # A rare tool may fail once or twice.
    failing.step([result(broken="a")])
    failing.step([])
    failing.step([result(broken="a"), result("b")])
    with pytest.raises(InputError, match=r"the tool a failed in every call of this step, 3 times in a row \(why\)"):
        failing.step([result(broken="a"), result("b")])
    failing = Failing()
    failing.step([result(broken="a")] * 2)
    failing.step([result("a")])
    failing.step([result(broken="a")] * 2)
