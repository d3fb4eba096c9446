"""What passes through a model take while they run: rollouts, attribution, log-probabilities, the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from iapo.attribution.clusters import CLUSTER_TOKENS
from iapo.attribution.memory import HEAD_LOGITS, SHARE, token_cost
from iapo.attribution.rows import MOST_ROWS, count_rows
from iapo.attribution.tangent import best_cut
from iapo.planning.loaded import Student
from iapo.planning.shapes import Shape
from iapo.planning.workload import Workload

TILE = (4096, 32768)
"""Tokens and logits that TRL's output layer computes at once."""

TILES = {"cpu": 9}
"""Copies of a tile, in the backward pass; on accelerators a kernel works in place."""

LOGITS = 3
"""Copies of logits, in fp32, where they are whole: their softmax, and two gradients; or what sampling makes of them."""


def rollout_bytes(student: Student, load: Workload, shares: bool) -> dict[str, int]:
    """Returns what generation takes: the cache at the end of the second turn, and the largest pass over prompts.

    Args:
        student: The student.
        load: Tokens.
        shares: Whether rows share their prompts in a pass.
    """
    shape, size = student.shape, student.itemsize
    length = load.prompt + load.completion
    cache = load.rows * length * shape.text.num_hidden_layers * shape.states * size
    read = load.packed(load.rows, load.completion - (load.completion - load.turn - load.image) // 2, shares)
    # Beside the pass over the second turn's prompts stands the cache that it fills.
    layer = 3 * shape.text.intermediate_size + 3 * shape.text.hidden_size + 2 * shape.queries + shape.states
    reading = read * (layer * size + 4 * 2 * shape.text.hidden_size) + load.rows * length * 2 * shape.queries * size
    writing = load.rows * (LOGITS * 4 * shape.text.vocab_size + length * (2 * shape.queries + shape.states) * size)
    return {
        "KV cache": cache,
        "activations": max(reading, writing) + _features(shape, load, load.prompts + load.rows, size),
        "images": 2 * pixel_bytes(shape, load, load.rows),
    }


def attribution_bytes(
    shape: Shape, itemsize: int, load: Workload, *, batch: int, tokens: int | None, left: float
) -> tuple[int, int]:
    """Returns what the attribution of a batch of different calls takes, and the least that one call does.

    Args:
        shape: Shape of the model.
        itemsize: Bytes of its numbers.
        load: Tokens.
        batch: Calls that are attributed together.
        tokens: Setting of the tokens in one graph; None takes a part of what is left.
        left: Bytes that nothing else takes.
    """
    cost = token_cost(shape.text, itemsize)
    least = _graph(shape, itemsize, load, 1, 1, 1)
    most = tokens * cost.graph if tokens is not None else max(0.0, SHARE * left)
    calls = min(batch, load.rows)
    each = min(load.generations, calls)
    prompts = max(1, min(max(1, calls // each), CLUSTER_TOKENS // load.prompt))
    graph = _graph(shape, itemsize, load, prompts, each, most)
    beside = _logits(shape, load, prompts * each) + _features(shape, load, max(1, calls // each), itemsize)
    return graph + beside, min(graph, least) + beside


def _graph(shape: Shape, itemsize: int, load: Workload, prompts: int, each: int, most: float) -> int:
    """Returns the bytes of prompts with so many calls to each, within a limit if that is possible at all."""
    cost = token_cost(shape.text, itemsize)
    length = load.prompt - 1
    call = cost.graph * load.turn + cost.cached * length
    prompts = max(1, min(prompts, int(most / (cost.graph * length + call)) if most != float("inf") else prompts))
    block_of = torch.tensor([load.block_of[:length]])
    rows = count_rows(block_of)
    cut = best_cut(block_of.repeat(prompts, 1), each)
    if prompts * (cost.graph * length + call) > most and cost.tangent * rows < cost.graph * length:
        cut = length
    head = count_rows(block_of[:, :cut]) if cut else 0
    held = cost.graph * (length - cut) + cost.tangent * head
    mlp = 3 * min(prompts * head, max(MOST_ROWS, cut)) * shape.text.intermediate_size * itemsize
    rounds = max(1, min(each, int((most - prompts * held) / (prompts * call)) if most != float("inf") else each))
    return prompts * held + max(mlp, prompts * rounds * call)


def _logits(shape: Shape, load: Workload, calls: int) -> int:
    scored = min(calls * load.turn, max(1, HEAD_LOGITS // shape.text.vocab_size))
    return LOGITS * 4 * scored * shape.text.vocab_size


def reading_bytes(shape: Shape, compute: int, tokens: int, scored: int, device: str) -> int:
    """Returns what a pass without gradients takes, for the log-probabilities of the reference policy."""
    layer = 3 * shape.text.intermediate_size + 2 * shape.queries + shape.states
    # The forward tile has fewer copies than the backward one.
    tiles = _tiles(shape, scored, compute, device)
    return tokens * (layer * compute + 4 * 4 * shape.text.hidden_size) + (tiles // 2 if device == "cpu" else tiles)


@dataclass(frozen=True, slots=True)
class Update:
    """What the loss and its backward pass take, beside weights and states.

    Attributes:
        activations: What is kept for the backward pass, and the layer that is computed again.
        head: The output layer's tiles and gradients, where activations are largest.
        gradients: All gradients, and a second one of the embeddings, at the end.
    """

    activations: int
    head: int
    gradients: int

    def peak(self, held: int) -> int:
        """Returns the largest sum, with the gradients of earlier backward passes at its beginning."""
        return max(held + self.activations + self.head, self.gradients)


def update_bytes(student: Student, load: Workload, *, shares: bool, checkpointing: bool, device: str) -> Update:
    """Returns what one backward pass takes.

    Args:
        student: The student.
        load: Tokens.
        shares: Whether rows share their prompts.
        checkpointing: Whether activations are computed again.
        device: Type of the device.
    """
    shape, text = student.shape, student.shape.text
    hidden, inner = text.hidden_size, text.intermediate_size
    tokens = load.packed(load.micro, load.completion, shares)
    layer = 8 * hidden + student.compute * (3 * inner + 2 * shape.queries + shape.states)
    if student.trains_base:
        layer += 8 * hidden + student.compute * (2 * hidden + shape.queries + inner)
    # Attention by levels takes keys and values once for each row, repeated for the heads that share them.
    attention = load.micro * (load.prompt + load.completion) * (2 * shape.queries + shape.states) * student.compute
    backward = tokens * student.compute * 3 * inner
    if checkpointing:
        kept = tokens * hidden * student.residual * text.num_hidden_layers + tokens * layer + attention
    else:
        kept = (tokens * layer + (attention if shares else 0)) * text.num_hidden_layers
    patches = _seen(load, load.micro, shares) * load.patches
    activations = kept + backward + _vision(student, patches, checkpointing) + pixel_bytes(shape, load, load.rows)
    scored = load.micro * (load.completion - load.image)
    tile = _tiles(shape, scored, student.compute, device)
    table = 4 * shape.head if student.trains_base else 0
    head = tile + table + 8 * scored * hidden + (student.cast if not checkpointing else 0)
    forward = student.cast + (tile // 2 if device == "cpu" else tile)
    twice = 4 * shape.head if student.trains_base and shape.tied else 0
    return Update(activations, max(head, forward), student.gradients + twice + _vision(student, patches, True))


def _tiles(shape: Shape, scored: int, compute: int, device: str) -> int:
    """Returns a tile of logits with its copies; of a small vocabulary's tile most is never touched."""
    copies = TILES.get(device, 1)
    columns = min(TILE[1], shape.text.vocab_size) if device == "cpu" else TILE[1]
    return copies * min(scored, TILE[0]) * columns * compute


def _seen(load: Workload, rows: int, shares: bool) -> int:
    """Counts the images of rows: each prompt's, and each row's edited one."""
    return (-(-rows // load.generations) if shares else rows) + rows


def _vision(student: Student, patches: int, checkpointing: bool) -> int:
    """Returns what the vision tower keeps of patches for the backward pass; nothing where none of it is trained."""
    vision = student.shape.config.vision_config
    if not student.trains_vision:
        return 0
    width, depth = vision.hidden_size, vision.depth
    layer = 8 * width + student.compute * (4 * width + 3 * vision.intermediate_size)
    layer += student.compute * (3 * width + vision.intermediate_size) + 8 * width
    return patches * (width * student.residual * depth + layer if checkpointing else layer * depth)


def _features(shape: Shape, load: Workload, images: int, itemsize: int) -> int:
    """Returns the features of images, and what the vision tower takes to compute some of them."""
    vision = shape.config.vision_config
    at_once = min(images * load.patches, max(load.patches, 16_384))
    passing = at_once * (4 * vision.intermediate_size + 6 * vision.hidden_size) * itemsize
    layers = 1 + len(getattr(vision, "deepstack_visual_indexes", None) or ())
    return passing + images * load.image * layers * shape.text.hidden_size * itemsize


def pixel_bytes(shape: Shape, load: Workload, rows: int) -> int:
    """Returns the patches of the images of rows, the prompts' and the edited ones, in fp32."""
    vision: Any = shape.config.vision_config
    channels = getattr(vision, "in_channels", None) or getattr(vision, "in_chans", 3)
    features = channels * vision.temporal_patch_size * vision.patch_size**2
    return rows * 2 * load.patches * features * 4
