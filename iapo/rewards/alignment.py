"""The alignment reward: how far the student's attribution of its tool call is from the teacher's.

See docs/method.md, sections 3 and 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iapo.attribution.calls import ATTRIBUTED, Attributor
from iapo.attribution.divergence import kl_divergence, worst_divergence
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.records import Grid
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout
from iapo.teachers.references import Reference, StudentCall, _grids
from iapo.tools import TOOLS, ToolDefinition

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Measured:
    """The attribution of one rollout.

    Attributes:
        divergence: `KL(student || teacher)` in nats, or the value for a rollout without attribution.
        student: Block distribution by block name; empty where student or teacher have none.
        teacher: Teacher, the same of the teacher.
        patches: Signed shares of the image's tokens by whose they are, where they were asked for.
    """

    divergence: float
    student: Mapping[str, float]
    teacher: Mapping[str, float]
    patches: Mapping[str, Grid] = field(default_factory=dict)


class Alignment:
    """Measures rollouts against a teacher.

    Args:
        teacher: A live teacher, which then explains the student's own calls, or where else its distributions come
            from (`iapo.teachers.references.make_reference`).
        encoder: The student's encoder.
        settings: Settings of attributions and their comparison.
        tools: The offered tools.

    Attributes:
        reference: Source of the teacher's distributions.

    Raises:
        InputError: If student and teacher are asked with different prompt templates.
    """

    def __init__(
        self,
        teacher: Policy | Reference,
        encoder: PromptEncoder,
        settings: AttributionSettings | None = None,
        tools: Mapping[str, ToolDefinition] = TOOLS,
    ) -> None:
        self.encoder = encoder
        self.settings = settings or AttributionSettings()
        self.reference: Reference = (
            StudentCall(teacher, encoder, self.settings, tools) if isinstance(teacher, Policy) else teacher
        )
        # One of the user's own need not have a template.
        asked = getattr(self.reference, "template", encoder.template)
        if asked != encoder.template:
            raise InputError(
                f"the teacher is asked with the prompt {asked.name!r} and the student with {encoder.template.name!r}; "
                "their blocks cannot be compared, make the reference with the student's template"
            )

    def measure(self, student: PreTrainedModel, rollouts: Sequence[Rollout]) -> list[Measured]:
        """Attributes each rollout's call by student and teacher.

        A rollout that called nothing, or whose program is not in the allowed language, has no attribution and gets
        `settings.no_call`: were it 0, not calling a tool would please the teacher best. Where the teacher itself has
        no call to compare with, all rollouts of the sample get `log m`, called or not: a value that all of a group
        share cancels in its advantages, so that such a sample teaches nothing about calls.

        Args:
            student: The student as it is now, unwrapped.
            rollouts: The batch.

        Raises:
            ValueError: If the teacher's distributions are not of these prompts, or an attribution is not finite.
        """
        called = [one.trace.result.status in ATTRIBUTED for one in rollouts]
        measured = [Measured(self._without(one), {}, {}) for one in rollouts]
        asked = [index for index, has_call in enumerate(called) if has_call or self.reference.per_sample]
        if not asked:
            return measured
        teachers = self.reference.distributions([rollouts[index] for index in asked])
        silent = teachers.isnan().any(-1).tolist()
        for index, is_silent in zip(asked, silent, strict=True):
            if is_silent:
                measured[index] = Measured(worst_divergence(teachers.shape[-1]), {}, {})
        rows = [row for row, index in enumerate(asked) if called[index] and not silent[row]]
        if not rows:
            return measured
        chosen = [rollouts[asked[row]] for row in rows]
        settings = dataclasses.replace(self.settings, log_probs=False)
        attributor = Attributor(student, self.encoder.pixels, settings)
        p = attributor.distributions(
            [one.prompt for one in chosen], [(one.first.ids, one.first.target) for one in chosen]
        )
        q = teachers[rows]
        for row, one, p_row, q_row, d in zip(
            rows, chosen, p.tolist(), q.tolist(), kl_divergence(p, q).tolist(), strict=True
        ):
            names = one.prompt.block_names
            student_blocks, teacher_blocks = (dict(zip(names, values, strict=True)) for values in (p_row, q_row))
            measured[asked[row]] = Measured(d, student_blocks, teacher_blocks)
        return measured

    def add_patches(
        self, student: PreTrainedModel, rollouts: Sequence[Rollout], measured: Sequence[Measured], count: int
    ) -> list[Measured]:
        """Returns what was measured, with the shares of the image's tokens for the first rollouts that have an
        attribution.

        A teacher that explains its own calls has no shares of the student's; then only the student's are there.

        Args:
            student: The student as it was in `measure`.
            rollouts: The batch.
            measured: Measurements of the batch by `measure`.
            count: Number of rollouts, from the first; the others stay as they are. Each costs about as much as another
                attribution of its call.
        """
        rows = [index for index, one in enumerate(measured[:count]) if one.student]
        found = list(measured)
        if not rows:
            return found
        chosen = [rollouts[index] for index in rows]
        attributor = Attributor(student, self.encoder.pixels, self.settings)
        turns = [(one.first.ids, one.first.target) for one in chosen]
        grids = {"student": _grids(attributor, [one.prompt for one in chosen], turns)}
        if isinstance(self.reference, StudentCall):
            grids["teacher"] = self.reference.patches(chosen)
        for place, index in enumerate(rows):
            patches = {who: grid[place] for who, grid in grids.items()}
            found[index] = dataclasses.replace(found[index], patches=patches)
        return found

    def log_probs(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Returns how likely the teacher finds each rollout's call: the mean log-probability of the program's tokens.

        Values are at least the floor `-log V`, V the teacher's number of tokens: what a guess would get. A rollout that
        called nothing, or whose program is not in the allowed language, gets the floor.

        Args:
            rollouts: The batch. What `measure` had the teacher explain costs nothing here.

        Raises:
            ValueError: If the teacher is not a live one that explains the student's calls, or the settings do not ask
                for log-probabilities.
        """
        if not isinstance(self.reference, StudentCall):
            raise ValueError("only a live teacher of the student's own call has log-probabilities of it")
        floor = self.reference.log_prob_floor
        values = [floor] * len(rollouts)
        asked = [index for index, one in enumerate(rollouts) if one.trace.result.status in ATTRIBUTED]
        if asked:
            found = self.reference.log_probs([rollouts[index] for index in asked])
            for index, value in zip(asked, found.tolist(), strict=True):
                values[index] = max(value, floor)
        return values

    def _without(self, one: Rollout) -> float:
        return worst_divergence(len(one.prompt.block_names)) if self.settings.no_call is None else self.settings.no_call
