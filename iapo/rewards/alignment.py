"""The alignment reward: how far the student's attribution of its tool call is from the teacher's.

See docs/method.md, sections 3 and 4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iapo.attribution.calls import ATTRIBUTED, Attributor
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Grid, Trace
from iapo.rewards.controls import compared, controlled, named_shares, permutation
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout
from iapo.teachers.own import looked_at
from iapo.teachers.references import Both, OwnCall, Reference
from iapo.teachers.student_call import StudentCall, grids
from iapo.tools import TOOLS, ToolDefinition

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OTHERS = ("context", "image_1", "query")
"""Blocks that every prompt has beside its tools'."""

OWN_CALL = (
    "max_turns above 2 needs teacher_reference student_call and no teacher_table: the teacher's own calls are those of "
    "first turns"
)
"""Why a teacher of its own calls is refused."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The attribution of one rollout.

    Attributes:
        divergence: `KL(student || teacher)` in nats, or what else the settings compare by; or the value for a rollout
            without attribution. Of several programs the mean.
        student: Shares that were compared by block name, of the first turn's call; empty where student or teacher have
            none.
        teacher: Teacher, the same of the teacher; of two explanations (`both`) their mean.
        shuffled: The divergence with the student's shares of another rollout of the batch in place of its own.
        surprise: Minus the teacher's mean log-probability of the program's tokens, where the settings ask for it.
        patches: Signed shares of the tokens of each of the prompt's images by whose they are, where they were asked
            for.
        turns: The attributions of the turns with a program, in order, where there are several.
    """

    divergence: float
    student: Mapping[str, float]
    teacher: Mapping[str, float]
    # The one depends on what else is in the batch, the other on what is asked of the teacher.
    shuffled: float = field(default=math.nan, compare=False)
    surprise: float = field(default=math.nan, compare=False)
    patches: Mapping[str, tuple[Grid, ...]] = field(default_factory=dict)
    turns: tuple[Measured, ...] = ()

    @classmethod
    def mean(cls, turns: Sequence[Measured]) -> Measured:
        """Sums up the attributions of a rollout's turns with a program; of a single one it is that."""
        if len(turns) == 1:
            return turns[0]
        shuffled = [one.divergence if math.isnan(one.shuffled) else one.shuffled for one in turns]
        surprises = [one.surprise for one in turns if not math.isnan(one.surprise)]
        return cls(
            fmean(one.divergence for one in turns),
            turns[0].student,
            turns[0].teacher,
            fmean(shuffled),
            fmean(surprises) if surprises else math.nan,
            turns=tuple(turns),
        )

    @property
    def distributions(self) -> dict[str, Mapping[str, float]]:
        """Shares by whose they are, as records have them; empty where there are none."""
        return {"student": self.student, "teacher": self.teacher} if self.student else {}

    def told(self, trace: Trace) -> Trace:
        """Returns a rollout's record with its attribution; of several programs, with that of each turn."""
        turns, rest = list(trace.turns), iter(self.turns)
        for place, turn in enumerate(turns if self.turns else ()):
            if turn.result.called:
                one = next(rest)
                turns[place] = dataclasses.replace(turn, divergence=one.divergence, attribution=one.distributions)
        return dataclasses.replace(trace, turns=tuple(turns), attribution=self.distributions, patches=self.patches)


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
        student_call: The one among them in which a live teacher explains the student's calls; None without one.

    Raises:
        InputError: If the teacher is nothing that gives distributions, student and teacher are asked with different
            prompt templates, or the blocks to compare are fewer than two.
    """

    @checks_kinds
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
            StudentCall(teacher, encoder, self.settings, tools)
            if isinstance(teacher, Policy)
            else looked_at(teacher, self.settings)
        )
        # Those of the sample alone come first: where the teacher has none, nothing else need be explained.
        self.parts = self.reference.parts if isinstance(self.reference, Both) else (self.reference,)
        self.student_call = next((one for one in self.parts if isinstance(one, StudentCall)), None)
        self.settings.places([*OTHERS, *(f"tool:{name}" for name in tools)])
        # One of the user's own need not have a template.
        asked = getattr(self.reference, "template", encoder.template)
        if asked != encoder.template:
            raise InputError(
                f"the teacher is asked with the prompt {asked.name!r} and the student with {encoder.template.name!r}; "
                "their blocks cannot be compared, make the reference with the student's template"
            )

    def to_state(self) -> dict[str, Any]:
        """Returns what is remembered of a live teacher, for a checkpoint: its own calls, and the student's."""
        state: dict[str, Any] = {
            "own_calls": [row for part in self.parts if isinstance(part, OwnCall) for row in part.to_state()]
        }
        if self.student_call is not None:
            state["student_calls"] = self.student_call.cache.to_state()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `to_state` returned."""
        for part in self.parts:
            if isinstance(part, OwnCall):
                part.load_state(state["own_calls"])
        if self.student_call is not None and "student_calls" in state:
            self.student_call.cache.load_state(state["student_calls"])

    def measure(self, student: PreTrainedModel, rollouts: Sequence[Rollout], step: int = 0) -> list[Measured]:
        """Attributes each rollout's calls by student and teacher, each on all that stands before its turn.

        The divergence of a rollout with several programs is the mean of theirs. One that called nothing, or whose
        program is not in the allowed language, has no attribution and gets `settings.no_call`: were it 0, not calling
        a tool would please the teacher best; so does a program among several that is not in the language. Where the
        teacher itself has no call to compare with, all rollouts of the sample get the worst value, called or not: a
        value that all of a group share cancels in its advantages, so that such a sample teaches nothing about calls.

        Args:
            student: The student as it is now, unwrapped.
            rollouts: The batch.
            step: Optimiser step, on which what a control draws depends; no other random number does.

        Raises:
            ValueError: If the teacher's distributions are not of these prompts, or an attribution is not finite.
            InputError: If there are calls behind the first turn, and the teacher explains its own.
        """
        whose, ends = self._with_programs(rollouts)
        if any(part.per_sample for part in self.parts) and any(one.past for one in ends):
            raise InputError(OWN_CALL)
        found: list[Measured | None] = [None] * len(ends)
        # What is compared has the same blocks: those of a second turn's call are more.
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, one in enumerate(ends):
            alike.setdefault(one.prompt.block_names, []).append(place)
        with self.encoder.pixels.remembering():
            for places in alike.values():
                measured = self._measure_alike(student, [ends[place] for place in places], step)
                for place, one_measured in zip(places, measured, strict=True):
                    found[place] = one_measured
        turns: list[list[Measured]] = [[] for _ in rollouts]
        for index, one_found in zip(whose, found, strict=True):
            assert one_found is not None
            turns[index].append(one_found)
        return [Measured.mean(some) for some in turns]

    def _with_programs(self, rollouts: Sequence[Rollout]) -> tuple[list[int], list[Rollout]]:
        """Returns rollouts from each of their turns with a program on, from the first one where there is none, and
        which rollout each is of.
        """
        whose: list[int] = []
        ends: list[Rollout] = []
        for index, one in enumerate(rollouts):
            called = [turn for turn, written in enumerate(one.turns) if written.result.called] or [0]
            whose += [index] * len(called)
            ends += [one.from_turn(turn, self.encoder) for turn in called]
        return whose, ends

    def _measure_alike(self, student: PreTrainedModel, rollouts: Sequence[Rollout], step: int) -> list[Measured]:
        """Attributes the first call of each rollout; their prompts have the same blocks."""
        called = [one.trace.result.status in ATTRIBUTED for one in rollouts]
        measured = [Measured(self._without(one), {}, {}) for one in rollouts]
        silent: set[int] = set()
        explained: list[dict[int, Tensor]] = []
        for part in self.parts:
            asked = [index for index, has in enumerate(called) if part.per_sample or (has and index not in silent)]
            rows = part.distributions([rollouts[index] for index in asked]) if asked else ()
            explained.append(dict(zip(asked, rows, strict=True)))
            silent |= {index for index, row in explained[-1].items() if row.isnan().any()}
        for index in silent:
            measured[index] = Measured(self.settings.worst(len(explained[0][index])), {}, {})
        kept = [index for index, has in enumerate(called) if has and index not in silent]
        if not kept:
            return measured
        q = torch.stack([torch.stack([part[index] for index in kept]) for part in explained])
        named = [rollouts[index].trace.result.called_names for index in kept]
        p = self._student(student, [rollouts[index] for index in kept], q[0])
        p, q = controlled(p, q, named, self.settings, step)
        values = compared(p, q, self.settings)
        shuffled = compared(p[permutation(len(p), self.settings.control_seed, step)], q, self.settings)
        surprises = self._surprises([rollouts[index] for index in kept])
        for place, index in enumerate(kept):
            names = self.settings.compared(rollouts[index].prompt.block_names)
            student_blocks, teacher_blocks = (
                dict(zip(names, rows[place].tolist(), strict=True)) for rows in (p, q.mean(0))
            )
            measured[index] = Measured(
                values[place].item(), student_blocks, teacher_blocks, shuffled[place].item(), surprises[place]
            )
        return measured

    def _surprises(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Returns `-log p` of calls, a token; NaN where the teacher was not asked for it when it explained them."""
        if self.student_call is None or not self.settings.log_probs:
            return [math.nan] * len(rollouts)
        return [-value for value in self.student_call.log_probs(rollouts).tolist()]

    def _student(self, student: PreTrainedModel, rollouts: Sequence[Rollout], like: Tensor) -> Tensor:
        """Returns the student's shares, or what a control puts in their place without explaining anything."""
        if self.settings.control == "student_uniform":
            return torch.full_like(like, 1 / like.shape[-1])
        if self.settings.control == "student_named":
            blocks = self.settings.compared(rollouts[0].prompt.block_names)
            return named_shares([one.trace.result.called_names for one in rollouts], blocks, self.settings)
        settings = dataclasses.replace(self.settings, log_probs=False)
        attributor = Attributor(student, self.encoder.pixels, settings, tokenizer=self.encoder.tokenizer)
        turns = [(one.first.ids, one.first.target) for one in rollouts]
        return attributor.distributions([one.prompt for one in rollouts], turns)

    def add_patches(
        self, student: PreTrainedModel, rollouts: Sequence[Rollout], measured: Sequence[Measured], count: int
    ) -> list[Measured]:
        """Returns what was measured, with the shares of the images' tokens in the first turn's call for the first
        rollouts that have an attribution of it.

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
        attributor = Attributor(student, self.encoder.pixels, self.settings, tokenizer=self.encoder.tokenizer)
        turns = [(one.first.ids, one.first.target) for one in chosen]
        found_grids = {"student": grids(attributor, [one.prompt for one in chosen], turns)}
        if self.student_call is not None:
            found_grids["teacher"] = self.student_call.patches(chosen)
        for place, index in enumerate(rows):
            patches = {who: grid[place] for who, grid in found_grids.items()}
            found[index] = dataclasses.replace(found[index], patches=patches)
        return found

    def log_probs(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Returns how likely the teacher finds each rollout's call: the mean log-probability of the program's tokens.

        Values are at least the floor `-log V`, V the teacher's number of tokens: what a guess would get. A rollout that
        called nothing, or whose program is not in the allowed language, gets the floor. Of several programs it is the
        mean.

        Args:
            rollouts: The batch. What `measure` had the teacher explain costs nothing here.

        Raises:
            ValueError: If the teacher is not a live one that explains the student's calls, or the settings do not ask
                for log-probabilities.
        """
        if self.student_call is None:
            raise ValueError("only a live teacher of the student's own call has log-probabilities of it")
        floor = self.student_call.log_prob_floor
        whose, ends = self._with_programs(rollouts)
        values = [floor] * len(ends)
        alike: dict[int, list[int]] = {}
        for place, one in enumerate(ends):
            if one.trace.result.status in ATTRIBUTED:
                alike.setdefault(len(one.prompt.block_names), []).append(place)
        for asked in alike.values():
            found = self.student_call.log_probs([ends[place] for place in asked])
            for place, value in zip(asked, found.tolist(), strict=True):
                values[place] = max(value, floor)
        of_rollouts: list[list[float]] = [[] for _ in rollouts]
        for index, value in zip(whose, values, strict=True):
            of_rollouts[index].append(value)
        return [fmean(some) for some in of_rollouts]

    def _without(self, one: Rollout) -> float:
        if self.settings.no_call is not None:
            return self.settings.no_call
        return self.settings.worst(len(self.settings.places(one.prompt.block_names)))
