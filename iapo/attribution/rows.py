"""Which positions the tangents of a prompt's blocks have: each block's from its first one on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_ROWS = 8192
"""Positions of tangents that are in the MLP at once, whole blocks of them: its inner units are the widest thing."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One block's rows among the tangents: positions `start ..` of one prompt."""

    prompt: int
    block: int
    start: int
    rows: slice


@dataclass(frozen=True, slots=True)
class Rows:
    """The layout of tangents: for each prompt and block the positions from the block's first one on, N rows in all.

    Attributes:
        segments: Rows belong to which block.
        places: The place of each row's position among all positions of the prompts, shape (N,).
        is_own: Whether each row's position belongs to its block, shape (N, 1).
    """

    segments: list[Segment]
    places: Tensor
    is_own: Tensor

    @classmethod
    def build(cls, block_of: Tensor) -> Rows:
        segments: list[Segment] = []
        places: list[int] = []
        is_own: list[bool] = []
        for prompt, row in enumerate(block_of.tolist()):
            for block in sorted(set(row)):
                start, first = row.index(block), len(places)
                places += range(prompt * len(row) + start, (prompt + 1) * len(row))
                is_own += [one == block for one in row[start:]]
                segments.append(Segment(prompt, block, start, slice(first, len(places))))
        device = block_of.device
        return cls(segments, torch.tensor(places, device=device), torch.tensor(is_own, device=device)[:, None])

    def parts(self) -> Iterator[list[Segment]]:
        """Yields the segments in order, those that run at once together: `MOST_ROWS` rows, or one segment with more."""
        some: list[Segment] = []
        for one in self.segments:
            if some and one.rows.stop - some[0].rows.start > MOST_ROWS:
                yield some
                some = []
            some.append(one)
        yield some

    def pick(self, of_positions: Tensor) -> Tensor:
        """Repeats what belongs to positions, shape (U, tokens, ...), for the rows: shape (N, ...)."""
        return of_positions.flatten(0, 1)[self.places]


def count_rows(block_of: Tensor) -> int:
    """Counts the positions of all blocks' tangents."""
    return sum(len(row) - row.index(block) for row in block_of.tolist() for block in set(row))
