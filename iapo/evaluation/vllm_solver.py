"""Evaluation with vLLM in this process: whole batches, all turns, the same prompts as everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from transformers import set_seed

from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.solvers import Solver, graded
from iapo.records import Sample, Trace
from iapo.rollout.budget import check_lengths
from iapo.rollout.turns import answer, rollout
from iapo.rollout.vllm_engine import VllmEngine
from iapo.tools import ToolDefinition


def vllm_solver(plan: EvaluationPlan, samples: Sequence[Sample], tools: Mapping[str, ToolDefinition]) -> Solver:
    """Solves with a checkpoint in vLLM; all samples of a call are handed to it at once.

    Args:
        plan: Plan of the evaluation.
        samples: All its samples, which must fit.
        tools: The offered tools; none: one turn with the answer.

    Raises:
        InputError: As `iapo.rollout.vllm_engine.VllmEngine`, or if a rollout on a sample may not fit.
    """
    asked = plan.generation
    engine = VllmEngine(
        plan.model,
        plan.loading,
        prompt=plan.prompt,
        sequence=asked.max_sequence_length,
        memory=0.9 if plan.vllm_memory is None else plan.vllm_memory,
    )
    encoder, budget = engine.encoder, engine.budget(asked.max_turn_tokens, asked.max_turns)
    check_lengths(samples, encoder, budget, engine.context, tools)
    generate = engine.generator(max_new_tokens=asked.max_turn_tokens, temperature=asked.temperature, top_p=asked.top_p)

    def solve(some: Sequence[Sample], seed: int) -> Iterator[Trace]:
        set_seed(seed)
        if not tools:
            return map(graded, answer(some, encoder, generate, asked.max_turn_tokens))
        return (graded(one.trace) for one in rollout(some, encoder, generate, tools=tools, budget=budget))

    return solve
