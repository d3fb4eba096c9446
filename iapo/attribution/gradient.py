"""Gradient x embedding of log p(tool call), summed per block (docs/method.md, section 3).

The reference computation: one padded batch of whole sequences, logits at the call's tokens only, the vision tower run
once per distinct image, gradients of activations only (no parameter's `.grad` is touched).

What enters the language model at a position is one vector in Qwen2.5-VL, the merged input embedding. In Qwen3-VL a
image enters again behind each of the first layers, as deepstack features. Both are held in one tensor of *inputs*,
shape (K, N, L, H): the embeddings, then the features of K - 1 layers, zero where there is no image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from iapo.attribution.forms import Score
from iapo.attribution.memory import Budget, without_parameters
from iapo.attribution.token_values import others_of, token_values
from iapo.attribution.vision import image_features
from iapo.models import put_in_place

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


@dataclass(frozen=True, slots=True)
class CallInput:
    """One tool call to explain, in one model's tokens.

    Attributes:
        prompt_ids: The prompt's token ids, length P, image tokens expanded.
        block_of: The block of each prompt position, length P, values `0 .. m-1`.
        blocks: The number of blocks m.
        turn_ids: The turn with the call, length T.
        target: Turn tokens are scored (the program's; the thought before it only conditions), length T.
        pictures: Indices of the prompt's images in the batch's pixel tensors, in order.
        score: Score of each scored token that is explained (`iapo.attribution.token_values`).
        others: By place in the turn, the tokens that `contrast` sets the scored one there against.
        reported: Turn tokens whose log-probabilities are wanted besides, length T; None is `target`.
    """

    prompt_ids: Sequence[int]
    block_of: Sequence[int]
    blocks: int
    turn_ids: Sequence[int]
    target: Sequence[bool]
    pictures: tuple[int, ...] = ()
    score: Score = "log_prob"
    others: tuple[tuple[int, tuple[int, ...]], ...] = ()
    reported: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        if len(self.prompt_ids) != len(self.block_of):
            raise ValueError(f"{len(self.prompt_ids)} prompt tokens, but blocks for {len(self.block_of)}")
        if len(self.turn_ids) != len(self.target):
            raise ValueError(f"{len(self.turn_ids)} turn tokens, but a target mask of {len(self.target)}")
        if not any(self.target):
            raise ValueError("a call without a scored token has no attribution")
        if self.reported is not None and len(self.reported) != len(self.turn_ids):
            raise ValueError(f"{len(self.turn_ids)} turn tokens, but a mask of {len(self.reported)} to report")
        if self.score not in get_args(Score):
            raise ValueError(f"no score {self.score!r}; use one of {', '.join(get_args(Score))}")
        if min(self.pictures, default=0) < 0:
            raise ValueError(f"pictures are {self.pictures}; give indices from 0, which count no picture from the end")

    @property
    def length(self) -> int:
        """The number of turn tokens up to the last one that is scored or reported."""
        return 1 + max(_last(self.target), _last(self.told))

    @property
    def told(self) -> Sequence[bool]:
        """The turn tokens whose log-probabilities are wanted, the scored ones if no others."""
        return self.target if self.reported is None else self.reported


@dataclass(frozen=True, slots=True)
class Pictures:
    """The distinct images of a batch.

    Attributes:
        pixel_values: Patches of all images, shape (patches, features).
        grid_thw: Time, height and width of each image in patches, shape (images, 3).
    """

    pixel_values: Tensor
    grid_thw: Tensor


def block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    steps: int = 1,
    budget: Budget | None = None,
) -> Tensor:
    """Scores every prompt block of every call: `S_j = sum_{i in I_j} <ds/de_i, e_i>`.

    `s` is the sum of the scores of the call's target tokens (log-probabilities if `CallInput.score` says nothing else),
    and `e_i` the merged input embedding (text
    embeddings with the projected image scattered in), a leaf cut off from the vision tower. At an image's positions
    in Qwen3-VL, the same product for each deepstack feature is added. Calls are independent, so one backward pass
    serves the batch.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode and its parameters' `.grad` are left alone.
        calls: Calls to explain, all with the same number of blocks m.
        pictures: The distinct images that `CallInput.pictures` refers to.
        steps: Number of points of the integrated path from zero prompt inputs; 1 is plain gradient x input. With many
            (hundreds; for Qwen3-VL thousands), the scores sum to `s(x) - s(baseline)` (completeness).
        budget: Tokens in one graph; None has all calls in one.

    Returns:
        Scores, shape (len(calls), m), fp32, on the model's device.

    Raises:
        ValueError: If the calls disagree on the number of blocks or the score, or `steps` is below 1.
        InputError: If a call alone cannot fit into the budget's memory.
    """
    check_alike(calls)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    with without_parameters(model):
        return whole_scores(model, calls, pictures, steps, budget)


def whole_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    steps: int = 1,
    budget: Budget | None = None,
) -> Tensor:
    """Scores as `block_scores`, of a model whose parameters need no gradient."""
    return torch.cat([_block_scores(model, calls[part], pictures, steps) for part in _parts(calls, budget)])


def check_alike(calls: Sequence[CallInput]) -> None:
    """Refuses calls that are no batch.

    Raises:
        ValueError: If there are none, or they disagree on the number of blocks or the score.
    """
    if not calls:
        raise ValueError("no calls to explain")
    if len({call.blocks for call in calls}) != 1:
        raise ValueError("all calls of a batch must have the same number of blocks")
    if len({call.score for call in calls}) != 1:
        raise ValueError("all calls of a batch must be explained by the same score")


def _parts(calls: Sequence[CallInput], budget: Budget | None) -> Iterator[slice]:
    """Cuts calls into batches of whole sequences; into one where there is no budget."""
    lengths = [len(call.prompt_ids) + call.length for call in calls]
    yield from [slice(0, len(calls))] if budget is None else budget.parts(lengths)


def _block_scores(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None, steps: int) -> Tensor:
    batch = _Batch.build(model, calls, pictures)
    inputs = batch.inputs
    gradient = torch.zeros_like(inputs, dtype=torch.float32)
    for fraction, weight in _path(steps):
        point = torch.where(batch.is_prompt[..., None], inputs * fraction, inputs)
        point = point.detach().requires_grad_(True)
        with torch.enable_grad():
            total = batch.values(model, point).sum()
            gradient += torch.autograd.grad(total, point)[0].float() * weight
    token_scores = dot(gradient, inputs)
    scores = token_scores.new_zeros(len(calls), calls[0].blocks + 1)
    # Column m collects the turn and the padding, which belong to no block.
    return scores.scatter_add_(1, batch.block_of, token_scores)[:, :-1]


def _path(steps: int) -> list[tuple[float, float]]:
    """Lays out points from the baseline (0) to the input (1), with the part of the path that each stands for.

    They crowd towards 0: a normalised network hardly sees the scale of its input until that is about as small as the
    normalisation's epsilon, so that nearly all of the change from the baseline happens in the first few hundredths.
    """
    if steps == 1:
        return [(1.0, 1.0)]
    ends = [(step / steps) ** 5 for step in range(steps + 1)]
    return [(((step + 0.5) / steps) ** 5, ends[step + 1] - ends[step]) for step in range(steps)]


def call_log_probs(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    budget: Budget | None = None,
) -> Tensor:
    """Sums up the log-probabilities of every call's target tokens, shape (len(calls),), without gradient."""
    return call_values(model, [replace(call, score="log_prob", others=()) for call in calls], pictures, budget)


@torch.no_grad()
def call_values(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    budget: Budget | None = None,
) -> Tensor:
    """Computes `s` of every call, its target tokens' summed score, shape (len(calls),), without gradient."""
    found = []
    for part in _parts(calls, budget):
        batch = _Batch.build(model, calls[part], pictures)
        found.append(batch.values(model, batch.inputs))
    return torch.cat(found)


def run_language_model(
    model: PreTrainedModel,
    inputs: Tensor,
    is_image: Tensor,
    position_ids: Tensor,
    cache: Cache | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Runs the language model alone, on inputs that the vision tower has given before.

    Args:
        model: The whole model, whose own forward pass would drop the deepstack features of given embeddings.
        inputs: Shape (K, N, L, H); see the head of this module.
        is_image: Mask of the images' positions, shape (N, L).
        position_ids: Rotary positions, shape (3, N, L).
        cache: Keys and values of what comes before, extended in place; None starts without any and keeps none.
        mask: Mask of what is attended to, 1 or 0 for each position of the cache and then of the inputs; None is all.

    Returns:
        Hidden states, shape (N, L, H).
    """
    embeddings, *deepstack = inputs
    more = {}
    if deepstack:
        more = {"visual_pos_masks": is_image, "deepstack_visual_embeds": [layer[is_image] for layer in deepstack]}
    # Positions must be given: with embeddings alone the model makes up its own.
    return model.model.language_model(
        inputs_embeds=embeddings,
        position_ids=position_ids,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
        return_dict=True,
        **more,
    ).last_hidden_state


def dot(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Scores positions, fp32: products summed over the units and the K inputs, shape (K, ..., H) -> (...)."""
    return (gradient.float() * inputs.detach().float()).sum(-1).sum(0)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Right-padded sequences; right padding needs no attention mask under causal attention."""

    embed: nn.Module
    ids: Tensor  # (N, L)
    feature_of: Tensor  # (N, L) which of the F features enters at each position; -1 where none does
    features: list[Tensor]  # K tensors, (F, H) each, of the images and then their deepstack features
    position_ids: Tensor  # (3, N, L)
    block_of: Tensor  # (N, L), m beyond the prompt
    is_prompt: Tensor  # (N, L) bool
    rows: Tensor  # (scored,) which call each scored token belongs to
    columns: Tensor  # (scored,) the position whose logits predict it
    first: int  # the least of these positions
    tokens: Tensor  # (scored,) the scored token
    score: Score
    others: Tensor | None  # (scored, A) what `contrast` sets them against, filled up with -1

    @classmethod
    def build(cls, model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None) -> _Batch:
        device = model.device
        # Nothing after the last token that is asked for matters to it.
        turns = [call.turn_ids[: call.length] for call in calls]
        length = max(len(call.prompt_ids) + len(turn) for call, turn in zip(calls, turns, strict=True))
        ids = torch.zeros(len(calls), length, dtype=torch.long)
        real = torch.zeros(len(calls), length, dtype=torch.long)
        block_of = torch.full((len(calls), length), calls[0].blocks, dtype=torch.long)
        rows: list[int] = []
        columns: list[int] = []
        for row, (call, turn) in enumerate(zip(calls, turns, strict=True)):
            start = len(call.prompt_ids)
            ids[row, : start + len(turn)] = torch.tensor([*call.prompt_ids, *turn])
            real[row, : start + len(turn)] = 1
            block_of[row, :start] = torch.tensor(call.block_of)
            scored = [start + i for i in range(len(turn)) if call.target[i]]
            rows += [row] * len(scored)
            columns += scored
        tokens = ids[rows, columns]
        ids, real = ids.to(device), real.to(device)
        is_image = (ids == model.config.image_token_id) & (real == 1)
        feature_of, features, grids = _see(model, is_image, [call.pictures for call in calls], pictures)
        position_ids, _ = model.model.get_rope_index(ids, is_image.long(), image_grid_thw=grids, attention_mask=real)
        return cls(
            embed=model.get_input_embeddings(),
            ids=ids,
            feature_of=feature_of,
            features=features,
            position_ids=position_ids,
            block_of=block_of.to(device),
            is_prompt=(block_of < calls[0].blocks).to(device),
            rows=torch.tensor(rows, device=device),
            columns=torch.tensor(columns, device=device) - 1,
            first=min(columns) - 1,
            tokens=tokens.to(device),
            score=calls[0].score,
            others=others_of(calls, device),
        )

    @property
    def inputs(self) -> Tensor:
        """All inputs, made anew, shape (K, N, L, H); see the head of this module."""
        return self.inputs_at(slice(None), slice(None))

    @property
    def is_image(self) -> Tensor:
        """Mask of the images' positions, shape (N, L)."""
        return self.feature_of >= 0

    @torch.no_grad()
    def inputs_at(self, rows: slice, columns: slice) -> Tensor:
        """Makes the inputs of some positions, shape (K, rows, columns, H), detached."""
        embeddings: Tensor = self.embed(self.ids[rows, columns])
        feature_of = self.feature_of[rows, columns]
        is_image = feature_of >= 0
        inputs = torch.stack([embeddings, *(torch.zeros_like(embeddings) for _ in self.features[1:])])
        for place, features in enumerate(self.features):
            inputs[place][is_image] = features[feature_of[is_image]].to(embeddings.dtype)
        return inputs

    def values(self, model: PreTrainedModel, inputs: Tensor) -> Tensor:
        """Computes each call's `s`, shape (N,)."""
        with _last_mlp_behind(model, self.first):
            hidden = run_language_model(model, inputs, self.is_image, self.position_ids)
        values = token_values(model, hidden[self.rows, self.columns], self.tokens, self.score, self.others)
        return values.new_zeros(len(hidden)).index_add_(0, self.rows, values)


@torch.no_grad()
def _see(
    model: PreTrainedModel, is_image: Tensor, pictures_of: Sequence[tuple[int, ...]], pictures: Pictures | None
) -> tuple[Tensor, list[Tensor], Tensor | None]:
    """Runs the vision tower once on each distinct image of a batch.

    Returns:
        Which feature enters at each position, shape (N, L), -1 where none does; the features of the images, and of
        each deepstack layer, shapes (F, H); and the grids of the rows' images in order.
    """
    feature_of = torch.full(is_image.shape, -1, device=is_image.device)
    used = [index for some in pictures_of for index in some]
    if pictures is None and (used or is_image.any()):
        raise ValueError("the prompts have image tokens or name pictures, but no pictures were given")
    if not used and is_image.any():
        raise ValueError("the calls have image tokens, but none of them names a picture; set `CallInput.pictures`")
    if pictures is None or not used:
        return feature_of, [], None
    grids = pictures.grid_thw.to(model.device)
    order = sorted(set(used))
    seen = image_features(model, pictures.pixel_values, pictures.grid_thw, order)
    sizes = [len(seen[0][place]) for place in range(len(order))]
    first = {index: sum(sizes[:place]) for place, index in enumerate(order)}
    for row, (tokens, some) in enumerate(zip(is_image.sum(1).tolist(), pictures_of, strict=True)):
        places = [first[index] + place for index in some for place in range(sizes[order.index(index)])]
        if tokens != len(places):
            raise ValueError(f"{tokens} image tokens in a call's sequence, but {len(places)} image features for it")
        feature_of[row, is_image[row]] = torch.tensor(places, dtype=torch.long, device=is_image.device)
    return feature_of, [torch.cat(layer) for layer in seen], grids[used]


@contextmanager
def _last_mlp_behind(model: PreTrainedModel, first: int) -> Iterator[None]:
    """Has the last layer's MLP run from a position on while it is open, and give zeros before.

    Nothing else of it is looked at: no later layer reads what it makes of earlier positions.
    """
    layers = getattr(model.model.language_model, "layers", None)
    mlp = None if layers is None else getattr(layers[-1], "mlp", None)
    if mlp is None:
        # A language model of other parts runs whole.
        yield
        return
    whole = mlp.forward

    def forward(x: Tensor) -> Tensor:
        return pad(whole(x[:, first:]), (0, 0, first, 0))

    with put_in_place(mlp, "forward", forward):
        yield


def _last(target: Sequence[bool]) -> int:
    return max((index for index, scored in enumerate(target) if scored), default=-1)
