"""A batch whose rows begin alike, as a tree of token runs in one sequence without padding. Tensors only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

MIN_SAVED = 32
"""A common run is cut off if that saves this many tokens; below, further calls of the attention cost more."""


@dataclass(frozen=True, slots=True)
class Level:
    """Attention of the runs that have the same number of runs before them.

    Attributes:
        queries: Places of the runs' tokens in the packed sequence, shape (runs, Q); the last repeated as padding.
        keys: Places of these tokens and of all before them, in order, shape (runs, K).
        mask: Keys a query sees, shape (runs, 1, Q, K); None where nothing stands before the runs.
        real: Real of the (runs * Q) queries are no padding.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None
    real: Tensor


@dataclass(frozen=True, slots=True)
class SharedBatch:
    """How a packed sequence is to be read.

    Attributes:
        levels: Its runs, from the roots on; their queries follow one another in the packed order.
        features: Features of the given images' features stand at its image tokens, in order.
        scored: Places whose hidden states are returned, shape (N,).
        rows: Places of each row's tokens but the last, shape (B, L - 1); anything at padding.
        cache: Cache that the rows' keys and values are put in, if any.
    """

    levels: tuple[Level, ...]
    features: Tensor
    scored: Tensor
    rows: Tensor
    cache: DynamicCache | None = None


class Run(NamedTuple):
    """Steps `start` to `stop` of a row, which stand for those of all rows that share them."""

    row: int
    start: int
    stop: int


class Packed(NamedTuple):
    """A packed batch.

    Attributes:
        inputs: Inputs of the model; `shared` and `shift_labels`, shape (1, N), among them.
        place: Place of each completion token's score among the N, shape (B, C); -1 at padding and images.
        deltas: Number that Qwen adds to a text position after the row, shape (B, 1).
    """

    inputs: dict[str, Any]
    place: Tensor
    deltas: Tensor

    def spread(self, scores: Tensor) -> Tensor:
        """Gives each completion token its score, shape (1, N) to (B, C); 0 where there is none."""
        return scores[0][self.place.clamp(min=0)].masked_fill(self.place < 0, 0)


def pack_parts(
    backbone: Any,
    step: int,
    *,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    num_images: Sequence[int],
    completion: int,
    **rows: Tensor,
) -> Iterator[Packed]:
    """Packs a batch in parts of `step` rows; the arguments are `pack`'s, with the number of each row's images."""
    patches = pixel_values.split(image_grid_thw.prod(-1).tolist())
    for start in range(0, len(num_images), step):
        first, last = sum(num_images[:start]), sum(num_images[: start + step])
        yield pack(
            backbone,
            pixel_values=torch.cat(patches[first:last]),
            image_grid_thw=image_grid_thw[first:last],
            completion=completion,
            **{name: values[start : start + step] for name, values in rows.items()},
        )


def pack(
    backbone: Any,
    *,
    input_ids: Tensor,
    attention_mask: Tensor,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    mm_token_type_ids: Tensor,
    picture_ids: Tensor,
    completion: int,
) -> Packed:
    """Packs a batch so that each run of tokens that rows share stands in it once.

    Args:
        backbone: The model without its head.
        input_ids: Shape (B, P + C), prompts padded on the left, completions on the right.
        attention_mask: Attention mask, the same shape, 0 at padding.
        pixel_values: Patches of all images, row by row.
        image_grid_thw: Their grids, shape (images, 3).
        mm_token_type_ids: 1 at image tokens, shape (B, P + C).
        picture_ids: Identity of each row's images in order, shape (B, K), padded with -1; equal numbers mean equal
            images.
        completion: Length C of the completions; the rest of a row is its prompt.
    """
    # Rows without their padding start at 0.
    mask = attention_mask.cpu()
    order = torch.argsort(1 - mask, dim=1, stable=True)
    ids, lengths = input_ids.cpu().gather(1, order), mask.sum(1)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    image = (mm_token_type_ids.cpu().gather(1, order) == 1) & real
    present = picture_ids[picture_ids >= 0].cpu()
    first, which = _distinct(present[:, None])
    grids = image_grid_thw.cpu()[first]
    sizes = grids.prod(-1) // backbone.config.vision_config.spatial_merge_size**2
    tokens, standing = _name_tokens(ids, image, picture_ids.cpu(), which, sizes)

    # What a place in a row asks for: its token, and the one that follows and is predicted there.
    steps = (tokens[:, :-1] - tokens.min()) * (tokens.max() - tokens.min() + 1) + tokens[:, 1:] - tokens.min()
    steps[~real[:, 1:]] = -1
    rows, row_of = _distinct(steps)
    positions, deltas = backbone.get_rope_index(
        ids[rows],
        image[rows].long(),
        image_grid_thw=torch.stack([grids[number] for row in rows.tolist() for number in standing[row]]),
        attention_mask=real[rows].long(),
    )
    levels, places = _tree(steps[rows])
    runs = [run for level in levels for run in level]
    row = torch.cat([torch.full((stop - start,), one) for one, start, stop in runs])
    column = torch.cat([torch.arange(start, stop) for _, start, stop in runs])
    packed = tokens[rows][row, column]
    place, scored, labels = _scores(ids, image, mask, places[row_of], completion)
    device = input_ids.device
    patches = pixel_values.split(image_grid_thw.prod(-1).tolist())
    inputs = {
        "input_ids": ids[rows][row, column][None].to(device),
        "position_ids": positions[:, row, column][:, None].to(device),
        "pixel_values": torch.cat([patches[index] for index in first.tolist()]),
        "image_grid_thw": image_grid_thw[first.to(device)],
        "shift_labels": labels[None].to(device),
        "shared": SharedBatch(
            levels=tuple(_level(places, level, device) for level in levels),
            features=(-1 - packed[packed < 0]).to(device),
            scored=scored.to(device),
            rows=places[row_of].to(device),
        ),
    }
    return Packed(inputs, place.to(device), deltas[row_of].to(device))


def _name_tokens(
    ids: Tensor, image: Tensor, picture_ids: Tensor, which: Tensor, sizes: Tensor
) -> tuple[Tensor, list[list[int]]]:
    """Returns the token ids with -1 - n at the image tokens that take feature n; and which images stand in each
    row.
    """
    ends = sizes.cumsum(0).tolist()
    tokens, standing = ids.clone(), []
    pictures = iter(which.tolist())
    for row, count in enumerate((picture_ids >= 0).sum(1).tolist()):
        left = int(image[row].sum())
        features, inside = [], []
        for number in [next(pictures) for _ in range(count)]:
            size = int(sizes[number])
            # A completion that is masked out keeps its image in the list.
            if left >= size:
                features.append(torch.arange(ends[number] - size, ends[number]))
                inside.append(number)
                left -= size
        if inside:
            tokens[row, image[row]] = -1 - torch.cat(features)
        standing.append(inside)
    return tokens, standing


def _tree(steps: Tensor) -> tuple[list[list[Run]], Tensor]:
    """Cuts distinct rows into runs, each of which stands once in the packed sequence.

    Args:
        steps: Steps at the places of a row, shape (U, S), -1 after its end.

    Returns:
        The runs of each level, roots first, in packed order; and the packed place of each step, shape (U, S).
    """
    levels: list[list[Run]] = []
    members: list[tuple[int, int, Tensor, Run]] = []
    # Rows, where what they have not yet been given begins, and up to where they are known to be the same.
    todo = [(torch.arange(len(steps)), 0, 0, 0)]
    while todo:
        rows, start, known, depth = todo.pop()
        differ = (steps[rows, known:] != steps[rows[0], known:]).any(0).nonzero()
        if len(differ):
            at = known + int(differ[0])
            values = steps[rows, at]
            parts = [rows[values == value] for value in values.unique()]
            cut = (len(parts) - 1) * (at - start) >= MIN_SAVED
            todo += [(part, at if cut else start, at, depth + cut) for part in parts]
            if not cut:
                continue
        else:
            at = int((steps[rows[0]] >= 0).sum())
        if at > start:
            levels += [[] for _ in range(depth + 1 - len(levels))]
            levels[depth].append(Run(int(rows[0]), start, at))
            members.append((depth, len(levels[depth]), rows, levels[depth][-1]))
    places = torch.zeros_like(steps)
    total = 0
    for _, _, rows, run in sorted(members, key=lambda one: one[:2]):
        size = run.stop - run.start
        places[rows, run.start : run.stop] = torch.arange(total, total + size)
        total += size
    return levels, places


def _level(places: Tensor, runs: list[Run], device: torch.device) -> Level:
    """Returns where the queries and keys of a level's runs stand."""
    row, start, stop = (torch.tensor(column)[:, None] for column in zip(*runs, strict=True))
    query = start + torch.arange(int((stop - start).max()))
    key = torch.arange(int(stop.max()))
    return Level(
        queries=places[row, query.minimum(stop - 1)].to(device),
        keys=places[row, key.minimum(stop - 1)].to(device),
        mask=(key <= query[:, None, :, None]).to(device) if int(start.max()) else None,
        real=(query < stop).flatten().nonzero()[:, 0].to(device),
    )


def _scores(ids: Tensor, image: Tensor, mask: Tensor, places: Tensor, completion: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns where completion tokens are scored, shape (B, C), among which places, and the token that each
    predicts.
    """
    prompt = mask[:, : mask.shape[1] - completion].sum(1, keepdim=True)
    column = (prompt + torch.arange(completion)).clamp(max=ids.shape[1] - 1)
    # The model does not write images.
    valid = (mask[:, mask.shape[1] - completion :] == 1) & ~image.gather(1, column)
    found = places.gather(1, column - 1)
    if not valid.any():
        # A loss of nothing still has a gradient, zero.
        return torch.full_like(found, -1), torch.zeros(1, dtype=torch.long), ids[:1, 0]
    scored, inverse = found[valid].unique(return_inverse=True)
    place = torch.full_like(found, -1).masked_scatter(valid, inverse)
    labels = torch.zeros_like(scored).scatter(0, inverse, ids.gather(1, column)[valid])
    return place, scored, labels


def _distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the index of the first row of each distinct key, shape (U,), and each row's place among them, shape
    (B,).
    """
    _, inverse = torch.unique(keys, dim=0, return_inverse=True)
    count = int(inverse.max()) + 1
    rows = torch.arange(len(keys), device=keys.device)
    first = rows.new_full((count,), len(keys)).scatter_reduce_(0, inverse, rows, "amin")
    return first, inverse
