"""A reward of your own: right answers count, and a call of the wrong axis costs a quarter."""

from iapo import IAPOConfig, IAPOTrainer, to_dataset
from iapo.data.synthetic import generate
from iapo.grading.outcome import outcome_reward


def right_axis(trace, **columns):
    """0 for a call along the picture's axis, and for none; -0.25 for one along the other."""
    return [-0.25 * one.misused for one in trace]


args = IAPOConfig("runs/own-reward", reward="grpo", max_steps=1, max_turn_tokens=24, use_cpu=True, bf16=False)
charts = to_dataset(list(generate("vbar", 16, seed=0)))
rewards = [outcome_reward, right_axis]
IAPOTrainer("tiny-student", rewards, args=args, train_dataset=charts).train()
