"""Names of test sets in tables: short, and told apart."""

from __future__ import annotations

import pytest

from iapo.display.tables import endings


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["vbar", "hbar"], ["vbar", "hbar"]),
        (["runs/sets/mixed.parquet", "runs/sets/look.parquet"], ["mixed.parquet", "look.parquet"]),
        (["/data/one/test", "/data/two/test/"], ["one/test", "two/test"]),
        (["/a/x/test", "/b/x/test", "vbar"], ["a/x/test", "b/x/test", "vbar"]),
        (["owner/name", "chartqa@hub"], ["owner/name", "chartqa@hub"]),
        ([], []),
    ],
)
def test_paths_by_the_parts_that_tell_them_apart(names: list[str], shown: list[str]) -> None:
    assert endings(names) == shown
