"""Typed blocks -> chat messages -> token spans (docs/method.md, section 1).

A prompt is an ordered list of blocks. Rendering goes through the processor's own chat template, and each token of
the result belongs to exactly one block, found from the rendered text's character offsets and the number of tokens
that the processor gives each picture; nothing is ever searched for in token ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from iapo.control import ControlTokens
from iapo.errors import InputError
from iapo.kinds import check_kind
from iapo.records import Sample
from iapo.rollout.chat_template import render
from iapo.rollout.pixels import PixelReader
from iapo.rollout.template import DEFAULT, TINY, PromptTemplate, find_prompt
from iapo.rollout.wording import Observation, observed
from iapo.tools import TOOLS, ToolDefinition
from iapo.tools.definitions import check_tools

if TYPE_CHECKING:
    from transformers import ProcessorMixin

BlockType = Literal["context", "query", "image", "tool"]

# Stands for the model's own turn while the template's text after it is found; any unusual text would do.
_TURN = "\u241ethe first turn\u241e"
_PICTURE = "<|image_pad|>"


@dataclass(frozen=True, slots=True)
class Block:
    """One typed part of a prompt.

    Attributes:
        type: `context` (plain text), `query`, `image` or `tool` (one definition).
        name: Unique within the prompt; student and teacher are compared block by block, by name.
        text: The text; empty for an image.
        image: The picture; only for an image.
    """

    type: BlockType
    name: str
    text: str = ""
    image: Image.Image | None = None

    def __post_init__(self) -> None:
        if (self.type == "image") != (self.image is not None):
            raise InputError(f"block {self.name!r} of type {self.type!r}: an image block, and no other, has a picture")
        if self.type != "image" and not self.text.strip():
            raise InputError(f"block {self.name!r} has no text")


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as a model reads it.

    Attributes:
        ids: Token ids, pictures expanded to their number of image tokens; length P.
        block_of: Block of for each position the index of its block; length P, each block has at least one position.
        block_names: Names of the blocks, in order; length m.
        images: The prompt's pictures, in order.
    """

    ids: list[int]
    block_of: list[int]
    block_names: tuple[str, ...]
    images: tuple[Image.Image, ...]


def build_blocks(
    sample: Sample,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    template: PromptTemplate | None = None,
) -> tuple[Block, ...]:
    """Lays a prompt out: instructions, a block an image, a tool definition and a worked example, question.

    Args:
        sample: The question and image.
        tools: The offered tools, one block each, in this order; none: the answer is asked for in one turn.
        template: Template of the wording and the order; that of the packaged tiny models if None.

    Returns:
        The blocks, in prompt order; the first is the system message, the others are the user's. The names that
        `columns_bbox` and `rows_bbox` hold are told in the query; they are no block of their own, so that all prompts
        with the same tools have the same blocks.

    Raises:
        InputError: If a tool stands under another name than its own.
    """
    check_tools(tools)
    check_kind("the sample", sample, (Sample,))
    template = find_prompt(TINY) if template is None else template
    parts: dict[str, list[Block]] = {
        "image": [Block("image", name, image=image) for name, image in sample.named_images.items()],
        "tools": [Block("tool", f"tool:{name}", template.tool_text(tool)) for name, tool in tools.items()],
        "examples": [],
        "question": [Block("query", "query", template.question_text(sample, with_tools=bool(tools)))],
    }
    if tools:
        parts["examples"] = [Block("context", f"example:{one.name}", one.text) for one in template.examples_for(tools)]
    instructions = template.instructions if tools else template.instructions_without_tools
    rest = itertools.chain.from_iterable(parts[part] for part in template.order)
    return (Block("context", "context", instructions), *rest)


def to_messages(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Turns blocks into chat messages: a leading context block is the system message, the rest the user's."""
    messages: list[dict[str, Any]] = []
    rest = list(blocks)
    if rest and rest[0].type == "context":
        first = rest.pop(0)
        messages.append({"role": "system", "content": [{"type": "text", "text": first.text}]})
    content: list[dict[str, Any]] = [
        {"type": "image", "image": block.image} if block.type == "image" else {"type": "text", "text": block.text}
        for block in rest
    ]
    messages.append({"role": "user", "content": content})
    return messages


class PromptEncoder:
    """Encodes prompts and observations for one processor.

    Args:
        processor: A Qwen-VL style processor: its tokenizer is a fast one (character offsets are needed) with a chat
            template, and pictures stand in the text as `<|vision_start|><|image_pad|><|vision_end|>`.
        template: Template of the prompts; if None the one that the processor brings along, else `tools`.

    Attributes:
        template: Template of the prompts and the observations.
        control: Control tokens of the tokenizer.
        pixels: Reads images as the vision tower takes them.

    Raises:
        InputError: If it is no processor, or its tokenizer gives no character offsets.
    """

    def __init__(self, processor: ProcessorMixin, template: PromptTemplate | None = None) -> None:
        if not hasattr(processor, "tokenizer"):
            raise InputError(f"the processor is of type {type(processor).__name__}; give one (iapo.load_processor)")
        self.processor = processor
        self.template = template or getattr(processor, "prompt", None) or find_prompt(DEFAULT)
        self.tokenizer = processor.tokenizer
        if not self.tokenizer.is_fast:
            raise InputError("block spans need character offsets: load the fast tokenizer of this model")
        self.image_token_id: int = self.tokenizer.convert_tokens_to_ids(_PICTURE)
        # A picture's tokens stand for its features; one that a model writes stands for nothing.
        video_token_id = getattr(processor, "video_token_id", None)
        self.unwritable_ids: list[int] = [one for one in (self.image_token_id, video_token_id) if one is not None]
        self.merge_area: int = processor.image_processor.merge_size**2
        self.control = ControlTokens(self.tokenizer)
        self.pixels = PixelReader(processor.image_processor)
        self._frames: dict[tuple[str, bool], str] = {}
        self._scaffolds: dict[tuple[bool, ...], tuple[str, ...]] = {}

    def encode(self, blocks: Sequence[Block]) -> EncodedPrompt:
        """Renders blocks through the chat template and finds each token's block.

        Args:
            blocks: The prompt; names must be unique.

        Returns:
            The encoded prompt; its spans partition `0 .. P-1`.

        Raises:
            InputError: If there is no block, two blocks share a name, a block's text holds a control token such as
                `<|im_end|>` (alone or with its neighbour's), or it does not stand in the rendered prompt.
        """
        if not blocks:
            raise InputError("a prompt needs at least one block")
        names = tuple(block.name for block in blocks)
        if len(set(names)) != len(names):
            raise InputError(f"block names must be unique, got {names}")
        for block in blocks:
            if control := self.control.find(block.text):
                raise InputError(f"block {block.name!r} holds the control token {control}; remove it from the text")
        text = render(self.processor, to_messages(blocks))
        gaps = self._scaffold(blocks)
        starts = block_starts(text, blocks, gaps)
        for token in (*self.control.reserved, *self.control.markup):
            pictures = sum(block.type == "image" for block in blocks) if token == _PICTURE else 0
            known = sum(gap.count(token) for gap in gaps) + sum(block.text.count(token) for block in blocks)
            if text.count(token) != known + pictures:
                raise InputError(f"the texts of neighbouring blocks make the control token {token}; separate them")
        # Who counts tokens says what is too long; the tokenizer need not.
        encoding = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        images = tuple(block.image for block in blocks if block.image is not None)
        counts = iter(self.image_token_counts(images))
        ids: list[int] = []
        block_of: list[int] = []
        index = 0
        for token, (start, _) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
            while index + 1 < len(starts) and start >= starts[index + 1]:
                index += 1
            repeat = next(counts) if token == self.image_token_id else 1
            ids += [token] * repeat
            block_of += [index] * repeat
        missing = sorted(set(range(len(blocks))) - set(block_of))
        if missing:
            raise InputError(f"block {names[missing[0]]!r} has no token of its own; separate it from its neighbour")
        return EncodedPrompt(ids, block_of, names, images)

    def observation(self, shown: Observation, *, ended: bool) -> list[int]:
        """Returns the token ids between two turns of the model.

        Args:
            shown: What it is shown.
            ended: Whether the turn before ended with its end-of-turn token (it did not if its length ran out).

        Returns:
            Ids of the end of that turn (if it is missing), the observation with the edited picture's image tokens, and
            the header of the next turn.
        """
        with_image = shown.image is not None
        key = self.template.frame(shown), with_image
        if key not in self._frames:
            self._frames[key] = self._frame(*key)
        text = self._observed(self._frames[key], shown)
        if ended:
            text = text.removeprefix(self.tokenizer.eos_token)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if shown.image is None:
            return ids
        (count,) = self.image_token_counts((shown.image,))
        place = ids.index(self.image_token_id)
        return ids[:place] + [self.image_token_id] * count + ids[place + 1 :]

    def extend(
        self, prompt: EncodedPrompt, past: Sequence[tuple[Sequence[int], Sequence[int], Image.Image | None]]
    ) -> EncodedPrompt:
        """Returns a prompt with turns and observations behind it, which is all that a later turn is written on.

        Args:
            prompt: Prompt of the first turn.
            past: For each turn its token ids, those of the observation behind it, and the picture that it shows.

        Returns:
            The longer prompt. Its further blocks are `turn_1`, `observation_1` (the text, and the chat around it) and
            `image_2` (the picture with its marks, where there is one), and so on.
        """
        ids, block_of, names = list(prompt.ids), list(prompt.block_of), list(prompt.block_names)
        images = list(prompt.images)
        earlier = sum(name.startswith("turn_") for name in names)
        for number, (turn, seen, image) in enumerate(past, 1 + earlier):
            names += [f"turn_{number}", f"observation_{number}"]
            at_turn, at_text = len(names) - 2, len(names) - 1
            of_seen = [at_text] * len(seen)
            if image is not None:
                images.append(image)
                names.append(f"image_{len(images)}")
                start, tokens = seen.index(self.image_token_id), seen.count(self.image_token_id)
                # Its marks stand around it.
                of_seen[start - 1 : start + tokens + 1] = [len(names) - 1] * (tokens + 2)
            ids += [*turn, *seen]
            block_of += [at_turn] * len(turn) + of_seen
        return EncodedPrompt(ids, block_of, tuple(names), tuple(images))

    def _observed(self, frame: str, shown: Observation) -> str:
        text = observed(frame, shown, self._neutral)
        if any(text.count(token) != frame.count(token) for token in (*self.control.reserved, *self.control.markup)):
            # A prompt of one's own may have half of one beside the place.
            text = observed(frame, shown, lambda said: f" {self._neutral(said)} ")
        return text

    def _neutral(self, text: str) -> str:
        return self.control.neutral(text.replace("<|", "< |"))

    def image_token_counts(self, images: Iterable[Image.Image]) -> list[int]:
        """Counts the tokens that each picture takes in the merged sequence.

        Raises:
            InputError: If the processor cannot take a picture of such a size, which a tool of one's own may return.
        """
        processor = self.processor.image_processor
        counts = []
        for image in images:
            try:
                counts.append(processor.get_number_of_image_patches(image.height, image.width, {}) // self.merge_area)
            except ValueError as error:
                raise InputError(f"the model cannot see an image of {image.width} x {image.height} pixels") from error
        return counts

    def offsets(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """Decodes generated ids, and finds where each token's text ends.

        Returns:
            The text without special tokens, and for each token the number of characters up to and with it.
        """
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        ends = [
            min(len(text), len(self.tokenizer.decode(list(ids[: i + 1]), skip_special_tokens=True)))
            for i in range(len(ids))
        ]
        return text, ends

    def _scaffold(self, blocks: Sequence[Block]) -> tuple[str, ...]:
        """Returns the template's own text before, between and after blocks of these types.

        It is found by rendering unusual texts in place of the blocks': a block's text may be anything, also a word
        that the template itself writes.
        """
        key = (blocks[0].type == "context", *(block.type == "image" for block in blocks))
        if key not in self._scaffolds:
            stand_ins = [
                block if block.type == "image" else Block(block.type, block.name, f"\u241e{index}\u241e")
                for index, block in enumerate(blocks)
            ]
            messages = to_messages(stand_ins)
            text = render(self.processor, messages)
            gaps: list[str] = []
            for block in stand_ins:
                gap, found, text = text.partition(_PICTURE if block.type == "image" else block.text)
                if not found:
                    raise InputError(f"the chat template does not render a block of type {block.type!r}")
                gaps.append(gap)
            self._scaffolds[key] = (*gaps, text)
        return self._scaffolds[key]

    def _frame(self, text: str, with_image: bool) -> str:
        """Returns the chat between two turns of the model, with a text of the template."""
        content: list[dict[str, str]] = [{"type": "text", "text": text}]
        if with_image:
            content.insert(0, {"type": "image"})
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "question"}]},
            {"role": "assistant", "content": [{"type": "text", "text": _TURN}]},
            {"role": "user", "content": content},
        ]
        rendered = render(self.processor, messages)
        return rendered.partition(_TURN)[2]


def block_starts(text: str, blocks: Sequence[Block], gaps: Sequence[str]) -> list[int]:
    """Finds where each block begins in a rendered chat, scaffolding included.

    Role headers and vision marks belong to the block that they wrap: what stands between two blocks is cut where the
    first one's wrapping ends (after `<|vision_end|>` or the message's end) and the second one's begins.

    Args:
        text: The rendered prompt, one `<|image_pad|>` a picture.
        blocks: The blocks, in the order in which they were rendered.
        gaps: The template's own text before, between and after the blocks; one more than blocks.

    Returns:
        Start offset of each block in characters; the first is 0.

    Raises:
        InputError: If a block's text does not stand in the rendered prompt in its place.
    """
    whole = [_PICTURE if block.type == "image" else block.text for block in blocks]
    for parts in (whole, [part.strip() for part in whole]):  # Templates may strip a text's outer white space.
        if "".join(itertools.chain.from_iterable(zip(gaps, [*parts, ""], strict=True))) == text:
            break
    else:
        raise InputError("the chat template changes the blocks' texts, so that their tokens cannot be told apart")
    starts: list[int] = []
    end = 0
    for index, (gap, block, part) in enumerate(zip(gaps, blocks, parts, strict=False)):
        if index == 0:
            starts.append(0)
        elif "<|im_start|>" in gap:
            starts.append(end + gap.index("<|im_start|>"))
        elif block.type == "image" and "<|vision_start|>" in gap:
            starts.append(end + gap.index("<|vision_start|>"))
        else:
            starts.append(end + len(gap))
        end += len(gap) + len(part)
    return starts
