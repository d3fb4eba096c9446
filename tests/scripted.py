"""A trainer whose rollouts are written by hand, so that their rewards are known."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    """Its turns are written by hand: `script(sample, index)` gives both."""

    script: Any

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> tuple[list[list[int]], None]:
        turns = [self.script(sample, index % 4) for index, sample in enumerate(self._batch.samples)]
        if has_tool_images:
            # Second turns are asked of the rollouts that called something, in order.
            turns = [(second, "") for first, second in turns if first.startswith("```")]
        tokenizer = self.encoder.tokenizer
        ids = [[*tokenizer(turn[0])["input_ids"], tokenizer.eos_token_id] for turn in turns]
        assert len(ids) == len(prompt_ids)
        return ids, None


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
    tools = more.pop("tools", TOOLS)
    trainer = Scripted(
        copy.deepcopy(model),
        reward_funcs,
        args=settings(tmp_path, **more),
        train_dataset=to_dataset(charts),
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
