"""How many tokens a training step has: the prompt, its image, the turns, and how many rows of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from iapo.bounds import TURNS, check_number
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.planning.given import Given
from iapo.planning.shapes import Shape
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.policy import load_processor, prompt_of
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import DEFAULT, check_wording
from iapo.rollout.wording import Observation
from iapo.standins.shapes import PUBLISHED
from iapo.tools import offered_tools

CHART = (850, 600)
"""Width and height of a usual chart in pixels, where the data do not tell."""

CHARACTERS = 4
"""Characters of a token, about, where there is no tokenizer."""

OBSERVATION_FRAME = 12
"""Tokens around an observation where there is no tokenizer: the ends and heads of messages, an image's marks."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The tokens of one process's training step, as many as its settings allow.

    Attributes:
        block_of: The block of each prompt token, in order.
        blocks: Number of blocks m.
        image: Tokens of the prompt's image, and of the edited one.
        patches: Patches of the image.
        pixels: Pixels that the model sees of the image.
        observation: Tokens of an observation beside its image.
        turn: Tokens of the first turn.
        turns: Number of turns.
        completion: Tokens of a whole completion: all turns, and the edited images between them.
        rows: Rollouts that are generated at once.
        generations: Rollouts of a prompt.
        micro: Rollouts in one backward pass.
        images: Images of a prompt, all of one size.
    """

    block_of: tuple[int, ...]
    blocks: int
    image: int
    patches: int
    pixels: int
    observation: int
    turn: int
    turns: int
    completion: int
    rows: int
    generations: int
    micro: int
    images: int = 1

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""
        return len(self.block_of)

    @property
    def edits(self) -> int:
        """Edited images of a row."""
        return self.turns - 1

    @property
    def explained(self) -> tuple[int, ...]:
        """The block of each token before the last turn that may call, which is all that its attribution reads."""
        parts = (self.turn, self.observation, self.image)
        further = [
            self.blocks + len(parts) * earlier + place
            for earlier in range(self.turns - 2)
            for place, length in enumerate(parts)
            for _ in range(length)
        ]
        return (*self.block_of, *further)

    @property
    def prompts(self) -> int:
        """Distinct prompts among the rows."""
        return math.ceil(self.rows / self.generations)

    def scored(self, shares: bool) -> int:
        """Counts the tokens of a backward pass that have logits: TRL's own rows have them of their prompts, too."""
        if shares:
            return self.micro * (self.completion - self.edits * self.image)
        return self.micro * (self.prompt + self.completion)

    def packed(self, rows: int, completion: int, shares: bool) -> int:
        """Counts the tokens of rows that share their prompts, and nothing else."""
        prompts = math.ceil(rows / self.generations) if shares else rows
        return prompts * self.prompt + rows * completion


def workload_of(
    given: Given,
    shape: Shape,
    gpus: int,
    *,
    size: tuple[int, int] | None = None,
    text_tokens: int | None = None,
    images: int = 1,
    load: Callable[[str, LoadSettings], Any] = load_processor,
) -> Workload:
    """Counts a training's tokens.

    Args:
        given: Settings.
        shape: Shape of the student.
        gpus: Number of processes.
        size: Width and height of images in pixels; None is the synthetic images' size, else `CHART`.
        text_tokens: Tokens of the prompt beside the image; None counts those of a prompt to a synthetic image with the
            student's tokenizer, or by its characters where only `config.json` is there.
        images: Images of a prompt, all of that size.
        load: Function that loads a checkpoint's processor; one that remembers them saves seconds for each further plan.

    Raises:
        InputError: If the rows cannot be in whole groups, or a number cannot be.
    """
    if size is None:
        size = CHART if given.get("data") else (given.number("picture_size"),) * 2
    block_of, blocks, patches, observation = _prompt(given, shape, size, text_tokens, images, load)
    merge = shape.config.vision_config.spatial_merge_size**2
    micro = given.number("per_device_train_batch_size")
    accumulation = given.number("gradient_accumulation_steps")
    rows = micro * (given.get("steps_per_generation") or accumulation)
    if given.get("generation_batch_size"):
        rows = given.number("generation_batch_size") // gpus
    generations = given.number("num_generations")
    if rows * gpus % generations:
        raise InputError(
            f"{rows * gpus} rollouts are generated at once (per_device_train_batch_size, gradient_accumulation_steps "
            f"and {gpus} GPUs), which are no whole groups of num_generations {generations}; change one of them"
        )
    longest = given.number("max_completion_length")
    turn = min(longest, given.get("max_turn_tokens") or longest)
    turns = int(given.get("max_turns") or 2)
    # What is written over all turns, and between them the observations with the edited images.
    completion = min(longest, turns * turn) + (turns - 1) * (patches // merge + observation)
    return Workload(
        block_of=tuple(block_of),
        blocks=blocks,
        image=patches // merge,
        patches=patches,
        pixels=patches * shape.config.vision_config.patch_size**2,
        observation=observation,
        turn=turn,
        turns=turns,
        completion=completion,
        rows=rows,
        generations=generations,
        micro=micro,
        images=images,
    )


def _prompt(
    given: Given,
    shape: Shape,
    size: tuple[int, int],
    text_tokens: int | None,
    images: int,
    load: Callable[[str, LoadSettings], Any],
) -> tuple[Sequence[int], int, int, int]:
    """Returns the block of each prompt token, the number of blocks, the image's patches, and an observation's words."""
    families = given.get("families") or ["vbar"]
    sample = next(iter(generate(families[0], 1, seed=0, size=112)))
    image = Image.new("RGB", size)
    sample = dataclasses.replace(sample, image=image, more_images=(image,) * (images - 1))
    # What is planned for without its files is not asked of the hub, whose answers would come after minutes offline.
    here = shape.name not in PUBLISHED
    revision = given.get("model_revision")
    template = prompt_of(shape.name, given.get("prompt") or (None if here else DEFAULT), revision)
    turns = int(given.get("max_turns") or 2)
    check_number("max_turns", turns, TURNS)
    check_wording(template, turns)
    # Before the last turn it says that another program may be written.
    shown = [Observation(sample.image, left=left) for left in range(1, min(turns, 3))]
    blocks = build_blocks(sample, offered_tools(given.get("tools")), template)
    seen = [place for place, one in enumerate(blocks) if one.type == "image"]
    settings = LoadSettings(
        model_revision=revision,
        min_pixels=given.get("min_pixels"),
        max_pixels=given.get("max_pixels"),
    )
    merge = shape.config.vision_config.spatial_merge_size**2
    try:
        encoder = PromptEncoder(load(shape.name, settings), template) if here else None
    except InputError:
        encoder = None
    if encoder is None:
        patches = _patches(shape.config.vision_config, size, given)
        lengths = [patches // merge if one.type == "image" else max(1, len(one.text) // CHARACTERS) for one in blocks]
        block_of = [place for place, length in enumerate(lengths) for _ in range(length)]
        observation = OBSERVATION_FRAME + max(len(template.frame(one)) for one in shown) // CHARACTERS
    else:
        prompt = encoder.encode(blocks)
        tokens = encoder.image_token_counts([sample.image])[0]
        block_of, patches = list(prompt.block_of), tokens * merge
        observation = max(len(encoder.observation(one, ended=False)) for one in shown) - tokens
    if text_tokens is not None:
        query = next(place for place, one in enumerate(blocks) if one.type == "query")
        block_of = _with_texts(block_of, query, seen, patches // merge, text_tokens)
    cells = int(given.get("attribution_image_cells") or 1)
    if cells > 1:
        columns = max(1, round(math.sqrt(patches // merge * size[0] / size[1])))
        block_of = _cut(block_of, seen, columns, cells)
    return block_of, len(blocks) + len(seen) * (cells**2 - 1), patches, observation


def _cut(block_of: Sequence[int], images: Sequence[int], columns: int, cells: int) -> list[int]:
    """Returns the block of each token where images are cut into cells, rows and columns about as the image has them."""
    lengths = [block_of.count(place) for place in range(max(block_of) + 1)]
    found: list[int] = []
    blocks = 0
    for place, length in enumerate(lengths):
        if place not in images:
            found += [blocks] * length
            blocks += 1
            continue
        rows = max(1, length // columns)
        for row, column in (divmod(index, columns) for index in range(length)):
            found.append(blocks + min(row * cells // rows, cells - 1) * cells + column * cells // columns)
        blocks += cells**2
    return found


def _with_texts(
    block_of: Sequence[int], question: int, images: Sequence[int], image_tokens: int, tokens: int
) -> list[int]:
    """Returns the block of each token of a prompt with so many tokens beside its images.

    Prompts differ in their questions, whose block is as long as it must be; with fewer tokens than the rest of the
    prompt has, all blocks are shorter.
    """
    lengths = [block_of.count(place) for place in range(max(block_of) + 1)]
    for image in images:
        lengths[image] -= image_tokens
    if tokens >= sum(lengths):
        lengths[question] += tokens - sum(lengths)
    else:
        # Where a block ends is rounded, so that all are as many as asked for.
        ends = [round(end * tokens / sum(lengths)) for end in itertools.accumulate(lengths)]
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    for image in images:
        lengths[image] += image_tokens
    return [place for place, length in enumerate(lengths) for _ in range(length)]


def _patches(vision: Any, size: tuple[int, int], given: Given) -> int:
    """Counts the patches of an image that keeps its sides as multiples of a token's, within the limits of pixels."""
    unit = vision.patch_size * vision.spatial_merge_size
    width, height = size
    most = given.get("max_pixels")
    if most is not None and width * height > most:
        scale = math.sqrt(most / (width * height))
        width, height = max(unit, math.floor(width * scale)), max(unit, math.floor(height * scale))
    tokens = max(1, round(width / unit)) * max(1, round(height / unit))
    return int(tokens * vision.spatial_merge_size**2)
