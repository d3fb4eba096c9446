"""What passes through a model take while they run: rollouts, log-probabilities, the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iapo.planning.loaded import Student
from iapo.planning.shapes import Shape
from iapo.planning.workload import Workload

TILE = (4096, 32768)
"""Tokens and logits that TRL's output layer computes at once; on accelerators a kernel works in place."""

LOGITS = 3
"""Copies of logits, in fp32, where they are whole: their softmax, and two gradients; or what sampling makes of them."""


def rollout_bytes(student: Student, load: Workload, shares: bool, device: str) -> dict[str, int]:
    """Returns what generation takes: the cache at the end of the last turn, and the largest pass over prompts.

    Args:
        student: The student.
        load: Tokens.
        shares: Whether rows share their prompts in a pass.
        device: Type of the device.
    """
    shape, size = student.shape, student.itemsize
    length = load.prompt + load.completion
    cache = load.rows * length * shape.text.num_hidden_layers * shape.states * size
    read = load.packed(
        load.rows, load.completion - (load.completion - load.turn - load.edits * load.image) // load.turns, shares
    )
    # Beside the pass over the last turn's prompts stands the cache that it fills. A layer's attention, which repeats
    # keys and values for the heads that share them, is done before its MLP begins.
    mlp = shape.text.intermediate_size * (2 * size + (student.adding(device) if student.adapts_mlp else size))
    attention = load.rows * length * (2 * shape.queries + shape.states) * size
    layer = (3 * shape.text.hidden_size + 2 * shape.queries + shape.states) * size + 4 * 2 * shape.text.hidden_size
    reading = read * layer + max(read * mlp, attention)
    writing = load.rows * LOGITS * 4 * shape.text.vocab_size + attention
    images = load.prompts * load.images + load.edits * load.rows
    # The vision tower is done before the language model begins.
    passing = max(reading, writing, seeing_bytes(shape, load, images, size))
    return {
        "KV cache": cache,
        "activations": passing + images * feature_bytes(shape, load, size),
        "images": 2 * pixel_bytes(shape, load, load.rows),
    }


def reading_bytes(student: Student, tokens: int, scored: int, device: str) -> int:
    """Returns what a pass without gradients takes, for the log-probabilities of the reference policy."""
    shape, hidden = student.shape, 4 * student.shape.text.hidden_size
    layer = student.compute * (3 * shape.text.intermediate_size + 2 * shape.queries + shape.states)
    # The layers are done before the output layer begins.
    return max(tokens * (layer + 4 * hidden), tokens * hidden + _tile(student, scored, device, backward=False))


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
    scored = load.scored(shares)
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
    columns = min(TILE[1], shape.text.vocab_size)
    numbers = min(scored, TILE[0]) * columns
    # A tile is as wide as can be, whatever the vocabulary.
    buffer = min(scored, TILE[0]) * TILE[1] * compute
    if device != "cpu":
        return buffer
    weights = columns * shape.text.hidden_size
    given = weights * compute if compute < student.itemsize else 0
    copies = numbers * (29 if backward else 16)
    # Products that are added up in fp32 take both factors in it.
    product = 4 * (numbers + weights) if backward and compute < 4 else 0
    return given + buffer + max(copies, product)


def _seen(load: Workload, rows: int, shares: bool) -> int:
    """Counts the images of rows: each prompt's, and each row's edited ones."""
    return (-(-rows // load.generations) if shares else rows) * load.images + load.edits * rows


def _vision(student: Student, patches: int, checkpointing: bool) -> int:
    """Returns what the vision tower keeps of patches for the backward pass; nothing where none of it is trained."""
    vision = student.shape.config.vision_config
    if not student.trains_vision:
        return 0
    width, depth = vision.hidden_size, vision.depth
    layer = 8 * width + student.compute * (4 * width + 3 * vision.intermediate_size)
    layer += student.compute * (3 * width + vision.intermediate_size) + 8 * width
    return patches * (width * student.residual * depth + layer if checkpointing else layer * depth)


def seeing_bytes(shape: Shape, load: Workload, images: int, itemsize: int) -> int:
    """Returns what a layer of the vision tower takes of as many images as pass at once."""
    vision = shape.config.vision_config
    at_once = min(images * load.patches, max(load.patches, 16_384))
    return int(at_once * (4 * vision.intermediate_size + 6 * vision.hidden_size) * itemsize)


def feature_bytes(shape: Shape, load: Workload, itemsize: int) -> int:
    """Returns the features of one image, deepstack's as well."""
    layers = 1 + len(getattr(shape.config.vision_config, "deepstack_visual_indexes", None) or ())
    return int(load.image * layers * shape.text.hidden_size * itemsize)


def pixel_bytes(shape: Shape, load: Workload, rows: int) -> int:
    """Returns the patches of the images of rows, the prompts' and the edited ones, in fp32."""
    vision: Any = shape.config.vision_config
    channels = getattr(vision, "in_channels", None) or getattr(vision, "in_chans", 3)
    features = channels * vision.temporal_patch_size * vision.patch_size**2
    return rows * (load.images + load.edits) * load.patches * features * 4
