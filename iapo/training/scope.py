"""Which of its own tokens a component of the reward speaks of: advantages by token.

GRPO gives a rollout one advantage, for all that the model wrote. A component that judges the call alone can be kept to
the call's tokens, so that the answer is not blamed for it (turn-level credit, arXiv 2505.11821).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from trl.trainer.utils import nanstd

from iapo.rewards.columns import Column, Scope
from iapo.rollout.turns import Rollout
from iapo.training.batches import Batch

_TRL_EPS = 1e-4
"""What TRL adds to a deviation before it divides."""


def component_advantages(
    rewards: Tensor | None, weights: Tensor, group: int, scale: Literal["group", "batch", "none"]
) -> Tensor:
    """Returns the part that each component has in each rollout's advantage; over the components they sum to TRL's.

    Args:
        rewards: Rewards over all processes, shape (rollouts, components); NaN is no value.
        weights: Weight of each component.
        group: Number of rollouts of a prompt, which lie side by side.
        scale: Scale of the advantages, as TRL's `scale_rewards`: the deviation of the total by which they are divided.

    Returns:
        Shape (rollouts, components); 0 for rollouts without any reward.
    """
    assert rewards is not None
    parts = torch.nan_to_num(rewards) * weights
    left_out = rewards.isnan().all(1)
    parts[left_out] = torch.nan
    grouped = parts.view(-1, group, parts.shape[1])
    centred = (grouped - grouped.nanmean(1, keepdim=True)).view_as(parts)
    total = parts.sum(1)
    if scale == "group":
        deviation = nanstd(total.view(-1, group), dim=1).repeat_interleave(group)
    elif scale == "batch":
        deviation = nanstd(total).expand_as(total)
    else:
        deviation = torch.full_like(total, 1 - _TRL_EPS)
    return torch.nan_to_num(centred / (deviation + _TRL_EPS)[:, None])


def in_scope(rollouts: Sequence[Rollout], scope: Scope, width: int) -> Tensor:
    """Returns which tokens of the completions lie in a scope.

    Args:
        rollouts: The rollouts.
        scope: Scope of the component: `rollout` is all, `turn_1` the first turn and each later one with a program,
            `call` the tokens of their programs. A first turn without a program is taken as a whole, so that not calling
            has its price, too.
        width: Number of tokens of the longest completion.

    Returns:
        Booleans, shape (rollouts, width).
    """
    rows = torch.zeros(len(rollouts), width, dtype=torch.bool)
    for row, one in zip(rows, rollouts, strict=True):
        if scope == "rollout":
            row[: len(one.completion_ids)] = True
            continue
        start = 0
        for place, turn in enumerate(one.turns):
            part = row[start : start + len(turn.ids)]
            if scope == "call" and any(turn.target):
                part[:] = torch.tensor(turn.target)
            elif place == 0 or turn.result.called:
                part[:] = True
            start += len(turn.ids)
            start += len(one.observations[place].ids) if place < len(one.observations) else 0
    return rows


def scopes_of(names: Sequence[str], columns: Mapping[str, Column]) -> dict[int, Scope]:
    """Returns the scope of each component that does not speak of the whole rollout, by its place among the rewards.

    Args:
        names: Names of the reward functions, in order.
        columns: Columns by name.
    """
    scopes = {place: columns[name].scope for place, name in enumerate(names) if name in columns}
    return {place: scope for place, scope in scopes.items() if scope != "rollout"}


def token_advantages(
    output: Mapping[str, Tensor], batch: Batch, scopes: Mapping[int, Scope], parts: Tensor, process: int
) -> Tensor:
    """Returns the advantage of each token: a component that has a scope counts in it alone.

    Args:
        output: Output of TRL for this process: `advantages`, shape (rollouts,), and `completion_ids`.
        batch: Batch with its rollouts.
        scopes: Scopes as of `scopes_of`.
        parts: Parts of the advantages of all processes' rollouts (`component_advantages`).
        process: Number of this process.

    Returns:
        Shape (rollouts, tokens of the longest completion).
    """
    own = parts.split(len(batch.rollouts))[process]
    width = output["completion_ids"].shape[1]
    by_token = output["advantages"][:, None].repeat(1, width)
    for column, scope in scopes.items():
        outside = ~in_scope(batch.rollouts, scope, width).to(by_token.device)
        by_token -= own[:, column, None] * outside
    return by_token
