"""Lengths of rollouts: what limits count, what fits, and what is said where it does not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from calls import call_text
from PIL import Image

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import Budget, check_lengths, context_length, exact, lengths, longest_sequence
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import encode_prompts, finish, rollout
from iapo.tools import TOOLS

CALL = "focus_on_columns_with_highlight"


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def sized(sample: Sample, size: tuple[int, int], **more: Any) -> Sample:
    return dataclasses.replace(sample, image=sample.image.resize(size), **more)


class Writer:
    """Writes the same turns for every row."""

    def __init__(self, encoder: PromptEncoder, first: str, second: str) -> None:
        tokenizer = encoder.tokenizer
        self.turns = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in (first, second)]
        self.calls: list[int] = []

    def __call__(self, rows: Sequence[list[int]], images: Any) -> list[list[int]]:
        self.calls.append(len(rows))
        return [self.turns[len(self.calls) - 1]] * len(rows)


def test_limits_of_turns() -> None:
    budget = Budget(turn=24, written=40, sequence=300)
    assert (budget.first, budget.all) == (24, 40)
    assert [budget.next(written) for written in (0, 10, 16, 17, 24, 40, 50)] == [24, 24, 24, 23, 16, 0, 0]
    assert budget.observation(sequence=210, written=10) == 300 - 200 - 10 - 24
    assert Budget(turn=24).all == 48
    assert Budget(written=40).first == 40
    nothing = Budget()
    assert (nothing.first, nothing.all, nothing.next(9), nothing.observation(9, 9)) == (None, None, None, None)


@pytest.mark.parametrize("qwen3", [False, True])
def test_cheap_counts_are_those_of_encoded_prompts(
    encoder: PromptEncoder, qwen3_encoder: PromptEncoder, charts: list[Sample], qwen3: bool
) -> None:
    of = qwen3_encoder if qwen3 else encoder
    samples = [
        sized(charts[0], (612, 200), question="value of the 2nd bar, in  %?"),
        sized(charts[1], (57, 57), list_names=True),
        *charts,
    ]
    for tools in (TOOLS, {}):
        for one in lengths(samples, of, tools):
            assert one.prompt == pytest.approx(exact(one, of, tools).prompt, abs=2)
            assert one.image == of.image_token_counts([one.sample.image])[0]
            assert bool(one.observation) == bool(tools)
    assert lengths([], of) == []


def test_image_takes_no_room_of_the_answer(encoder: PromptEncoder, charts: list[Sample]) -> None:
    """The edited image is longer than all that the model may write."""
    sample = sized(charts[0], (448, 448))
    name = next(iter(sample.column_boxes))
    write = Writer(encoder, call_text(CALL, name, "columns"), "FINAL ANSWER: 1. TERMINATE")
    (one,) = rollout([sample], encoder, write, budget=Budget(turn=40, written=80, sequence=10_000))
    assert one.completion_ids.count(encoder.image_token_id) == 256
    assert sum(one.model_written) <= 80
    assert one.trace.turn_2 == "FINAL ANSWER: 1. TERMINATE"
    assert not one.trace.observation_cut


def test_observation_that_does_not_fit_is_said(encoder: PromptEncoder, charts: list[Sample]) -> None:
    name = next(iter(charts[0].column_boxes))
    texts = call_text(CALL, name, "columns"), "FINAL ANSWER: 1. TERMINATE"
    write = Writer(encoder, *texts)
    whole = rollout(charts[:1], encoder, write, budget=Budget(turn=40))[0]
    first, seen = len(whole.first.ids), whole.model_written.count(False)
    # A second turn must have all its tokens, also those that it does not use here.
    enough = len(whole.prompt.ids) + first + seen + 40
    for sequence in (enough, enough - 1):
        write = Writer(encoder, *texts)
        (one,) = rollout(charts[:1], encoder, write, budget=Budget(turn=40, sequence=sequence))
        assert one.trace.observation_cut == (sequence < enough)
        assert len(one.images) == 1 + (sequence == enough)
        assert write.calls == ([1, 1] if sequence == enough else [1])
    assert one.completion_ids == one.first.ids
    assert one.trace.turn_2 is None
    assert one.trace.result.executed
    assert type(one.trace).from_json(one.trace.to_json()).observation_cut


def test_first_turn_that_takes_all_is_no_cut(encoder: PromptEncoder, charts: list[Sample]) -> None:
    name = next(iter(charts[0].column_boxes))
    write = Writer(encoder, call_text(CALL, name, "columns"), "FINAL ANSWER: 1. TERMINATE")
    first = write.turns[0]
    for written, answer in ((len(first), None), (len(first) + 3, write.turns[1][:3])):
        write.calls = []
        (one,) = rollout(charts[:1], encoder, write, budget=Budget(written=written, sequence=9000))
        assert not one.trace.observation_cut
        assert (one.completion_ids[-3:] == answer) == (answer is not None)
        assert one.trace.turn_2 == (None if answer is None else encoder.tokenizer.decode(answer))


def test_only_the_rollout_that_does_not_fit_is_cut(encoder: PromptEncoder, charts: list[Sample]) -> None:
    """One of a batch may be cut; the second turns of the others stay their own."""
    samples = [charts[0], sized(charts[1], (448, 448)), charts[2]]
    prompts = [lengths([sample], encoder)[0] for sample in samples]
    names = [next(iter(sample.column_boxes)) for sample in samples]
    tokenizer = encoder.tokenizer
    firsts = [tokenizer(call_text(CALL, name, "columns"))["input_ids"] for name in names]
    rows: list[list[int]] = []

    def generate(given: list[list[int]], images: Any) -> list[list[int]]:
        rows.extend(given)
        return [tokenizer(f"FINAL ANSWER: {len(row)}")["input_ids"] for row in given]

    limit = prompts[1].prompt + len(firsts[1]) + prompts[1].observation
    done = finish(samples, encode_prompts(samples, encoder), firsts, encoder, generate, budget=Budget(20, 40, limit))
    assert [one.trace.observation_cut for one in done] == [False, True, False]
    assert [one.trace.turn_2 for one in done] == [
        f"FINAL ANSWER: {len(rows[0])}",
        None,
        f"FINAL ANSWER: {len(rows[1])}",
    ]


def test_refusal_names_the_sample_and_numbers_that_work(encoder: PromptEncoder, charts: list[Sample]) -> None:
    samples = [*charts, sized(charts[1], (1400, 700), id="huge", source="mine"), *charts]
    sequence = max(one.prompt for one in lengths(charts, encoder)) + 300
    budget, context = Budget(turn=30, written=50, sequence=sequence), 8000
    with pytest.raises(InputError, match=r"sample 'huge' of mine, with an image of 1400 x 700 pixels") as refused:
        check_lengths(iter(samples), encoder, budget, context)
    message = str(refused.value)
    needed = int(re.search(r"set max_sequence_length to (\d+) or more", message)[1])  # type: ignore[index]
    pixels = int(re.search(r"set max_pixels to (\d+) or less", message)[1])  # type: ignore[index]
    assert "50 of the turns" in message
    check_lengths(samples, encoder, dataclasses.replace(budget, sequence=needed), context)
    with pytest.raises(InputError):
        check_lengths(samples, encoder, dataclasses.replace(budget, sequence=needed - 1), context)
    size = encoder.processor.image_processor.size
    high = size["longest_edge"]
    try:
        size["longest_edge"] = pixels
        check_lengths(samples, encoder, budget, context)
    finally:
        size["longest_edge"] = high
    # A real rollout that writes all it may is as long as was said, and no longer.
    sample = samples[len(charts)]
    (length,) = lengths([sample], encoder)
    assert exact(length, encoder).needed(budget) == needed
    # Beyond what the model takes, no length of the sequence is advised.
    with pytest.raises(InputError) as refused:
        check_lengths(samples, encoder, budget, sequence)
    assert "max_sequence_length" not in str(refused.value)


def test_without_tools_one_turn_counts(encoder: PromptEncoder, charts: list[Sample]) -> None:
    sample = sized(charts[0], (700, 700))
    (alone,), (with_tools,) = lengths([sample], encoder, {}), lengths([sample], encoder)
    budget = Budget(turn=30, sequence=alone.needed(Budget(turn=30)))
    assert alone.needed(budget) == alone.prompt + 30
    check_lengths([sample], encoder, budget, 9000, {})
    with pytest.raises(InputError, match="observation with the edited image"):
        check_lengths([sample], encoder, budget, 9000)
    assert with_tools.needed(budget) == with_tools.prompt + 60 + with_tools.observation


def test_context_and_longest_sequence(model: Any) -> None:
    context = context_length(model.config)
    assert context == model.config.text_config.max_position_embeddings
    assert longest_sequence(None, 50) == 50
    assert longest_sequence(20, 50) == 20
    with pytest.raises(InputError, match="max_sequence_length is 51, but the model takes 50"):
        longest_sequence(51, 50)


def test_image_that_the_processor_cannot_take(encoder: PromptEncoder, charts: list[Sample]) -> None:
    with pytest.raises(InputError, match=r"cannot see an image of 2000 x 5 pixels"):
        encoder.image_token_counts([Image.new("RGB", (2000, 5))])
    narrow = SimpleNamespace(image=Image.new("RGB", (2000, 5)))
    with pytest.raises(InputError, match=r"sample 'narrow'.*2000 x 5"):
        lengths([dataclasses.replace(charts[0], id="narrow", image=narrow.image)], encoder)
