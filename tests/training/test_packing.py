"""Cutting rows into runs: each distinct beginning once, every row whole along its path."""

from __future__ import annotations

import pytest
import torch

from iapo.training.packing import _level, _tree


def random_rows(seed: int) -> torch.Tensor:
    """Distinct rows of different lengths that often begin alike, some of them the beginning of another."""
    torch.manual_seed(seed)
    found = set()
    for _ in range(12):
        row = torch.cat([torch.randint(0, 2, (4,)).repeat_interleave(5), torch.randint(0, 3, (6,))])
        found.add(tuple(row[: int(torch.randint(3, 27, ()))].tolist()))
    longest = max(map(len, found))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in sorted(found)])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("least", [1, 8, 10**6])
def test_every_row_is_whole_along_its_path(seed: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iapo.training.packing.MIN_SAVED", least)
    steps = random_rows(seed)
    levels, places = _tree(steps)
    runs = [run for level in levels for run in level]
    packed = torch.cat([steps[row, start:stop] for row, start, stop in runs])
    real = steps >= 0
    assert torch.equal(packed[places][real], steps[real])
    beginnings = {tuple(row[:end].tolist()) for row in steps for end in range(1, int((row >= 0).sum()) + 1)}
    if least == 1:
        assert len(packed) == len(beginnings)
    elif least == 8:
        assert len(beginnings) <= len(packed) < int(real.sum())
    else:
        assert len(levels) == 1
        assert len(packed) == int(real.sum())
    # What each packed token sees is its own row up to itself, in order.
    queries = []
    for runs_of, level in zip(levels, (_level(places, one, torch.device("cpu")) for one in levels), strict=True):
        for number, (row, start, stop) in enumerate(runs_of):
            for query in range(stop - start):
                seen = level.keys[number][: start + query + 1]
                if level.mask is not None:
                    assert level.mask[number, 0, query].sum() == start + query + 1
                    assert torch.equal(level.keys[number][level.mask[number, 0, query]], seen)
                assert torch.equal(packed[seen], steps[row, : start + query + 1])
                assert level.queries[number][query] == seen[-1]
        queries.append(level.queries.flatten()[level.real])
    assert torch.equal(torch.cat(queries), torch.arange(len(packed)))


def test_little_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows with 9 steps in common: a saving of 9, once."""
    steps = torch.tensor([[7] * 9 + [1, 2], [7] * 9 + [3, 4]])
    monkeypatch.setattr("iapo.training.packing.MIN_SAVED", 10)
    assert [[tuple(run) for run in level] for level in _tree(steps)[0]] == [[(1, 0, 11), (0, 0, 11)]]
    monkeypatch.setattr("iapo.training.packing.MIN_SAVED", 9)
    assert [[tuple(run) for run in level] for level in _tree(steps)[0]] == [[(0, 0, 9)], [(1, 9, 11), (0, 9, 11)]]
