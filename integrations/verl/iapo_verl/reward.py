"""The reward function: is the final answer right, and what did the tool call come to?

`compute_score` is what `reward.custom_reward_function` names. It runs beside the rollouts, where there are no weights;
the alignment is added by `iapo_verl.trainer`, when the batch is whole and the actor is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from iapo.attribution.divergence import penalty_weight
from iapo.grading.outcome import grade


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None, **kwargs: Any
) -> dict[str, float]:
    """Grades one rollout.

    Args:
        data_source: Name of the data set.
        solution_str: All that stands behind the prompt, observations included; graded where the agent loop was another
            one and names no final turn.
        ground_truth: The gold answers, a JSON list.
        extra_info: Of the row `grading`; of the rollout `final_text`, `called`, `succeeded` and `misused`.
        kwargs: Other arguments of VeRL's; not used.

    Returns:
        `score`, which is the outcome of 0 or 1, and columns for the logs: `outcome`, `called`, `call_success` and
        `misuse`, 0 or 1 each.
    """
    info = extra_info or {}
    score = grade(info.get("final_text", solution_str), json.loads(ground_truth), info.get("grading", "plain"))
    return {
        "score": score.value,
        "outcome": score.value,
        "called": float(info.get("called", False)),
        "call_success": float(info.get("succeeded", False)),
        "misuse": float(info.get("misused", False)),
    }


def with_alignment(
    scores: Sequence[Tensor], divergences: Tensor, step: int, weight: float = 0.1, decay: float = 0.01
) -> list[Tensor]:
    """Adds the alignment to the rewards of a batch: `R - lambda_k D` at each rollout's last token.

    Args:
        scores: The rewards of each rollout's tokens, shapes (tokens,).
        divergences: Divergences from the teacher, shape (rollouts,).
        step: Optimiser step k, from 0.
        weight: First weight of the divergence, `lambda_0`.
        decay: Its decay a step.

    Returns:
        New tensors of the same shapes.
    """
    share = penalty_weight(step, weight, decay)
    found = []
    for own, divergence in zip(scores, divergences.tolist(), strict=True):
        changed = own.clone()
        changed[-1] -= share * divergence
        found.append(changed)
    return found
