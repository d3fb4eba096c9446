"""Attribution of rollouts with several calls: each on all that stands before its turn, and their mean."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from scripted import up_to_five
from transformers import PreTrainedModel

from iapo.attribution.divergence import block_distribution, kl_divergence
from iapo.attribution.gradient import CallInput, Pictures, block_scores, call_log_probs
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rewards.alignment import Alignment
from iapo.rollout.budget import Budget
from iapo.rollout.policy import ImageTextProcessor, Policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import find_prompt
from iapo.rollout.turns import Rollout, rollout
from iapo.teachers.references import OwnCall
from iapo.teachers.student_call import StudentCall

TEMPLATE = find_prompt("tiny-turns")
REFUSED = "```python\nimport os\n```"


@pytest.fixture(scope="module")
def turning(processor: ImageTextProcessor) -> PromptEncoder:
    return PromptEncoder(processor, TEMPLATE)


def rolled(encoder: PromptEncoder, samples: Sequence[Sample], scripts: Sequence[Sequence[str]]) -> list[Rollout]:
    """Rollouts of at most five turns, one after the other."""
    found = []
    for sample, script in zip(samples, scripts, strict=True):
        left = iter(script)

        def write(rows: list[list[int]], images: list[list[Image.Image]], left=left) -> list[list[int]]:
            return [[*encoder.tokenizer(next(left))["input_ids"], encoder.tokenizer.eos_token_id] for _ in rows]

        found += rollout([sample], encoder, write, budget=Budget(turns=5))
    return found


@pytest.fixture(scope="module")
def mixed(turning: PromptEncoder, samples: list[Sample]) -> list[Rollout]:
    """Two, three and five turns on two charts, one with an unlawful program in the middle, one without any."""
    chart, other = samples[0], samples[2]
    scripts = [up_to_five(chart, 0), up_to_five(chart, 1), up_to_five(chart, 2), up_to_five(other, 1)]
    scripts += [(scripts[0][0], REFUSED, scripts[0][1]), (scripts[0][1],)]
    return rolled(turning, [chart, chart, chart, other, chart, chart], scripts)


def alone(model: PreTrainedModel, encoder: PromptEncoder, one: Rollout, turn: int, same: bool) -> torch.Tensor:
    """A model's distribution for a turn's program, from its own sequence alone: readable attribution, no sharing."""
    prompt = encoder.encode(build_blocks(one.trace.sample, template=TEMPLATE))
    ids, block_of, blocks = list(prompt.ids), list(prompt.block_of), len(prompt.block_names)
    images = [one.trace.sample.image]
    tokens = [
        part.ids if same else encoder.tokenizer(part.text, split_special_tokens=True)["input_ids"] for part in one.turns
    ]
    for number in range(turn):
        shown = one.observations[number].shown
        seen = encoder.observation(shown, ended=same)
        with_image = [place for place, token in enumerate(seen) if token == encoder.image_token_id]
        marks = range(with_image[0] - 1, with_image[-1] + 2) if with_image else range(0)
        ids += [*tokens[number], *seen]
        block_of += [blocks] * len(tokens[number])
        block_of += [blocks + 2 if place in marks else blocks + 1 for place in range(len(seen))]
        blocks += 3 if shown.image is not None else 2
        images += [shown.image] if shown.image is not None else []
    target = one.turns[turn].target
    if not same:
        span = one.turns[turn].result.span
        assert span is not None
        encoding = encoder.tokenizer(one.turns[turn].text, return_offsets_mapping=True, split_special_tokens=True)
        target = [end > span[0] and start < span[1] for start, end in encoding["offset_mapping"]]
    pixels = encoder.pixels(images)
    call = CallInput(ids, block_of, blocks, tokens[turn], target, tuple(range(len(images))))
    pictures = Pictures(pixels["pixel_values"], pixels["image_grid_thw"])
    return block_distribution(block_scores(model, [call], pictures))[0]


def test_each_call_is_explained_on_all_before_its_turn(
    model: PreTrainedModel, other_model: PreTrainedModel, turning: PromptEncoder, mixed: list[Rollout]
) -> None:
    """The batch as a whole gives what each call gives alone; two, three and five turns beside each other."""
    alignment = Alignment(Policy(copy.deepcopy(other_model), turning.processor), turning)
    for one, measured in zip(mixed, alignment.measure(model, mixed), strict=True):
        programs = [turn for turn, written in enumerate(one.turns) if written.result.called]
        turns = measured.turns or (measured,)
        assert len(turns) == max(1, len(programs))
        assert measured.divergence == pytest.approx(sum(part.divergence for part in turns) / len(turns), abs=1e-6)
        for turn, part in zip(programs, turns, strict=False):
            blocks = len(one.from_turn(turn, turning).prompt.block_names)
            if one.turns[turn].result.status == "refused":
                assert part.divergence == pytest.approx(math.log(blocks))
                assert not part.student
                continue
            p, q = (alone(each, turning, one, turn, same=True) for each in (model, other_model))
            assert len(p) == blocks
            torch.testing.assert_close(torch.tensor(list(part.student.values())), p, rtol=0, atol=1e-5)
            torch.testing.assert_close(torch.tensor(list(part.teacher.values())), q, rtol=0, atol=1e-5)
            assert part.divergence == pytest.approx(kl_divergence(p, q).item(), abs=1e-5)


@pytest.mark.slow(1)
def test_a_teacher_of_another_family_reads_all_in_its_own_tokens(
    model: PreTrainedModel, foreign: Policy, turning: PromptEncoder, mixed: list[Rollout]
) -> None:
    teacher = PromptEncoder(foreign.processor, TEMPLATE)
    measured = Alignment(foreign, turning).measure(model, mixed[1:4])
    for one, found in zip(mixed[1:4], measured, strict=True):
        for turn, part in enumerate(found.turns):
            q = alone(foreign.model, teacher, one, turn, same=False)
            torch.testing.assert_close(torch.tensor(list(part.teacher.values())), q, rtol=0, atol=1e-5)


def test_log_probs_are_the_models_own(model: PreTrainedModel, turning: PromptEncoder, mixed: list[Rollout]) -> None:
    """What attribution sees of a fifth turn's prompt, three images in it, is what the model sees of the sequence."""
    one = mixed[2]
    ids = torch.tensor([one.prompt.ids + one.completion_ids])
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == turning.image_token_id).long(),
            **turning.pixels(one.images),
        ).logits
    every = logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    for turn in (1, 3):
        tail = one.from_turn(turn, turning)
        start = len(tail.prompt.ids)
        scored = [start + place - 1 for place, own in enumerate(tail.first.target) if own]
        pixels = turning.pixels(tail.prompt.images)
        call = CallInput(
            tail.prompt.ids,
            tail.prompt.block_of,
            len(tail.prompt.block_names),
            tail.first.ids,
            tail.first.target,
            tuple(range(len(tail.prompt.images))),
        )
        found = call_log_probs(model, [call], Pictures(pixels["pixel_values"], pixels["image_grid_thw"]))
        assert found.item() == pytest.approx(every[scored].sum().item(), rel=1e-5)


def test_records_tell_each_turn(
    model: PreTrainedModel, other_model: PreTrainedModel, turning: PromptEncoder, mixed: list[Rollout]
) -> None:
    alignment = Alignment(Policy(copy.deepcopy(other_model), turning.processor), turning)
    measured = alignment.add_patches(model, mixed, alignment.measure(model, mixed), len(mixed))
    traces = [found.told(one.trace) for one, found in zip(mixed, measured, strict=True)]
    # Of one call the rollout's own numbers say all.
    assert [turn.divergence for turn in traces[0].turns] == [None, None]
    assert traces[0].attribution == measured[0].distributions
    five = traces[2]
    assert [turn.divergence for turn in five.turns] == [*(part.divergence for part in measured[2].turns), None]
    assert five.attribution == five.turns[0].attribution
    assert "image_3" in five.turns[3].attribution["student"]
    assert "turn_1" not in five.attribution["student"]
    assert sum(abs(share) for grid in five.patches["student"] for row in grid for share in row) < 1
    refused = traces[4].turns[1]
    assert refused.divergence == pytest.approx(math.log(9 + 3))
    assert refused.attribution == {}
    assert type(five).from_json(five.to_json()).turns[2].attribution == five.turns[2].attribution


def test_log_probs_of_the_teacher_are_means_over_turns(
    model: PreTrainedModel, other_model: PreTrainedModel, turning: PromptEncoder, mixed: list[Rollout]
) -> None:
    settings = AttributionSettings(log_probs=True)
    teacher = Policy(copy.deepcopy(other_model), turning.processor)
    alignment = Alignment(StudentCall(teacher, turning, settings), turning, settings)
    found = alignment.log_probs(mixed)
    singly = [
        [alignment.log_probs([one.from_turn(turn, turning).first_alone()])[0] for turn in range(len(one.turns) - 1)]
        for one in mixed[:4]
    ]
    assert found[:4] == pytest.approx([sum(some) / len(some) for some in singly], rel=1e-4)
    assert found[5] == alignment.student_call.log_prob_floor  # type: ignore[union-attr]


def test_a_teacher_of_its_own_calls_has_none_of_later_turns(
    model: PreTrainedModel, other_model: PreTrainedModel, turning: PromptEncoder, mixed: list[Rollout]
) -> None:
    own = OwnCall(Policy(copy.deepcopy(other_model), turning.processor), AttributionSettings(), template=TEMPLATE)
    with pytest.raises(InputError, match="max_turns above 2 needs teacher_reference student_call"):
        Alignment(own, turning).measure(model, mixed)
