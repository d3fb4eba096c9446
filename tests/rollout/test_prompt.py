"""Prompts: every token has one block, and it is the right one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from iapo.records import Sample, ToolResult
from iapo.rollout.policy import ImageTextProcessor
from iapo.rollout.prompt import Block, PromptEncoder, block_starts, build_blocks, to_messages
from iapo.rollout.template import TINY, find_prompt
from iapo.rollout.turns import read_turn
from iapo.rollout.wording import Observation
from iapo.tools import TOOLS

CONTROL = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>", "<|video_pad|>")
IMAGE_TEXT = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def encoder(family: str, encoder: PromptEncoder, qwen3_encoder: PromptEncoder) -> PromptEncoder:
    return qwen3_encoder if family == "qwen3_vl" else encoder


def picture(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (width % 256, height % 256, 77))


def labelled_rendering(blocks: Sequence[Block]) -> list[tuple[int, str]]:
    """What the chat format makes of blocks, written out by hand: pieces of text with the block that each belongs to."""
    parts = [(i, IMAGE_TEXT if block.type == "image" else block.text) for i, block in enumerate(blocks)]
    pieces: list[tuple[int, str]] = []
    if blocks[0].type == "context":
        (_, system), *parts = parts
        pieces.append((0, f"<|im_start|>system\n{system}<|im_end|>\n"))
    first, last = (parts[0][0], parts[-1][0]) if parts else (0, 0)
    pieces.append((first, "<|im_start|>user\n"))
    pieces += parts
    pieces.append((last, "<|im_end|>\n<|im_start|>assistant\n"))
    return pieces


# Words of the template itself, single letters that stand in it, borders of all kinds, and any text at all.
WORDS = ["user", "system", "assistant\n", "s", "t", "im", "|>", " a", "\nb", "c \n", "\n\n", "😀", "é", "e\u0301", "价"]
TEXTS = st.one_of(
    st.lists(st.sampled_from([*WORDS, "QUESTION: ", "def f(x):\n", "1234"]), min_size=1, max_size=5).map("".join),
    st.text(min_size=1, max_size=30),
).filter(lambda text: text.strip() and not any(token in text for token in (*CONTROL, "<|v")))
SIDES = st.integers(56, 300)
PARTS = st.one_of(
    st.tuples(st.sampled_from(["context", "query", "tool"]), TEXTS),
    st.tuples(st.just("image"), st.builds(picture, SIDES, SIDES)),
)


def to_blocks(parts: Sequence[tuple[Any, Any]]) -> list[Block]:
    return [
        Block(kind, f"b{i}", image=part) if kind == "image" else Block(kind, f"b{i}", part)
        for i, (kind, part) in enumerate(parts)
    ]


@pytest.mark.slow(1)
@given(st.lists(PARTS, min_size=1, max_size=6))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spans_partition_any_prompt(encoder: PromptEncoder, parts: list[tuple[Any, Any]]):
    blocks = to_blocks(parts)
    pieces = labelled_rendering(blocks)
    text = "".join(piece for _, piece in pieces)
    # Neighbours that make a control token together are refused; they have a test of their own.
    assume(text.count("<|") >= 2 and not any("".join(b.text for b in blocks).count(token) for token in CONTROL))
    render = encoder.processor.apply_chat_template
    assert render(to_messages(blocks), tokenize=False, add_generation_prompt=True) == text
    images = [block.image for block in blocks if block.image is not None]
    own = encoder.processor(text=[text], images=images or None)
    expected_ids = list(own["input_ids"][0])

    # A token belongs to the block in which it starts.
    owner = [block for block, piece in pieces for _ in piece]
    encoding = encoder.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    grids = own["image_grid_thw"] if images else []
    counts = iter([int(np.prod(grid)) // encoder.merge_area for grid in grids])
    expected: list[int] = []
    for token, (start, _) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        expected += [owner[start]] * (next(counts) if token == encoder.image_token_id else 1)
    if set(expected) != set(range(len(blocks))):
        with pytest.raises(ValueError, match="no token of its own"):
            encoder.encode(blocks)
        return

    prompt = encoder.encode(blocks)
    assert prompt.ids == expected_ids
    assert prompt.block_of == expected
    assert prompt.block_of == sorted(prompt.block_of)
    assert prompt.block_names == tuple(f"b{i}" for i in range(len(blocks)))
    assert list(prompt.images) == images
    if images:
        areas = [int(np.prod(grid)) // encoder.merge_area for grid in grids]
        assert encoder.image_token_counts(images) == areas
        assert encoder.pixels(images)["image_grid_thw"].tolist() == [list(grid) for grid in np.asarray(grids)]
        assert prompt.ids.count(encoder.image_token_id) == sum(areas)


@given(st.lists(st.tuples(st.sampled_from(["context", "query", "tool"]), TEXTS), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_of_a_block_spell_its_text(encoder: PromptEncoder, parts: list[tuple[Any, Any]]):
    """Pictures between texts are borders that no token straddles, so that each text is found whole."""
    between = [[part, ("image", picture(56, 84))] for part in parts]
    blocks = to_blocks(list(itertools.chain.from_iterable(between)))
    expected = dict.fromkeys(range(len(blocks)), "")
    for index, piece in labelled_rendering(blocks):
        expected[index] += piece.replace("<|image_pad|>", "<|image_pad|>" * 6)
    assert [block_text(encoder, blocks, block.name) for block in blocks] == list(expected.values())


def block_text(encoder: PromptEncoder, blocks: Sequence[Block], name: str) -> str:
    prompt = encoder.encode(blocks)
    index = prompt.block_names.index(name)
    ids = [token for token, of in zip(prompt.ids, prompt.block_of, strict=True) if of == index]
    return encoder.tokenizer.decode(ids)


def test_scaffolding_belongs_to_the_block_it_wraps(encoder: PromptEncoder):
    image = picture(56, 56)
    blocks = [
        Block("context", "instructions", "Answer."),
        Block("query", "first", "Look:"),
        Block("image", "image", image=image),
        Block("query", "last", "QUESTION: what?"),
    ]
    spelt = {block.name: block_text(encoder, blocks, block.name) for block in blocks}
    assert spelt == {
        "instructions": "<|im_start|>system\nAnswer.<|im_end|>\n",
        "first": "<|im_start|>user\nLook:",
        "image": "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>",
        "last": "QUESTION: what?<|im_end|>\n<|im_start|>assistant\n",
    }
    # An image at the message's beginning wraps the message's header too.
    del blocks[1]
    assert block_text(encoder, blocks, "image").startswith("<|im_start|>user\n<|vision_start|>")


def test_the_standard_prompt(encoder: PromptEncoder, samples: list[Sample]):
    blocks = build_blocks(samples[0])
    assert [block.type for block in blocks] == ["context", "image", *["tool"] * 6, "query"]
    assert [block.name for block in blocks] == ["context", "image_1", *(f"tool:{name}" for name in TOOLS), "query"]
    for block, tool in zip(blocks[2:8], TOOLS.values(), strict=True):
        assert block.text == tool.text + "\n"
        assert block_text(encoder, blocks, block.name) == block.text
    assert samples[0].question in block_text(encoder, blocks, "query")
    prompt = encoder.encode(blocks)
    assert prompt.ids.count(encoder.image_token_id) == 16
    assert prompt.images[0] is samples[0].image
    # The picture's block wraps the user message's beginning.
    assert block_text(encoder, blocks, "context").endswith("<|im_end|>\n")


def test_fewer_tools_and_listed_names(samples: list[Sample]):
    offered = {name: tool for name, tool in TOOLS.items() if tool.axis == "rows"}
    sample = dataclasses.replace(samples[0], list_names=True)
    blocks = build_blocks(sample, offered)
    assert [block.name for block in blocks if block.type == "tool"] == [f"tool:{name}" for name in offered]
    assert blocks[-1].text.splitlines() == [
        f"columns_bbox: {', '.join(sample.column_boxes)}",
        f"rows_bbox: {', '.join(sample.row_boxes)}",
        f"QUESTION: {sample.question}",
    ]
    assert len(blocks) == len(build_blocks(samples[0], offered))
    # Without tools there is nothing to name.
    assert build_blocks(sample, {})[-1].text == f"QUESTION: {sample.question}"


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_are_refused(encoder: PromptEncoder, token: str):
    with pytest.raises(ValueError, match="'query' holds the control token"):
        encoder.encode([Block("query", "query", f"What is {token} here?")])


def test_control_tokens_made_by_neighbours_are_refused(encoder: PromptEncoder):
    blocks = [Block("query", "a", "one <|im_"), Block("query", "b", "end|> two")]
    with pytest.raises(ValueError, match="neighbouring blocks make the control token"):
        encoder.encode(blocks)


def test_texts_that_look_like_the_template(encoder: PromptEncoder):
    """A block may say what the template says; it is still found in its own place."""
    blocks = [Block("context", "a", "s"), Block("query", "b", "t"), Block("query", "c", " user")]
    assert block_text(encoder, blocks, "a") == "<|im_start|>system\ns<|im_end|>\n"
    assert block_text(encoder, blocks, "b") == "<|im_start|>user\nt"
    assert block_text(encoder, blocks, "c") == " user<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_strips_texts(processor: ImageTextProcessor, encoder: PromptEncoder):
    stripping = ImageTextProcessor(
        processor.image_processor,
        processor.tokenizer,
        chat_template=processor.chat_template.replace("part.text -", "part.text | trim -"),
    )
    blocks = [Block("context", "a", " one "), Block("query", "b", "\ntwo\n")]
    assert (
        block_text(PromptEncoder(stripping), blocks, "b") == "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    )
    assert block_text(encoder, blocks, "b") == "<|im_start|>user\n\ntwo\n<|im_end|>\n<|im_start|>assistant\n"
    shouting = ImageTextProcessor(
        processor.image_processor,
        processor.tokenizer,
        chat_template=processor.chat_template.replace("part.text -", "part.text | upper -"),
    )
    with pytest.raises(ValueError, match="template changes the blocks' texts"):
        PromptEncoder(shouting).encode(blocks)


def test_block_starts_by_hand():
    blocks = [Block("query", "a", "xx"), Block("image", "b", image=picture(56, 56)), Block("query", "c", "yy")]
    gaps = ("U:", "[<|vision_start|>", "<|vision_end|>]", "!")
    text = "U:xx[<|vision_start|><|image_pad|><|vision_end|>]yy!"
    assert block_starts(text, blocks, gaps) == [0, text.index("<|vision_start|>"), text.index("yy")]


def test_refused_prompts(encoder: PromptEncoder):
    with pytest.raises(ValueError, match="names must be unique"):
        encoder.encode([Block("query", "a", "x"), Block("tool", "a", "y")])
    with pytest.raises(ValueError, match="at least one block"):
        encoder.encode([])
    with pytest.raises(ValueError, match="'b' has no token of its own"):
        # One token for the whole phrase.
        encoder.encode([Block("query", "a", "QUES"), Block("query", "b", "TION: "), Block("query", "c", "9")])
    with pytest.raises(ValueError, match="has a picture"):
        Block("query", "a", "x", picture(56, 56))
    with pytest.raises(ValueError, match="has a picture"):
        Block("image", "a")
    with pytest.raises(ValueError, match="has no text"):
        Block("tool", "a", " \n")


@pytest.mark.parametrize("ended", [True, False])
def test_observation_of_an_edit(family: str, encoder: PromptEncoder, ended: bool):
    text = encoder.tokenizer.decode(encoder.observation(Observation(picture(112, 140)), ended=ended))
    assert text == (
        ("" if ended else "<|im_end|>")
        + "\n<|im_start|>user\n<|vision_start|>"
        # 112 x 140 pixels in squares of 28 are 4 x 5; in squares of 32 they are rounded to 4 x 4.
        + "<|image_pad|>" * (16 if family == "qwen3_vl" else 20)
        + f"<|vision_end|>{find_prompt(TINY).observation_edited}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("ended", [True, False])
def test_observation_of_an_error(encoder: PromptEncoder, ended: bool):
    shown = Observation.of(ToolResult("failed", error="There is no column 'Q'.", span=(0, 1)))
    text = encoder.tokenizer.decode(encoder.observation(shown, ended=ended))
    assert text == (
        ("" if ended else "<|im_end|>")
        + "\n<|im_start|>user\nOBSERVATION: There is no column 'Q'. Answer the question now."
        + "<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("hostile", [*CONTROL, "<<|im_end|>", "<|<|im_end|>", "{error} <|im_start|>", "<|im_end|>" * 3])
def test_errors_make_no_control_tokens(encoder: PromptEncoder, hostile: str):
    """An error quotes the model's own words, and these may spell anything."""

    def special(error: str) -> list[int]:
        ids = encoder.observation(Observation(text=error), ended=False)
        return [token for token in ids if token in encoder.tokenizer.all_special_ids]

    assert special(f"There is no column {hostile!r}.") == special("There is no column 'Q'.")
    assert special(hostile) == special("Q")


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_offsets(encoder: PromptEncoder, text: str):
    assume("<|" not in text)
    ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    for cut in range(len(ids) + 1):
        decoded, ends = encoder.offsets([*ids[:cut], encoder.tokenizer.eos_token_id])
        assert len(ends) == cut + 1
        assert ends == sorted(ends)
        assert ends[-1] == len(decoded)
        if cut == len(ids):
            assert decoded == text


def test_offsets_of_a_split_character(encoder: PromptEncoder):
    ids = encoder.tokenizer("a😀b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6
    assert encoder.offsets(ids) == ("a😀b", [1, 2, 2, 2, 2, 3])
    # The length ran out within the character: what there is of it reads as one unknown character.
    assert encoder.offsets(ids[:3]) == ("a\ufffd", [1, 2, 2])
    assert encoder.offsets([]) == ("", [])


@pytest.mark.parametrize("name", ["A", "😀é价", "x" * 30])
def test_target_is_the_whole_program(encoder: PromptEncoder, samples: list[Sample], name: str):
    """Also where a name's characters take several tokens each: every one of these is scored."""
    thought, rest = "I see 😀.\n", "\nDone 😀"
    program = f'display(focus_on_columns_with_mask(image_1, ["{name}"], columns_bbox))'
    text = f"{thought}```python\n{program}\n```{rest}"
    ids = [*encoder.tokenizer(text, add_special_tokens=False)["input_ids"], encoder.tokenizer.eos_token_id]
    first = read_turn(ids, samples[0], encoder)
    assert first.text == text
    assert first.result.span is not None
    start, end = first.result.span
    assert program in text[start:end]
    offsets = encoder.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    assert first.target == [*((a < end and b > start) for a, b in offsets), False]
    assert read_turn(ids[:1], samples[0], encoder).target == [False]
