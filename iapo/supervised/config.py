"""`SupervisedConfig`: TRL's `SFTConfig` with what supervised training on transcripts fixes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from trl import SFTConfig

from iapo.bounds import check_numbers
from iapo.display.quiet import RENAMED
from iapo.errors import InputError
from iapo.kinds import check_kinds
from iapo.supervised.trl_settings import CHOICES, REFUSED, check_supervised
from iapo.training.precision import check_precision, usual_bf16
from iapo.training.rehearsal import refused_values


@dataclass
class SupervisedConfig(SFTConfig):
    """Settings of the supervised trainer; everything that is not named here is TRL's.

    Args:
        max_length: Most tokens of a sequence; a longer one is damage, since cutting it would cut the answer or an
            image. None sets no limit.
        report_to: Trackers; none if not given.
        bf16: Whether steps compute in bfloat16; yes on accelerators if not given.
    """

    max_length: int | None = field(default=None, metadata={"help": "Most tokens of a sequence; None: no limit."})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Trackers, for example tensorboard."})
    bf16: bool | None = field(default=None, metadata={"help": "Compute in bfloat16; None: on accelerators."})

    def __post_init__(self) -> None:
        # What `iapo sft` has looked at before; in Python this is the place.
        looked_at = (REFUSED.keys() | CHOICES.keys()) - {"remove_unused_columns"}
        check_kinds(self)
        check_numbers(vars(self))
        check_supervised({name: getattr(self, name) for name in sorted(looked_at)}, 0)
        self.bf16 = usual_bf16(self.bf16, self.fp16, self.use_cpu)
        check_precision(self.bf16, self.fp16)
        with warnings.catch_warnings(), refused_values():
            warnings.filterwarnings("ignore", RENAMED, FutureWarning)
            super().__post_init__()
        if self.activation_offloading and self.device.type == "cpu":
            raise InputError(
                "activation_offloading moves activations from an accelerator to the CPU, and this is one; leave it out"
            )
        # The rows carry what the collator makes tokens of.
        self.remove_unused_columns = False
