"""`iapo ask` as a user runs it."""

from __future__ import annotations

import html
import io
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from agent.asked import boxes_of, charts
from documented import DOCUMENTS, ROOT, blocks
from PIL import Image

from iapo.cli.main import main
from iapo.display.terminal_image import drawn
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.records import Trace
from iapo.rollout.policy import load_policy

SAMPLE = charts(1)[1]
MODEL = ["--model", "tiny-student"]


@pytest.fixture(scope="module")
def trace() -> Trace:
    return evaluate(load_policy("tiny-student"), [SAMPLE], EvaluationSettings())[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    SAMPLE.image.save("chart.png")
    Path("boxes.json").write_text(json.dumps(boxes_of(SAMPLE)))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["ask", *words])
    return (end.value.code, *capsys.readouterr())  # type: ignore[return-value]


def test_it_shows_what_happened(here: Path, capsys: pytest.CaptureFixture[str], trace: Trace) -> None:
    before = Path("chart.png").read_bytes()
    words = ["chart.png", SAMPLE.question, *MODEL, "--boxes", "boxes.json"]
    code, out, err = run(capsys, *words, "--attribution", "--json", "a.json")
    assert (code, err) == (0, "")
    program = trace.turn_1[slice(*trace.result.span)]  # type: ignore[misc]
    answer = trace.scores["outcome"].answer
    for line in (
        f"question  {SAMPLE.question}",
        "boxes     given: 4 columns",
        f"program   {program}",
        "status    edited; the image is chart.edited.png",
        f"turn 2    {trace.turn_2}",
        f"answer    {answer}",
    ):
        assert line in out
    assert len(re.findall(r"│ 0\.\d{3} │", out)) == 9
    assert "focus_on_columns_with_highlight *" in out
    assert trace.result.image is not None
    with Image.open("chart.edited.png") as saved:
        assert saved.tobytes() == trace.result.image.tobytes()
    found = json.loads(Path("a.json").read_text())
    assert (found["kind"], found["model"], found["answer"]) == ("answer", "tiny-student", answer)
    assert found["image"] == "chart.edited.png"
    assert [turn["text"] for turn in found["turns"]] == [trace.turn_1, trace.turn_2]
    assert sum(found["attribution"].values()) == pytest.approx(1, abs=1e-5)
    # Once more: nothing is written over.
    first = Path("chart.edited.png").read_bytes()
    assert "the image is chart.edited-2.png" in run(capsys, *words)[1]
    code, out, _ = run(capsys, *words, "--out", "deep/mine.PNG", "--quiet")
    assert (code, out) == (0, "")
    assert Path("deep/mine.PNG").read_bytes() == first
    assert Path("chart.png").read_bytes() == before
    assert not list(here.rglob("*.part"))


def drawn_lines(svg: Path) -> list[str]:
    """The lines of a terminal that Rich drew: its texts by their rows and columns."""
    columns = 20 * 0.61
    found: dict[int, str] = {}
    for x, row, text in re.findall(
        r'<text class="ask-r\d+" x="([\d.]+)".*?#ask-line-(\d+)\)">(.*?)</text>', svg.read_text()
    ):
        line = found.get(int(row), "")
        found[int(row)] = line.ljust(round(float(x) / columns)) + html.unescape(text).replace("\xa0", " ")
    return [found.get(row, "").rstrip() for row in range(max(found) + 1)]


def test_the_recorded_session_is_what_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of docs/using.md; its shares may differ in the last digit on another machine."""
    picture = ROOT / "docs" / "images" / "ask-session.svg"
    assert picture.stat().st_size < 60_000
    assert SAMPLE.question == "value of H?"
    lines = drawn_lines(picture)
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    shown = [block for block in blocks(DOCUMENTS["docs/using.md"]) if block.commands == commands]
    assert len(shown) == 1
    printed: list[str] = []
    for command in commands:
        code, out, _ = run(capsys, *shlex.split(command)[2:])
        assert code == 0
        printed += [*([""] if printed else []), f"$ {command}", *(line.rstrip() for line in out.rstrip().splitlines())]
    numbers = re.compile(r"\d\.\d{3}")
    assert [numbers.sub("N", line) for line in printed] == [numbers.sub("N", line) for line in lines]
    shares = [[float(one) for one in numbers.findall("\n".join(some))] for some in (printed, lines)]
    assert shares[0] == pytest.approx(shares[1], abs=0.002)


def test_the_session_is_drawn_by_its_script(tmp_path: Path) -> None:
    """As it is told; the fonts of the web are no part of it."""
    draw = runpy.run_path(str(ROOT / "docs" / "ask_session.py"))["draw"]
    said = [('iapo ask "a<b"', "question  a <b>?\n          [red]\n"), ("iapo ask", "answer    8\n")]
    (tmp_path / "one.svg").write_text(draw(said))
    assert "http" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", (tmp_path / "one.svg").read_text())
    assert drawn_lines(tmp_path / "one.svg") == [
        '$ iapo ask "a<b"',
        "question  a <b>?",
        "          [red]",
        "",
        "$ iapo ask",
        "answer    8",
    ]


def test_the_question_may_come_from_elsewhere(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes are looked for; the call asks for a name that they have not, which the answer tells."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SAMPLE.question}\n"))
    code, out, err = run(capsys, "chart.png", "-", *MODEL)
    assert (code, err) == (0, "")
    assert f"question  {SAMPLE.question}\nboxes     found, as of a chart: 4 columns (1, 2, 3, 4)" in out
    assert re.search(r"^status    failed \(line 1, focus_on_\w+: there is no \w+ '\w' in this picture", out, re.M)
    assert not Path("chart.edited.png").exists()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    assert run(capsys, "chart.png", "-", *MODEL)[::2] == (
        2,
        "iapo: the question on standard input is no text; write it as UTF-8\n",
    )


def test_a_terminal_that_can_draws_the_edited_image(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iapo.agent.asking.protocol_of", lambda stream: "kitty" if stream is sys.stdout else None)
    _, out, _ = run(capsys, "chart.png", SAMPLE.question, *MODEL, "--boxes", "boxes.json")
    assert drawn(Image.open("chart.edited.png"), "kitty") in out


def test_what_a_model_writes_does_not_steer_the_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from iapo.agent import agent
    from iapo.agent.answers import Answer, Turn
    from iapo.records import ToolResult

    evil = "\x1b[2J[red]x[/red]\x07"
    turn = Turn(f"{evil}\n  second", ToolResult("refused", error=evil, span=(0, len(evil))))
    monkeypatch.setattr(
        agent.Agent, "ask", lambda *_, **__: Answer("a?", evil, (turn, Turn(evil)), "refused", whole=False)
    )
    out = run(capsys, "chart.png", "a?", *MODEL)[1]
    assert not {"\x1b", "\x07"} & set(out)
    assert "program   [2J[red]x[/red]" in out
    assert "answer    [2J[red]x[/red]" in out
    assert "cut off" in out
