"""How tool calls are attributed and compared, and what a training's configuration says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from iapo.attribution.cells import cell_names
from iapo.attribution.divergence import block_distribution, worst_divergence
from iapo.attribution.forms import (
    BlockSet,
    Control,
    Normalization,
    Score,
    Target,
    TeacherReference,
    compared_blocks,
    form_values,
)
from iapo.bounds import SETTINGS, check_number
from iapo.kinds import check_kinds

_SETTINGS = {
    "temperature": "attribution_temperature",
    "floor": "attribution_floor",
    "image_cells": "attribution_image_cells",
    "eps": "attribution_eps",
    "steps": "attribution_steps",
    "no_call": "no_call_divergence",
    "batch_size": "attribution_batch_size",
    "tokens": "attribution_tokens",
    "max_turn_tokens": "max_turn_tokens",
    "control_seed": "alignment_control_seed",
}
"""What the numbers are called in a training's configuration."""


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """How calls are attributed and compared.

    Attributes:
        target: Tokens that are explained: the program's (`call`), the whole turn (`turn`), or those that name
            the called tools (`name`; the program's where it calls none by its name).
        score: Score of a token that is explained (`iapo.attribution.token_values`).
        normalization: Rule by which block scores become a distribution.
        temperature: Divisor of the scores under `softmax`.
        floor: Addend of each block's magnitude under `floored`.
        blocks: Blocks that are compared; the others are left out before scores become shares.
        image_cells: Number of cells along each side of an image, each a block of its own (`iapo.attribution.cells`).
        eps: Weight of the uniform distribution in it.
        method: Name of the attribution method (`iapo.attribution.methods`); None is the gradient, or with several
            steps the integrated path.
        steps: Points of the integrated path; 1 is no path.
        no_call: The divergence of a rollout without an attribution; None is the worst value (`worst_divergence`).
        batch_size: Most calls that are attributed together.
        tokens: Most tokens of prompts and calls in one graph; a longer sequence runs alone. None is half of what the
            device's free memory holds.
        teacher_reference: Call the teacher explains: the student's own (`student_call`), or its own greedy call to the
            same prompt (`own_call`); `both` is the mean of the two divergences.
        teacher_table: File with the stored teacher's distributions; it holds the teacher's own calls, whatever
            `teacher_reference` says.
        max_turn_tokens: Longest turn of a teacher that writes its own call.
        log_probs: Whether the calls' log-probabilities are wanted, too.
        control: What takes the place of one of the two explanations, to see what it is good for.
        control_seed: Seed of what a control draws.
    """

    target: Target = "call"
    score: Score = "log_prob"
    normalization: Normalization = "magnitude"
    temperature: float = 1.0
    floor: float = 0.5
    blocks: BlockSet = "all"
    image_cells: int = 1
    eps: float = 0.01
    method: str | None = None
    steps: int = 1
    no_call: float | None = None
    batch_size: int = 32
    tokens: int | None = None
    teacher_reference: TeacherReference = "student_call"
    teacher_table: str | None = None
    max_turn_tokens: int = 512
    log_probs: bool = False
    control: Control = "none"
    control_seed: int = 0

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, setting in _SETTINGS.items():
            check_number(name, getattr(self, name), SETTINGS[setting])

    @property
    def method_name(self) -> str:
        """The method's name, also where it is left to the number of steps."""
        return self.method or ("integrated" if self.steps > 1 else "gradient")

    def names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of the blocks that are scored, of a prompt's blocks."""
        return cell_names(names, self.image_cells)

    def places(self, names: Sequence[str]) -> list[int]:
        """Returns the places of the compared blocks among those that are scored, of a prompt's blocks."""
        return compared_blocks(self.names(names), self.blocks)

    def compared(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of the compared ones, of a prompt's blocks."""
        scored = self.names(names)
        return tuple(scored[place] for place in self.places(names))

    def shares(self, scores: Tensor) -> Tensor:
        """Normalises scores of the compared blocks, shape (..., m), as `block_distribution` does."""
        return block_distribution(scores, self.normalization, self.eps, self.temperature, self.floor)

    def worst(self, blocks: int) -> float:
        """Returns the largest divergence over that many compared blocks."""
        if self.control == "entropy":
            return worst_divergence(blocks)
        return worst_divergence(blocks, self.normalization)


class AttributionArguments(Protocol):
    """The part of `iapo.training.config.IAPOConfig` that says how calls are attributed."""

    attribution_form: str | None
    attribution_target: Target | None
    attribution_score: Score | None
    attribution_normalization: Normalization | None
    attribution_temperature: float | None
    attribution_floor: float | None
    attribution_blocks: BlockSet | None
    attribution_image_cells: int | None
    attribution_eps: float
    attribution_method: str | None
    attribution_steps: int
    no_call_divergence: float | None
    attribution_batch_size: int
    attribution_tokens: int | None
    teacher_reference: TeacherReference | None
    teacher_table: str | None
    alignment_control: Control
    alignment_control_seed: int | None
    max_turn_tokens: int | None
    max_completion_length: int
    seed: int

    @property
    def distills(self) -> bool:
        """Whether the teacher's log-probability of the call is rewarded."""


def alignment_settings(args: AttributionArguments) -> AttributionSettings:
    """Reads from a configuration how attributions are computed and compared."""
    settings = settings_of_run(vars(args))
    return replace(
        settings,
        teacher_table=args.teacher_table,
        log_probs=args.distills,
        control=args.alignment_control,
        control_seed=args.seed if args.alignment_control_seed is None else args.alignment_control_seed,
    )


def settings_of_run(training: Mapping[str, Any]) -> AttributionSettings:
    """Reads how a training explains calls from its settings by name, as a run's manifest has them; not its controls.

    Args:
        training: Settings by name; what earlier versions did not know may be missing.
    """
    form = form_values(training)
    return AttributionSettings(
        target=form["attribution_target"],
        score=form["attribution_score"],
        normalization=form["attribution_normalization"],
        temperature=form["attribution_temperature"],
        floor=form["attribution_floor"],
        blocks=form["attribution_blocks"],
        image_cells=form["attribution_image_cells"],
        eps=training["attribution_eps"],
        method=training.get("attribution_method"),
        steps=training["attribution_steps"],
        no_call=training["no_call_divergence"],
        batch_size=training["attribution_batch_size"],
        tokens=training.get("attribution_tokens"),
        # A table holds a teacher's own calls; the teacher itself makes and explains the same ones again.
        teacher_reference=form["teacher_reference"],
        max_turn_tokens=training["max_turn_tokens"] or training["max_completion_length"],
    )
