"""References and controls: what stands in the place of an explanation, in training and in the table of a teacher."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from iapo.attribution.calls import Attributor
from iapo.attribution.divergence import divergence, entropy
from iapo.attribution.forms import FORMS
from iapo.attribution.settings import AttributionSettings, settings_of_run
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rewards.alignment import Alignment, Measured
from iapo.rewards.controls import among_alike, named_shares, permutation
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.teachers.asking import attribute_samples
from iapo.teachers.controls import random_twin
from iapo.teachers.references import make_reference
from iapo.teachers.table import TeacherTable
from iapo.tools import TOOLS

CALL = '```python\ndisplay(focus_on_{axis}_with_{style}(image_1, ["{name}"], {axis}_bbox))\n```'
NO_CALL = "FINAL ANSWER: 3. TERMINATE"
WANTED = [("columns", "mask"), ("rows", "draw"), None, ("rows", "mask")]
CALLED = [0, 1, 3, 4, 5, 7]


@pytest.fixture(scope="module")
def teacher() -> Policy:
    return load_policy("tiny-teacher")


@pytest.fixture(scope="module")
def pupil() -> Policy:
    return load_policy("tiny-student")


@pytest.fixture(scope="module")
def encoder(pupil: Policy) -> PromptEncoder:
    return PromptEncoder(pupil.processor)


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return [next(iter(generate(family, 1, seed=5, question_types=("value",)))) for family in ("vbar", "hbar")]


@pytest.fixture(scope="module")
def rollouts(encoder: PromptEncoder, charts: list[Sample]) -> list[Rollout]:
    """A right call, a misused one, none and another style, to a vertical and to a horizontal chart."""
    samples = [chart for chart in charts for _ in WANTED]
    texts = []
    for sample, wanted in zip(samples, WANTED * 2, strict=True):
        boxes = sample.column_boxes or sample.row_boxes
        text = NO_CALL if wanted is None else CALL.format(axis=wanted[0], style=wanted[1], name=next(iter(boxes)))
        texts.append(text)
    ids = [encoder.tokenizer(text)["input_ids"] for text in texts]
    return finish(
        samples, encode_prompts(samples, encoder), ids, encoder, lambda rows, _: [[5] for _ in rows], tools=TOOLS
    )


def measured(
    settings: AttributionSettings,
    teacher: Policy,
    pupil: Policy,
    encoder: PromptEncoder,
    rollouts: list[Rollout],
    step: int = 0,
) -> list[Measured]:
    alignment = Alignment(make_reference(settings, teacher, encoder), encoder, settings)
    return alignment.measure(pupil.model, rollouts, step)


def rows(found: list[Measured], who: str) -> torch.Tensor:
    return torch.tensor([list(getattr(found[index], who).values()) for index in CALLED])


def values(found: list[Measured]) -> torch.Tensor:
    return torch.tensor([found[index].divergence for index in CALLED])


BASE = AttributionSettings(normalization="floored", max_turn_tokens=24, control_seed=3)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_measures_and_its_table_is_the_live_teacher(
    form: str,
    teacher: Policy,
    pupil: Policy,
    encoder: PromptEncoder,
    charts: list[Sample],
    rollouts: Any,
    tmp_path: Path,
) -> None:
    given = {"attribution_form": form, "attribution_eps": 0.01, "attribution_steps": 1, "no_call_divergence": None}
    settings = settings_of_run(given | {"attribution_batch_size": 8, "max_turn_tokens": 24})
    own = dataclasses.replace(settings, teacher_reference="own_call")
    live = measured(own, teacher, pupil, encoder, rollouts)
    assert all(0 <= one.divergence <= math.log(9) + 1e-6 for one in live)
    # Half an L1 distance of signed shares is at most 1.
    worst = 1.0 if settings.normalization == "signed" else math.log(9)
    assert live[2].divergence == live[6].divergence == worst
    path = tmp_path / "teacher.parquet"
    attribute_samples(teacher, charts, own).write(path)
    stored = measured(dataclasses.replace(own, teacher_table=str(path)), teacher, pupil, encoder, rollouts)
    torch.testing.assert_close(values(stored), values(live), rtol=0, atol=1e-5)
    for name, value in {"score": "logit", "floor": 2.0, "blocks": "tools", "image_cells": 2, "target": "turn"}.items():
        other = dataclasses.replace(own, **{name: value})
        if other != own and (name != "floor" or own.normalization == "floored"):
            with pytest.raises(InputError, match=f"attribution_{name}"):
                TeacherTable.read(path).check_settings(other)


@pytest.mark.parametrize(("blocks", "cells"), [("all", 1), ("tools", 1), ("tools+image", 1), ("tools+image", 2)])
def test_signed_shares_and_chosen_blocks_in_a_table(
    blocks: Any,
    cells: int,
    teacher: Policy,
    pupil: Policy,
    encoder: PromptEncoder,
    charts: list[Sample],
    rollouts: Any,
    tmp_path: Path,
) -> None:
    settings = AttributionSettings(
        target="name",
        score="log_odds",
        normalization="signed",
        blocks=blocks,
        image_cells=cells,
        teacher_reference="own_call",
        max_turn_tokens=24,
    )
    live = measured(settings, teacher, pupil, encoder, rollouts)
    assert live[2].divergence == 1.0
    assert set(live[0].student) == set(settings.compared(rollouts[0].prompt.block_names))
    assert sum(map(abs, live[0].student.values())) == pytest.approx(1, abs=1e-5)
    assert min(live[0].student.values()) < 0
    path = tmp_path / "teacher.parquet"
    attribute_samples(teacher, charts, settings).write(path)
    stored = measured(dataclasses.replace(settings, teacher_table=str(path)), teacher, pupil, encoder, rollouts)
    torch.testing.assert_close(values(stored), values(live), rtol=0, atol=1e-5)


def test_both_is_the_mean_of_two_divergences(
    teacher: Policy, pupil: Policy, encoder: PromptEncoder, rollouts: Any
) -> None:
    found = {
        reference: measured(dataclasses.replace(BASE, teacher_reference=reference), teacher, pupil, encoder, rollouts)
        for reference in ("student_call", "own_call", "both")
    }
    mean = (values(found["student_call"]) + values(found["own_call"])) / 2
    torch.testing.assert_close(values(found["both"]), mean, rtol=0, atol=1e-6)
    assert found["both"][2].divergence == math.log(9)
    torch.testing.assert_close(
        rows(found["both"], "teacher"),
        (rows(found["student_call"], "teacher") + rows(found["own_call"], "teacher")) / 2,
    )


def by_name(rollouts: Any) -> torch.Tensor:
    """What the calls would be explained by if only the called tools' definitions counted; the rest is eps."""
    shares = []
    for index in CALLED:
        one = rollouts[index]
        called = {f"tool:{call.name}" for call in one.trace.result.calls}
        row = torch.tensor([float(name in called) for name in one.prompt.block_names])
        shares.append(0.99 * row / len(called) + 0.01 / 9 if called else torch.full((9,), 1 / 9))
    return torch.stack(shares)


def test_named_shares_of_signed_forms() -> None:
    settings = AttributionSettings(normalization="signed", blocks="tools")
    found = named_shares([{"a", "b"}, {"b"}, {"z"}], ("tool:a", "query", "tool:b"), settings)
    assert found.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_rows_of_the_same_tools_change_places() -> None:
    called = [{"a"}, {"b"}, {"a"}, {"a", "b"}, {"b"}, {"a"}, {"b", "a"}]
    orders = [among_alike(called, seed, 0).tolist() for seed in range(20)]
    assert len({tuple(order) for order in orders}) > 5
    for order in orders:
        assert sorted(order) == list(range(7))
        assert [called[row] for row in order] == called


@pytest.mark.slow(1)
def test_controls_put_something_else_in_one_place(
    teacher: Policy, pupil: Policy, encoder: PromptEncoder, rollouts: Any
) -> None:
    plain = measured(BASE, teacher, pupil, encoder, rollouts)
    p, q = rows(plain, "student"), rows(plain, "teacher")
    torch.testing.assert_close(values(plain), divergence(p, q))
    order = permutation(len(CALLED), 3, 7)
    assert order.tolist() != list(range(len(CALLED)))
    names = [rollouts[index].trace.result.called_names for index in CALLED]
    expected = {
        "student_uniform": divergence(torch.full_like(p, 1 / 9), q),
        "student_named": divergence(by_name(rollouts), q),
        "student_same_tools": divergence(p[among_alike(names, 3, 7)], q),
        "student_shuffled": divergence(p[order], q),
        "teacher_shuffled": divergence(p, q[order]),
        "entropy": entropy(q),
    }
    state = torch.get_rng_state()
    for control, value in expected.items():
        settings = dataclasses.replace(BASE, control=control)  # type: ignore[arg-type]
        found = measured(settings, teacher, pupil, encoder, rollouts, step=7)
        torch.testing.assert_close(values(found), value, rtol=0, atol=1e-5)
        assert found[2].divergence == math.log(9)
        assert (values(found) - values(plain)).abs().max() > 1e-3
    assert torch.equal(torch.get_rng_state(), state)
    assert permutation(20, 3, 8).tolist() != permutation(20, 3, 7).tolist()
    assert permutation(20, 3, 7).tolist() == permutation(20, 3, 7).tolist() != permutation(20, 4, 7).tolist()


def test_a_teacher_of_random_weights(teacher: Policy, pupil: Policy, encoder: PromptEncoder, rollouts: Any) -> None:
    state = torch.get_rng_state()
    first, again, other = (random_twin(teacher, seed).model.state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], teacher.model.state_dict()[name])
    found = measured(dataclasses.replace(BASE, control="teacher_random"), teacher, pupil, encoder, rollouts)
    twin = random_twin(teacher, 3)
    assert rows(found, "teacher").tolist() == rows(measured(BASE, twin, pupil, encoder, rollouts), "teacher").tolist()
    assert (
        rows(found, "student").tolist() == rows(measured(BASE, teacher, pupil, encoder, rollouts), "student").tolist()
    )


def test_too_few_blocks_are_refused(teacher: Policy, encoder: PromptEncoder) -> None:
    one = {name: tool for name, tool in TOOLS.items() if name == "focus_on_rows_with_mask"}
    settings = AttributionSettings(blocks="tools")
    with pytest.raises(InputError, match="leaves 1 of the prompt's 4 blocks"):
        Alignment(teacher, encoder, settings, one)


def test_an_attribution_of_names_needs_no_more_than_the_reference(
    teacher: Policy, encoder: PromptEncoder, rollouts: Any
) -> None:
    """Name odds of a group in one batch are those of each call alone."""
    settings = AttributionSettings(target="name", score="log_odds", normalization="softmax")
    attributor = Attributor(teacher.model, encoder.pixels, settings, tokenizer=encoder.tokenizer)
    chosen = [rollouts[index] for index in CALLED]
    turns = [(one.first.ids, one.first.target) for one in chosen]
    together = attributor.distributions([one.prompt for one in chosen], turns)
    alone = torch.cat([attributor.distributions([one.prompt], [turn]) for one, turn in zip(chosen, turns, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
