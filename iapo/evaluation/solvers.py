"""What is evaluated: something that turns samples into graded traces, be it a model in memory or an endpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from transformers import set_seed

from iapo.endpoints.chat import ChatEndpoint
from iapo.endpoints.replies import Reply
from iapo.evaluation.local import EvaluationSettings, evaluate, make_generator
from iapo.grading.extraction import extract_answer
from iapo.grading.outcome import grade_sample
from iapo.records import Sample, ToolResult, Trace, Turn
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import build_blocks, to_messages
from iapo.rollout.template import DEFAULT, PromptTemplate, check_wording, find_prompt
from iapo.rollout.turns import answer
from iapo.rollout.wording import Observation, observed
from iapo.tools import TOOLS, ToolDefinition, execute

Solver = Callable[[Sequence[Sample], int], Iterator[Trace]]
"""`(samples, seed)` -> their graded traces, each as soon as it is there, in any order, and with the very object
of its sample."""

Chat = Callable[[Sequence[Mapping[str, Any]]], str]
"""Chat messages, as `iapo.rollout.prompt.to_messages` makes them -> the model's next turn; a `Reply` says of it whether
it was cut off, too."""


def local_solver(policy: Policy, settings: EvaluationSettings, tools: Mapping[str, ToolDefinition] = TOOLS) -> Solver:
    """Solves with a model in memory; all samples of a call are one batch.

    Args:
        policy: The model.
        settings: Settings of its generation; `seed` and `batch_size` come from the call.
        tools: The offered tools; none: one turn with the answer.
    """

    def with_tools(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        one_batch = dataclasses.replace(settings, seed=seed, batch_size=max(1, len(samples)))
        return iter(evaluate(policy, samples, one_batch, tools=tools))

    if tools:
        return with_tools
    encoder, generate = make_generator(policy, settings)

    def without_tools(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        set_seed(seed)
        return map(graded, answer(samples, encoder, generate, settings.max_turn_tokens))

    return without_tools


def endpoint_solver(
    endpoint: ChatEndpoint,
    concurrency: int,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    template: PromptTemplate | None = None,
    turns: int = 2,
) -> Solver:
    """Solves with an endpoint, several samples at a time; tool programs are carried out here.

    Args:
        endpoint: The endpoint; its failure ends the solving with `iapo.endpoints.chat.EndpointError`.
        concurrency: Number of samples that are under way at once.
        tools: The offered tools; none: one turn with the answer.
        template: Template of the prompts; `tools` if None.
        turns: Most turns of a rollout.
    """

    def solve(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        with ThreadPoolExecutor(concurrency) as pool:
            futures = [pool.submit(solve_by_chat, endpoint, sample, tools, template, turns) for sample in samples]
            failure: BaseException | None = None
            try:
                for future in as_completed(futures):
                    if future.cancelled():
                        continue
                    if (error := future.exception()) is None:
                        yield future.result()
                        continue
                    # Nothing more is asked; what is under way is waited for, and kept.
                    failure = failure or error
                    for other in futures:
                        other.cancel()
            finally:
                for future in futures:
                    future.cancel()
            if failure is not None:
                raise failure

    return solve


def solve_by_chat(
    chat: Chat,
    sample: Sample,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    template: PromptTemplate | None = None,
    turns: int = 2,
) -> Trace:
    """Returns one graded rollout with a chat model; the same prompt and observation that a model in memory gets.

    Args:
        chat: Gives the next turn.
        sample: The question and image.
        tools: The offered tools; none: one turn with the answer.
        template: Template of the prompt; `tools` if None.
        turns: Most turns.

    Raises:
        InputError: If the template is worded for fewer turns.
    """
    template = find_prompt(DEFAULT) if template is None else template
    messages = to_messages(build_blocks(sample, tools, template))
    check_wording(template, turns)
    written: list[Turn] = []
    seen = sample
    for left in range(turns - 1 if tools else 0, -1, -1):
        reply = chat(messages)
        text, cut = str(reply), isinstance(reply, Reply) and reply.cut
        ends = left == 0 or (turns > 2 and extract_answer(text) is not None)
        result = ToolResult("no_call") if ends else execute(text, seen, tools, lenient=template.lenient)
        one = Turn(text, result, cut=cut)
        written.append(one)
        if not one.result.called:
            break
        shown = Observation.of(one.result, left)
        content: list[dict[str, Any]] = [{"type": "text", "text": observed(template.frame(shown), shown)}]
        if shown.image is not None:
            content.insert(0, {"type": "image", "image": shown.image})
            seen = seen.showing(shown.image, one.result.made_of, moved=one.result.moved, kept=one.result.kept)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": content}]
    return graded(Trace(sample, tuple(written)))


def graded(trace: Trace) -> Trace:
    """Returns a trace with the score `outcome`."""
    return dataclasses.replace(trace, scores={"outcome": grade_sample(trace.final_text, trace.sample)})
