"""How well forms of the penalty tell misuse: one set of first turns, explained in every form (docs/forms.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import set_seed

from iapo.attribution.calls import ATTRIBUTED, Attributor, Turn
from iapo.attribution.settings import AttributionSettings
from iapo.evaluation.local import EvaluationSettings, make_generator, same_randomness
from iapo.records import Sample
from iapo.rewards.controls import among_alike, compared, named_shares, permutation
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import EncodedPrompt
from iapo.rollout.turns import Rollout, encode_prompts, first_turns
from iapo.teachers.student_call import StudentCall
from iapo.tools import ToolDefinition

PROMPTS = 8
"""Prompts that are rolled out and shuffled together, all with the same tools."""

VALUES = ("own", "uniform", "named", "same_tools", "shuffled", "surprise")
"""By what a call is told: the form's divergence; the same with the uniform distribution in the student's place, with
that of a call that comes from the called tools' definitions alone, with another rollout's of the same tools, and with
any other rollout's; and `-log p` of the call under the teacher, a token."""


@dataclass(slots=True)
class Pairs:
    """What the pairs of a misused and a right call to one prompt say, each number counted in halves.

    Attributes:
        counted: Twice the number of pairs, by prompt.
        won: By form and value, for each prompt twice the number of pairs in which the misused call's is larger.
    """

    counted: list[int] = field(default_factory=list)
    won: dict[tuple[str, str], list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Cell:
    """What was measured with one seed and one way to name tools.

    Attributes:
        pairs: The pairs.
        calls: Calls that were explained.
        misused: Of those that were carried out the misused ones.
        executed: Those that were carried out.
        seconds: Processor seconds by form: of the explanations by student and teacher, for all calls.
    """

    pairs: Pairs = field(default_factory=Pairs)
    calls: int = 0
    misused: int = 0
    executed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How first turns are drawn.

    Attributes:
        rollouts: First turns to each prompt.
        generation: Settings of the generation.
    """

    rollouts: int
    generation: EvaluationSettings


class FormsMeter:
    """Measures forms with one student and one teacher.

    Args:
        student: The student.
        teacher: The teacher, which sees images as the student does.
        forms: Settings by the form's name.
        sampling: Settings of the first turns.
    """

    def __init__(
        self, student: Policy, teacher: Policy, forms: Mapping[str, AttributionSettings], sampling: Sampling
    ) -> None:
        self.student, self.teacher, self.forms, self.sampling = student, teacher, forms, sampling
        self.encoder, self._generate = make_generator(student, sampling.generation)
        greedy = replace(sampling.generation, temperature=0.0)
        self.other, self._greedy = make_generator(teacher, greedy, self.encoder.template)

    def measure(
        self,
        samples: Sequence[Sample],
        tools_of: Callable[[int], Mapping[str, ToolDefinition]],
        seed: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Cell:
        """Rolls out first turns and measures all forms on them; random states stay as they are.

        Args:
            samples: Samples that have one right axis.
            tools_of: Offered tools of each part of the prompts, by its number.
            seed: Seed of the turns and of the shuffling.
            progress: Callback, called with the number of new samples done.
        """
        cell = Cell()
        with same_randomness():
            set_seed(seed)
            for part, start in enumerate(range(0, len(samples), PROMPTS)):
                some = samples[start : start + PROMPTS]
                self._measure(cell, some, tools_of(part), (seed, part))
                progress(len(some))
        return cell

    def _measure(
        self, cell: Cell, samples: Sequence[Sample], tools: Mapping[str, ToolDefinition], seed: tuple[int, int]
    ) -> None:
        many = [sample for sample in samples for _ in range(self.sampling.rollouts)]
        rollouts = first_turns(many, self.encoder, self._generate, tools)
        own = first_turns(samples, self.other, self._greedy, tools)
        verdicts = [one.trace.result.misuse(one.trace.sample.axis) for one in rollouts]
        called = [index for index, one in enumerate(rollouts) if one.trace.result.status in ATTRIBUTED]
        cell.calls += len(called)
        cell.executed += sum(verdict is not None for verdict in verdicts)
        cell.misused += sum(bool(verdict) for verdict in verdicts)
        groups = [index // self.sampling.rollouts for index in called]
        pairs = _pairs(groups, [verdicts[index] for index in called], len(samples))
        cell.pairs.counted += [2 * len(one) for one in pairs]
        if not called:
            return
        chosen = [rollouts[index] for index in called]
        explained = _Explained(self, chosen, own, groups, tools)
        order = permutation(len(called), *seed)
        names = [one.trace.result.called_names for one in chosen]
        alike = among_alike(names, *seed)
        for name, settings in self.forms.items():
            p, q, seconds = explained.shares(settings)
            cell.seconds[name] = cell.seconds.get(name, 0.0) + seconds
            values = {
                "own": self._compare(p, q, settings),
                "uniform": self._compare(torch.full_like(p, 1 / p.shape[-1]), q, settings),
                "named": self._compare(
                    named_shares(names, settings.compared(chosen[0].prompt.block_names), settings), q, settings
                ),
                "same_tools": self._compare(p[alike], q, settings),
                "shuffled": self._compare(p[order], q, settings),
                "surprise": explained.surprise,
            }
            for what, found in values.items():
                cell.pairs.won.setdefault((name, what), []).extend(_won(found, one) for one in pairs)

    @staticmethod
    def _compare(p: Tensor, q: Tensor, settings: AttributionSettings) -> Tensor:
        """Compares shares as training does: where the teacher has no call of its own, all calls get the worst value."""
        silent = q.isnan().any(-1).any(0)
        values = compared(p, q.nan_to_num(), settings)
        return torch.where(silent, settings.worst(p.shape[-1]), values)


class _Explained:
    """The scores of one batch's calls, each computed once for all forms that use it.

    Args:
        meter: The models.
        calls: Rollouts with a call.
        own: The teacher's own first turns, one a prompt.
        prompt_of: The prompt of each call.
        tools: The offered tools.
    """

    def __init__(
        self,
        meter: FormsMeter,
        calls: Sequence[Rollout],
        own: Sequence[Rollout],
        prompt_of: Sequence[int],
        tools: Mapping[str, ToolDefinition],
    ) -> None:
        self.meter, self.calls, self.own, self.prompt_of = meter, calls, own, prompt_of
        self._scores: dict[tuple[object, ...], tuple[Tensor, float]] = {}
        # As a live teacher reads the student's calls: the same tokens, or its own of the same text.
        reader = StudentCall(meter.teacher, meter.encoder, AttributionSettings(), tools)
        self._read = [reader.turn_of(one) for one in calls]
        self._prompts = encode_prompts([one.trace.sample for one in calls], meter.other, tools)
        asked = AttributionSettings(log_probs=True, batch_size=64)
        self.surprise = -self._attributor("teacher", asked).log_probs(self._prompts, self._read)

    def shares(self, settings: AttributionSettings) -> tuple[Tensor, Tensor, float]:
        """Returns the student's and the teacher's shares, shapes (n, m) and (parts, n, m), and processor seconds."""
        turns = [(one.first.ids, one.first.target) for one in self.calls]
        scores, seconds = self._of("student", settings, [one.prompt for one in self.calls], turns)
        taught: list[Tensor] = []
        if settings.teacher_reference != "own_call":
            found, spent = self._of("teacher", settings, self._prompts, self._read)
            taught, seconds = [*taught, found], seconds + spent
        if settings.teacher_reference != "student_call":
            found, spent = self._own(settings)
            taught, seconds = [*taught, found], seconds + spent
        places = settings.places(self.calls[0].prompt.block_names)
        p, q = (settings.shares(one[:, places].nan_to_num()) for one in (scores, torch.cat(taught)))
        silent = torch.cat(taught).isnan().any(-1)
        q[silent] = torch.nan
        return p, q.unflatten(0, (len(taught), -1)), seconds

    def _own(self, settings: AttributionSettings) -> tuple[Tensor, float]:
        """Returns the scores of the teacher's own calls, a row for each of the student's; NaN where it makes none."""
        called = [index for index, one in enumerate(self.own) if one.trace.result.status in ATTRIBUTED]
        rows = torch.full((len(self.own), len(settings.names(self.calls[0].prompt.block_names))), torch.nan)
        seconds = 0.0
        if called:
            turns = [(self.own[index].first.ids, self.own[index].first.target) for index in called]
            prompts = [self.own[index].prompt for index in called]
            rows[called], seconds = self._of("own", settings, prompts, turns)
        return rows[list(self.prompt_of)], seconds

    def _of(
        self, who: str, settings: AttributionSettings, prompts: Sequence[EncodedPrompt], turns: Sequence[Turn]
    ) -> tuple[Tensor, float]:
        key = (who, settings.target, settings.score, settings.image_cells, settings.method_name, settings.steps)
        if key not in self._scores:
            start = time.process_time()
            scores = self._attributor(who, settings).scores(prompts, turns)
            self._scores[key] = scores, time.process_time() - start
        return self._scores[key]

    def _attributor(self, who: str, settings: AttributionSettings) -> Attributor:
        policy, encoder = self.meter.student, self.meter.encoder
        if who != "student":
            policy, encoder = self.meter.teacher, self.meter.other
        return Attributor(policy.model, encoder.pixels, settings, tokenizer=encoder.tokenizer)


def _pairs(groups: Sequence[int], verdicts: Sequence[bool | None], prompts: int) -> list[list[tuple[int, int]]]:
    """Returns by prompt the pairs of a misused and a right call."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(prompts)]
    for row, (group, misused) in enumerate(zip(groups, verdicts, strict=True)):
        if misused:
            found[group] += [
                (row, other)
                for other, (its, verdict) in enumerate(zip(groups, verdicts, strict=True))
                if its == group and verdict is False
            ]
    return found


def _won(values: Tensor, pairs: Sequence[tuple[int, int]]) -> int:
    """Counts twice the pairs in which the first has the larger value, ties as half."""
    numbers = values.tolist()
    return sum(1 + (numbers[one] > numbers[other]) - (numbers[one] < numbers[other]) for one, other in pairs)
