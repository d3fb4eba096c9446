"""The divergence from a teacher, on rollouts whose turns are put into the model's mouth."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from iapo.attribution.calls import Attributor
from iapo.attribution.divergence import block_distribution
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.settings import AttributionSettings
from iapo.records import Sample
from iapo.rewards.alignment import Alignment, Measured
from iapo.rollout.policy import ImageTextProcessor, Policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.studies.explanations import explain
from iapo.teachers.references import make_reference
from iapo.tools import TOOLS

BLOCKS = ["context", "image_1", *(f"tool:{name}" for name in TOOLS), "query"]
WORST = math.log(9)

CALL = "```python\ndisplay(focus_on_{axis}_with_{style}(image_1, [{names}], {axis}_bbox))\n```"
NO_CALL = "FINAL ANSWER: 3. TERMINATE"
REFUSED = "```python\nimport os\n```"
FAILED = CALL.format(axis="rows", style="draw", names='"no such row"')


def edit(sample: Sample, axis: str = "columns", style: str = "mask", thought: str = "") -> str:
    return thought + CALL.format(axis=axis, style=style, names=f'"{next(iter(sample.column_boxes))}"')


def rollouts_of(
    encoder: PromptEncoder, samples: Sequence[Sample], turns: Sequence[str], *, split: bool = False
) -> list[Rollout]:
    """Rollouts with these first turns; `split` spells control tokens out letter by letter."""

    def answer(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        return [encoder.tokenizer("FINAL ANSWER: 1. TERMINATE")["input_ids"] for _ in rows]

    ids = [
        [*encoder.tokenizer(turn, split_special_tokens=split)["input_ids"], encoder.tokenizer.eos_token_id]
        for turn in turns
    ]
    return finish(samples, encode_prompts(samples, encoder), ids, encoder, answer)


def by_hand(
    model: PreTrainedModel, encoder: PromptEncoder, sample: Sample, text: str, program: str
) -> dict[str, float]:
    """A model's distribution for the program in a turn, alone and in the model's own tokens."""
    prompt = encoder.encode(build_blocks(sample))
    encoding = encoder.tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
    start, end = text.index(program), text.index(program) + len(program)
    pixels = encoder.pixels([sample.image])
    call = CallInput(
        prompt_ids=prompt.ids,
        block_of=prompt.block_of,
        blocks=9,
        turn_ids=encoding["input_ids"],
        target=[a < end and b > start for a, b in encoding["offset_mapping"]],
        pictures=(0,),
    )
    scores = block_scores(model, [call], Pictures(pixels["pixel_values"], pixels["image_grid_thw"]))
    return dict(zip(BLOCKS, block_distribution(scores)[0].tolist(), strict=True))


@pytest.fixture
def same(model: PreTrainedModel, processor: ImageTextProcessor, encoder: PromptEncoder) -> Alignment:
    """The teacher is a copy of the student."""
    return Alignment(Policy(copy.deepcopy(model), processor), encoder)


@pytest.fixture
def larger(other_model: PreTrainedModel, processor: ImageTextProcessor, encoder: PromptEncoder) -> Alignment:
    """The teacher is a copy of the larger model."""
    return Alignment(Policy(copy.deepcopy(other_model), processor), encoder)


@pytest.fixture
def varied(encoder: PromptEncoder, samples: list[Sample]) -> list[Rollout]:
    """Two groups with calls of every kind."""
    a, b = samples[0], samples[2]
    turns = [
        (a, edit(a)),
        (a, NO_CALL),
        (a, edit(a, "rows", "draw", "I look closely.\n")),
        (a, edit(a)),
        (a, FAILED),
        (b, edit(b, "rows", "highlight")),
        (b, REFUSED),
        (b, edit(b, "rows", "highlight", "Hm. ")),
    ]
    rollouts = rollouts_of(encoder, [sample for sample, _ in turns], [turn for _, turn in turns])
    statuses = [one.trace.result.status for one in rollouts]
    assert statuses == ["edited", "no_call", "edited", "edited", "failed", "edited", "refused", "edited"]
    return rollouts


CALLED = (0, 2, 3, 4, 5, 7)


def assert_distribution(blocks: dict[str, float]) -> None:
    assert list(blocks) == BLOCKS
    assert sum(blocks.values()) == pytest.approx(1, abs=1e-5)
    assert min(blocks.values()) >= 0.01 / 9 * 0.9999


def test_a_copy_of_the_student_does_not_diverge(same: Alignment, model: PreTrainedModel, varied: list[Rollout]):
    measured = same.measure(model, varied)
    assert [measured[index].divergence for index in CALLED] == [0.0] * 6
    for index in CALLED:
        assert_distribution(dict(measured[index].student))
        assert measured[index].student == measured[index].teacher


def test_rollouts_without_a_call_get_the_worst(same: Alignment, model: PreTrainedModel, varied: list[Rollout]):
    """Also where there is none with a call beside them; 0 would make not calling the best."""
    for rollouts in (varied, [varied[1], varied[6]]):
        for one, measured in zip(rollouts, same.measure(model, rollouts), strict=True):
            if one.trace.result.status in ("no_call", "refused"):
                assert measured == Measured(WORST, {}, {})
    assert same.measure(model, []) == []


def test_patches_of_the_first_rollouts(
    larger: Alignment, other_model: PreTrainedModel, model: PreTrainedModel, varied: list[Rollout]
):
    """The shares that `iapo attribute` shows, for those of the first five that have an attribution."""
    measured = larger.measure(model, varied)
    found = larger.add_patches(model, varied, measured, 5)
    assert [bool(one.patches) for one in found] == [True, False, True, True, True, False, False, False]
    assert found[0].patches == found[3].patches
    assert [dataclasses.replace(one, patches={}) for one in found] == measured
    assert larger.add_patches(model, varied, measured, 0) == measured
    for who, reader in (("student", model), ("teacher", other_model)):
        policy = Policy(reader, larger.encoder.processor)
        first = varied[2].first
        one = explain(who, policy, larger.encoder, varied[2].prompt, (first.ids, first.target))
        (grid,) = found[2].patches[who]
        assert np.array(grid) == pytest.approx(one.patches, rel=6e-3, abs=1e-7)
        assert np.abs(grid).max() > 0.01
        assert all(share == float(f"{share:.3g}") for row in grid for share in row)


def test_a_teachers_own_calls_have_no_patches(
    model: PreTrainedModel, other_model: PreTrainedModel, encoder: PromptEncoder, varied: list[Rollout]
):
    teacher = Policy(copy.deepcopy(other_model), encoder.processor)
    settings = AttributionSettings(teacher_reference="own_call", max_turn_tokens=4)
    alignment = Alignment(make_reference(settings, teacher, encoder), encoder, settings)
    row = Measured(0.5, {"query": 1.0}, {"query": 1.0})
    (found,) = alignment.add_patches(model, varied[:1], [row], 1)
    assert list(found.patches) == ["student"]


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_no_call_can_be_set(
    model: PreTrainedModel, processor: ImageTextProcessor, encoder: PromptEncoder, varied: list[Rollout], value: float
):
    alignment = Alignment(Policy(copy.deepcopy(model), processor), encoder, AttributionSettings(no_call=value))
    measured = alignment.measure(model, varied)
    assert [one.divergence for one in measured] == [0, value, 0, 0, 0, 0, value, 0]


def test_another_teacher_diverges(larger: Alignment, model: PreTrainedModel, varied: list[Rollout]):
    measured = larger.measure(model, varied)
    for index in CALLED:
        one = measured[index]
        assert_distribution(dict(one.student))
        assert_distribution(dict(one.teacher))
        by_the_formula = sum(p * math.log(p / one.teacher[name]) for name, p in one.student.items())
        assert one.divergence == pytest.approx(min(by_the_formula, WORST), abs=1e-5)
        assert 0 < one.divergence <= WORST + 1e-6


def test_against_the_definition(
    larger: Alignment,
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    encoder: PromptEncoder,
    samples: list[Sample],
):
    """The thought conditions the call and is not scored, nor are the fences and what follows."""
    program = 'display(focus_on_rows_with_draw(image_1, ["A"], rows_bbox))'
    text = f"I look closely.\n```python\n{program}\n```\nDone."
    (measured,) = larger.measure(model, rollouts_of(encoder, samples[:1], [text]))
    for found, reader in ((measured.student, model), (measured.teacher, other_model)):
        assert dict(found) == pytest.approx(by_hand(reader, encoder, samples[0], text, program), abs=1e-5)
        without_thought = text.partition("\n")[2]
        assert dict(found) != pytest.approx(by_hand(reader, encoder, samples[0], without_thought, program), abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_equal_rollouts_get_equal_values(
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    varied: list[Rollout],
    batch_size: int,
):
    """And a rollout's value does not depend on what else is in the batch, nor on its place."""
    alignment = Alignment(
        Policy(copy.deepcopy(other_model), processor), encoder, AttributionSettings(batch_size=batch_size)
    )
    measured = alignment.measure(model, varied)
    assert measured[0] == measured[3]
    assert measured[0].divergence != measured[2].divergence
    # The thought before a call counts, though the call is the same.
    assert measured[5].divergence != measured[7].divergence
    backwards = alignment.measure(model, varied[::-1])[::-1]
    alone = [alignment.measure(model, [one])[0] for one in varied]
    for a, b, c in zip(measured, backwards, alone, strict=True):
        assert a.divergence == pytest.approx(b.divergence, abs=1e-5)
        assert a.divergence == pytest.approx(c.divergence, abs=1e-5)
        assert dict(a.teacher) == pytest.approx(dict(c.teacher), abs=1e-5)


def test_equal_calls_on_other_charts_differ(
    larger: Alignment, model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]
):
    turn = CALL.format(axis="rows", style="draw", names='"A"')
    one, other = larger.measure(model, rollouts_of(encoder, samples[:2], [turn, turn]))
    assert one.student != other.student
    assert one.teacher != other.teacher


def test_the_whole_turn_as_target(
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    varied: list[Rollout],
):
    teacher = Policy(copy.deepcopy(other_model), processor)
    call = Alignment(teacher, encoder).measure(model, varied)
    turn = Alignment(teacher, encoder, AttributionSettings(target="turn")).measure(model, varied)
    assert turn[2].student != call[2].student
    # Only calls have an attribution, whatever is explained.
    assert turn[1] == call[1] == Measured(WORST, {}, {})


@pytest.mark.parametrize("settings", [AttributionSettings(normalization="softmax"), AttributionSettings(steps=2)])
def test_other_ways_to_attribute(
    same: Alignment,
    model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    varied: list[Rollout],
    settings: AttributionSettings,
):
    other = Alignment(Policy(copy.deepcopy(model), processor), encoder, settings).measure(model, varied)
    assert other[0].divergence == 0
    assert other[0].student != same.measure(model, varied)[0].student


def test_a_teacher_with_another_tokenizer(
    model: PreTrainedModel, encoder: PromptEncoder, foreign: Policy, varied: list[Rollout]
):
    """Student and teacher are compared block by block, whatever their tokens."""
    alignment = Alignment(foreign, encoder)
    assert len(foreign.processor.tokenizer) < len(encoder.tokenizer)
    measured = alignment.measure(model, varied)
    for index in CALLED:
        assert_distribution(dict(measured[index].teacher))
        assert 0 < measured[index].divergence <= WORST + 1e-6
    one = varied[2].trace
    program = next(line for line in one.turn_1.splitlines() if line.startswith("display"))
    expected = by_hand(foreign.model, PromptEncoder(foreign.processor), one.sample, one.turn_1, program)
    assert dict(measured[2].teacher) == pytest.approx(expected, abs=1e-5)


def test_a_teacher_that_reads_alike_reads_nothing_again(
    larger: Alignment, model: PreTrainedModel, varied: list[Rollout], encoder: PromptEncoder, monkeypatch: Any
):
    """Its prompts are the student's own, and student and teacher share one reading of the images."""
    expected = larger.measure(model, varied)
    # What a teacher with a processor of its own settings finds, which reads all by itself.
    teacher = Policy(larger.student_call.model, copy.deepcopy(encoder.processor))
    teacher.processor.image_processor.size["longest_edge"] += 28 * 28
    apart = Alignment(teacher, encoder)
    assert all(one.prompt is not own for one, own in zip(varied, apart.student_call.prompts(varied), strict=True))
    assert apart.measure(model, varied) == expected

    def refuse(*_: Any) -> None:
        raise AssertionError("a prompt was encoded again")

    read: list[int] = []
    process = encoder.processor.image_processor
    monkeypatch.setattr(PromptEncoder, "encode", refuse)
    monkeypatch.setattr(
        encoder.pixels, "_processor", lambda images, **kwargs: read.append(len(images)) or process(images, **kwargs)
    )
    assert Alignment(Policy(larger.student_call.model, encoder.processor), encoder).measure(model, varied) == expected
    assert read == [2]


@pytest.mark.parametrize("target", ["call", "turn"])
def test_another_tokenizer_reads_no_control_tokens(
    model: PreTrainedModel, encoder: PromptEncoder, foreign: Policy, samples: list[Sample], target: str
):
    """A model can spell a control token in letters; these must stay letters for the teacher."""
    turn = CALL.format(axis="rows", style="draw", names='"<|image_pad|><|im_end|> 😀"')
    rollouts = rollouts_of(encoder, samples[:1], [turn], split=True)
    assert rollouts[0].trace.turn_1 == turn
    assert rollouts[0].trace.result.status == "failed"
    alignment = Alignment(foreign, encoder, AttributionSettings(target=target))
    (measured,) = alignment.measure(model, rollouts)
    assert_distribution(dict(measured.teacher))


def test_the_teacher_is_frozen_and_the_student_left_alone(
    larger: Alignment,
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    varied: list[Rollout],
):
    student, teacher = copy.deepcopy(model).train(), copy.deepcopy(other_model).train()
    measured = Alignment(Policy(teacher, processor), encoder).measure(student, varied)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    before = other_model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert student.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in student.parameters())
    assert measured[0].divergence == pytest.approx(larger.measure(model, varied)[0].divergence, abs=1e-6)


def wanted(teacher: PreTrainedModel, processor: ImageTextProcessor, encoder: PromptEncoder, **more: Any) -> Alignment:
    settings = AttributionSettings(log_probs=True, **more)
    return Alignment(Policy(copy.deepcopy(teacher), processor), encoder, settings)


@pytest.mark.parametrize("steps", [1, 2])
def test_log_probs_against_the_definition(
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    varied: list[Rollout],
    steps: int,
):
    """The teacher's mean log-probability of the program's tokens; a guess's where there is none."""
    alignment = wanted(other_model, processor, encoder, steps=steps)
    assert alignment.reference.log_prob_floor == pytest.approx(-math.log(len(encoder.tokenizer)))
    # An untrained teacher finds most calls less likely than a guess.
    alignment.reference.log_prob_floor = floor = -8.0
    found = alignment.log_probs(varied)
    for index, (one, value) in enumerate(zip(varied, found, strict=True)):
        if index not in CALLED:
            assert value == pytest.approx(floor)
            continue
        ids = torch.tensor([one.prompt.ids + one.first.ids])
        with torch.no_grad():
            logits = other_model(
                input_ids=ids,
                mm_token_type_ids=(ids == encoder.image_token_id).long(),
                **encoder.pixels([one.trace.sample.image]),
            ).logits[0]
        start = len(one.prompt.ids) - 1
        places = [start + place for place, scored in enumerate(one.first.target) if scored]
        tokens = [token for token, scored in zip(one.first.ids, one.first.target, strict=True) if scored]
        mean = logits.log_softmax(-1)[places, tokens].mean().item()
        assert floor < mean
        assert value == pytest.approx(mean, abs=1e-4)
    assert found[0] == found[3]
    assert len({round(found[index], 5) for index in CALLED}) == 5
    # Nobody called anything: the teacher is not asked.
    assert alignment.log_probs([varied[1]]) == [floor]


def test_log_probs_come_with_the_explanation(
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    varied: list[Rollout],
    monkeypatch: pytest.MonkeyPatch,
):
    """What was measured costs no second pass, and the divergences are the same with them as without."""
    alignment = wanted(other_model, processor, encoder)
    measured = alignment.measure(model, varied)
    monkeypatch.setattr(Attributor, "_attribute", lambda *args: pytest.fail("a second pass"))
    log_probs = alignment.log_probs(varied)
    monkeypatch.undo()
    assert log_probs == wanted(other_model, processor, encoder).log_probs(varied)
    plain = Alignment(Policy(copy.deepcopy(other_model), processor), encoder)
    for one, other in zip(measured, plain.measure(model, varied), strict=True):
        assert one.divergence == pytest.approx(other.divergence, abs=1e-5)
        assert dict(one.teacher) == pytest.approx(dict(other.teacher), abs=1e-5)


def test_log_probs_never_fall_below_a_guess(
    other_model: PreTrainedModel, processor: ImageTextProcessor, encoder: PromptEncoder, varied: list[Rollout]
):
    alignment = wanted(other_model, processor, encoder)
    alignment.reference.log_prob_floor = -1.0
    assert alignment.log_probs(varied) == [-1.0] * len(varied)


def test_log_probs_must_be_asked_for(larger: Alignment, varied: list[Rollout]):
    with pytest.raises(ValueError, match="log-probabilities were not asked for"):
        larger.log_probs(varied)
