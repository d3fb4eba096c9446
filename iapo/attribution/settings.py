"""How tool calls are attributed and compared, and what a training's configuration says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from iapo.attribution.divergence import Normalization


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """How calls are attributed and compared.

    Attributes:
        target: Target whose log-probability is explained: the program's tokens (`call`) or all of turn 1 (`turn`).
        normalization: Rule by which block scores become a distribution.
        eps: Weight of the uniform distribution in it.
        method: Name of the attribution method (`iapo.attribution.methods`); None is the gradient, or with several
            steps the integrated path.
        steps: Points of the integrated path; 1 is no path.
        no_call: The divergence of a rollout without an attribution; None is the worst value, `log m`.
        batch_size: Most calls that are attributed together.
        tokens: Most tokens of prompts and calls in one graph; a longer sequence runs alone. None is half of what the
            device's free memory holds.
        teacher_reference: Call the teacher explains: the student's own (`student_call`), or its own greedy call to the
            same prompt (`own_call`).
        teacher_table: File with the stored teacher's distributions; it holds the teacher's own calls, whatever
            `teacher_reference` says.
        max_turn_tokens: Longest turn of a teacher that writes its own call.
        log_probs: Whether the calls' log-probabilities are wanted, too.
    """

    target: Literal["call", "turn"] = "call"
    normalization: Normalization = "magnitude"
    eps: float = 0.01
    method: str | None = None
    steps: int = 1
    no_call: float | None = None
    batch_size: int = 32
    tokens: int | None = None
    teacher_reference: Literal["student_call", "own_call"] = "student_call"
    teacher_table: str | None = None
    max_turn_tokens: int = 512
    log_probs: bool = False

    @property
    def method_name(self) -> str:
        """The method's name, also where it is left to the number of steps."""
        return self.method or ("integrated" if self.steps > 1 else "gradient")


class AttributionArguments(Protocol):
    """The part of `iapo.training.config.IAPOConfig` that says how calls are attributed."""

    attribution_target: Literal["call", "turn"]
    attribution_normalization: Normalization
    attribution_eps: float
    attribution_method: str | None
    attribution_steps: int
    no_call_divergence: float | None
    attribution_batch_size: int
    attribution_tokens: int | None
    teacher_reference: Literal["student_call", "own_call"]
    teacher_table: str | None
    max_turn_tokens: int | None
    max_completion_length: int

    @property
    def distills(self) -> bool:
        """Whether the teacher's log-probability of the call is rewarded."""


def alignment_settings(args: AttributionArguments) -> AttributionSettings:
    """Reads from a configuration how attributions are computed and compared."""
    return AttributionSettings(
        target=args.attribution_target,
        normalization=args.attribution_normalization,
        eps=args.attribution_eps,
        method=args.attribution_method,
        steps=args.attribution_steps,
        no_call=args.no_call_divergence,
        batch_size=args.attribution_batch_size,
        tokens=args.attribution_tokens,
        teacher_reference=args.teacher_reference,
        teacher_table=args.teacher_table,
        max_turn_tokens=args.max_turn_tokens or args.max_completion_length,
        log_probs=args.distills,
    )
