"""The order in which several processes run the tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest


def deal(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Returns tests in an order whose equal parts take about as long, slow ones first."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    seconds = {path: sum(map(_seconds, some)) for path, some in files.items()}
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    taken = [0.0] * workers
    for path in sorted((path for path in files if seconds[path]), key=lambda path: -seconds[path]):
        least = taken.index(min(taken))
        shares[least] += files[path]
        taken[least] += seconds[path]
    quick = iter([item for path, some in files.items() if not seconds[path] for item in some])
    for number, share in enumerate(shares):
        # What the later shares have too many of is taken from the quick ones here.
        left = len(items) - sum(map(len, shares[:number]))
        share += itertools.islice(quick, max(0, left // (workers - number) - len(share)))
    return [item for share in shares for item in share]


def _seconds(item: pytest.Item) -> float:
    """Those of its mark; none where it is skipped."""
    if any(mark.args and mark.args[0] is True for mark in item.iter_markers("skipif")):
        return 0.0
    return sum(float(mark.args[0]) for mark in item.iter_markers("slow"))
