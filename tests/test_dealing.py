"""Several processes have about as much to do, begin with what takes long, and leave nothing out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dealing import deal


def made(file: str, count: int, *seconds: float, skipped: bool = False) -> list[Any]:
    marks = {"slow": [SimpleNamespace(args=(one,)) for one in seconds], "skipif": [SimpleNamespace(args=(skipped,))]}
    return [
        SimpleNamespace(path=Path(file), name=f"{file}-{number}", iter_markers=marks.__getitem__)
        for number in range(count)
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_shares_are_equal_and_slow_first(workers: int) -> None:
    items = [*made("a", 40), *made("b", 3, 5.0), *made("c", 30), *made("d", 1, 9.0), *made("e", 2, 8.0)]
    dealt = deal(items, workers)
    assert sorted(one.name for one in dealt) == sorted(one.name for one in items)
    size = len(items) // workers
    for number in range(workers):
        share = dealt[number * size : (number + 1) * size]
        slow = [bool(list(one.iter_markers("slow"))) for one in share]
        assert slow[0]
        assert slow == sorted(slow, reverse=True)
    assert {dealt[number * size].path.name for number in range(workers)} == set(["e", "b", "d"][:workers])


def test_a_file_of_slow_tests_stays_together() -> None:
    dealt = deal([*made("a", 9), *made("b", 4, 1.0), *made("c", 5, 1.0)], 2)
    for file in "bc":
        places = [place for place, one in enumerate(dealt) if one.path.name == file]
        assert places == list(range(places[0], places[0] + len(places)))


def test_what_is_skipped_is_quick() -> None:
    items = [*made("a", 3, 300.0, skipped=True), *made("b", 3, 1.0), *made("c", 6)]
    assert [one.path.name for one in deal(items, 2)][:3] == ["b"] * 3


def test_more_slow_ones_than_a_share_holds() -> None:
    items = [*made("a", 1), *made("b", 9, 1.0)]
    assert sorted(one.name for one in deal(items, 2)) == sorted(one.name for one in items)
