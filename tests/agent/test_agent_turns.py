"""An agent of more than two turns: all of them are told, in this process and behind an endpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from agent.asked import SETTINGS, boxes_of, charts
from endpoint_server import serve

from iapo.agent import policies
from iapo.agent.agent import Agent
from iapo.agent.answers import AnswerEvent, CallEvent, ObservationEvent
from iapo.agent.asking import lines
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.rollout.policy import Policy
from iapo.rollout.template import find_prompt

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


def test_a_prompt_for_two_turns_is_refused(student: Policy) -> None:
    with pytest.raises(InputError, match="worded for two turns"):
        Agent(student, settings=THREE)
    with pytest.raises(InputError, match="max_turns is 9"):
        Agent.from_pretrained("tiny-student", settings=dataclasses.replace(SETTINGS, max_turns=9))
