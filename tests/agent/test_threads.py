"""Agents in threads of one process: each answers as it does alone, whatever the others do meanwhile."""

from __future__ import annotations

import dataclasses
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from agent.asked import SETTINGS, boxes_of, charts

from iapo.agent.agent import Agent
from iapo.agent.answers import Answer
from iapo.rollout.policy import load_policy

SAMPLES = charts()
HOT = dataclasses.replace(SETTINGS, temperature=3.0, seed=7)


@pytest.fixture(scope="module")
def agents() -> dict[str, tuple[Agent, Agent]]:
    policy = load_policy("tiny-student")
    one, other = Agent(policy), Agent(policy)
    return {"one policy": (one, other), "two policies": (one, Agent.from_pretrained("tiny-student"))}


def ask(agent: Agent, number: int, settings: Any, **watching: Any) -> Answer:
    sample = SAMPLES[number]
    asked = agent.question(sample.image, sample.question, boxes_of(sample))
    return agent.ask(asked, settings=settings, **watching)


def texts(answer: Answer) -> list[str]:
    return [turn.text for turn in answer.turns]


@pytest.mark.parametrize("policies", ["one policy", "two policies"])
@pytest.mark.parametrize("beside", [dataclasses.replace(HOT, seed=8), SETTINGS], ids=["sampled", "greedy"])
def test_one_is_asked_in_the_middle_of_another(
    agents: dict[str, tuple[Agent, Agent]], policies: str, beside: Any
) -> None:
    first, second = agents[policies]
    alone = texts(ask(first, 0, HOT)), texts(ask(second, 1, beside))
    found: dict[str, Answer] = {}
    begun, ended = threading.Event(), threading.Event()

    def watch_second(event: Any) -> None:
        begun.set()
        ended.wait(20)

    def watch_first(event: Any) -> None:
        if thread.ident is None:
            thread.start()
            # Were it let in, it would be in the middle of its own answer now, and stay there.
            begun.wait(0.5)

    thread = threading.Thread(target=lambda: found.update(second=ask(second, 1, beside, watch=watch_second)))
    found["first"] = ask(first, 0, HOT, watch=watch_first)
    ended.set()
    thread.join()
    assert (texts(found["first"]), texts(found["second"])) == alone


def test_the_callers_random_numbers_stay(agents: dict[str, tuple[Agent, Agent]]) -> None:
    first, _ = agents["two policies"]
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    ask(first, 0, HOT)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]


def test_a_tool_may_ask_another_agent_in_its_own_thread(agents: dict[str, tuple[Agent, Agent]]) -> None:
    first, second = agents["two policies"]
    inner: list[Answer] = []

    def watch(event: Any) -> None:
        if not inner:
            inner.append(ask(second, 1, HOT))

    alone = texts(ask(first, 0, HOT)), texts(ask(second, 1, HOT))
    assert (texts(ask(first, 0, HOT, watch=watch)), texts(inner[0])) == alone
