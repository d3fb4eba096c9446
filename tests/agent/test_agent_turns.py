"""An agent of more than two turns: all of them are told, in this process and behind an endpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.asked import SETTINGS, boxes_of, charts
from endpoint_server import serve

from iapo.agent import agent as agent_module
from iapo.agent import policies
from iapo.agent.agent import Agent
from iapo.agent.answers import AnswerEvent, CallEvent, ObservationEvent
from iapo.agent.asking import lines, run_ask
from iapo.agent.sources import find_source
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.rollout.policy import Policy
from iapo.rollout.template import find_prompt
from iapo.rollout.usage import Usage
from iapo.tools.offered import limited

SAMPLE = charts(1)[0]
NAMES = list(SAMPLE.column_boxes)[:2]
TURNS = [
    *(f'```python\ndisplay(focus_on_columns_with_draw(image_1, ["{name}"], columns_bbox))\n```' for name in NAMES),
    "FINAL ANSWER: 3. TERMINATE",
]
THREE = dataclasses.replace(SETTINGS, max_turns=3, max_turn_tokens=200)


def written(policy: Policy) -> Any:
    """Has a policy write the turns, whatever its weights are."""

    def make(policy: Policy, encoder: Any, *, streamer: Any = None, **_: Any) -> Any:
        turns: Iterator[str] = iter(TURNS)

        def generate(rows: list[list[int]], images: Any) -> list[list[int]]:
            ids = [*encoder.tokenizer(next(turns))["input_ids"], encoder.tokenizer.eos_token_id]
            return [ids]

        return generate

    return make


def test_all_turns_are_told(student: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "make_generate", written(student))
    student.processor.prompt = find_prompt("tools-turns")
    # Its own weights write nothing here, and the prompt is longer than what they take.
    student.model.config.get_text_config().max_position_embeddings = 8192
    here = Agent(student, settings=dataclasses.replace(THREE, max_turn_tokens=24))
    turns = iter(TURNS * 2)
    with serve(lambda _: next(turns)) as server:
        served = Agent.from_endpoint(EndpointSettings("m", server.url), prompt="tools-turns", settings=THREE)
        for agent in (here, served):
            found = agent.answer(SAMPLE.image, SAMPLE.question, boxes_of(SAMPLE))
            assert [turn.text for turn in found.turns] == TURNS
            assert [call.targets for call in found.calls] == [(NAMES[0],), (NAMES[1],)]
            assert found.image is found.turns[1].result.image is not None  # type: ignore[union-attr]
            assert found.answer == "3"
            *events, last = agent.stream(SAMPLE.image, SAMPLE.question, boxes_of(SAMPLE))
            told = [one for one in events if isinstance(one, CallEvent | ObservationEvent)]
            assert [(one.kind, one.turn) for one in told] == [
                ("call", 1),
                ("observation", 1),
                ("call", 2),
                ("observation", 2),
            ]
            assert isinstance(last, AnswerEvent)
            assert last.answer.program == found.program
            assert last.answer.image is not None
            assert told[-1].image.tobytes() == last.answer.image.tobytes()  # type: ignore[union-attr]
            printed = "\n".join(lines(found, SAMPLE, {}))  # type: ignore[arg-type]
            assert printed.count("program   ") == printed.count("status    edited") == 2
            assert "turn 3    FINAL ANSWER: 3" in printed


def test_each_turns_call_is_attributed(
    student: Policy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(policies, "make_generate", written(student))
    student.processor.prompt = find_prompt("tools-turns")
    student.model.config.get_text_config().max_position_embeddings = 8192
    agent = Agent(student, settings=dataclasses.replace(THREE, max_turn_tokens=24))
    question = agent.question(SAMPLE.image, SAMPLE.question, boxes_of(SAMPLE))
    told = run_ask(agent, question, tmp_path / "edited.png", model="m", attribution=True)
    first, second, last = told["turns"]
    assert "attribution" not in last
    assert told["attribution"] == first["attribution"]
    for turn in (first, second):
        assert sum(turn["attribution"].values()) == pytest.approx(1, abs=1e-5)
    # The second call may come from the first turn, and from what was shown after it.
    assert [*first["attribution"]] == [name for name in second["attribution"] if name in first["attribution"]]
    assert len(second["attribution"]) > len(first["attribution"])
    printed = capsys.readouterr().out
    assert [f"the call of turn {number} came from" in printed for number in (1, 2, 3)] == [True, True, False]


def test_a_prompt_for_two_turns_is_refused(student: Policy) -> None:
    with pytest.raises(InputError, match="worded for two turns"):
        Agent(student, settings=THREE)
    with pytest.raises(InputError, match="max_turns is 9"):
        Agent.from_pretrained("tiny-student", settings=dataclasses.replace(SETTINGS, max_turns=9))


SLOW = '''
import time


def look_up(word: str) -> str:
    """Look a word up.

    Args:
        word: The word.
    """
    if word == "slow":
        time.sleep(600)
    return f"{word} is here"
'''


@pytest.mark.slow(5)
def test_a_tool_that_hangs_is_an_answers_status(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    tools = f"standard,{tmp_path / 'slow.py'}"
    said = [
        '```python\ndisplay(look_up("slow"))\n```',
        '```python\ndisplay(look_up("quick"))\n```',
        "FINAL ANSWER: 3. TERMINATE",
    ]
    turns, seen = iter(said), []

    def answer(request: dict[str, Any]) -> str:
        seen.append(str(request["messages"][-1]["content"]))
        return next(turns)

    with serve(answer) as server:
        agent = Agent.from_endpoint(
            EndpointSettings("m", server.url), prompt="tools-turns", settings=THREE, tools=tools, tool_timeout=5
        )
        found = agent.answer(SAMPLE.image, SAMPLE.question, boxes_of(SAMPLE))
    assert [None if turn.result is None else turn.result.status for turn in found.turns] == ["failed", "edited", None]
    assert "the tool look_up failed: it took longer than 5 s" in found.turns[0].result.error  # type: ignore[union-attr, operator]
    assert "the tool look_up failed: it took longer than 5 s" in seen[1]
    assert "quick is here" in seen[2]
    assert found.answer == "3"


def test_a_run_has_its_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(agent_module, "_tools", lambda tools, timeout=None: given.append((tools, timeout)) or {})
    monkeypatch.setattr(agent_module, "load_policy", lambda *args, **more: pytest.fail("loaded"))
    source = dataclasses.replace(find_source("tiny-student"), usage=Usage("crop", 7.0))
    monkeypatch.setattr(agent_module, "find_source", lambda *args: source)
    for more in ({}, {"tool_timeout": 2.0}):
        with pytest.raises(pytest.fail.Exception, match="loaded"):
            Agent.from_pretrained("tiny-student", **more)  # type: ignore[arg-type]
    assert given == [("crop", 7.0), ("crop", 2.0)]
    with pytest.raises(InputError, match="tool_timeout is 0; give a number above 0"):
        limited({}, 0)
