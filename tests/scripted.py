"""A trainer whose rollouts are written by hand, so that their rewards are known."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from iapo.records import Sample
from iapo.tools import TOOLS
from iapo.training.batches import to_dataset
from iapo.training.config import IAPOConfig
from iapo.training.trainer import IAPOTrainer

COLUMNS = "```python\ndisplay(focus_on_columns_with_mask(image_1, {names}, columns_bbox))\n```"
ROWS = "```python\ndisplay(focus_on_rows_with_draw(image_1, {names}, rows_bbox))\n```"


def settings(tmp_path: Path, **more: Any) -> IAPOConfig:
    values: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 128,
        "max_turn_tokens": 40,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "penalty_weight": 0.0,
        "attribution_form": "paper",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "seed": 3,
    }
    return IAPOConfig(**{**values, **more})


class Scripted(IAPOTrainer):
    """Its turns are written by hand: `script(sample, index)` gives them; all but the last one call something."""

    script: Any
    turn = 0

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> tuple[list[list[int]], None]:
        self.turn = self.turn + 1 if has_tool_images else 0
        turns = [self.script(sample, index % 4) for index, sample in enumerate(self._batch.samples)]
        # Further turns are asked of the rollouts that called something in all turns before, in order.
        turns = [some for some in turns if all(one.startswith("```") for one in some[: self.turn])]
        tokenizer = self.encoder.tokenizer
        ids = [
            [*tokenizer(some[self.turn])["input_ids"], tokenizer.eos_token_id]
            for some in turns
            if self.turn < len(some)
        ]
        assert len(ids) == len(prompt_ids)
        return ids, None


def up_to_five(sample: Sample, index: int) -> tuple[str, ...]:
    """Two turns; three, the second of which works on what the first displayed; five, the first of which fails and is
    mended by the second; and a failed call in all of the turns that may call.
    """
    name, other, *_ = sample.column_boxes
    columns, rows = (one.format(names=[name]).replace("'", '"') for one in (COLUMNS, ROWS))
    more = ROWS.format(names=[other]).replace("'", '"')
    failed = COLUMNS.format(names='["Z"]')
    right, wrong = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE", "FINAL ANSWER: none. TERMINATE"
    return (
        (columns, right),
        (columns, rows, wrong),
        (failed, columns, rows, more, right),
        (failed, failed, failed, failed, wrong),
    )[index]


def four_ways(sample: Sample, index: int) -> tuple[str, str]:
    """Right and read right, wrong tool but right answer, failed call, no call."""
    name = next(iter(sample.column_boxes))
    right = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    return (
        (COLUMNS.format(names=[name]).replace("'", '"'), right),
        (ROWS.format(names=[name]).replace("'", '"'), right),
        (COLUMNS.format(names='["Z"]'), "FINAL ANSWER: none. TERMINATE"),
        ("FINAL ANSWER: 0. TERMINATE", ""),
    )[index]


def scripted(
    tmp_path: Path, model: Any, processor: Any, charts: Sequence[Sample], script: Any = four_ways, **more: Any
) -> Scripted:
    teacher = more.pop("teacher", None)
    on_rollouts = more.pop("on_rollouts", None)
    peft_config = more.pop("peft_config", None)
    keep_run = more.pop("keep_run", True)
    reward_funcs = more.pop("reward_funcs", None)
    eval_charts = more.pop("eval_charts", None)
    tools = more.pop("tools", TOOLS)
    trainer = Scripted(
        copy.deepcopy(model),
        reward_funcs,
        args=settings(tmp_path, **more),
        train_dataset=to_dataset(charts),
        eval_dataset=None if eval_charts is None else to_dataset(eval_charts),
        processing_class=processor,
        teacher=teacher,
        on_rollouts=on_rollouts,
        peft_config=peft_config,
        keep_run=keep_run,
        tools=tools,
    )
    trainer.script = script
    return trainer


def batch(trainer: Scripted, charts: Sequence[Sample]) -> dict[str, Any]:
    """One scored generation batch: a group of four on the first chart."""
    trainer.model.train()
    rows = list(to_dataset(charts[:1])) * 4
    output: dict[str, Any] = trainer._generate_and_score_completions(rows)
    return output


def scored(trainer: Any, charts: Sequence[Sample]) -> dict[str, Any]:
    """One scored generation batch, a group of four on each chart, as if its rollouts came from a policy a step ago, so
    that ratios and clipping matter.
    """
    trainer.model.train()
    rows = [row for row in to_dataset(charts) for _ in range(4)]
    output: dict[str, Any] = trainer._generate_and_score_completions(rows)
    trainer.current_gradient_accumulation_steps = 1
    torch.manual_seed(0)
    shape = output["completion_ids"].shape
    with torch.no_grad():
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        now, entropy, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            ids,
            mask,
            shape[1],
            compute_entropy=True,
            pixel_values=output["pixel_values"],
            image_grid_thw=output["image_grid_thw"],
            num_images=output["num_images"],
            mm_token_type_ids=output["mm_token_type_ids"],
        )
    assert entropy.shape == shape
    output["old_per_token_logps"] = now + 0.3 * torch.randn(shape)
    return output


def gradient_of(trainer: Any, output: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradient of a scored batch."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, output)
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.detach(), {name: one.grad.clone() for name, one in named if one.grad is not None}


def loss_and_gradient(trainer: Any, charts: Sequence[Sample]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradient of one generation batch, a group of four on each chart."""
    return gradient_of(trainer, scored(trainer, charts))


def relative(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """How far two gradients are apart, relative to the first."""
    assert first.keys() == second.keys()
    assert first
    apart = sum(float(((first[name] - second[name]) ** 2).sum()) for name in first) ** 0.5
    return apart / sum(float((value**2).sum()) for value in first.values()) ** 0.5
