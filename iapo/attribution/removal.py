"""Several scores of one call for prompts that some blocks are removed from (docs/faithfulness.md).

A prompt's forward pass serves all scores, and a set of blocks is computed once, whatever order asks for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iapo.attribution.gradient import CallInput, Pictures, _Batch, run_language_model
from iapo.attribution.memory import Budget
from iapo.attribution.occlusion import with_positions
from iapo.attribution.token_values import others_of, token_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Removal:
    """Computes a call's scores for parts of its prompt.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode is left alone.
        views: The call as each score takes it: the same prompt, and a turn that differs at most in where it ends.
        pictures: The distinct images that `CallInput.pictures` refers to.
        batch_size: Sequences in one forward pass.
        budget: Their tokens; None does not limit them.

    Raises:
        ValueError: If there is no view, the views' prompts differ, or `batch_size` is below 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        views: Sequence[CallInput],
        pictures: Pictures | None = None,
        batch_size: int = 64,
        budget: Budget | None = None,
    ) -> None:
        if not views or batch_size < 1:
            raise ValueError(f"{len(views)} views of a call in batches of {batch_size}; give at least 1 of both")
        if any(list(view.prompt_ids) != list(views[0].prompt_ids) for view in views):
            raise ValueError("the views of one call have the same prompt")
        self.model, self.pictures, self.batch_size, self.budget = model, pictures, batch_size, budget
        longest = max(views, key=lambda view: len(view.turn_ids))
        length = len(longest.turn_ids)
        masks = [[*view.target, *[False] * (length - len(view.target))] for view in views]
        self.views = [
            replace(longest, target=mask, score=view.score, others=view.others, reported=None)
            for view, mask in zip(views, masks, strict=True)
        ]
        # One sequence long enough for all of them.
        self._whole = replace(longest, target=[any(some) for some in zip(*masks, strict=True)], reported=None)
        self.blocks = tuple(sorted(set(longest.block_of)))
        self._known: dict[frozenset[int], tuple[float, ...]] = {}

    def values(self, sets: Collection[frozenset[int]]) -> dict[frozenset[int], tuple[float, ...]]:
        """Computes the summed scores of the call's target tokens where only some blocks are in the prompt.

        Positions leave the sequence as in `iapo.attribution.occlusion`. Of a prompt without any block the last token
        stays, which predicts the turn's first one.

        Args:
            sets: Blocks that stay, by set.

        Returns:
            Scores by set, one a view.
        """
        missing = [one for one in dict.fromkeys(sets) if one not in self._known]
        # Alike lengths together, since a batch is padded.
        missing.sort(key=lambda one: len(self._kept(one)))
        for start in range(0, len(missing), self.batch_size):
            some = missing[start : start + self.batch_size]
            lengths = [len(self._kept(one)) + self._whole.length for one in some]
            for part in [slice(0, len(some))] if self.budget is None else self.budget.parts(lengths):
                table = self._compute(some[part]).T.tolist()
                self._known |= {one: tuple(row) for one, row in zip(some[part], table, strict=True)}
        return {one: self._known[one] for one in sets}

    def _kept(self, blocks: frozenset[int]) -> list[int]:
        kept = [index for index, owner in enumerate(self._whole.block_of) if owner in blocks]
        return kept or [len(self._whole.block_of) - 1]

    @torch.no_grad()
    def _compute(self, sets: Sequence[frozenset[int]]) -> Tensor:
        """Returns scores, shape (views, sets)."""
        image_token: int = self.model.config.image_token_id
        calls = [with_positions(self._whole, self._kept(one), image_token) for one in sets]
        batch = _Batch.build(self.model, calls, self.pictures)
        hidden = run_language_model(self.model, batch.inputs, batch.is_image, batch.position_ids)
        starts = torch.tensor([len(call.prompt_ids) for call in calls], device=hidden.device)
        found = []
        for view in self.views:
            places = torch.tensor([place for place, scored in enumerate(view.target) if scored], device=hidden.device)
            rows = torch.arange(len(calls), device=hidden.device).repeat_interleave(len(places))
            tokens = torch.tensor(view.turn_ids, device=hidden.device)[places].repeat(len(calls))
            before = (starts[:, None] + places - 1).flatten()
            others = others_of([view] * len(calls), hidden.device)
            values = token_values(self.model, hidden[rows, before], tokens, view.score, others)
            found.append(values.view(len(calls), -1).sum(1))
        return torch.stack(found).float().cpu()
