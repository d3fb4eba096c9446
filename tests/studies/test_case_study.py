"""The case study: what is counted, that it resumes, and that a training does not notice it."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripted import COLUMNS

from iapo.attribution.calls import Attributor
from iapo.attribution.settings import AttributionSettings
from iapo.data.convert import make
from iapo.data.synthetic import generate
from iapo.estimates import mean, proportion
from iapo.evaluation.local import EvaluationSettings
from iapo.records import Sample
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import encode_prompts, read_turn
from iapo.runs import RunFolder
from iapo.studies import case_study
from iapo.studies.case_study import (
    FILE,
    MEASURES,
    CaseStudyCallback,
    CaseStudyFile,
    CaseStudyPlan,
    observe,
    summarize_case,
)
from iapo.studies.folders import find_runs
from iapo.studies.misuse import run_misuse
from iapo.tools import TOOLS
from iapo.training.run import run
from iapo.training.settings import parse

PLAN = CaseStudyPlan(
    samples=4, families=("vbar", "hbar"), question_types=("value",), generation=EvaluationSettings(24, 1.0)
)


def turn_of(sample: Sample, index: int) -> str:
    """On a vertical chart: right call, failed call; on a horizontal one: wrong call, no call."""
    names = json.dumps([next(iter(sample.column_boxes))])
    return (COLUMNS.format(names=names), COLUMNS.format(names=names), COLUMNS.format(names='["?"]'), "no")[index]


@pytest.fixture
def by_hand(model: Any, processor: Any, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """A policy whose four turns are written by hand."""
    samples = PLAN.read_samples()
    end = [encoder.tokenizer.eos_token_id]
    turns = [encoder.tokenizer(turn_of(one, index))["input_ids"] + end for index, one in enumerate(samples)]
    monkeypatch.setattr(case_study, "make_generator", lambda *_: (encoder, lambda rows, images: turns))
    return Policy(model, processor)


def test_what_is_observed(by_hand: Policy, encoder: PromptEncoder) -> None:
    samples = PLAN.read_samples()
    assert [one.axis for one in samples] == ["columns", "rows", "columns", "rows"]
    observed = observe(by_hand, samples, PLAN)
    assert [one.result.status for one in observed] == ["edited", "edited", "failed", "no_call"]
    # The same calls, explained one by one.
    attributor = Attributor(by_hand.model, encoder.pixels, AttributionSettings())
    for index, (sample, one) in enumerate(zip(samples, observed, strict=True)):
        if index == 3:
            assert one.right_tools is one.wrong_tools is None
            continue
        (prompt,) = encode_prompts([sample], encoder)
        ids = encoder.tokenizer(turn_of(sample, index))["input_ids"]
        first = read_turn(ids, sample, encoder)
        shares = dict(
            zip(prompt.block_names, attributor.distributions([prompt], [(ids, first.target)])[0], strict=True)
        )
        by_axis = {
            axis: sum(float(shares[f"tool:focus_on_{axis}_with_{style}"]) for style in ("mask", "draw", "highlight"))
            / 3
            for axis in ("columns", "rows")
        }
        other = {"columns": "rows", "rows": "columns"}[sample.axis]
        assert (one.right_tools, one.wrong_tools) == pytest.approx((by_axis[sample.axis], by_axis[other]), rel=1e-4)
        assert one.right_tools != one.wrong_tools
    found = summarize_case(observed)
    # Of the two that executed one took the wrong tool; three have an attribution.
    expected = proportion([False, True])
    assert found["misuse"] == {"value": 0.5, "low": expected.low, "high": expected.high, "count": 2}
    right = mean([one.right_tools for one in observed[:3]])
    assert found["right_tools"] == {"value": right.value, "low": right.low, "high": right.high, "count": 3}
    assert found["wrong_tools"]["count"] == 3
    assert summarize_case(observed[3:]) == dict.fromkeys(MEASURES)


def test_fewer_tools(by_hand: Policy) -> None:
    """Without tools of an axis there is no share of theirs."""
    plan = dataclasses.replace(PLAN, tools=",".join(name for name, tool in TOOLS.items() if tool.axis == "columns"))
    first, second, *_ = observe(by_hand, PLAN.read_samples(), plan)
    assert first.right_tools is not None
    assert first.wrong_tools is second.right_tools is None


def test_randomness_stays_as_it_is(student: Policy) -> None:
    draws: list[Callable[[], float]] = [random.random, np.random.rand, lambda: torch.rand(1).item()]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = [draw() for draw in draws]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    first = observe(student, PLAN.read_samples(), PLAN)
    assert [draw() for draw in draws] == expected
    # And its own sampling is seeded.
    assert observe(student, PLAN.read_samples(), PLAN) == first


def test_tables_are_left_out(tmp_path: Path) -> None:
    mixed = CaseStudyPlan(samples=3, families=("vwtq", "hbar"))
    assert [one.source for one in mixed.read_samples()] == ["synthetic/hbar"] * 3
    with pytest.raises(ValueError, match=r"the families \(vwtq\) have no right axis"):
        CaseStudyPlan(families=("vwtq",)).read_samples()
    with pytest.raises(ValueError, match="0 samples shows nothing"):
        CaseStudyPlan(samples=0)


def test_data_of_ones_own(tmp_path: Path) -> None:
    make("hbar", 5, tmp_path / "test.parquet", seed=0, size=112, split="test")
    plan = CaseStudyPlan(samples=3, data=str(tmp_path / "test.parquet"))
    assert [one.id for one in plan.read_samples()] == [one.id for one in generate("hbar", 3, seed=0, split="test")]
    make("vwtq", 2, tmp_path / "tables.parquet", seed=0, size=112, split="test")
    with pytest.raises(ValueError, match="no picture of the split 'test' with one right axis"):
        CaseStudyPlan(data=str(tmp_path / "tables.parquet")).read_samples()


def test_the_file_resumes(tmp_path: Path, by_hand: Policy) -> None:
    samples = PLAN.read_samples()
    observed = observe(by_hand, samples, PLAN)
    settings = PLAN.to_json(samples)
    file = CaseStudyFile(tmp_path / FILE, settings)
    file.add(5, observed)
    file.add(0, observed[:1])
    file.set_teacher(summarize_case(observed))
    again = CaseStudyFile(tmp_path / FILE, settings)
    assert again.steps == [0, 5]
    assert again.data == file.data == json.loads((tmp_path / FILE).read_text())
    assert [point["samples"] for point in again.data["points"]] == [1, 4]
    assert again.data["teacher"]["misuse"]["value"] == 0.5
    with pytest.raises(ValueError, match="was made with samples 4, not 5; remove it"):
        CaseStudyFile(tmp_path / FILE, {**settings, "samples": 5})
    again.drop_after(4)
    assert CaseStudyFile(tmp_path / FILE, settings).steps == [0]


def test_a_training_that_goes_on(tmp_path: Path, by_hand: Policy) -> None:
    """What was measured after the checkpoint is measured anew, what was measured before it is kept."""
    observed = observe(by_hand, PLAN.read_samples(), PLAN)
    file = CaseStudyFile(tmp_path / FILE, PLAN.to_json(PLAN.read_samples()))
    for step in (0, 2, 4):
        file.add(step, observed[2:])
    callback = CaseStudyCallback(tmp_path, 2, PLAN, by_hand)
    state = SimpleNamespace(global_step=2, max_steps=5, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    assert CaseStudyFile(tmp_path / FILE, file.data["settings"]).steps == [0, 2]
    for step in (3, 4, 5):
        state.global_step = step
        callback.on_step_end(None, state, None)
    callback.on_train_end(None, state, None)
    points = json.loads((tmp_path / FILE).read_text())["points"]
    assert [(point["step"], point["samples"]) for point in points] == [(0, 2), (2, 2), (4, 4), (5, 4)]
    with pytest.raises(ValueError, match="every -1 steps"):
        CaseStudyCallback(tmp_path, -1, PLAN, by_hand)


def train(folder: Path, *more: str) -> RunFolder:
    flags = ["--output_dir", str(folder), "--max_steps", "3", "--per_device_train_batch_size", "8"]
    flags += ["--train_samples", "16", "--eval_samples", "2", "--save_strategy", "steps", "--save_steps", "2"]
    return run(*parse("demo-iapo", [*flags, "--case_study_samples", "6", *more]))


@pytest.mark.slow(7)
def test_a_training_does_not_notice(tmp_path: Path) -> None:
    """Equal to the last bit; and the checkpoints give what was measured within the training."""
    plain = train(tmp_path / "plain", "--case_study_steps", "0")
    studied = train(tmp_path / "studied", "--case_study_steps", "1")
    weights, others = (load_file(one.path / "policy" / "model.safetensors") for one in (plain, studied))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    rows, other_rows = (
        [{key: value for key, value in row.items() if not key.startswith("time/")} for row in one.read_metrics()]
        for one in (plain, studied)
    )
    assert rows == other_rows
    assert plain.read_evaluation() == studied.read_evaluation()
    assert not (plain.path / FILE).exists()
    within = json.loads((studied.path / FILE).read_text())
    assert [point["step"] for point in within["points"]] == [0, 1, 2, 3]
    assert all(point["misuse"]["count"] for point in within["points"])
    assert within["teacher"]["misuse"]["value"] == 0
    # From the start, the checkpoint and the final policy of the other run.
    run_misuse(find_runs([str(plain.path)]), {})
    after = json.loads((plain.path / FILE).read_text())
    assert after["points"] == [point for point in within["points"] if point["step"] != 1]
    assert after["teacher"] == within["teacher"]
    assert after["settings"] == within["settings"]
    shutil.rmtree(plain.path / "policy")
    # All is there: no model is needed any more.
    assert run_misuse(find_runs([str(plain.path)]), {}) == {"plain, seed 0": after}
    with pytest.raises(ValueError, match="was made with samples 6, not 5"):
        run_misuse(find_runs([str(plain.path)]), {"samples": 5})
