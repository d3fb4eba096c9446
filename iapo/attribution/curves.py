"""Deletion and insertion curves over prompt blocks, their areas, and the agreement of two rankings; no torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Value = Callable[[frozenset[int]], float]
"""The score of a call with only these blocks in the prompt."""


@dataclass(frozen=True, slots=True)
class Areas:
    """Areas under one order's two curves, as heights above the score of the empty prompt, in units of the score.

    Attributes:
        deletion: Mean height while blocks are removed in that order.
        insertion: Mean height while they are added to the empty prompt in that order.
    """

    deletion: float
    insertion: float


def curve_sets(order: Sequence[int]) -> tuple[list[frozenset[int]], list[frozenset[int]]]:
    """Lists the blocks that are in the prompt at each point of the deletion and of the insertion curve.

    Args:
        order: All blocks, the most important first.

    Returns:
        Both from 0 to all blocks removed, or added.
    """
    counts = range(len(order) + 1)
    return [frozenset(order[count:]) for count in counts], [frozenset(order[:count]) for count in counts]


def areas(order: Sequence[int], value: Value) -> Areas:
    """Computes the areas under an order's curves by the trapezoidal rule, the steps of equal width, 1 in all.

    Args:
        order: All blocks, the most important first; at least one.
        value: The score by set.

    Raises:
        ValueError: If there is no block.
    """
    if not order:
        raise ValueError("no blocks to remove")
    empty = value(frozenset())
    deletion, insertion = ([value(one) - empty for one in sets] for sets in curve_sets(order))
    return Areas(*(sum(a + b for a, b in pairwise(heights)) / (2 * len(order)) for heights in (deletion, insertion)))


def mean_areas(found: Iterable[Areas]) -> Areas:
    """Averages the areas of several orders."""
    some = list(found)
    return Areas(*(float(np.mean([getattr(one, what) for one in some])) for what in ("deletion", "insertion")))


def ranking(scores: Sequence[float], blocks: Sequence[int]) -> tuple[int, ...]:
    """Orders blocks by falling score; equal ones in the order of the prompt.

    Args:
        scores: Scores of all blocks.
        blocks: The blocks that are ordered, in the order of the prompt.
    """
    return tuple(sorted(blocks, key=lambda block: -scores[block]))


def random_orders(blocks: Sequence[int], count: int, seed: Sequence[int]) -> list[tuple[int, ...]]:
    """Draws orders of blocks."""
    rng = np.random.default_rng(list(seed))
    return [tuple(int(one) for one in rng.permutation(blocks)) for _ in range(count)]


def rank_agreement(some: Sequence[float], others: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation; None where one of the two does not vary."""
    # A second to import.
    from scipy import stats

    if len(set(some)) < 2 or len(set(others)) < 2:
        return None
    return float(stats.spearmanr(some, others).statistic)
