"""Groups of rollouts: whether their rewards differ at all, and by how much, of each data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl.trainer.utils import nanstd

from iapo.training.batches import Batch
from iapo.training.metrics import EQUAL


def total_rewards(rewards: Tensor, weights: Tensor) -> Tensor:
    """Returns weighted sums of rewards, shape (rollouts,), as TRL makes advantages of them.

    Args:
        rewards: Components of the rewards, shape (rollouts, components); NaN is no value.
        weights: Their weights, shape (components,).

    Returns:
        NaN for a rollout that has no value at all.
    """
    total = (rewards * weights.to(rewards.device)).nansum(1)
    return total.masked_fill(rewards.isnan().all(1), torch.nan)


def flat_groups(rewards: Tensor, group: int) -> list[int]:
    """Returns the numbers of the groups without spread: such a group has no advantage, and moves nothing.

    Args:
        rewards: Rewards of the rollouts, those of a group side by side, shape (rollouts,); NaN is not counted.
        group: Rollouts of a group.
    """
    rows = rewards.view(-1, group)
    unknown = rows.isnan()
    most = rows.masked_fill(unknown, -torch.inf).amax(1)
    least = rows.masked_fill(unknown, torch.inf).amin(1)
    # A group of unknown rewards alone has -inf for its most, and inf for its least.
    return ((most - least) <= EQUAL).nonzero().flatten().tolist()


def told_groups(batch: Batch, weights: Tensor, group: int) -> dict[str, float]:
    """Returns `group_metrics` of a batch; all processes call it.

    Args:
        batch: This process's rollouts, with the rewards of all processes.
        weights: Weights of the reward's components.
        group: Rollouts of a group.
    """
    assert batch.rewards is not None
    sources = gather_object([sample.source for sample in batch.samples])
    return group_metrics(total_rewards(batch.rewards, weights), sources, group)


def group_metrics(rewards: Tensor, sources: Sequence[str], group: int) -> dict[str, float]:
    """Sums up groups, all of them and those of each data set.

    Args:
        rewards: Rewards of all processes' rollouts, shape (rollouts,); NaN of a rollout that is left out.
        sources: Data set of each rollout's sample.
        group: Rollouts of a group.

    Returns:
        `groups/flat`, the share of groups whose rewards are equal; `groups/reward`, the mean of the groups' means;
        `groups/spread`, the mean of their standard deviations (of a sample, without those that have no two values);
        and the same with `/SOURCE` behind.
    """
    rows = rewards.view(-1, group)
    flat = torch.zeros(len(rows))
    flat[flat_groups(rewards, group)] = 1.0
    told = {"flat": flat, "reward": rows.nanmean(1).cpu(), "spread": nanstd(rows, dim=1).cpu()}
    of_groups = sources[::group]
    found = {}
    for source in ("", *dict.fromkeys(sorted(of_groups))):
        chosen = torch.tensor([not source or one == source for one in of_groups])
        for name, values in told.items():
            found[f"groups/{name}/{source}".rstrip("/")] = values[chosen].nanmean().item()
    return found
