"""Teachers of the user's own: their rows are looked at as a stored table's are."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.teachers.own import check_reference, looked_at

BLOCKS = ("context", "image_1", "tool:a", "tool:b")
ROLLOUTS: Any = [
    SimpleNamespace(
        prompt=SimpleNamespace(block_names=BLOCKS),
        trace=SimpleNamespace(sample=SimpleNamespace(source="x", id=str(place))),
    )
    for place in range(2)
]
EVEN = torch.full((2, 4), 0.25)


class Mine:
    per_sample = False

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def distributions(self, rollouts: Any) -> Any:
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows


def asked(rows: Any, **settings: Any) -> torch.Tensor:
    return looked_at(Mine(rows), AttributionSettings(**settings)).distributions(ROLLOUTS)


def test_rows_that_are_distributions() -> None:
    none = torch.full((4,), math.nan)
    for rows in (EVEN, EVEN.double(), EVEN.clone().requires_grad_(), torch.stack([EVEN[0], none])):
        found = asked(rows)
        assert found.dtype == torch.float32
        assert not found.requires_grad
        assert torch.equal(found, rows.detach().float()) or found[1].isnan().all()
    halves = torch.tensor([[0.5, -0.5], [0.0, 0.0]])
    assert torch.equal(asked(halves, normalization="signed", blocks="tools"), halves)


@pytest.mark.parametrize("factor", [5.0, 0.5, 0.0, -1.0, 1.001, math.inf])
def test_rows_that_are_none(factor: float) -> None:
    rows = EVEN.clone()
    rows[1] *= factor
    with pytest.raises(
        InputError, match=r"the teacher Mine gives .* for sample x/1, which is no distribution; give numbers"
    ):
        asked(rows)


def test_one_share_that_is_none() -> None:
    rows = EVEN.clone()
    rows[0, 0] = math.nan
    with pytest.raises(InputError, match="for sample x/0, which is no distribution"):
        asked(rows)
    with pytest.raises(InputError, match="give shares whose magnitudes sum to 1"):
        asked(EVEN * 2, normalization="signed")


@pytest.mark.parametrize("rows", [EVEN[:1], EVEN[:, :3], EVEN[0], EVEN.tolist(), None, EVEN.numpy()])
def test_another_shape(rows: Any) -> None:
    with pytest.raises(InputError, match=r"the teacher Mine gives .*; give a tensor of shape \(2, 4\)"):
        asked(rows)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (EVEN.to(torch.cfloat), "gives a tensor of torch.complex64; give one of real numbers"),
        (EVEN.to_sparse(), "gives a nested or sparse tensor; give a plain one"),
        (EVEN.to("meta"), "gives a meta tensor; give a plain one, which holds all its numbers"),
        (torch.nested.nested_tensor([EVEN[0], EVEN[0]], layout=torch.jagged), "gives a nested or sparse tensor"),
    ],
)
def test_a_tensor_of_another_kind(rows: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"the teacher Mine {sentence}"):
        asked(rows)


def test_what_it_raises_is_its_own() -> None:
    with pytest.raises(
        InputError, match=rf"the teacher Mine failed \(ValueError: mine, {__file__}, line \d+\); mend it"
    ):
        asked(ValueError("mine"))


@pytest.mark.parametrize("teacher", ["tiny-teacher", object(), 5, len, Mine, SimpleNamespace(distributions=len)])
def test_what_is_no_teacher(teacher: Any) -> None:
    with pytest.raises(InputError, match=r"^teacher is .*; give a loaded policy"):
        check_reference(teacher)
