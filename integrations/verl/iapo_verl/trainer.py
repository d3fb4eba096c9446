"""VeRL's synchronous trainer with the alignment in the reward: `trainer.v1.trainer_mode=iapo`."""

from __future__ import annotations

from typing import Any

import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from iapo_verl.reward import with_alignment
from iapo_verl.worker import IAPOWorker


@register_trainer("iapo")
class IAPOTrainer(PPOTrainerSync):
    """GRPO with the outcome and the alignment as the reward; `actor_rollout_ref.iapo` has its settings."""

    def _build_replay_buffer(self) -> Any:
        # VeRL tells by its own names which trainers are synchronous.
        self.trainer_mode = "sync"
        return super()._build_replay_buffer()

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.ActorRollout, Role.ActorRolloutRef):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(IAPOWorker)

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        with marked_timer("alignment", self.timing_raw, color="green"):
            self._align(batch, metrics)
        return super()._compute_advantage(batch, metrics)

    def _align(self, batch: Any, metrics: dict[str, Any]) -> None:
        """Has the actor measure the batch, and takes the penalty off the rewards."""
        settings = self.config.actor_rollout_ref.get("iapo") or {}
        batch.extra_info["step"] = self.global_steps
        self.actor_rollout_wg.measure_alignment(batch)
        fields = ["rm_scores", "divergence"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        weights = {"weight": settings.get("penalty_weight", 0.1), "decay": settings.get("penalty_decay", 0.01)}
        divergences = data["divergence"]
        scores = with_alignment(data["rm_scores"].unbind(), divergences, self.global_steps - 1, **weights)
        nested = torch.nested.as_nested_tensor(scores, layout=torch.jagged)
        fields = TensorDict({"rm_scores": nested}, batch_size=len(batch))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
        real = [place for place, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
        metrics["alignment/divergence"] = divergences[real].mean().item()
