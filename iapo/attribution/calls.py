"""Block distributions of many tool calls by one model: distinct calls once, in batches, a frozen model's remembered."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iapo.attribution.cells import cut_images
from iapo.attribution.forms import tools_in
from iapo.attribution.gradient import CallInput, Pictures
from iapo.attribution.memory import budget_of, telling_out_of_memory
from iapo.attribution.methods import METHODS, chosen_method
from iapo.attribution.names import NameFinder
from iapo.attribution.prefix import prefix_block_scores
from iapo.attribution.settings import AttributionSettings
from iapo.attribution.tokens import picture_shares
from iapo.grouping import distinct
from iapo.images import to_rgb
from iapo.models import bare_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CACHE_ROWS = 65_536
"""Rows of scores that a frozen teacher's cache holds; a few dozen bytes each beside its key."""

ATTRIBUTED = ("edited", "failed")
"""What may have come of a program (`iapo.records.Status`) that has an attribution: it is in the allowed language."""

Turn = tuple[Sequence[int], Sequence[bool]]
"""A turn in one model's tokens, and which of them belong to the program."""

Pixels = Callable[[Sequence[Image.Image]], Mapping[str, Tensor]]
"""Images -> `pixel_values` of shape (patches, features) and `image_grid_thw` of shape (images, 3)."""


class Prompt(Protocol):
    """What is needed of an encoded prompt; see `iapo.rollout.prompt.EncodedPrompt`."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids, image tokens expanded."""

    @property
    def block_of(self) -> Sequence[int]:
        """Block of each token."""

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks."""

    @property
    def images(self) -> Sequence[Image.Image]:
        """The images, in the order in which the prompt shows them."""


class RowCache:
    """The most recently used rows, by key.

    Args:
        rows: Number of rows kept at most.
    """

    def __init__(self, rows: int = CACHE_ROWS) -> None:
        if rows < 1:
            raise ValueError(f"a cache of {rows} rows holds nothing; give at least 1")
        self.limit = rows
        self._rows: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> Tensor | None:
        """Returns the row of a key, which is then the most recently used one; None where there is none."""
        if key not in self._rows:
            return None
        self._rows.move_to_end(key)
        return self._rows[key]

    def put(self, key: str, row: Tensor) -> None:
        """Keeps a copy of a row, and drops the one that was not used for longest where there are too many."""
        # A view would keep the whole batch in memory.
        self._rows[key] = row.detach().clone()
        self._rows.move_to_end(key)
        if len(self._rows) > self.limit:
            self._rows.popitem(last=False)

    def to_state(self) -> dict[str, Any]:
        """Returns what is remembered, for a checkpoint: its keys, the rows' lengths, and all their values.

        Explained anew, among other calls, a row may differ in its last bits, and a training that goes on would differ
        from one that was not stopped.
        """
        rows = list(self._rows.values())
        values = torch.cat(rows) if rows else torch.empty(0)
        return {"keys": list(self._rows), "lengths": [len(row) for row in rows], "values": values}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `to_state` returned, wherever it was loaded to: rows are on the CPU."""
        for key, row in zip(state["keys"], state["values"].cpu().split(state["lengths"]), strict=True):
            self.put(key, row)


class Attributor:
    """Gives the block distributions of calls by one model.

    Args:
        model: The model, not wrapped for distribution; PEFT's wrapper is taken off.
        pixels: Function of its processor that turns images into patches.
        settings: Settings of the attribution.
        cache: Keeps scores over calls of this object; only for a model that does not change.
        fingerprint: Tells the model apart from others that share the cache.
        tokenizer: The model's tokenizer, which is needed where names of tools are explained.

    Raises:
        ValueError: If it is missing then.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pixels: Pixels,
        settings: AttributionSettings,
        cache: RowCache | None = None,
        fingerprint: str = "",
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.model, self.pixels, self.settings = bare_model(model), pixels, settings
        self.cache, self.fingerprint = cache, fingerprint
        self.method = chosen_method(settings)
        if settings.target == "name" and tokenizer is None:
            raise ValueError("the target is the tools' names, which cannot be found without a tokenizer")
        self._names = None if tokenizer is None else NameFinder(tokenizer)

    def distributions(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> Tensor:
        """Explains turns; the same call after the same words to the same prompt is explained once.

        Args:
            prompts: Prompts, one a turn: all that stands before it, with the same number of blocks.
            turns: The turns; what stands behind the last scored token does not matter.

        Returns:
            Shares of the m compared blocks (`AttributionSettings.compared`), shape (len(turns), m), fp32, on the CPU.

        Raises:
            ValueError: If there is no turn, or one without a scored token.
            InputError: If memory runs out, or one sequence alone cannot fit.
        """
        return self.shares(prompts, self.scores(prompts, turns))

    def shares(self, prompts: Sequence[Prompt], scores: Tensor) -> Tensor:
        """Returns `distributions` of scores of all blocks, shape (len(prompts), blocks), on the CPU."""
        if self.settings.blocks != "all":
            places = {prompt.block_names: self.settings.places(prompt.block_names) for prompt in prompts}
            scores = scores.gather(1, torch.tensor([places[prompt.block_names] for prompt in prompts]))
        return self.settings.shares(scores)

    def scores(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> Tensor:
        """Returns the scores of all blocks behind `distributions`, shape (len(turns), blocks), fp32, on the CPU."""
        rows = self._rows(prompts, turns)
        return rows[:, :-1] if self.settings.log_probs else rows

    def log_probs(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> Tensor:
        """Returns the mean log-probability of each turn's scored tokens, from the very passes that explain them.

        Args:
            prompts: Prompts as in `distributions`; what is explained by now is remembered where there is a cache.
            turns: Turns, the same.

        Returns:
            In nats a token, shape (len(turns),), fp32, on the CPU.

        Raises:
            ValueError: If the settings do not ask for them, or as in `distributions`.
        """
        if not self.settings.log_probs:
            raise ValueError("log-probabilities were not asked for; set AttributionSettings.log_probs")
        return self._rows(prompts, turns)[:, -1]

    def patches(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> list[tuple[NDArray[np.float32], ...]]:
        """Returns signed shares of the tokens of each prompt's images, which block distributions do not tell.

        Nothing is kept. They are the gradient's where the method scores no tokens.

        Args:
            prompts: Prompts as in `distributions`.
            turns: Turns, the same.

        Returns:
            The grids of each turn, one an image in order, as `iapo.attribution.tokens.picture_shares` gives them.
        """
        found: list[tuple[NDArray[np.float32], ...]] = []
        config, size = self.model.config, self.settings.batch_size
        token, merge = config.image_token_id, config.vision_config.spatial_merge_size
        for start in range(0, len(turns), size):
            some, pictures = self.prepare(prompts[start : start + size], turns[start : start + size])
            with self._telling(some):
                rows = self.token_scores(some, pictures)
            for call, scores in zip(some, rows, strict=True):
                sizes = [pictures.grid_thw[one] for one in call.pictures]
                found.append(
                    tuple(
                        picture_shares(scores, call.prompt_ids, token, grid, merge, place)
                        for place, grid in enumerate(sizes)
                    )
                )
        return found

    def token_scores(self, calls: Sequence[CallInput], pictures: Pictures) -> list[Tensor]:
        """Returns the scores of each call's prompt tokens: the method's, or the gradient's where it has none."""
        function = self.method.tokens or METHODS["gradient"].tokens
        assert function is not None
        return function(self.model, calls, pictures, self.settings)

    def prepare(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> tuple[list[CallInput], Pictures]:
        """Returns the calls as `iapo.attribution.methods` take them, with their distinct images.

        Args:
            prompts: Prompts as in `distributions`.
            turns: Turns, the same.

        Raises:
            ValueError: If a turn has no scored token, or the target takes none.
        """
        calls, images = self.calls(prompts, turns)
        return self._with_pictures(calls, images)

    def _rows(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> Tensor:
        """Returns the blocks' scores, a row a turn, and the mean log-probability behind them if wanted."""
        if not turns:
            raise ValueError("no calls to explain")
        calls, images = self.calls(prompts, turns)
        # Image tokens look alike whatever is in the image, so the image is a part of the key. Within one call of
        # this method its place says which it is.
        names = [str(index) for index in range(len(images))] if self.cache is None else [*map(picture_digest, images)]
        keys = [self._key(call, names) for call in calls]
        found: dict[str, Tensor] = {}
        missing: dict[str, CallInput] = {}
        for key, call in zip(keys, calls, strict=True):
            row = None if self.cache is None else self.cache.get(key)
            if row is None:
                missing.setdefault(key, call)
            else:
                found[key] = row
        order = list(missing)
        for start in range(0, len(order), self.settings.batch_size):
            some = order[start : start + self.settings.batch_size]
            calls = [missing[key] for key in some]
            with self._telling(calls):
                rows = self._attribute(calls, images)
            for key, row in zip(some, rows, strict=True):
                found[key] = row
                if self.cache is not None:
                    self.cache.put(key, row)
        return torch.stack([found[key] for key in keys])

    def _telling(self, calls: Sequence[CallInput]) -> AbstractContextManager[None]:
        """Says what helps where memory runs out: that is no fault of a rollout."""
        longest = max(len(call.prompt_ids) + len(call.turn_ids) for call in calls)
        return telling_out_of_memory(self.model.device, longest, self.settings.tokens)

    def calls(self, prompts: Sequence[Prompt], turns: Sequence[Turn]) -> tuple[list[CallInput], list[Image.Image]]:
        """Pairs prompts with turns, and gives their distinct images: rollouts of a group share one."""
        images, places = distinct(image for prompt in prompts for image in prompt.images)
        rest = iter(places)
        pictures = [tuple(next(rest) for _ in prompt.images) for prompt in prompts]
        blocks = self._blocks(prompts, pictures, images)
        return [self._call(*one) for one in zip(prompts, turns, pictures, blocks, strict=True)], images

    def _blocks(
        self, prompts: Sequence[Prompt], pictures: Sequence[tuple[int, ...]], images: Sequence[Image.Image]
    ) -> list[Sequence[int]]:
        """Returns the block of each prompt position, images cut into cells where the settings say so."""
        cells = self.settings.image_cells
        if cells == 1:
            return [prompt.block_of for prompt in prompts]
        config = self.model.config
        merge = config.vision_config.spatial_merge_size
        sizes = self.pixels(images)["image_grid_thw"].tolist() if images else []
        grids = [(height // merge, width // merge) for _, height, width in sizes]
        return [
            cut_images(
                prompt.block_of,
                prompt.block_names,
                prompt.ids,
                config.image_token_id,
                [grids[index] for index in some],
                cells,
            )
            for prompt, some in zip(prompts, pictures, strict=True)
        ]

    def _call(self, prompt: Prompt, turn: Turn, pictures: tuple[int, ...], block_of: Sequence[int]) -> CallInput:
        ids, target = turn
        if self.settings.target == "turn":
            target = [True] * len(ids)
        scored: Sequence[bool] = target
        others: tuple[tuple[int, tuple[int, ...]], ...] = ()
        if self.settings.target == "name":
            assert self._names is not None
            found = self._names.find(ids, target, tools_in(prompt.block_names))
            if self.settings.score == "contrast" and found.choices:
                others = found.choices
                scored = [index in dict(others) for index in range(len(ids))]
            elif any(found.names):
                scored = found.names
        reported = target if self.settings.log_probs else scored
        end = max((index + 1 for index in range(len(ids)) if scored[index] or reported[index]), default=len(ids))
        return CallInput(
            prompt_ids=prompt.ids,
            block_of=block_of,
            blocks=len(self.settings.names(prompt.block_names)),
            turn_ids=ids[:end],
            target=scored[:end],
            pictures=pictures,
            score=self.settings.score,
            others=others,
            reported=reported[:end],
        )

    def _key(self, call: CallInput, pictures: Sequence[str]) -> str:
        """Digests a call, since the ids themselves would take more memory than what is kept under them."""
        # What an attribution depends on beside the model and the call.
        about: tuple[object, ...] = (
            self.fingerprint,
            *(pictures[index] for index in call.pictures),
            self.settings.method_name,
            self.settings.steps,
            self.settings.log_probs,
            call.blocks,
            call.score,
            call.others,
        )
        digest = hashlib.sha256(repr(about).encode())
        for part in (call.prompt_ids, call.block_of, call.turn_ids, call.target, call.told):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(array("q", part).tobytes())
        return digest.hexdigest()

    def _with_pictures(
        self, calls: Sequence[CallInput], images: Sequence[Image.Image]
    ) -> tuple[list[CallInput], Pictures]:
        """Collects the images that calls use, and gives the calls their images' places among them."""
        used = sorted({index for call in calls for index in call.pictures})
        place = {old: new for new, old in enumerate(used)}
        pixels = self.pixels([images[index] for index in used])
        moved = [dataclasses.replace(call, pictures=tuple(place[index] for index in call.pictures)) for call in calls]
        return moved, Pictures(pixels["pixel_values"], pixels["image_grid_thw"])

    def _attribute(self, calls: Sequence[CallInput], images: Sequence[Image.Image]) -> Tensor:
        moved, pictures = self._with_pictures(calls, images)
        means: list[Tensor] = []
        if not self.settings.log_probs:
            scores = self.method.scores(self.model, moved, pictures, self.settings)
        else:
            if self.method.scores_with_log_probs is not None:
                scores, log_probs = self.method.scores_with_log_probs(self.model, moved, pictures, self.settings)
            else:
                scores = self.method.scores(self.model, moved, pictures, self.settings)
                budget = budget_of(self.model, self.settings.tokens)
                _, log_probs = prefix_block_scores(self.model, moved, pictures, budget=budget, with_log_probs=True)
            means = [
                one[torch.tensor(call.told[: len(one)], device=one.device)].mean()
                for call, one in zip(moved, log_probs, strict=True)
            ]
        return (torch.cat([scores, torch.stack(means)[:, None]], 1) if means else scores).cpu()


def picture_digest(image: Image.Image) -> str:
    """Returns SHA-256 of an image as a model sees it: its size and its RGB pixels, whatever its mode."""
    return hashlib.sha256(f"{image.size} ".encode() + to_rgb(image).tobytes()).hexdigest()
