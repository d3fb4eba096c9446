"""GRPO on charts: `stock_grpo.py` is TRL's own, `iapo_grpo.py` the same script with IAPO, two lines apart."""

import json

from iapo import IAPOConfig, IAPOTrainer

from iapo.training.batches import to_dataset
from iapo.rollout.policy import load_policy
from iapo.grading.outcome import grade
from iapo.data.synthetic import generate

SETTINGS = {
    "output_dir": "runs/example",
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 96,
    "learning_rate": 1e-4,
    "bf16": False,
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": "none",
    "logging_steps": 1,
}

student = load_policy("tiny-student")
charts = list(generate("vbar", 64, seed=0, question_types=("value",)))


def right(completions, sample, **columns):
    """1 where the last turn ends in the right answer."""
    golds = [json.loads(one) for one in sample]
    return [
        grade(turns[-1]["content"], gold["answers"], gold.get("grading", "plain")).value
        for turns, gold in zip(completions, golds, strict=True)
    ]


Trainer, args = IAPOTrainer, IAPOConfig(**SETTINGS, teacher="tiny-teacher")
trainer = Trainer(student.model, right, args=args, train_dataset=to_dataset(charts), processing_class=student.processor)
trainer.train()
