"""Traces and scores of a policy on samples, with intervals."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import set_seed

from iapo.bounds import COUNT, COUNT_OR_NONE, HEAT, PART, SEED, TURNS, check_number
from iapo.errors import InputError
from iapo.grading.outcome import grade_sample
from iapo.kinds import check_kind, check_kinds
from iapo.records import Sample, Score, Trace
from iapo.rewards.alignment import Alignment, Measured
from iapo.rollout.budget import Budget, check_lengths, context_length, longest_sequence
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import PromptTemplate
from iapo.rollout.turns import Generate, rollout
from iapo.rollout.usage import LONGEST_TURN
from iapo.samples import sample_list
from iapo.tools import TOOLS, ToolDefinition
from iapo.tools.definitions import check_tools
from iapo.tools.failing import Failing


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How a policy is evaluated; written down with the result.

    Attributes:
        max_turn_tokens: Longest turn in tokens.
        temperature: 0 is greedy.
        top_p: Nucleus where it samples.
        seed: Seed of the sampling.
        batch_size: Rollouts generated at once.
        max_sequence_length: Longest sequence in tokens: prompt, turns, and the observations between them; None is
            what the model takes.
        max_turns: Most turns of a rollout, 2 to 8.

    Raises:
        InputError: If a number cannot be.
    """

    max_turn_tokens: int = LONGEST_TURN
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 64
    max_sequence_length: int | None = None
    max_turns: int = 2

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, bound in _BOUNDS.items():
            check_number(name, getattr(self, name), bound)


_BOUNDS = {
    **dict.fromkeys(("max_turn_tokens", "batch_size", "max_sequence_length"), COUNT),
    "temperature": HEAT,
    "top_p": PART,
    "seed": SEED,
    "max_turns": TURNS,
}


def evaluate(
    policy: Policy,
    samples: Iterable[Sample],
    settings: EvaluationSettings,
    *,
    alignment: Alignment | None = None,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    progress: Callable[[int], None] = lambda done: None,
    patches: int = 0,
) -> list[Trace]:
    """Rolls a policy out once on each sample and grades it.

    Args:
        policy: The policy.
        samples: The test set; a generator is read as a whole first.
        settings: Settings of its generation.
        alignment: Measures each call's divergence to a teacher, if given.
        tools: The offered tools.
        progress: Callback, called with the number of new samples done.
        patches: Number of samples, from the first, of which the attribution of the image's tokens is kept as well.

    Returns:
        One trace a sample, in order, with the scores `outcome` and, if measured, `divergence`.

    Raises:
        InputError: If an argument is of another type, or every call of a tool fails (`iapo.tools.failing`).
    """
    for name, value, kind, make in (
        ("policy", policy, Policy, "iapo.load_policy(NAME) loads one by its name"),
        ("settings", settings, EvaluationSettings, "give iapo.EvaluationSettings(...)"),
        (
            "alignment",
            alignment,
            Alignment | None,
            "give iapo.rewards.alignment.Alignment(teacher, ...)",
        ),
    ):
        if not isinstance(value, kind):
            be = "are" if name == "settings" else "is"
            raise InputError(f"{name} {be} of type {type(value).__name__}; {make}")
    check_tools(tools)
    check_kind("progress", progress, (Callable,))
    check_kind("patches", patches, (int,))
    check_number("patches", patches, COUNT_OR_NONE)
    samples = sample_list(samples)
    set_seed(settings.seed)
    encoder, generate = make_generator(policy, settings)
    budget = budget_of(settings, policy)
    traces: list[Trace] = []
    failing = Failing()
    for start in range(0, len(samples), settings.batch_size):
        some = samples[start : start + settings.batch_size]
        rollouts = rollout(some, encoder, generate, tools=tools, budget=budget)
        failing.step(result for one in rollouts for result in one.trace.results)
        measured: Sequence[Measured | None] = [None] * len(rollouts)
        if alignment is not None:
            all_measured = alignment.measure(policy.model, rollouts)
            measured = alignment.add_patches(policy.model, rollouts, all_measured, max(0, patches - start))
        for one, attribution in zip(rollouts, measured, strict=True):
            scores = {"outcome": grade_sample(one.trace.final_text, one.trace.sample)}
            trace = one.trace
            if attribution is not None:
                scores["divergence"] = Score(attribution.divergence)
                trace = attribution.told(trace)
            traces.append(dataclasses.replace(trace, scores=scores))
        progress(len(rollouts))
    return traces


def budget_of(settings: EvaluationSettings, policy: Policy) -> Budget:
    """Returns the limits of an evaluation's rollouts.

    Raises:
        InputError: If the longest sequence is longer than what the model takes.
    """
    context = context_length(policy.model.config)
    longest = longest_sequence(settings.max_sequence_length, context)
    return Budget(settings.max_turn_tokens, sequence=longest, turns=settings.max_turns)


def check_fit(
    policy: Policy,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    tools: Mapping[str, ToolDefinition] = TOOLS,
) -> None:
    """Refuses samples on which a rollout of an evaluation may not fit.

    Raises:
        InputError: As `iapo.rollout.budget.check_lengths`.
    """
    context = context_length(policy.model.config)
    check_lengths(samples, PromptEncoder(policy.processor), budget_of(settings, policy), context, tools)


_one_at_a_time = threading.RLock()


@contextmanager
def same_randomness() -> Iterator[None]:
    """Leaves torch's, numpy's and Python's random states as they were, whatever is drawn inside.

    The states are the process's, so that one thread at a time is inside; another one waits. What a thread draws without
    this while another one is inside comes from the states in there, and changes what is drawn there.
    """
    with _one_at_a_time:
        python, arrays = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


def make_generator(
    policy: Policy, settings: EvaluationSettings, template: PromptTemplate | None = None
) -> tuple[PromptEncoder, Generate]:
    """Returns a policy's encoder, and its `generate` as the settings want it.

    Args:
        policy: The policy.
        settings: Settings of its generation.
        template: Template of the prompts; the policy's own if None.
    """
    encoder = PromptEncoder(policy.processor, template)
    generate = make_generate(
        policy,
        encoder,
        max_new_tokens=settings.max_turn_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
    )
    return encoder, generate
