"""A transcript is laid out as the rollout with these turns is, and only what the model writes is learnt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from calls import call_text
from PIL import Image
from transformers import PreTrainedModel

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import Budget
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.rollout.turns import rollout
from iapo.supervised.examples import IGNORED, Collator, ExampleMaker, TranscriptError, is_right
from iapo.tools import TOOLS
from iapo.training.batches import to_dataset

ANSWER = "FINAL ANSWER: 3. TERMINATE"


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 3, seed=1, split="supervised"))


@pytest.fixture(scope="module")
def maker(encoder: PromptEncoder) -> ExampleMaker:
    return ExampleMaker(encoder, TOOLS)


def turns_for(sample: Sample) -> tuple[str, str]:
    return call_text("focus_on_columns_with_mask", next(iter(sample.column_boxes)), "columns"), ANSWER


def test_ids_are_those_of_the_rollout_that_writes_these_turns(
    maker: ExampleMaker, encoder: PromptEncoder, charts: list[Sample]
) -> None:
    tokenizer = encoder.tokenizer
    texts = iter(turns_for(charts[0]))

    def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        return [[*tokenizer(next(texts), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]]

    (wanted,) = rollout([charts[0]], encoder, generate)
    found = maker.example(charts[0], turns_for(charts[0]))
    assert found.ids == wanted.prompt.ids + wanted.completion_ids
    assert [image.size for image in found.images] == [image.size for image in wanted.images]
    learnt = [token for token in found.labels if token != IGNORED]
    assert learnt == [token for token, own in zip(wanted.completion_ids, wanted.model_written, strict=True) if own]
    assert tokenizer.decode(learnt) == "".join(f"{text}<|im_end|>" for text in turns_for(charts[0]))


def test_an_answer_without_a_call_is_one_turn(maker: ExampleMaker, charts: list[Sample]) -> None:
    found = maker.example(charts[0], (ANSWER,))
    assert len(found.images) == 1
    assert maker.encoder.tokenizer.decode([one for one in found.labels if one != IGNORED]) == f"{ANSWER}<|im_end|>"


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        (("```python\nimport os\n```", ANSWER), "not carried out"),
        ((call_text("focus_on_columns_with_mask", "nobody", "columns"), ANSWER), "nobody"),
        ((ANSWER, ANSWER), "no program"),
        (("<|im_end|>",), "control token"),
    ],
)
def test_turns_that_the_protocol_cannot_have_are_refused(
    maker: ExampleMaker, charts: list[Sample], turns: tuple[str, ...], words: str
) -> None:
    with pytest.raises(TranscriptError, match=words):
        maker.example(charts[0], turns)


def test_a_program_without_an_answer_is_refused(maker: ExampleMaker, charts: list[Sample]) -> None:
    with pytest.raises(TranscriptError, match="no second turn"):
        maker.example(charts[0], turns_for(charts[0])[:1])


def test_right_answers_are_told_by_the_grading_rules(charts: list[Sample]) -> None:
    gold = charts[0].answers[0]
    assert is_right(charts[0], ("any", f"FINAL ANSWER: {gold}"))
    assert not is_right(charts[0], (f"FINAL ANSWER: {gold}", "FINAL ANSWER: nothing at all"))


def test_a_padded_batch_has_the_losses_of_its_rows(
    maker: ExampleMaker, model: PreTrainedModel, charts: list[Sample]
) -> None:
    turns = [turns_for(charts[0]), (ANSWER,), turns_for(charts[2])]
    rows: Any = [{**row, "turns": some} for row, some in zip(to_dataset(charts), turns, strict=True)]
    collate = Collator(maker)

    def loss(some: Any) -> tuple[float, int]:
        batch = collate(some)
        with torch.no_grad():
            return model(**batch).loss.item(), int((batch["labels"][:, 1:] != IGNORED).sum())

    together, count = loss(rows)
    alone = [loss([row]) for row in rows]
    assert count == sum(number for _, number in alone)
    assert together == pytest.approx(sum(value * number for value, number in alone) / count, rel=1e-5)


def test_more_turns_are_laid_out_as_their_rollout(encoder: PromptEncoder, charts: list[Sample]) -> None:
    own = PromptEncoder(encoder.processor, find_prompt("tiny-turns"))
    call = turns_for(charts[0])[0]
    script = (call, call.replace("mask", "draw"), ANSWER)
    left = iter(script)

    def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        return [[*own.tokenizer(next(left), add_special_tokens=False)["input_ids"], own.tokenizer.eos_token_id]]

    (wanted,) = rollout([charts[0]], own, generate, budget=Budget(turns=4))
    four = ExampleMaker(own, TOOLS, 4)
    found = four.example(charts[0], script)
    assert found.ids == wanted.prompt.ids + wanted.completion_ids
    assert len(found.images) == 3
    # Of two turns, too, the observation is that of a rollout that might go on.
    two = four.example(charts[0], (call, ANSWER)).ids
    assert two != ExampleMaker(own, TOOLS).example(charts[0], (call, ANSWER)).ids
    for turns, words in (
        (script[:2], "the second turn has a program, and no third turn follows it"),
        ((call, ANSWER, ANSWER), "there are 3 turns, and the second has no program"),
        ((call,) * 4 + (ANSWER,), "there are 5 turns, and max_turns is 4"),
    ):
        with pytest.raises(TranscriptError, match=words):
            four.example(charts[0], turns)
    with pytest.raises(InputError, match="the prompt 'tiny' is worded for two turns"):
        ExampleMaker(encoder, TOOLS, 3)
