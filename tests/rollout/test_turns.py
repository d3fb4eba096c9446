"""Rollouts of more than two turns: what each turn works on, what ends them, what limits count."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image
from scripted import COLUMNS, up_to_five

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample, ToolResult, Trace, Turn
from iapo.rollout.budget import Budget, check_lengths, lengths
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import check_wording, find_prompt
from iapo.rollout.turns import Rollout, encode_prompts, finish, rollout, steps
from iapo.rollout.wording import MORE, Observation
from iapo.tools import execute

ANSWER = "FINAL ANSWER: 1. TERMINATE"


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 3, seed=11, question_types=("value",)))


@pytest.fixture(scope="module")
def turning(encoder: PromptEncoder) -> PromptEncoder:
    return PromptEncoder(encoder.processor, find_prompt("tiny-turns"))


def call(sample: Sample, form: str = COLUMNS, name: str | None = None) -> str:
    return form.format(names=f'["{name or next(iter(sample.column_boxes))}"]')


def written(
    encoder: PromptEncoder, samples: Sequence[Sample], scripts: Sequence[Sequence[str]], budget: Budget
) -> tuple[list[Rollout], list[list[list[int]]]]:
    """Rollouts whose turns are written by hand, and the rows that each round asked for."""
    tokenizer = encoder.tokenizer
    asked: list[list[list[int]]] = []

    def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        # Who goes on is told by the prompts and the turns behind them.
        found = []
        for row, shown in zip(rows, images, strict=True):
            assert sum(encoder.image_token_counts(shown)) == row.count(encoder.image_token_id)
            found.append(next(one for one in left if row[: len(starts[one])] == starts[one] and one not in taken))
            taken.append(found[-1])
        asked.append(rows)
        new = [[*tokenizer(scripts[one][len(asked)])["input_ids"], tokenizer.eos_token_id] for one in found]
        for one, row, ids in zip(found, rows, new, strict=True):
            starts[one] = row + ids
        taken.clear()
        return new

    prompts = encode_prompts(samples, encoder)
    first = [[*tokenizer(script[0])["input_ids"], tokenizer.eos_token_id] for script in scripts]
    starts = [prompt.ids + ids for prompt, ids in zip(prompts, first, strict=True)]
    left, taken = range(len(scripts)), []  # type: ignore[var-annotated]
    return finish(samples, prompts, first, encoder, generate, budget=budget), asked


def test_each_program_works_on_the_image_that_was_shown_last(turning: PromptEncoder, charts: list[Sample]) -> None:
    sample = charts[0]
    scripts = [up_to_five(sample, index) for index in range(4)]
    found, asked = written(turning, [sample] * 4, scripts, Budget(turn=60, turns=5))
    assert [[one.text for one in each.trace.turns] for each in found] == [list(script) for script in scripts]
    # Finished ones are asked no more.
    assert [len(rows) for rows in asked] == [4, 3, 2, 2]
    masked = execute(scripts[1][0], sample).image
    assert masked is not None
    drawn = execute(scripts[1][1], dataclasses.replace(sample, image=masked)).image
    assert drawn is not None
    assert [image.tobytes() for image in found[1].images] == [one.tobytes() for one in (sample.image, masked, drawn)]
    assert drawn.tobytes() != execute(scripts[1][1], sample).image.tobytes()  # type: ignore[union-attr]
    # A failed program changes nothing, and the next turn mends it.
    assert [one.result.status for one in found[2].trace.turns] == ["failed", "edited", "edited", "edited", "no_call"]
    assert found[2].images[1].tobytes() == masked.tobytes()
    assert found[2].trace.sample_at(2).image.tobytes() == masked.tobytes()
    assert [len(one.trace.calls) for one in found] == [1, 2, 3, 0]
    assert [one.trace.succeeded for one in found] == [True, True, False, False]
    for one in found:
        assert Trace.from_json(one.trace.to_json()).to_json() == one.trace.to_json()


def test_tokens_are_those_of_the_chat(turning: PromptEncoder, charts: list[Sample]) -> None:
    """Prompt, turns and observations are one conversation as the chat template renders it."""
    (one,), _ = written(turning, charts[:1], [up_to_five(charts[0], 2)], Budget(turns=5))
    text = turning.tokenizer.decode(one.completion_ids)
    failed, edited = (
        "OBSERVATION: {} Write another block, or answer the question now.",
        "OBSERVATION: the edited picture is shown. Write another block, or answer the question now.",
    )
    between = "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    picture = "<|vision_start|>" + "<|image_pad|>" * 16 + "<|vision_end|>"
    error = one.trace.turns[0].result.error
    last = "OBSERVATION: the edited picture is shown. Answer the question now."
    expected = [between.format(failed.format(error))]
    expected += [between.format(picture + words) for words in (edited, edited, last)]
    turns = [turn.text for turn in one.trace.turns]
    told = "".join(part for pair in zip(turns, [*expected, "<|im_end|>"], strict=True) for part in pair)
    assert text == told
    learnt = [token for token, own in zip(one.completion_ids, one.model_written, strict=True) if own]
    assert turning.tokenizer.decode(learnt) == "".join(f"{turn}<|im_end|>" for turn in turns)


def test_what_ends_a_rollout(turning: PromptEncoder, charts: list[Sample]) -> None:
    """A turn without a program, one with a final answer, and the last one, whose program is not run."""
    sample = charts[0]
    other = list(sample.column_boxes)[1]
    scripts = [
        [call(sample), call(sample, name=other), call(sample)],
        [call(sample), f"{call(sample)}\n{ANSWER}"],
        [f"{call(sample)}\n{ANSWER}"],
        [call(sample), "I wonder."],
    ]
    found, _ = written(turning, [sample] * 4, scripts, Budget(turns=3))
    statuses = [[one.result.status for one in each.trace.turns] for each in found]
    assert statuses == [["edited", "edited", "no_call"], ["edited", "no_call"], ["no_call"], ["edited", "no_call"]]
    assert [len(one.edits) for one in found] == [2, 1, 0, 1]
    assert not any(found[1].turns[1].target)
    # An answer that is weighed in a thought is not given yet; behind it it is.
    thoughts = [[f"<think>{ANSWER}</think>{call(sample)}", ANSWER], [f"<think>\n</think>{call(sample)}\n{ANSWER}"]]
    weighed, _ = written(turning, [sample] * 2, thoughts, Budget(turns=3))
    statuses = [[one.result.status for one in each.trace.turns] for each in weighed]
    assert statuses == [["edited", "no_call"], ["no_call"]]
    # Of two turns, as ever, the first one's program is run whatever else is said.
    two, _ = written(turning, [sample], [[*scripts[2], ANSWER]], Budget())
    assert two[0].trace.turns == (Turn(scripts[2][0], two[0].trace.result), Turn(ANSWER))
    assert two[0].trace.result.executed


def test_a_tool_that_changes_the_size_leaves_no_boxes(charts: list[Sample]) -> None:
    sample = charts[0]
    assert sample.showing(sample.image.rotate(180)).column_boxes == sample.column_boxes
    assert not sample.showing(sample.image.crop((0, 0, 50, 50))).column_boxes


def test_limits_count_all_turns(turning: PromptEncoder, charts: list[Sample]) -> None:
    sample = charts[0]
    script = up_to_five(sample, 2)
    (whole,), _ = written(turning, [sample], [script], Budget(turns=5))
    sizes = [len(one.ids) for one in whole.turns]
    # What the model writes, over all turns: the third turn is cut, and nothing is left for a fourth.
    (one,), _ = written(turning, [sample], [script], Budget(written=sum(sizes[:2]) + 3, turns=5))
    assert [len(turn.ids) for turn in one.turns] == [*sizes[:2], 3]
    assert one.trace.turns[2].result.status == "refused"
    (one,), _ = written(turning, [sample], [script], Budget(written=sum(sizes[:3]), turns=5))
    assert [turn.result.status for turn in one.trace.turns] == ["failed", "edited", "edited"]
    assert len(one.edits) == 1
    assert not one.trace.observation_cut
    # The sequence: the observation behind the third turn does not fit any more.
    before = len(whole.prompt.ids) + sum(sizes[:3]) + sum(len(seen.ids) for seen in whole.observations[:2])
    enough = before + len(whole.observations[2].ids) + 60
    for sequence in (enough, enough - 1):
        (one,), _ = written(turning, [sample], [script], Budget(60, sequence=sequence, turns=5))
        assert one.trace.observation_cut
        assert len(one.turns) == (4 if sequence == enough else 3)
        assert not one.trace.succeeded
    for turns in (2, 3, 5):
        budget = Budget(60, 200, 10_000, turns)
        (length,) = lengths([sample], turning, turns=turns)
        # Two observations with an image that the counted prompt's image is as large as.
        assert length.observed == length.observation + (turns - 2) * (length.more or (0,))[0]
        assert length.needed(budget) == length.prompt + min(turns * 60, 200) + length.observed
    assert len(whole.observations[3].ids) == length.observation - 1
    with pytest.raises(InputError, match=r"of the 4 observations with edited images\), but a sequence has 300; "):
        check_lengths([sample], turning, Budget(60, 200, 300, 5), 2048)


@pytest.mark.parametrize("turns", [1, 9, 2.5, True])
def test_numbers_of_turns_that_cannot_be(turns: Any) -> None:
    with pytest.raises(InputError, match=r"max_turns is .*; give 2 to 8"):
        Budget(turns=turns)


def test_a_prompt_for_two_turns_is_refused(encoder: PromptEncoder, charts: list[Sample]) -> None:
    """Its observations say that no other program is run."""
    for name in ("tiny", "tools"):
        with pytest.raises(InputError, match=rf"worded for two turns, and max_turns is 3; set prompt to {name}-turns"):
            check_wording(find_prompt(name), 3)
        assert not any(key in find_prompt(name).to_json() for key in MORE)
        check_wording(find_prompt(f"{name}-turns"), 8)
    with pytest.raises(InputError, match="worded for two turns"):
        rollout(charts[:1], encoder, lambda rows, images: [[1]] * len(rows), budget=Budget(turns=3))


def test_the_prompt_tools_turns_says_how_many_are_left(encoder: PromptEncoder) -> None:
    of = PromptEncoder(encoder.processor, find_prompt("tools-turns"))
    more, last = (encoder.tokenizer.decode(of.observation(Observation(text="Bad."), ended=True)) for of in (of, of))
    assert more == last
    more = encoder.tokenizer.decode(of.observation(Observation(text="{left} <|im_end|>", left=4), ended=True))
    assert "No image was edited: {left} < |im_end|> Turns left: 4. Write the program again" in more
    assert "No other program is run" in last


def test_prompt_of_a_later_turn(turning: PromptEncoder, charts: list[Sample]) -> None:
    """All that stands before it, in blocks: each turn, each observation's words and each image by itself."""
    (one,), _ = written(turning, charts[:1], [up_to_five(charts[0], 2)], Budget(turns=5))
    assert one.from_turn(0, turning) is one
    third = one.from_turn(2, turning)
    before = sum(len(turn.ids) for turn in one.turns[:2]) + sum(len(seen.ids) for seen in one.observations[:2])
    assert third.prompt.ids == one.prompt.ids + one.completion_ids[:before]
    own = ("turn_1", "observation_1", "turn_2", "observation_2", "image_2")
    assert third.prompt.block_names == (*one.prompt.block_names, *own)
    texts = {
        name: turning.tokenizer.decode(
            [token for token, block in zip(third.prompt.ids, third.prompt.block_of, strict=True) if block == place]
        )
        for place, name in enumerate(third.prompt.block_names)
    }
    assert texts["turn_2"] == f"{one.trace.turns[1].text}<|im_end|>"
    assert texts["image_2"] == "<|vision_start|>" + "<|image_pad|>" * 16 + "<|vision_end|>"
    assert "edited picture" in texts["observation_2"]
    assert third.completion_ids == one.completion_ids[before:]
    assert [image.tobytes() for image in third.images] == [image.tobytes() for image in one.images]
    again = third.from_turn(1, turning)
    assert again.prompt.ids == one.from_turn(3, turning).prompt.ids
    assert len(again.past) == 3


def test_records_of_two_turns_are_as_they_were(charts: list[Sample]) -> None:
    old = Trace.of(charts[0], "one", ToolResult("edited", image=charts[1].image, span=(0, 3)), "two")
    data = old.to_json()
    assert list(data)[:4] == ["sample", "turn_1", "result", "turn_2"]
    assert Trace.from_json(data).turns[1] == Turn("two")
    # One whose second turn calls, too, cannot be written so.
    both = dataclasses.replace(old, turns=(*old.turns[:1], Turn("two", ToolResult("failed", error="no", span=(0, 1)))))
    assert "turn_1" not in both.to_json()
    assert Trace.from_json(both.to_json()).turns[1] == both.turns[1]
    assert copy.copy(both).without_edits().turns[0].result.image is None


@pytest.mark.parametrize("limits", [Budget(turns=4), Budget(turns=3), Budget(60, 80, turns=4), Budget(60, None, 150)])
def test_turns_one_by_one_are_the_batch(turning: PromptEncoder, charts: list[Sample], limits: Budget) -> None:
    """Who writes the turns as they come gets the rollout that a batch gives, and is told how long each may be."""
    (one,), script = charts[:1], [call(charts[0]), call(charts[0]), ANSWER]
    (expected,), _ = written(turning, [one], [script], limits)
    tokenizer = turning.tokenizer
    (prompt,) = encode_prompts([one], turning)
    going, left, told = steps(one, prompt, turning, budget=limits), iter(script), []
    asked, found = next(going), None
    while found is None:
        told.append((asked.limit, len(asked.images)))
        assert sum(turning.image_token_counts(asked.images)) == asked.ids.count(turning.image_token_id)
        try:
            asked = going.send([*tokenizer(next(left))["input_ids"], tokenizer.eos_token_id])
        except StopIteration as end:
            found = end.value
    assert found.completion_ids == expected.completion_ids
    assert found.model_written == expected.model_written
    assert found.trace.observation_cut == expected.trace.observation_cut
    assert [turn.result.status for turn in found.turns] == [turn.result.status for turn in expected.turns]
    for index, (limit, images) in enumerate(told):
        assert limit == limits.next(sum(len(turn.ids) for turn in found.turns[:index]))
        assert images == 1 + sum(seen.shown.image is not None for seen in found.observations[:index])
