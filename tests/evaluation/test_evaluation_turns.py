"""Evaluation of rollouts with more than two turns, in memory and at an endpoint."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from scripted import up_to_five

from iapo.data.sources import SourceSettings
from iapo.data.synthetic import generate
from iapo.display.tables import evaluation_table
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.evaluation.measures import CALLS, MEASURES, TURNS, summarize, summarize_repeats
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.run import run_evaluation
from iapo.evaluation.solvers import graded, solve_by_chat
from iapo.records import Sample, Trace
from iapo.rewards.alignment import Alignment
from iapo.rewards.mt_grpo import turn_execution
from iapo.rewards.otc import count_calls
from iapo.rewards.torl import execution
from iapo.rewards.verifier import call_scores
from iapo.rollout.budget import Budget
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.rollout.turns import rollout
from iapo.runs import RunFolder
from iapo.tools import TOOLS, offered_tools

TEMPLATE = find_prompt("tiny-turns")
PLAN = EvaluationPlan(
    "tiny-student",
    ("vbar",),
    SourceSettings(count=4, question_types=("value",)),
    prompt="tiny-turns",
    generation=EvaluationSettings(24, temperature=1.2, batch_size=2, max_turns=3),
)


@pytest.fixture(scope="module")
def chart() -> Sample:
    return next(iter(generate("vbar", 1, seed=11, question_types=("value",))))


def chatting(sample: Sample, index: int) -> tuple[Any, list[list[Mapping[str, Any]]]]:
    """A chat model that writes a script's turns, and what it was asked."""
    asked: list[list[Mapping[str, Any]]] = []

    def chat(messages: Sequence[Mapping[str, Any]]) -> str:
        asked.append(list(messages))
        return up_to_five(sample, index)[len(asked) - 1]

    return chat, asked


@pytest.fixture(scope="module")
def traces(chart: Sample) -> list[Trace]:
    return [solve_by_chat(chatting(chart, index)[0], chart, template=TEMPLATE, turns=5) for index in range(4)]


def test_an_endpoint_gets_what_a_model_in_memory_gets(chart: Sample, encoder: PromptEncoder, traces: list[Trace]):
    own = PromptEncoder(encoder.processor, TEMPLATE)
    for index in range(4):
        left = iter(up_to_five(chart, index))

        def write(rows: list[list[int]], images: list[list[Image.Image]], left=left) -> list[list[int]]:
            return [[*own.tokenizer(next(left))["input_ids"], own.tokenizer.eos_token_id]]

        (one,) = rollout([chart], own, write, budget=Budget(turns=5))
        assert graded(one.trace).to_json() == traces[index].to_json()
    chat, asked = chatting(chart, 2)
    solve_by_chat(chat, chart, template=TEMPLATE, turns=5)
    assert [len(messages) for messages in asked] == [2, 4, 6, 8, 10]
    observations = [messages["content"] for messages in asked[-1][3::2]]
    assert [[part["type"] for part in content] for content in observations] == [["text"], *[["image", "text"]] * 3]
    assert "Write another block" in observations[0][0]["text"]
    assert observations[-1][1]["text"] == TEMPLATE.observation_edited
    # A limit of three turns ends it at the third, whose program is not run.
    cut = solve_by_chat(chatting(chart, 2)[0], chart, template=TEMPLATE, turns=3)
    assert [turn.result.status for turn in cut.turns] == ["failed", "edited", "no_call"]


def test_measures_of_all_turns(traces: list[Trace]):
    """A rollout is a success if all its programs were, and misuse if one of them is."""
    found = {name: [verdict(trace) for trace in traces] for name, verdict in MEASURES.items()}
    assert found == {
        "accuracy": [True, False, True, False],
        "call_ratio": [True] * 4,
        "call_success": [True, True, False, False],
        "misuse": [False, True, True, None],
    }
    summed = summarize(traces)
    assert summed[TURNS].value == (2 + 3 + 5 + 5) / 4
    assert summed[CALLS].value == pytest.approx((1 / 2 + 2 / 3 + 3 / 5 + 0) / 4)
    assert summarize_repeats([traces, traces])[TURNS].value == summed[TURNS].value
    assert TURNS not in summarize(traces[:1])


def test_rewards_of_all_turns(traces: list[Trace]):
    assert [count_calls(trace) for trace in traces] == [1, 2, 4, 4]
    assert execution(traces) == [0.0, 0.0, -1.0, -1.0]
    assert turn_execution(traces) == [1.0, 1.0, 0.75, 0.0]
    asked: list[tuple[Sample, Any]] = []

    def verify(calls: Sequence[tuple[Sample, Any]]) -> list[float]:
        asked.extend(calls)
        return [float(call.axis == "columns") for _, call in calls]

    assert call_scores(traces, verify) == pytest.approx([1.0, 1 / 2, 1 / 3, 0.0])
    # Each call with the image that it worked on.
    shown = [sample.image.tobytes() for sample, call in asked]
    assert shown[0] == traces[0].sample.image.tobytes()
    first_edit = traces[1].turns[0].result.image
    assert first_edit is not None
    assert shown[2] == first_edit.tobytes()


def test_evaluation_in_memory_measures_each_turn(
    chart: Sample, student: Policy, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
):
    policy = Policy(student.model, copy.copy(student.processor))
    policy.processor.prompt = TEMPLATE
    tokenizer = policy.processor.tokenizer
    turn: list[int] = []

    def fake(*_: Any, **__: Any) -> Any:
        def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
            turn.append(len(rows))
            texts = [up_to_five(chart, 1)[len(turn) - 1]] * len(rows)
            return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]

        return generate

    monkeypatch.setattr("iapo.evaluation.local.make_generate", fake)
    alignment = Alignment(Policy(copy.deepcopy(student.model), policy.processor), PromptEncoder(policy.processor))
    (one,) = evaluate(policy, [chart], EvaluationSettings(max_turns=3), alignment=alignment, patches=1)
    assert turn == [1, 1, 1]
    assert one.scores["divergence"].value == 0.0
    assert [each.divergence for each in one.turns] == [0.0, 0.0, None]
    assert "image_2" in one.turns[1].attribution["teacher"]
    assert one.patches


@pytest.mark.slow(1)
def test_a_stopped_evaluation_goes_on(tmp_path: Path):
    """Also one whose file has turns; an evaluation of an earlier version had two, and says no number."""
    whole = run_evaluation(PLAN, tmp_path / "whole")
    lines = (tmp_path / "whole" / "traces.jsonl").read_text().splitlines()
    read = RunFolder(tmp_path / "whole").read_traces()
    assert max(len(trace.turns) for trace in read) <= 3
    part = tmp_path / "part"
    part.mkdir()
    (part / "manifest.json").write_text((tmp_path / "whole" / "manifest.json").read_text())
    (part / "traces.jsonl").write_text("\n".join(lines[:2]) + "\n")
    again = run_evaluation(PLAN, part)
    assert again.to_json()["sets"] == whole.to_json()["sets"]
    two = dataclasses.replace(PLAN, generation=dataclasses.replace(PLAN.generation, max_turns=2))
    with pytest.raises(InputError, match="max_turns: 3 there, 2 now"):
        run_evaluation(two, part)
    old = json.loads((part / "manifest.json").read_text())
    del old["config"]["evaluation"]["generation"]["max_turns"]
    (part / "manifest.json").write_text(json.dumps(old))
    (part / "traces.jsonl").unlink()
    assert run_evaluation(two, part).settings["generation"]["max_turns"] == 2


def test_the_table_tells_turns(tmp_path: Path, chart: Sample):
    def solver(samples: Sequence[Sample], seed: int) -> Any:
        for index, sample in enumerate(samples):
            chat, _ = chatting(sample, index % 3)
            yield solve_by_chat(chat, sample, template=TEMPLATE, turns=5)

    plan = dataclasses.replace(PLAN, generation=dataclasses.replace(PLAN.generation, max_turns=5))
    found = run_evaluation(plan, tmp_path, solver=solver)
    out = io.StringIO()
    Console(file=out, width=200).print(evaluation_table(found))
    assert "turns" in out.getvalue()
    assert "calls a turn" in out.getvalue()
    assert found.sets["vbar"].measures[TURNS].value == pytest.approx((2 + 3 + 2 + 3) / 4)


def test_boxes_do_not_come_back_once_an_image_was_turned(chart: Sample):
    name = next(iter(chart.column_boxes))
    focus = f'```python\ndisplay(focus_on_columns_with_draw(image_1, ["{name}"], BOXES))\n```'
    script = iter(
        [
            "```python\ndisplay(rotate(image_1, 180))\n```",
            focus.replace("BOXES", f'{{"{name}": [4, 4, 40, 40]}}'),
            focus.replace("BOXES", "columns_bbox"),
            "FINAL ANSWER: 3. TERMINATE",
        ]
    )
    template = find_prompt("tools-turns")
    trace = solve_by_chat(lambda _: next(script), chart, {**TOOLS, **offered_tools("rotate")}, template, turns=4)
    assert [one.result.status for one in trace.turns] == ["edited", "edited", "failed", "no_call"]
    assert "this picture has neither column boxes nor row boxes" in str(trace.turns[2].result.error)
    assert [bool(trace.sample_at(turn).column_boxes) for turn in range(4)] == [True, False, False, False]


def test_a_prompt_for_two_turns_is_refused():
    with pytest.raises(InputError, match="the prompt 'tools' is worded for two turns, and max_turns is 3"):
        dataclasses.replace(PLAN, prompt="tools")
