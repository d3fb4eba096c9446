"""Prompts that are read once for two ends: a model writes its own turns to them, greedily, and the turns are explained.

The scores are those of `iapo.attribution.gradient.block_scores`. One pass over the prompts, its graph kept, gives the
keys and values on which the turns are written, and through which their gradients go back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from iapo.attribution.calls import Attributor, Prompt, Turn
from iapo.attribution.gradient import CallInput, _Batch, dot, run_language_model
from iapo.attribution.memory import budget_of, telling_out_of_memory
from iapo.attribution.methods import METHODS
from iapo.attribution.prefix import _frozen, _skipped, padded_turns, states_with_graph
from iapo.attribution.token_values import others_of, token_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Greedy(Protocol):
    """What is needed of the rules of a greedy turn; see `iapo.rollout.generation.Greedy`."""

    @property
    def limit(self) -> int:
        """Longest turn in tokens."""

    @property
    def ends(self) -> Collection[int]:
        """Tokens that end a turn."""

    def pick(self, logits: Tensor) -> Tensor:
        """Returns the next token of each row, shape (N,), of its logits in fp32, shape (N, V)."""


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """N prompts without their last tokens, read; the longest has L tokens without it.

    Attributes:
        attributor: Attributor whose model read them.
        prompts: The prompts.
        batch: The prompts, each with one token of a turn behind it.
        lengths: Tokens of the prompts without the last ones, shape (N,).
        inputs: Merged embeddings and deepstack features, a leaf, shape (K, N, L, hidden units).
        states: Keys and values of each layer in turn, with their graph, shapes (N, heads, L, head units).
    """

    attributor: Attributor
    prompts: Sequence[Prompt]
    batch: _Batch
    lengths: Tensor
    inputs: Tensor
    states: list[Tensor]

    @classmethod
    def read(cls, attributor: Attributor, prompts: Sequence[Prompt], limit: int) -> ReadPrompts | None:
        """Reads prompts, whose turns the attributor's model is to write and explain.

        Args:
            attributor: The attributor.
            prompts: The prompts, their numbers of blocks as they come.
            limit: Longest turn in tokens.

        Returns:
            The prompts; None where nothing is shared: with another method than the gradient, with more prompts than
            may be in one graph (in parts, each token would take a pass for each of these), with a prompt of one token,
            or with a model whose cache holds no gradients.

        Raises:
            InputError: If memory runs out.
        """
        model, settings = attributor.model, attributor.settings
        longest = max(len(prompt.ids) for prompt in prompts)
        shortest = min(len(prompt.ids) for prompt in prompts)
        room = budget_of(model, settings.tokens).tokens
        if attributor.method is not METHODS["gradient"] or shortest < 2 or len(prompts) * (longest + limit) > room:
            return None
        # The token that is written first stands behind each prompt, as yet another one that is no image's.
        token = int(model.config.image_token_id == 0)
        calls, pictures = attributor.prepare(prompts, [([token], [True])] * len(prompts))
        most = max(call.blocks for call in calls)
        with telling_out_of_memory(model.device, longest, settings.tokens), _frozen(model), torch.enable_grad():
            batch = _Batch.build(model, [replace(call, blocks=most) for call in calls], pictures)
            seen = slice(0, longest - 1)
            inputs = batch.inputs_at(slice(None), seen).requires_grad_(True)
            cache, layers = DynamicCache(), model.model.language_model.layers
            # Of the last layer only the keys and values are used; right padding needs no mask here.
            with _skipped(layers[-1].mlp):
                run_language_model(model, inputs, batch.is_image[:, seen], batch.position_ids[:, :, seen], cache)
        states = states_with_graph(cache, len(layers), longest - 1)
        if states is None:
            return None
        lengths = torch.tensor([len(prompt.ids) - 1 for prompt in prompts], device=model.device)
        return cls(attributor, prompts, batch, lengths, inputs, states)

    @property
    def model(self) -> PreTrainedModel:
        """The model that read the prompts."""
        return self.attributor.model

    @torch.inference_mode()
    def write(self, greedy: Greedy) -> list[list[int]]:
        """Has the model write a turn to each prompt.

        Args:
            greedy: The rules of a turn, no longer than what the prompts were read for.

        Returns:
            The turns, each up to the token that ends it.
        """
        model, rows = self.model, range(len(self.prompts))
        cache, is_image = self._cache(rows), self._last_is_image(rows)
        inputs, positions, mask = self._last(rows), self._positions(rows, greedy.limit), self._mask(rows, greedy.limit)
        seen = self.inputs.shape[2]
        turns: list[list[int]] = [[] for _ in rows]
        for step in range(greedy.limit):
            attended = None if mask is None else mask[:, : seen + step + 1]
            hidden = run_language_model(model, inputs, is_image, positions[:, :, step : step + 1], cache, attended)
            tokens = greedy.pick(model.lm_head(hidden[:, -1]).float())
            for turn, token in zip(turns, tokens.tolist(), strict=True):
                if not turn or turn[-1] not in greedy.ends:
                    turn.append(token)
            if all(turn[-1] in greedy.ends for turn in turns):
                break
            # The rest of a turn is text alone, which has no deepstack features.
            inputs = self.batch.embed(tokens[:, None])[None]
        return turns

    def distributions(self, rows: Sequence[int], turns: Sequence[Turn]) -> list[Tensor]:
        """Explains turns as `Attributor.distributions` does; the graph is gone then.

        Args:
            rows: Places of the prompts whose turns they are.
            turns: The turns.

        Returns:
            Shares of each turn's compared blocks, fp32, on the CPU.

        Raises:
            ValueError: If a turn has no scored token.
            InputError: If memory runs out.
        """
        prompts = [self.prompts[row] for row in rows]
        calls, _ = self.attributor.calls(prompts, turns)
        longest = max(len(call.prompt_ids) + call.length for call in calls)
        with telling_out_of_memory(self.model.device, longest, self.attributor.settings.tokens), _frozen(self.model):
            scores = self._scores(rows, calls).cpu()
        return [
            self.attributor.shares([prompt], row[None, : call.blocks])[0]
            for prompt, row, call in zip(prompts, scores, calls, strict=True)
        ]

    @torch.enable_grad()
    def _scores(self, rows: Sequence[int], calls: Sequence[CallInput]) -> Tensor:
        """Returns scores of the rows' blocks, shape (rows, most blocks), fp32."""
        model = self.model
        turn, scored, _ = padded_turns(calls, model.device)
        width = turn.shape[1]
        last = self._last(rows).requires_grad_(True)
        embedded = self.batch.embed(turn[:, :-1]).detach()[None]
        inputs = torch.cat([last, pad(embedded, (0, 0, 0, 0, 0, 0, 0, len(last) - 1))], 2)
        is_image = pad(self._last_is_image(rows), (0, width - 1))
        hidden = run_language_model(
            model, inputs, is_image, self._positions(rows, width), self._cache(rows), self._mask(rows, width)
        )
        values = token_values(model, hidden[scored], turn[scored], calls[0].score, others_of(calls, model.device))
        through_prompt, at_last = torch.autograd.grad(values.sum(), [self.inputs, last])
        some = list(rows)
        block_of, ends = self.batch.block_of[some], self.lengths[some, None]
        found = dot(through_prompt[:, some], self.inputs[:, some])
        scores = found.new_zeros(len(rows), int(self.batch.block_of.max()) + 1)
        # The last column collects the padding, which belongs to no block and has no gradient.
        scores.scatter_add_(1, block_of[:, : found.shape[1]], found)
        return scores.scatter_add_(1, block_of.gather(1, ends), dot(at_last, last))

    def _cache(self, rows: Sequence[int]) -> DynamicCache:
        """Returns a cache of the rows' prompts, which grows without them."""
        whole = len(rows) == len(self.prompts)
        states = self.states if whole else [one[list(rows)] for one in self.states]
        return DynamicCache(zip(states[::2], states[1::2], strict=True))

    def _last(self, rows: Sequence[int]) -> Tensor:
        """Returns the inputs of the prompts' last tokens, shape (K, rows, 1, hidden units)."""
        ends = self.lengths.tolist()
        return torch.cat(
            [self.batch.inputs_at(slice(row, row + 1), slice(ends[row], ends[row] + 1)) for row in rows], 1
        )

    def _last_is_image(self, rows: Sequence[int]) -> Tensor:
        return self.batch.is_image[list(rows)].gather(1, self.lengths[list(rows), None])

    def _positions(self, rows: Sequence[int], tokens: int) -> Tensor:
        """Returns rotary positions from the prompts' last tokens on, shape (3, rows, tokens)."""
        some = list(rows)
        ends = self.lengths[some].expand(3, -1)[..., None]
        of_rows = self.batch.position_ids[:, some]
        first, second = of_rows.gather(2, ends), of_rows.gather(2, ends + 1)
        return torch.cat([first, second + torch.arange(tokens - 1, device=second.device)], 2)

    def _mask(self, rows: Sequence[int], tokens: int) -> Tensor | None:
        """Returns what is attended to, shape (rows, L + tokens): not a shorter prompt's last token and padding, which
        were run among the others; None where all are as long.
        """
        seen = self.inputs.shape[2]
        own = torch.arange(seen, device=self.lengths.device) < self.lengths[list(rows), None]
        return None if bool(own.all()) else pad(own.long(), (0, tokens), value=1)
