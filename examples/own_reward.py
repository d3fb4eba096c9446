"""A reward of your own: right answers count, and a call of the wrong axis costs a quarter.

Also `iapo train --config demo-grpo --reward examples/own_reward.py:right_axis`, and with the penalty by `iapo+...`.
"""

from iapo import IAPOConfig, IAPOTrainer, to_dataset
from iapo.data.synthetic import generate


def right_axis(trace, outcome):
    """The outcome, less a quarter where the call is along the other axis than the picture's."""
    return outcome - 0.25 * trace.misused


if __name__ == "__main__":
    reward = f"{__file__}:right_axis"
    args = IAPOConfig("runs/own-reward", reward=reward, max_steps=1, max_turn_tokens=24, use_cpu=True, bf16=False)
    charts = to_dataset(list(generate("vbar", 16, seed=0)))
    IAPOTrainer("tiny-student", args=args, train_dataset=charts).train()
