"""Prompts that are read once: the turns are those of `make_generate`, the distributions those of `Attributor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from iapo.attribution import reading
from iapo.attribution.calls import Attributor
from iapo.attribution.reading import ReadPrompts
from iapo.attribution.settings import AttributionSettings
from iapo.records import Sample
from iapo.rollout.generation import Greedy, make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder, build_blocks

LIMIT = 12
PROGRAM = '```python\ndisplay(focus_on_{axis}_with_draw(image_1, ["B"], {axis}_bbox))\n```'
THOUGHTS = ("", "I want to see row B.\n", "Let me look: the question asks for a single bar.\n", "")


@pytest.fixture(scope="module")
def prompts(encoder: PromptEncoder, samples: list[Sample]) -> list[EncodedPrompt]:
    """Prompts of different lengths, the images of three sizes, the last one of two images and so of more blocks."""
    sizes = [(112, 112), (168, 112), (112, 168), (112, 112)]
    resized = [dataclasses.replace(one, image=one.image.resize(size)) for one, size in zip(samples, sizes, strict=True)]
    resized[3] = dataclasses.replace(resized[3], more_images=(samples[0].image.rotate(180),))
    found = [encoder.encode(build_blocks(sample)) for sample in resized]
    assert len({len(prompt.ids) for prompt in found}) > 2
    assert len({prompt.block_names for prompt in found}) == 2
    return found


@pytest.fixture(scope="module")
def turns(encoder: PromptEncoder) -> list[tuple[list[int], list[bool]]]:
    found = []
    for place, thought in enumerate(THOUGHTS):
        before = encoder.tokenizer(thought, add_special_tokens=False)["input_ids"]
        program = PROGRAM.format(axis=("rows", "columns")[place % 2])
        scored = encoder.tokenizer(program, add_special_tokens=False)["input_ids"]
        found.append((before + scored, [False] * len(before) + [True] * len(scored)))
    return found


def attributor_of(model: PreTrainedModel, encoder: PromptEncoder, **more: object) -> Attributor:
    return Attributor(model, encoder.pixels, AttributionSettings(**more), tokenizer=encoder.tokenizer)  # type: ignore[arg-type]


def apart(attributor: Attributor, prompts: Sequence[EncodedPrompt], turns: Sequence[object]) -> list[list[float]]:
    """Explains turns one by one, each behind its own prompt."""
    pairs = zip(prompts, turns, strict=True)
    return [attributor.distributions([prompt], [turn])[0].tolist() for prompt, turn in pairs]  # type: ignore[list-item]


def read(attributor: Attributor, prompts: Sequence[EncodedPrompt], limit: int = LIMIT) -> ReadPrompts:
    found = ReadPrompts.read(attributor, prompts, limit)
    assert found is not None
    return found


@pytest.mark.parametrize("some", [(0, 1, 2, 3), (0, 0), (2,)])
def test_turns_are_those_of_generate(
    model: PreTrainedModel, encoder: PromptEncoder, prompts: list[EncodedPrompt], some: tuple[int, ...]
) -> None:
    policy, chosen = Policy(model, encoder.processor), [prompts[row] for row in some]
    generate = make_generate(policy, encoder, max_new_tokens=LIMIT)
    wanted = generate([prompt.ids for prompt in chosen], [list(prompt.images) for prompt in chosen])
    found = read(attributor_of(model, encoder), chosen)
    assert found.write(Greedy.of(policy, encoder, LIMIT)) == wanted
    # Writing leaves what was read as it was.
    assert found.write(Greedy.of(policy, encoder, LIMIT)) == wanted


def test_a_turn_ends_where_its_end_is_written(
    model: PreTrainedModel, encoder: PromptEncoder, prompts: list[EncodedPrompt]
) -> None:
    policy = Policy(model, encoder.processor)
    whole = read(attributor_of(model, encoder), prompts).write(Greedy.of(policy, encoder, LIMIT))
    end = whole[1][3]
    greedy = dataclasses.replace(Greedy.of(policy, encoder, LIMIT), ends=frozenset({end}))
    cut = read(attributor_of(model, encoder), prompts).write(greedy)
    assert cut == [greedy.cut(turn) for turn in whole]
    assert len(cut[1]) <= 4
    never = dataclasses.replace(greedy, unwritable=(*greedy.unwritable, whole[0][0]))
    assert whole[0][0] not in read(attributor_of(model, encoder), prompts).write(never)[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target": "name", "score": "log_odds"},
        {"target": "name", "score": "contrast"},
        {"target": "turn"},
        {"blocks": "tools"},
        {"image_cells": 4},
        {"log_probs": True},
    ],
    ids=repr,
)
@pytest.mark.parametrize("rows", [(0, 1, 2, 3), (1, 3), (0,)])
def test_distributions_are_those_of_each_turn_alone(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    prompts: list[EncodedPrompt],
    turns: list[tuple[list[int], list[bool]]],
    settings: dict[str, object],
    rows: tuple[int, ...],
) -> None:
    attributor = attributor_of(model, encoder, **settings)
    wanted = apart(attributor, [prompts[row] for row in rows], [turns[row] for row in rows])
    found = read(attributor, prompts).distributions(rows, [turns[row] for row in rows])
    for one, other in zip(found, wanted, strict=True):
        assert one.tolist() == pytest.approx(other, abs=5e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_prompt_that_ends_with_an_image(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    prompts: list[EncodedPrompt],
    turns: list[tuple[list[int], list[bool]]],
) -> None:
    """Its last token has features of its own, and behind several layers of Qwen3-VL."""

    def cut(prompt: EncodedPrompt) -> EncodedPrompt:
        end = 1 + max(place for place, token in enumerate(prompt.ids) if token == encoder.image_token_id)
        return dataclasses.replace(prompt, ids=prompt.ids[:end], block_of=prompt.block_of[:end])

    ending = [cut(prompts[0]), cut(prompts[1])]
    attributor = attributor_of(model, encoder)
    wanted = apart(attributor, ending, turns[:2])
    for one, other in zip(read(attributor, ending).distributions([0, 1], turns[:2]), wanted, strict=True):
        assert one.tolist() == pytest.approx(other, abs=5e-6)


def test_what_cannot_be_shared_is_not(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    prompts: list[EncodedPrompt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    longest = max(len(prompt.ids) for prompt in prompts)
    most = len(prompts) * (longest + LIMIT)
    assert ReadPrompts.read(attributor_of(model, encoder, tokens=most), prompts, LIMIT) is not None
    assert ReadPrompts.read(attributor_of(model, encoder, tokens=most - 1), prompts, LIMIT) is None
    assert ReadPrompts.read(attributor_of(model, encoder, method="attention"), prompts, LIMIT) is None
    assert ReadPrompts.read(attributor_of(model, encoder, steps=4), prompts, LIMIT) is None
    short = dataclasses.replace(prompts[0], ids=prompts[0].ids[:1], block_of=prompts[0].block_of[:1])
    assert ReadPrompts.read(attributor_of(model, encoder), [short], LIMIT) is None

    class Keeping(DynamicCache):
        """Holds states as numbers alone, as caches that quantise or offload them do."""

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **more: object) -> object:
            return super().update(key_states.detach(), value_states.detach(), *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "DynamicCache", Keeping)
    assert ReadPrompts.read(attributor_of(model, encoder), prompts, LIMIT) is None


def test_the_model_stays_as_it_was(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    prompts: list[EncodedPrompt],
    turns: list[tuple[list[int], list[bool]]],
) -> None:
    needed = [parameter.requires_grad for parameter in model.parameters()]
    model.train()
    try:
        found = read(attributor_of(model, encoder), prompts)
        assert all(module.training for module in model.modules())
        found.distributions([1], [turns[1]])
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert [parameter.requires_grad for parameter in model.parameters()] == needed
