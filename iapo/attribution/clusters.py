"""Which calls are the same, which prompts run as one batch, and which calls on top of them as one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from iapo.attribution.gradient import CallInput
from iapo.attribution.memory import Budget

CLUSTER_TOKENS = 8192
"""Prompt tokens that are held at once, whatever the memory: more would save no time. More prompts than fit run one
batch after another."""

Prompt = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
CallKey = tuple[Prompt, tuple[int, ...], tuple[bool, ...], tuple[object, ...]]


def call_key(call: CallInput) -> CallKey:
    """Returns what a call's scores depend on, the prompt first; nothing behind the last token asked for does."""
    end = call.length
    prompt = (tuple(call.prompt_ids), tuple(call.block_of), call.pictures)
    return prompt, tuple(call.turn_ids[:end]), tuple(call.target[:end]), (call.score, call.others)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Prompts of one length with the same number n of distinct calls each, which run as one batch.

    Attributes:
        prompts: Their number U.
        calls: The first call of each prompt, then the second of each, and so on: n times U; a prompt's longest first.
    """

    prompts: int
    calls: list[CallInput]

    @property
    def each(self) -> int:
        """The number n."""
        return len(self.calls) // self.prompts

    def over(self, budget: Budget | None) -> Budget | None:
        """Returns the budget if the cluster, a call to each of its prompts, is larger; None if it is within it."""
        return budget if budget is not None and _cost(self.prompts, self.calls[0], budget) > budget.tokens else None


def _cost(prompts: int, call: CallInput, budget: Budget) -> float:
    """Counts tokens in the graph of prompts and one call to each."""
    length = len(call.prompt_ids)
    return prompts * (length + call.length + budget.cached * length)


def make_clusters(distinct: Mapping[CallKey, CallInput], budget: Budget | None = None) -> list[Cluster]:
    """Groups calls by prompt, and prompts by length and number of calls, so that no batch has a row without work.

    Args:
        distinct: The calls.
        budget: Tokens of prompts and one call to each in a cluster; None limits those of the prompts alone.
    """
    by_prompt: dict[Prompt, list[CallInput]] = {}
    for key, call in distinct.items():
        by_prompt.setdefault(key[0], []).append(call)
    alike: dict[tuple[int, int], list[list[CallInput]]] = {}
    for group in by_prompt.values():
        longest_first = sorted(group, key=lambda call: call.length, reverse=True)
        alike.setdefault((len(group[0].prompt_ids), len(group)), []).append(longest_first)
    clusters = []
    for (length, _), groups in alike.items():
        most = CLUSTER_TOKENS // length
        if budget is not None:
            longest = max((group[0] for group in groups), key=lambda call: call.length)
            most = min(most, int(budget.tokens / _cost(1, longest, budget)))
        most = max(1, most)
        for start in range(0, len(groups), most):
            some = groups[start : start + most]
            clusters.append(Cluster(len(some), [call for calls in zip(*some, strict=True) for call in calls]))
    return clusters


def chunks(lengths: Sequence[int], device: torch.device) -> Iterator[tuple[int, int]]:
    """Cuts calls, about the longest first, where their padding costs more than another pass does.

    On an accelerator the launches of a pass take longer than the padding; there they stay together.

    Args:
        lengths: The calls' turn tokens.
        device: Device on which they run.

    Yields:
        The first call of each pass and the one after its last.
    """
    start = 0
    for end in range(1, len(lengths)):
        saved = (lengths[start] - lengths[end]) * (len(lengths) - end)
        if device.type == "cpu" and lengths[end] < 0.75 * lengths[start] and saved > 64:
            yield start, end
            start = end
    yield start, len(lengths)


def rounds(
    lengths: Sequence[int], prompts: int, held: float, cached: int, budget: Budget | None
) -> Iterator[tuple[int, int]]:
    """Cuts the calls of a cluster so that each part is within the budget, beside what the prompts hold.

    Args:
        lengths: The calls' turn tokens: the first call of each prompt, then the second of each, and so on.
        prompts: The number of prompts U.
        held: Tokens of each prompt in the graph.
        cached: Tokens of each prompt in the cache.
        budget: The budget; None has all calls in one part.

    Yields:
        The first call of each part and the one after its last, a call to each prompt at least.

    Raises:
        InputError: If a call to each prompt cannot fit.
    """
    if budget is None:
        yield 0, len(lengths)
        return
    start = 0
    while start < len(lengths):
        each = max(lengths[start : start + prompts]) + budget.cached * cached
        budget.check(held + each)
        left = budget.tokens - prompts * held
        end = start + prompts * max(1, int(left / (prompts * each)))
        yield start, min(end, len(lengths))
        start = end
