"""The teacher scores each token that the student wrote: on-policy distillation by token (docs/rewards.md).

The student's own rollouts are what both models read, as in arXiv 2306.13649 (GKD); a token's advantage gets
`w (log p_teacher - log p_student)`, whose mean over the student's tokens is minus the reverse KL divergence, as in
arXiv 2306.08543 (MiniLLM) without its look-ahead: each token answers for itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from iapo.attribution.divergence import penalty_weight
from iapo.errors import InputError
from iapo.rewards.alignment import Alignment
from iapo.training.config import IAPOConfig
from iapo.training.shared_prefix import add_shared_prefix, cannot_share

LogProbs = Callable[..., tuple[Tensor, Tensor | None, Tensor | None]]
"""TRL's pass: model, ids, mask, tokens that are scored, and what else a model takes -> log-probabilities and more."""

_READ = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")


class TokenTeacher:
    """Adds the teacher's view of each written token to the advantages.

    A token that the teacher finds less likely than a guess among its V tokens counts as a guess (**chosen**): one
    impossible token would otherwise outweigh all else in the batch.

    Args:
        model: The frozen teacher, which reads the student's tokens and patches.
        args: The settings.
        floor: Least log-probability of the teacher, `-log V`.
    """

    def __init__(self, model: PreTrainedModel, args: IAPOConfig, floor: float) -> None:
        self._model, self._args, self._floor = model, args, floor

    def credit(
        self, output: dict[str, Any], student: Any, log_probs: LogProbs, step: int, metrics: dict[str, list[float]]
    ) -> None:
        """Adds the teacher's part to a batch's advantages, which are then one a token, shape (rollouts, tokens).

        Args:
            output: TRL's batch: ids, masks, images, and `advantages` by rollout or by token.
            student: The student as TRL runs it.
            log_probs: TRL's pass.
            step: Optimiser step, on which the weight depends.
            metrics: Lists of values by name; `distill/reverse_kl` gets the mean over the written tokens, in nats.
        """
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        width, rows = output["completion_ids"].shape[1], self._args.per_device_train_batch_size
        read = {name: output[name] for name in _READ if name in output}
        with torch.no_grad():
            teachers, _, _ = log_probs(self._model, ids, mask, width, rows, **read)
            own = output.get("old_per_token_logps")
            if own is None:
                own, _, _ = log_probs(student, ids, mask, width, rows, **read)
        written = output["completion_mask"] * output.get("tool_mask", 1)
        gains = (teachers.float().clamp(min=self._floor) - own.float()) * written
        metrics["distill/reverse_kl"].append(-(gains.sum() / written.sum().clamp(min=1)).item())
        advantages: Tensor = output["advantages"]
        by_token = advantages if advantages.dim() == 2 else advantages[:, None]
        weight = penalty_weight(step, self._args.token_distill_weight, self._args.penalty_decay)
        output["advantages"] = by_token + weight * gains


def make_token_teacher(args: IAPOConfig, alignment: Alignment | None, *, shares: bool) -> TokenTeacher | None:
    """Returns what scores tokens, or None where `token_distill_weight` is 0.

    Args:
        args: The settings.
        alignment: Alignment with the loaded teacher.
        shares: Whether TRL's pass packs rows that begin alike.

    Raises:
        InputError: If the teacher reads other tokens or image patches than the student, or cannot run packed rows.
    """
    if args.token_distill_weight == 0:
        return None
    assert alignment is not None
    asked = alignment.student_call
    if asked is None or (reason := asked.reads_otherwise(alignment.encoder)) is not None:
        reason = "it is a table" if asked is None else reason
        raise InputError(
            f"token_distill_weight is {args.token_distill_weight}, but the teacher cannot score the student's tokens: "
            f"{reason}; take a live teacher of the student's family, or the reward distill"
        )
    model = asked.model
    if shares and (why := cannot_share(model.config)) is not None:
        raise InputError(
            f"token_distill_weight needs a teacher that runs packed rows, but {why}; set share_prefix to false"
        )
    if shares:
        add_shared_prefix(model)
    add_fused_lm_head(model, temperature=args.temperature, cast_lm_head_to_fp32=args.cast_lm_head_to_fp32)
    return TokenTeacher(model, args, asked.log_prob_floor)
