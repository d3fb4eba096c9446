"""Empty and cut-off turns: counted, told where they are many, and never an endpoint's accuracy of 0."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import Server, completion, serve
from processes import iapo_here

from iapo.cli.main import main
from iapo.data.sources import SourceSettings
from iapo.display.tables import evaluation_table
from iapo.endpoints.chat import EndpointError, EndpointSettings
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.evaluation.measures import summarize
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.run import run_evaluation
from iapo.evaluation.shortfalls import shortfall_lines
from iapo.evaluation.solvers import local_solver
from iapo.records import Sample, ToolResult, Trace, Turn
from iapo.results import SetsEvaluation, read_evaluation
from iapo.rollout.policy import Policy

SOURCE = SourceSettings(count=5, seed=3)
ANSWER = "FINAL ANSWER: 5. TERMINATE"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(lambda request: ANSWER) as running:
        yield running


def plan(server: Server, **more: Any) -> EvaluationPlan:
    endpoint = EndpointSettings("m", server.url, retries=0)
    given = {"endpoint": endpoint, "tools": "none", "concurrency": 1, **more}
    return EvaluationPlan("m", ("vbar",), SOURCE, **given)


def in_turn(*replies: bytes) -> Callable[[dict[str, Any]], bytes]:
    """Answers one request after another, the last reply for all that follow."""
    left = list(replies)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


SILENT = {
    "thoughts alone": completion(None, reasoning_content=ANSWER),
    "of a newer server": completion(None, reasoning=ANSWER),
    "no text": completion(""),
    "white space": completion(" \n\t"),
    "nothing": completion(None),
    "a part that is no text": completion([{"type": "thinking", "thinking": ANSWER}]),
}


@pytest.mark.parametrize("name", SILENT)
def test_an_endpoint_that_says_nothing_has_failed(name: str, server: Server, tmp_path: Path) -> None:
    server.reply = lambda request: SILENT[name]
    with pytest.raises(EndpointError, match=r"all 5 answers of m at http.* are empty.*same command again"):
        run_evaluation(plan(server), tmp_path)
    # None is kept, so that the same command measures what a mended server says.
    assert not (tmp_path / "traces.jsonl").exists()
    assert not (tmp_path / "evaluation.json").exists()
    server.reply = lambda request: ANSWER
    row = run_evaluation(plan(server), tmp_path).sets["vbar"].measures
    assert "empty_turn" not in row
    assert (row["accuracy"].value or 0) >= 0


def test_thoughts_that_used_the_tokens_up_are_said(server: Server, tmp_path: Path) -> None:
    server.reply = lambda request: completion(None, "length", reasoning_content="hmm")
    with pytest.raises(EndpointError, match="raise --max-turn-tokens, with a new --out"):
        run_evaluation(plan(server), tmp_path)


def test_the_command_line_ends_as_with_any_endpoint_that_fails(server: Server, tmp_path: Path) -> None:
    server.reply = lambda request: SILENT["thoughts alone"]
    words = ("--model", "m", "--endpoint", server.url, "--sets", "vbar", "--samples", "3", "--no-tools")
    done = iapo_here("evaluate", *words, "--out", tmp_path / "run")
    assert done.returncode == 3
    assert "iapo: all 3 answers of m at" in done.stderr
    assert "accuracy" not in done.stdout


@pytest.mark.parametrize("first", [True, False])
def test_an_empty_turn_is_data_and_counted(server: Server, tmp_path: Path, first: bool) -> None:
    """Wherever it comes among those that say something; rollouts that are held back are given on in their order."""
    replies = [completion(""), completion(""), completion(ANSWER)]
    server.reply = in_turn(*(replies if first else [completion(ANSWER), *replies]))
    evaluation = run_evaluation(plan(server), tmp_path)
    share = evaluation.sets["vbar"].measures["empty_turn"]
    assert (share.value, share.count) == (0.4, 5)
    found = read_evaluation(tmp_path / "evaluation.json")
    assert isinstance(found, SetsEvaluation)
    assert found.sets["vbar"].measures["empty_turn"] == share
    assert list(shortfall_lines([found])) == [
        "vbar: 2 of 5 rollouts have an empty turn, which is measured as what the model said; look at traces.jsonl"
    ]
    assert evaluation_table(found).caption == "up to 40.0% of rollouts have an empty turn"


def test_the_rest_of_an_evaluation_may_be_empty(server: Server, tmp_path: Path) -> None:
    """What was there before has said something."""
    server.reply, server.faults = in_turn(completion(ANSWER), completion("")), [None, None, *[500] * 9]
    with pytest.raises(EndpointError, match="HTTP 500"):
        run_evaluation(plan(server), tmp_path)
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 2
    server.reply, server.faults = (lambda request: completion("")), []
    share = run_evaluation(plan(server), tmp_path).sets["vbar"].measures["empty_turn"]
    assert share.value == 0.8


def test_turns_that_were_cut_off_are_counted(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda request: completion(ANSWER[:12], "length")
    words = ["--model", "m", "--endpoint", server.url, "--sets", "vbar", "--samples", "3", "--no-tools", "--out"]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *words, str(tmp_path)])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "up to 100.0% of rollouts have a turn that was cut off at its longest" in said
    assert "vbar: 3 of 3 rollouts have a turn that was cut off at its longest, before the model ended it" in said
    record = json.loads((tmp_path / "traces.jsonl").read_text().splitlines()[0])
    assert (record["turn_1"], record["cut_turns"]) == (ANSWER[:12], [0])
    # What goes on counts those that are there as well.
    (tmp_path / "evaluation.json").unlink()
    with pytest.raises(SystemExit):
        main(["evaluate", *words, str(tmp_path)])
    assert "3 of 3 rollouts have a turn that was cut off" in " ".join(capsys.readouterr().out.split())
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (completion(None, refusal="no"), "gave a refusal in the place of a text, which is taken as the answer"),
        (
            SILENT["thoughts alone"],
            "gave reasoning_content alone in the place of a text, which is no answer, and counts",
        ),
    ],
)
def test_what_stands_in_the_place_of_a_text_is_told_once(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes, said: str
) -> None:
    server.reply = in_turn(body, body, completion(ANSWER))
    with caplog.at_level(logging.WARNING):
        run_evaluation(plan(server), tmp_path)
    assert [said in one.getMessage() for one in caplog.records] == [True]


def test_local_turns_that_are_cut_off_are_counted(student: Policy, samples: list[Sample]) -> None:
    samples = samples[:2]
    settings = EvaluationSettings(max_turn_tokens=4)
    short = evaluate(student, samples, settings)
    assert all(turn.cut for trace in short for turn in trace.turns)
    assert summarize(short)["cut_turn"].value == 1
    # An answer of the tiny student has four tokens with its end.
    for limit, cut in ((3, True), (4, False)):
        solve = local_solver(student, EvaluationSettings(max_turn_tokens=limit), {})
        assert [trace.turns[0].cut for trace in solve(samples, 0)] == [cut, cut]
    whole = evaluate(student, samples, EvaluationSettings(max_turn_tokens=64))
    assert not any(turn.cut for trace in whole for turn in trace.turns)
    assert "cut_turn" not in summarize(whole)


def test_a_record_says_which_turns_were_cut_off(samples: list[Sample]) -> None:
    calls = Turn("a call", ToolResult("failed", error="x"), cut=True)
    for turns in ((Turn("a", cut=True),), (calls, Turn("b")), (calls, Turn("b", cut=True)), (calls, calls, Turn("c"))):
        trace = Trace(samples[0], turns)
        record = json.loads(json.dumps(trace.to_json()))
        assert Trace.from_json(record).turns == turns
        assert ("turns" in record) is (len(turns) > 2)
    # As they were before there was anything to say of it.
    assert Trace(samples[0], (Turn("a"),)).to_json().keys().isdisjoint({"turns", "cut_turns"})
