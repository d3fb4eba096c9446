"""What `iapo tiny evaluate` counts."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from iapo.data.synthetic import Chart
from iapo.records import Sample
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Generate, encode_prompts, finish
from iapo.tiny import evaluate as tiny
from iapo.tiny.lessons import other, program_text
from iapo.tiny.names import CANONICAL, UNSEEN
from iapo.tools import TOOLS


@pytest.fixture(scope="module")
def student() -> Policy:
    return load_policy("tiny-student")


def scripted(encoder: PromptEncoder, charts: list[Chart], programs: list[str], answers: list[str]) -> list[tiny.Done]:
    samples = [chart.sample for chart in charts]
    turns = [[*encoder.tokenizer(text)["input_ids"], encoder.tokenizer.eos_token_id] for text in programs]
    left = iter(answers)

    def write(ids: list[list[int]], images: list[list[object]]) -> list[list[int]]:
        return [encoder.tokenizer(f"FINAL ANSWER: {next(left)}. TERMINATE")["input_ids"] for _ in ids]

    generate: Generate = write  # type: ignore[assignment]
    return [
        tiny.Done(one, TOOLS) for one in finish(samples, encode_prompts(samples, encoder), turns, encoder, generate)
    ]


def test_behaviour_counts_what_happened(tiny_encoder: PromptEncoder, charts: list[Chart]) -> None:
    """Right and wrong tools and answers, a broken call, and a table, of which no axis is wrong."""
    bars = [chart for chart in charts if chart.sample.axis is not None][:4]
    table = next(chart for chart in charts if chart.sample.axis is None)
    programs = []
    for index, chart in enumerate(bars):
        ((axis, names),) = chart.focus.items()
        tool = TOOLS[f"focus_on_{other(axis) if index == 1 else axis}_with_mask"]
        programs.append(program_text([(tool, names)], other(axis) if index == 2 else None))
    programs.append(program_text([(TOOLS["focus_on_rows_with_draw"], table.focus["rows"])]))
    answers = [chart.sample.answers[0] for chart in (*bars[:3], bars[3], table)]
    answers[3] = "none"
    done = scripted(tiny_encoder, [*bars, table], programs, answers)
    found = tiny.behaviour(done)
    assert found["accuracy"].value == pytest.approx(4 / 5)
    assert found["valid"].value == pytest.approx(4 / 5)
    assert (found["misuse"].value, found["misuse"].count) == (pytest.approx(1 / 3), 3)
    assert (found["after_right"].value, found["after_right"].count) == (pytest.approx(1 / 2), 2)
    assert (found["after_misuse"].value, found["after_misuse"].count) == (pytest.approx(1), 1)


@pytest.mark.slow(1)
def test_offers_name_and_leave_out_tools(student: Policy) -> None:
    samples = [*tiny.samples_of("vbar", 11, seed=1), *tiny.samples_of("vwtq", 9, seed=1)]
    for offer, names in (("canonical", set(CANONICAL)), ("unseen", set(UNSEEN)), ("missing", set(CANONICAL))):
        done = tiny.roll_out(student, samples, offer, seed=0, temperature=1.0)
        assert [one.rollout.trace.sample.id for one in done] == [sample.id for sample in samples]
        sets = [tuple(tools) for tools, _ in itertools.groupby(one.tools for one in done)]
        assert all(set(tools) <= names for tools in sets)
        assert len(sets) == (1 if offer == "canonical" else 2)
        for one in done:
            assert one.rollout.prompt.block_names[2:-1] == tuple(f"tool:{name}" for name in one.tools)
            if offer == "missing":
                assert 2 <= len(one.tools) < 6
                axis = done[done.index(one) // 10 * 10].rollout.trace.sample.axis
                assert axis in {None, *(tool.axis for tool in one.tools.values())}


def test_attributions_are_split_by_block_and_by_misuse(
    student: Policy, tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    bars = [chart for chart in charts if chart.sample.axis is not None][:6]
    programs = []
    for index, chart in enumerate(bars):
        ((axis, names),) = chart.focus.items()
        programs.append(program_text([(TOOLS[f"focus_on_{other(axis) if index < 2 else axis}_with_mask"], names)]))
    done = scripted(tiny_encoder, bars, programs, ["1"] * 6)
    found = tiny.attributions(student, done)
    assert (found["right"]["called"].count, found["misused"]["called"].count) == (4, 2)
    for parts in found.values():
        value = {name: part.value or 0.0 for name, part in parts.items()}
        assert value["called_minus_others"] == pytest.approx(value["called"] - value["others"])
        whole = value["called"] + 5 * value["others"] + value["image"] + value["query"] + value["context"]
        assert whole == pytest.approx(1, abs=1e-5)


def test_rank_agreement_is_between_minus_one_and_one(
    student: Policy, tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    chart = charts[0]
    ((axis, names),) = chart.focus.items()
    done = scripted(tiny_encoder, [chart], [program_text([(TOOLS[f"focus_on_{axis}_with_mask"], names)])], ["1"])
    assert -1 <= (tiny.rank_agreement(student, done).value or 0) <= 1


@pytest.mark.slow(2)
def test_a_removed_definition_changes_the_choice(student: Policy) -> None:
    """A model that reads nothing would not care; the packaged student cannot call what is not there."""
    samples = tiny.samples_of("vbar", 20, seed=3)
    with torch.no_grad():
        done = tiny.roll_out(student, samples, "canonical", seed=0, temperature=0.0)
        found = tiny.removals(student, done)
    assert found["called_removed"].count == found["other_removed"].count > 0
    assert (found["called_removed"].value or 0) > (found["other_removed"].value or 0)


@pytest.mark.slow(3)
def test_a_report_covers_models_families_and_offers(student: Policy) -> None:
    (one,) = tiny.report({"mine": student}, families=("vbar", "vwtq"), samples=6, seed=0)
    name, numbers = one
    assert name == "mine"
    assert set(numbers["behaviour"]) == {"canonical", "unseen", "missing"}
    for families in numbers["behaviour"].values():
        assert set(families) == {"vbar", "vwtq", "all"}
        assert families["all"]["accuracy"]["count"] == 12
    assert set(numbers["attribution"]) == {"right", "misused"}
    assert set(numbers["occlusion"]) == {"rank_correlation", "called_removed", "other_removed"}


def test_samples_are_held_out_values() -> None:
    samples: list[Sample] = tiny.samples_of("charxiv", 5, seed=0)
    assert {sample.question_type for sample in samples} == {"value"}
    assert all("-test-" in sample.id for sample in samples)
    assert dataclasses.replace(samples[0]) == samples[0]
    assert np.unique([sample.id for sample in samples]).size == 5
