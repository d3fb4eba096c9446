"""Prompts of several images: blocks, names, lengths, and turns around them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ranks import ranks
from several import chart, mixed, with_more

from iapo.errors import InputError
from iapo.rollout.budget import Budget, check_lengths, exact, lengths
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import find_prompt, prompt_of_data
from iapo.rollout.turns import encode_prompts, finish
from iapo.standins.folder import make_stand_in
from iapo.tools import TOOLS, offered_tools

PAIR, SINGLE, TRIPLE = mixed()
FREE = {**TOOLS, **offered_tools("crop")}
TEMPLATES = ("tiny", "tools", "tools-turns")


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("tools", [TOOLS, {}])
def test_blocks_are_the_images_in_order(name: str, tools: Any) -> None:
    template = find_prompt(name)
    single, triple = (build_blocks(sample, tools, template) for sample in (SINGLE, TRIPLE))
    of_single, of_triple = ([block.name for block in blocks] for blocks in (single, triple))
    place = of_single.index("image_1")
    assert of_triple == [*of_single[: place + 1], "image_2", "image_3", *of_single[place + 1 :]]
    assert [block.image for block in triple if block.image is not None] == list(TRIPLE.images)
    told = "There are 3 images, in this order: image_1 (140 x 140 pixels), image_2 (56 x 56 pixels), image_3 (112 x 84"
    alone = build_blocks(dataclasses.replace(TRIPLE, more_images=()), tools, template)
    assert triple[-1].text.startswith(told)
    # All else is as it is for one image.
    assert triple[-1].text.endswith(alone[-1].text)
    assert "There are" not in single[-1].text
    assert ("columns_bbox and rows_bbox are on image_1 alone" in triple[-1].text) == bool(tools)


def test_templates_may_word_it(tmp_path: Path) -> None:
    usual = find_prompt("tools")
    assert "several" not in usual.to_json()
    mine = prompt_of_data({"base": "tools", "several": "Images: {images}.\n"}, tmp_path / "mine.yaml")
    text = build_blocks(PAIR, TOOLS, mine)[-1].text
    assert text.startswith("Images: image_1 (112 x 112 pixels), image_2 (84 x 140 pixels).\n")
    assert mine.digest != usual.digest
    mine.write(tmp_path)
    assert find_prompt(str(tmp_path)).several == mine.several
    with pytest.raises(InputError, match=re.escape("several has no place {images}")):
        prompt_of_data({"base": "tools", "several": "Look."}, tmp_path / "mine.yaml")


def test_each_token_has_its_block(encoder: PromptEncoder, qwen3_encoder: PromptEncoder) -> None:
    for of in (encoder, qwen3_encoder):
        for sample in mixed():
            (prompt,) = encode_prompts([sample], of)
            counts = of.image_token_counts(sample.images)
            for number, count in enumerate(counts, 1):
                block = prompt.block_names.index(f"image_{number}")
                its = [token for token, one in zip(prompt.ids, prompt.block_of, strict=True) if one == block]
                assert its.count(of.image_token_id) == count
                # The block of an image has its marks, and nothing else.
                assert len(its) == count + 2 or number == 1
            assert prompt.ids.count(of.image_token_id) == sum(counts)
            assert prompt.block_of == sorted(prompt.block_of)


def test_counts_and_limits_see_all_images(encoder: PromptEncoder) -> None:
    samples = mixed()
    for tools in (TOOLS, {}):
        for one, sample in zip(lengths(samples, encoder, tools, 2), samples, strict=True):
            assert one.prompt == pytest.approx(exact(one, encoder, tools).prompt, abs=2)
            counts = encoder.image_token_counts(sample.images)
            assert (one.image, one.images) == (max(counts), sum(counts))
    tall = with_more(chart(), (280, 280))
    (length,) = lengths([tall], encoder)
    # The second image may be edited, too, so that it counts twice.
    needed = length.needed(Budget(turn=20))
    assert needed == length.prompt + 40 + length.observation
    assert length.observation > encoder.image_token_counts([tall.more_images[0]])[0]
    check_lengths([tall], encoder, Budget(turn=20, sequence=needed), 10_000)
    with pytest.raises(InputError, match=re.escape("with images of 112 x 112 and 280 x 280 pixels, may need")):
        check_lengths([tall], encoder, Budget(turn=20, sequence=needed - 1), 10_000)
    # What is advised for `max_pixels` is enough: all images and the edit with so many tokens each fit.
    with pytest.raises(InputError) as told:
        check_lengths([tall], encoder, Budget(turn=20, sequence=needed - 100), 10_000)
    most = int(re.findall(r"max_pixels to (\d+)", str(told.value))[0])
    side = encoder.processor.image_processor.patch_size * encoder.processor.image_processor.merge_size
    assert 3 * (most // side**2) <= needed - 100 - (needed - length.images - length.image)


def turns_of(encoder: PromptEncoder, sample: Any, *texts: str, tools: Any = FREE) -> Any:
    first, *rest = [[*encoder.tokenizer(text)["input_ids"], encoder.tokenizer.eos_token_id] for text in texts]
    left, seen = iter(rest), []

    def write(rows: Sequence[list[int]], images: Sequence[list[Image.Image]]) -> list[list[int]]:
        seen.append((rows[0].count(encoder.image_token_id), [image.size for image in images[0]]))
        return [next(left)]

    prompts = encode_prompts([sample], encoder, tools)
    (one,) = finish([sample], prompts, [first], encoder, write, tools=tools, budget=Budget(turns=len(texts)))
    return one, seen


def program(line: str) -> str:
    return f"```python\n{line}\n```"


def test_edited_images_go_on_counting(encoder: PromptEncoder) -> None:
    many = PromptEncoder(encoder.processor, find_prompt("tools-turns"))
    one, seen = turns_of(
        many,
        TRIPLE,
        program("display(crop(image_3, [0, 0, 84, 84]))"),
        program("display(crop(image_1, [0, 0, 60, 60]))"),
        "FINAL ANSWER: 1. TERMINATE",
    )
    assert [result.status for result in one.trace.results] == ["edited", "edited"], one.trace.results
    assert [result.made_of for result in one.trace.results] == ["image_3", "image_1"]
    sizes = [image.size for image in TRIPLE.images]
    first, second = (image.size for image in one.edits)
    # The second program works on what the first one displayed.
    assert [what for _, what in seen] == [[*sizes, first], [*sizes, first, second]]
    for tokens, shown in seen:
        assert tokens == sum(many.image_token_counts([Image.new("RGB", size) for size in shown]))
    later = one.from_turn(2, many).prompt
    assert [name for name in later.block_names if name.startswith("image")] == [f"image_{n}" for n in range(1, 6)]
    assert later.block_names[-3:] == ("turn_2", "observation_2", "image_5")
    assert [image.size for image in later.images] == [*sizes, first, second]


def test_the_other_images_stay_in_later_turns(encoder: PromptEncoder) -> None:
    many = PromptEncoder(encoder.processor, find_prompt("tools-turns"))
    column = next(iter(PAIR.column_boxes))
    one, _ = turns_of(
        many,
        dataclasses.replace(PAIR, more_images=(PAIR.more_images[0].resize(PAIR.image.size),)),
        program("display(crop(image_2, [0, 0, 112, 112]))"),
        program(f'display(focus_on_columns_with_mask(image_1, ["{column}"], columns_bbox))'),
        program("display(crop(image_2, [0, 0, 50, 50]))"),
        "FINAL ANSWER: 1. TERMINATE",
    )
    # As large as the first image, but no boxes are on it.
    assert [result.status for result in one.trace.results] == ["edited", "failed", "edited"]
    assert "this picture has neither column boxes nor row boxes" in str(one.trace.results[1].error)


@pytest.mark.slow(4)
def test_true_tokenizers_count_alike(tmp_path: Path) -> None:
    make_stand_in("qwen2.5-vl-3b", tmp_path / "model", ranks=ranks())
    encoder = PromptEncoder(load_policy(str(tmp_path / "model")).processor)
    for sample, one in zip(mixed(), lengths(mixed(), encoder), strict=True):
        (prompt,) = encode_prompts([sample], encoder)
        assert one.prompt == pytest.approx(len(prompt.ids), abs=2)
        assert [name for name in prompt.block_names if name.startswith("image")] == list(sample.named_images)
        for number, count in enumerate(encoder.image_token_counts(sample.images), 1):
            block = prompt.block_names.index(f"image_{number}")
            its = [token for token, of in zip(prompt.ids, prompt.block_of, strict=True) if of == block]
            assert its.count(encoder.image_token_id) == count
