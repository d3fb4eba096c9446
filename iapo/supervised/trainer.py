"""`SupervisedTrainer`: TRL's `SFTTrainer` for policies with a prompt, on sequences that are mostly prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trl import SFTTrainer
from trl.trainer import utils

from iapo.rollout.prompt import PromptEncoder
from iapo.training.policies import PolicyTrainer


class SupervisedTrainer(PolicyTrainer, SFTTrainer):
    """TRL's `SFTTrainer` whose policies are whole, as `iapo.training.policies.PolicyTrainer` says.

    Args:
        encoder: The policy's encoder.
        kwargs: Passed to `SFTTrainer`.
    """

    def __init__(self, encoder: PromptEncoder, **kwargs: Any) -> None:
        self.encoder = encoder
        # Published configurations name no padding, which Transformers would set with a warning.
        kwargs["model"].config.get_text_config().pad_token_id = encoder.tokenizer.pad_token_id
        super().__init__(**kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the loss, as `SFTTrainer` does."""
        with learnt_tokens_alone():
            return super().compute_loss(*args, **kwargs)


@contextmanager
def learnt_tokens_alone() -> Iterator[None]:
    """Has TRL score the tokens that are learnt and no others, on every device.

    Where there is no Triton it scores all of them, for compilers that want fixed shapes. Prompt and images are some 50
    times as many, and on the CPU the output layer would take most of a step.
    """
    before = utils._use_triton
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = before
