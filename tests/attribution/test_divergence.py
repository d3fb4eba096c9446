"""Distributions and divergences against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from iapo.attribution.divergence import (
    block_distribution,
    divergence,
    kl_divergence,
    misuse_auc,
    penalty_weight,
    worst_divergence,
)


def test_magnitude():
    # |scores| sum to 10; half of each is mixed with 1/4.
    p = block_distribution(torch.tensor([1.0, -2.0, 3.0, -4.0]), eps=0.5)
    torch.testing.assert_close(p, torch.tensor([0.175, 0.225, 0.275, 0.325]))


def test_softmax():
    scores = torch.tensor([0.0, math.log(2.0), math.log(5.0), -math.inf]).nan_to_num(neginf=-200.0)
    p = block_distribution(scores, "softmax", eps=0.04)
    torch.testing.assert_close(p, 0.96 * torch.tensor([0.125, 0.25, 0.625, 0.0]) + 0.01)


def test_normalizations_differ():
    """The sign counts in one and not in the other."""
    scores = torch.tensor([3.0, -3.0])
    torch.testing.assert_close(block_distribution(scores), torch.tensor([0.5, 0.5]))
    assert block_distribution(scores, "softmax")[0] > 0.98


def test_floored():
    # Magnitudes 2 and 4; a tenth of each is mixed with 1/2.
    p = block_distribution(torch.tensor([1.0, -3.0]), "floored", eps=0.1, floor=1.0)
    torch.testing.assert_close(p, torch.tensor([0.35, 0.65]))


def test_signed():
    """Each row by its own sum; the divergence is half of what lies between them."""
    shares = block_distribution(torch.tensor([[1.0, -3.0], [8.0, 2.0]]), "signed")
    torch.testing.assert_close(shares, torch.tensor([[0.25, -0.75], [0.8, 0.2]]))
    torch.testing.assert_close(divergence(shares[0], shares[1], "signed"), torch.tensor(0.75))


def test_default_eps_is_the_least_probability():
    p = block_distribution(torch.tensor([7.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(p, torch.tensor([0.9925, 0.0025, 0.0025, 0.0025]))


@pytest.mark.parametrize("normalization", ["magnitude", "softmax"])
def test_zero_scores_are_uniform(normalization: str):
    p = block_distribution(torch.zeros(2, 5), normalization)
    torch.testing.assert_close(p, torch.full((2, 5), 0.2))


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30, 1e37])
def test_magnitude_ignores_the_scale(scale: float):
    p = block_distribution(scale * torch.tensor([1.0, -3.0]), eps=0.2)
    torch.testing.assert_close(p, torch.tensor([0.3, 0.7]))


def test_rows_are_independent_and_sum_to_one():
    torch.manual_seed(0)
    scores = torch.randn(3, 4, 9)
    scores[1, 2] = 0
    p = block_distribution(scores)
    torch.testing.assert_close(p.sum(-1), torch.ones(3, 4))
    assert (p >= 0.01 / 9 * 0.9999).all()
    torch.testing.assert_close(block_distribution(scores[2, 3]), p[2, 3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_computed_in_fp32(dtype: torch.dtype):
    scores = torch.tensor([1.0, 2.0, -5.0], dtype=dtype)
    p = block_distribution(scores)
    assert p.dtype == torch.float32
    assert torch.equal(p, block_distribution(scores.float()))


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1, math.nan])
def test_refused_eps(eps: float):
    with pytest.raises(ValueError, match="eps must lie between 0 and 1"):
        block_distribution(torch.ones(2), eps=eps)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refused_scores(bad: float):
    with pytest.raises(ValueError, match="a block score is not finite"):
        block_distribution(torch.tensor([1.0, bad]))


def test_refused_normalization():
    with pytest.raises(ValueError, match="unknown normalization 'max'; use one of magnitude, softmax, floored, signed"):
        block_distribution(torch.ones(2), "max")  # type: ignore[arg-type]


def test_kl_by_hand():
    student = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.25, 0.75]])
    teacher = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]])
    expected = [
        0.5 * math.log(2) + 0.5 * math.log(2 / 3),
        0.9 * math.log(1.8) + 0.1 * math.log(0.2),
        0.25 * math.log(0.5) + 0.75 * math.log(1.5),
    ]
    torch.testing.assert_close(kl_divergence(student, teacher), torch.tensor(expected))
    # KL is not symmetric: the first pair the other way round.
    backwards = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    torch.testing.assert_close(kl_divergence(teacher[0], student[0]), torch.tensor(backwards))


def test_a_zero_of_the_student_adds_nothing():
    value = kl_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.8, 0.2]))
    torch.testing.assert_close(value, torch.tensor(math.log(1.25)))


def test_kl_is_clipped_to_log_m():
    student, teacher = torch.tensor([0.999, 0.0005, 0.0005]), torch.tensor([1e-6, 0.5, 0.5])
    unclipped = 0.999 * math.log(0.999e6) + 0.001 * math.log(0.001)
    assert unclipped > math.log(3)
    assert kl_divergence(student, teacher).item() == pytest.approx(math.log(3))
    assert worst_divergence(3) == math.log(3)


def test_equal_distributions_diverge_by_exactly_nothing():
    torch.manual_seed(0)
    p = block_distribution(torch.randn(200, 9))
    assert torch.equal(kl_divergence(p, p.clone()), torch.zeros(200))
    # Rounding may make the sum a little negative; a divergence never is.
    nudged = block_distribution(torch.randn(200, 9) * 1e-4 + 1)
    assert (kl_divergence(nudged, nudged.roll(1, 0)) >= 0).all()


def test_different_blocks_are_refused():
    with pytest.raises(ValueError, match="cover different blocks"):
        kl_divergence(torch.full((9,), 1 / 9), torch.full((8,), 1 / 8))
    with pytest.raises(ValueError, match="cover different blocks"):
        kl_divergence(torch.full((4, 9), 1 / 9), torch.full((9,), 1 / 9))


@pytest.mark.parametrize(
    ("step", "initial", "decay", "expected"),
    [(0, 0.1, 0.01, 0.1), (100, 0.1, 0.01, 0.1 / math.e), (69, 0.5, 0.01, 0.5 * 0.50157607), (10**6, 0.1, 0.01, 0.0),
     (50, 0.3, 0.0, 0.3), (7, 0.0, 0.01, 0.0)],
)  # fmt: skip
def test_penalty_weight(step: int, initial: float, decay: float, expected: float):
    assert penalty_weight(step, initial, decay) == pytest.approx(expected, rel=1e-7)


def test_misuse_auc_compares_within_groups_alone() -> None:
    """A group of one misused call under one of two right ones and tied with none, and one whose calls all are right."""
    divergences = torch.tensor([[0.5, 0.2, 0.9, 7.0], [0.0, 0.0, 0.0, 0.0]])
    misused = torch.tensor([[True, False, False, False], [False] * 4])
    right = torch.tensor([[False, True, True, False], [True] * 4])
    assert misuse_auc(divergences, misused, right) == 0.5
    assert misuse_auc(divergences, right, misused) == 0.5
    assert misuse_auc(divergences[:, :2], misused[:, :2], right[:, :2]) == 1.0
    assert misuse_auc(torch.zeros(2, 4), misused, right) == 0.5
    assert math.isnan(misuse_auc(divergences[1:], misused[1:], right[1:]))


@pytest.mark.parametrize("normalization", ["magnitude", "floored", "signed"])
def test_the_sum_of_finite_scores_may_be_none(normalization: Any) -> None:
    """Shares do not depend on the unit of the scores, up to the largest that float32 holds."""
    rows = torch.tensor([[3.0, -3.0, 1.5, 0.0], [1.0, 2.0, 3.0, 4.0]])
    large = rows * torch.tensor([[1e38], [1.0]])
    found = block_distribution(large, normalization, floor=0.0)
    torch.testing.assert_close(found, block_distribution(rows, normalization, floor=0.0))
    # A row beside such a one stays as it is, to the last bit.
    assert torch.equal(found[1], block_distribution(rows[1], normalization, floor=0.0))
    if normalization != "signed":
        torch.testing.assert_close(found.sum(-1), torch.ones(2))


def test_so_it_is_of_softmax() -> None:
    scores = torch.tensor([3e38, -3e38, 3e38])
    for temperature in (1.0, 1e-3, 1e-30):
        found = block_distribution(scores, "softmax", temperature=temperature, eps=0.03)
        torch.testing.assert_close(found, torch.tensor([0.495, 0.01, 0.495]))
