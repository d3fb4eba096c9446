"""Which calls are the same, which prompts run as one batch, and which calls on top of them as one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from iapo.attribution.gradient import CallInput, _last

CLUSTER_TOKENS = 8192
"""Prompt tokens that are held at once; more prompts than fit run one batch after another."""

Prompt = tuple[tuple[int, ...], tuple[int, ...], int | None]
CallKey = tuple[Prompt, tuple[int, ...], tuple[bool, ...]]


def call_key(call: CallInput) -> CallKey:
    """Returns what a call's scores depend on, the prompt first; nothing after the last scored token is a part of it."""
    end = scored_length(call)
    prompt = (tuple(call.prompt_ids), tuple(call.block_of), call.picture)
    return prompt, tuple(call.turn_ids[:end]), tuple(call.target[:end])


def scored_length(call: CallInput) -> int:
    """Counts the turn tokens up to the last scored one."""
    return _last(call.target) + 1


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


def make_clusters(distinct: Mapping[CallKey, CallInput]) -> list[Cluster]:
    """Groups calls by prompt, and prompts by length and number of calls, so that no batch has a row without work."""
    by_prompt: dict[Prompt, list[CallInput]] = {}
    for key, call in distinct.items():
        by_prompt.setdefault(key[0], []).append(call)
    alike: dict[tuple[int, int], list[list[CallInput]]] = {}
    for group in by_prompt.values():
        longest_first = sorted(group, key=scored_length, reverse=True)
        alike.setdefault((len(group[0].prompt_ids), len(group)), []).append(longest_first)
    clusters = []
    for (length, _), groups in alike.items():
        most = max(1, CLUSTER_TOKENS // length)
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
