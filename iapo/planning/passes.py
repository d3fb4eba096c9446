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
"""Tokens and logits that TRL's output layer computes at once; on accelerators a kernel works in place."""

LOGITS = 3
"""Copies of logits, in fp32, where they are whole: their softmax, and two gradients; or what sampling makes of them."""


def rollout_bytes(student: Student, load: Workload, shares: bool) -> dict[str, int]:
    """Returns what generation takes: the cache at the end of the last turn, and the largest pass over prompts.

    Args:
        student: The student.
        load: Tokens.
        shares: Whether rows share their prompts in a pass.
    """
    shape, size = student.shape, student.itemsize
    length = load.prompt + load.completion
    cache = load.rows * length * shape.text.num_hidden_layers * shape.states * size
    read = load.packed(
        load.rows, load.completion - (load.completion - load.turn - load.edits * load.image) // load.turns, shares
    )
    # Beside the pass over the last turn's prompts stands the cache that it fills.
    layer = 3 * shape.text.intermediate_size + 3 * shape.text.hidden_size + 2 * shape.queries + shape.states
    reading = read * (layer * size + 4 * 2 * shape.text.hidden_size) + load.rows * length * 2 * shape.queries * size
    writing = load.rows * (LOGITS * 4 * shape.text.vocab_size + length * (2 * shape.queries + shape.states) * size)
    return {
        "KV cache": cache,
        "activations": max(reading, writing) + _features(shape, load, load.prompts + load.edits * load.rows, size),
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
    most = tokens * cost.graph if tokens is not None else max(0.0, SHARE * left)
    calls = min(batch, load.rows)
    each = min(load.generations, calls)
    prompts = max(1, min(max(1, calls // each), CLUSTER_TOKENS // len(load.explained)))
    images = max(1, calls // each) * load.edits
    held = images * _feature_bytes(shape, load, itemsize)
    # The vision tower is done before the language model begins.
    seeing = _seeing(shape, load, images, itemsize)
    graph = _graph(shape, itemsize, load, prompts, each, most)
    return held + max(seeing, graph), held + max(seeing, min(graph, _graph(shape, itemsize, load, 1, 1, 1)))


def _graph(shape: Shape, itemsize: int, load: Workload, prompts: int, each: int, most: float) -> int:
    """Returns the bytes of prompts with so many calls to each, logits included; the graph within a limit if it can."""
    cost = token_cost(shape.text, itemsize)
    explained = load.explained
    length = len(explained) - 1
    call = cost.graph * load.turn + cost.cached * length
    prompts = max(1, min(prompts, int(most / (cost.graph * length + call)) if most != float("inf") else prompts))
    block_of = torch.tensor([explained[:length]])
    rows = count_rows(block_of)
    cut = best_cut(block_of.repeat(prompts, 1), each)
    if prompts * (cost.graph * length + call) > most and cost.tangent * rows < cost.graph * length:
        cut = length
    head = count_rows(block_of[:, :cut]) if cut else 0
    held = cost.graph * (length - cut) + cost.tangent * head
    mlp = 3 * min(prompts * head, max(MOST_ROWS, cut)) * shape.text.intermediate_size * itemsize
    rounds = max(1, min(each, int((most - prompts * held) / (prompts * call)) if most != float("inf") else each))
    return prompts * held + max(mlp, prompts * rounds * call + _logits(shape, load, prompts * rounds))


def _logits(shape: Shape, load: Workload, calls: int) -> int:
    """Returns what the logits of calls that run together take, with their gradients."""
    scored = min(calls * load.turn, max(1, HEAD_LOGITS // shape.text.vocab_size))
    return LOGITS * 4 * scored * shape.text.vocab_size


def reading_bytes(student: Student, tokens: int, scored: int, device: str) -> int:
    """Returns what a pass without gradients takes, for the log-probabilities of the reference policy."""
    shape = student.shape
    layer = 3 * shape.text.intermediate_size + 2 * shape.queries + shape.states
    tile = _tile(student, scored, device, backward=False)
    return tokens * (layer * student.compute + 4 * 4 * shape.text.hidden_size) + tile


@dataclass(frozen=True, slots=True)
class Update:
    """What the loss and its backward pass take, beside weights and states.

    Attributes:
        activations: What is kept for the backward pass.
        head: The output layer with its gradients, or the layer that is computed again, where that takes more.
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
    # Adapters take their inputs in fp32, and what dropout left of them; products in half precision keep a copy.
    kept_type = 2 if student.compute < student.itemsize else 4
    layer += student.adapted * (kept_type + student.mask(device))
    # Attention by levels takes keys and values once for each row, repeated for the heads that share them.
    attention = load.micro * (load.prompt + load.completion) * (2 * shape.queries + shape.states) * student.compute
    # With an adapter in fp32 on half precision, a layer's result and its gradient are there in fp32 as well.
    backward = tokens * inner * (student.compute * 3 + (8 if student.adapted and student.compute < 4 else 0))
    if checkpointing:
        kept = tokens * hidden * student.residual * text.num_hidden_layers
        again = tokens * layer + attention + backward
    else:
        kept = (tokens * layer + (attention if shares else 0)) * text.num_hidden_layers
        again = backward
    patches = _seen(load, load.micro, shares) * load.patches
    activations = kept + _vision(student, patches, checkpointing) + pixel_bytes(shape, load, load.rows)
    scored = load.micro * (load.completion - load.edits * load.image)
    # The output layer is done before the backward pass of the others begins; its weights' gradient stays.
    head = _tile(student, scored, device, backward=True) + 8 * scored * hidden
    table = 4 * shape.head if student.trains_base else 0
    backward_peak = table + max(head, again) + (student.cast if not checkpointing else 0)
    forward_peak = student.cast + _tile(student, scored, device, backward=False)
    twice = 4 * shape.head if student.trains_base and shape.tied else 0
    ending = student.gradients + twice + _vision(student, patches, True)
    return Update(activations, max(backward_peak, forward_peak), ending)


def _tile(student: Student, scored: int, device: str, *, backward: bool) -> int:
    """Returns a tile of logits, and off accelerators its copies in fp32 and those of its weights.

    The copies are those of TRL's `chunked_logprob` in PyTorch, one for each step from a logit to its gradient.
    """
    shape, compute = student.shape, student.compute
    columns = TILE[1] if device != "cpu" else min(TILE[1], shape.text.vocab_size)
    numbers = min(scored, TILE[0]) * columns
    if device != "cpu":
        return numbers * compute
    weights = columns * shape.text.hidden_size
    given = weights * compute if compute < student.itemsize else 0
    copies = numbers * (compute + (29 if backward else 16))
    # Products that are added up in fp32 take both factors in it.
    product = numbers * (compute + 4) + 4 * weights if backward and compute < 4 else 0
    return given + max(copies, product)


def _seen(load: Workload, rows: int, shares: bool) -> int:
    """Counts the images of rows: each prompt's, and each row's edited ones."""
    return (-(-rows // load.generations) if shares else rows) + load.edits * rows


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
    return _seeing(shape, load, images, itemsize) + images * _feature_bytes(shape, load, itemsize)


def _seeing(shape: Shape, load: Workload, images: int, itemsize: int) -> int:
    """Returns what a layer of the vision tower takes of as many images as pass at once."""
    vision = shape.config.vision_config
    at_once = min(images * load.patches, max(load.patches, 16_384))
    return int(at_once * (4 * vision.intermediate_size + 6 * vision.hidden_size) * itemsize)


def _feature_bytes(shape: Shape, load: Workload, itemsize: int) -> int:
    """Returns the features of one image, deepstack's as well."""
    layers = 1 + len(getattr(shape.config.vision_config, "deepstack_visual_indexes", None) or ())
    return int(load.image * layers * shape.text.hidden_size * itemsize)


def pixel_bytes(shape: Shape, load: Workload, rows: int) -> int:
    """Returns the patches of the images of rows, the prompts' and the edited ones, in fp32."""
    vision: Any = shape.config.vision_config
    channels = getattr(vision, "in_channels", None) or getattr(vision, "in_chans", 3)
    features = channels * vision.temporal_patch_size * vision.patch_size**2
    return rows * load.turns * load.patches * features * 4
