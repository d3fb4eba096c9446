"""How much memory attribution takes by the token, and how many tokens may be in one graph.

What a decoder layer keeps of a token for the backward pass is known from its shape, so that the largest graph that fits
is known before one is built: running out is told in advance where it is sure, and otherwise in one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from iapo.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 0.5
"""The part of the free memory that one graph may take, where no number of tokens is set; what is beside the graph (its
gradients, the kernels' own memory, the images' features) takes of the rest."""

UNKNOWN_TOKENS = 8192
"""Tokens in a graph on devices that do not tell how much memory is free."""

HEAD_LOGITS = 2**25
"""Logits, in fp32, that are held at once: 128 MiB, and about four times that with their gradients. With more of them,
they are computed again in the backward pass."""

GROUPS = [
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
]
"""Where a process finds the limit of its control group, in the second version and the first: the folder, its files, and
the entry of `memory.stat` that counts what files occupy until memory is wanted for something else."""


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What a token takes in the language model, in bytes.

    Attributes:
        graph: Graph of the backward pass, parameters frozen; the head is not in it.
        cached: Cost of a prompt's token to each call that reads its cache: a leaf with its gradient, and the keys and
            values as attention takes them.
        tangent: Cost of a position of a block's tangents.
        states: Keys and values of the token, kept by a cache.
    """

    graph: int
    cached: int
    tangent: int
    states: int


def token_cost(config: Any, itemsize: int) -> TokenCost:
    """Counts what the layers of a decoder keep of a token.

    A layer keeps the inputs of its two norms (in fp32), the queries, keys, values and outputs of attention, and three
    times the MLP's inner units. Of linear layers whose weights are frozen nothing is kept.

    Args:
        config: Configuration of the language model, as `config.get_text_config()` gives it.
        itemsize: Bytes of a number in the model's type.
    """
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    queries, states = heads * size, 2 * shared * size
    layer = 2 * config.hidden_size * max(4, itemsize)
    layer += itemsize * (3 * config.intermediate_size + 2 * queries + states)
    if config.model_type.startswith("qwen3"):
        # Keys and queries are normalised head by head.
        layer += max(4, itemsize) * (queries + states // 2)
    repeated = 2 * queries if heads > shared else 0
    layers = config.num_hidden_layers
    return TokenCost(
        graph=layers * layer,
        # The leaf, its gradient, and what the cache makes of it with the call's own.
        cached=layers * itemsize * (3 * states + repeated),
        # Beside the states there are the hidden tangent and, within a layer, about as much as ten of it.
        tangent=itemsize * (layers * states + 11 * config.hidden_size),
        states=layers * itemsize * states,
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens may be in one graph.

    Attributes:
        tokens: Most tokens of prompts and calls at once; one sequence that is longer runs alone.
        possible: Most tokens that all of the device's free memory could hold; None where that is not known.
        cached: Cost of a prompt's token to each call that reads its cache, in tokens of the graph.
        tangent: Cost of a position of a block's tangents, in the same.
    """

    tokens: int
    possible: int | None = None
    cached: float = 0.0
    tangent: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"a graph of {self.tokens} tokens holds nothing; give at least 1")

    def parts(self, lengths: Sequence[int]) -> Iterator[slice]:
        """Cuts sequences, in order, into batches whose padded tokens are within the budget; longer ones are alone.

        Raises:
            InputError: If a sequence alone cannot fit.
        """
        start, longest = 0, 0
        for end, length in enumerate(lengths):
            self.check(length)
            longest = max(longest, length)
            if end > start and longest * (end + 1 - start) > self.tokens:
                yield slice(start, end)
                start, longest = end, length
        yield slice(start, len(lengths))

    def check(self, tokens: float) -> None:
        """Refuses a graph that cannot be.

        Raises:
            InputError: If that many tokens take more than all of the free memory.
        """
        if self.possible is not None and tokens > self.possible:
            raise InputError(
                f"attribution of one sequence takes {tokens:.0f} tokens in one graph, and the free memory holds "
                f"{self.possible} at most; {REMEDY}"
            )


REMEDY = (
    "set a smaller max_pixels or max_turn_tokens for a shorter sequence, dtype bfloat16 for half of the memory, or use "
    "a device with more (`iapo plan` says how much)"
)
"""What helps where one sequence alone is too long."""


def budget_of(model: PreTrainedModel, tokens: int | None = None) -> Budget:
    """Returns how many tokens may be in one graph of a model.

    Args:
        model: The model.
        tokens: The number; None takes a part of the memory that is free on its device now (`SHARE`).
    """
    cost = token_cost(model.config.get_text_config(), model.dtype.itemsize)
    free = free_memory(model.device)
    chosen = tokens or (UNKNOWN_TOKENS if free is None else max(1, int(SHARE * free / cost.graph)))
    possible = None if free is None else int(free / cost.graph)
    return Budget(chosen, possible, cost.cached / cost.graph, cost.tangent / cost.graph)


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that can still be had on a device; None where it does not tell.

    On an accelerator, what PyTorch holds without using it counts as free. On the CPU, the limit of the process's
    control group counts, and processes of one run share what there is.
    """
    if device.type == "cpu":
        available = [psutil.virtual_memory().available + psutil.swap_memory().free, *_group_memory()]
        return min(available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    module = torch.get_device_module(device)
    if not hasattr(module, "mem_get_info"):
        return None
    free: int = module.mem_get_info(device)[0]
    return free + int(module.memory_reserved(device)) - int(module.memory_allocated(device))


def _group_memory() -> Iterator[int]:
    """Yields what the process's control group may still use, if it is limited."""
    for root, limit, used, cache in GROUPS:
        try:
            most, now = (root / limit).read_text().strip(), int((root / used).read_text())
            statistics = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            yield max(0, int(most) - now + int(statistics.get(cache, 0)))


@contextmanager
def telling_out_of_memory(device: torch.device, longest: int, tokens: int | None) -> Iterator[None]:
    """Says what helps where an attribution runs out of memory.

    Args:
        device: Device of the model.
        longest: Tokens of the longest sequence.
        tokens: Setting of the number of tokens in one graph; None where it is left to the free memory.

    Raises:
        InputError: If memory runs out inside.
    """
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        now = "chosen from the free memory" if tokens is None else str(tokens)
        less = max(longest, (tokens or 2 * longest) // 2)
        raise InputError(
            f"attribution ran out of memory on {device}, its longest sequence of {longest} tokens: set "
            f"attribution_tokens (now {now}) to {less}; if that does not do, {REMEDY}"
        ) from error


def by_rows(function: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, tokens: Tensor, vocabulary: int) -> Tensor:
    """Computes what logits give, for few enough positions at once that the logits are no matter.

    Args:
        function: Function of hidden states, shape (K, hidden units), and tokens, shape (K,), with logits on its way.
        hidden: Hidden states, the same.
        tokens: Tokens, the same.
        vocabulary: Logits of one position.

    Returns:
        What the function gives for all of them, shape (K,).
    """
    rows = max(1, HEAD_LOGITS // vocabulary)
    if len(hidden) <= rows:
        return function(hidden, tokens)
    parts = zip(hidden.split(rows), tokens.split(rows), strict=True)
    found = [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat(found)


@contextmanager
def without_parameters(model: PreTrainedModel) -> Iterator[None]:
    """Has no parameter require a gradient while it is open, which saves the inputs of all linear layers.

    Graphs recorded before are unharmed: a parameter's gradient is only collected where it requires one by then.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
