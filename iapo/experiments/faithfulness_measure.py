"""How faithful explanations of a model's calls are: curves and rank agreement of each call (docs/faithfulness.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from iapo.attribution.calls import Attributor, Turn
from iapo.attribution.curves import Areas, areas, curve_sets, mean_areas, random_orders, rank_agreement, ranking
from iapo.attribution.memory import budget_of, telling_out_of_memory
from iapo.attribution.removal import Removal
from iapo.attribution.settings import AttributionSettings
from iapo.estimates import Estimate
from iapo.models import bare_model
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder

Order = Literal["signed", "magnitude"]

YARDSTICK = ("call", "log_prob")
"""Target and score by which all explanations are measured beside their own."""

MEASURES = ("own", "call")
"""The score that is explained, and the yardstick: the log-probability of the call."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What orders the blocks of a call; forms that differ in other things order them alike.

    Attributes:
        target: Tokens that are explained.
        score: Score of each of them.
        method: Name of the attribution method.
        steps: Points of its path.
        order: Whether blocks are ordered by their signed scores (`softmax`, `signed`) or by their magnitudes
            (`magnitude`, `floored`).
    """

    target: str
    score: str
    method: str
    steps: int
    order: Order

    @property
    def kind(self) -> tuple[str, str]:
        """The target and the score."""
        return self.target, self.score


def explanation_of(settings: AttributionSettings) -> Explanation:
    """Returns the explanation behind a form's settings."""
    order: Order = "signed" if settings.normalization in ("softmax", "signed") else "magnitude"
    return Explanation(settings.target, settings.score, settings.method_name, settings.steps, order)


@dataclass(frozen=True, slots=True)
class Curves:
    """One call's areas in one score, in its units above the empty prompt.

    Attributes:
        whole: The score of the whole prompt above that of the empty one.
        own: Areas in the explanation's order.
        random: Their mean over random orders.
        occlusion: In the order of the score's own differences without single blocks.
    """

    whole: float
    own: Areas
    random: Areas
    occlusion: Areas


@dataclass(slots=True)
class Found:
    """What was measured of one explanation, by call.

    Attributes:
        curves: Areas by measure (`MEASURES`).
        rank: Spearman's correlation with occlusion; None where nothing varies.
    """

    curves: dict[str, list[Curves]] = field(default_factory=lambda: {measure: [] for measure in MEASURES})
    rank: list[float | None] = field(default_factory=list)


class FaithfulnessMeter:
    """Measures explanations of one model's view of calls.

    Args:
        policy: The model.
        encoder: Its encoder, with the template that the calls were written under.
        settings: One attribution setting for each explanation.
        orders: Random orders of the blocks of each call.
        seed: Their seed.
    """

    def __init__(
        self,
        policy: Policy,
        encoder: PromptEncoder,
        settings: Mapping[Explanation, AttributionSettings],
        orders: int,
        seed: int,
    ) -> None:
        self.model, self.encoder, self.orders, self.seed = bare_model(policy.model), encoder, orders, seed
        self.attributors = {key: self._attributor(one) for key, one in settings.items()}
        # The yardstick comes first; one view a target and score.
        self.kinds = {YARDSTICK: self._attributor(AttributionSettings())}
        for key, attributor in self.attributors.items():
            self.kinds.setdefault(key.kind, attributor)

    def measure(
        self,
        prompts: Sequence[EncodedPrompt],
        turns: Sequence[Turn],
        progress: Callable[[int], None] = lambda done: None,
    ) -> dict[Explanation, Found]:
        """Measures all explanations on calls, one after the other.

        Args:
            prompts: The calls' prompts in the model's tokens.
            turns: The first turns, in its tokens, too.
            progress: Callback, called with the number of new calls done.
        """
        found = {key: Found() for key in self.attributors}
        for number, (prompt, turn) in enumerate(zip(prompts, turns, strict=True)):
            self._measure(found, prompt, turn, number)
            progress(1)
        return found

    def _measure(self, found: Mapping[Explanation, Found], prompt: EncodedPrompt, turn: Turn, number: int) -> None:
        prepared = [one.prepare([prompt], [turn]) for one in self.kinds.values()]
        settings = self.kinds[YARDSTICK].settings
        removal = Removal(
            self.model,
            [calls[0] for calls, _ in prepared],
            prepared[0][1],
            settings.batch_size,
            budget_of(self.model, settings.tokens),
        )
        blocks = removal.blocks
        everything = frozenset(blocks)
        without = {block: everything - {block} for block in blocks}
        signed: dict[tuple[str, str, str, int], list[float]] = {}
        for key, attributor in self.attributors.items():
            name = (*key.kind, key.method, key.steps)
            if name not in signed:
                signed[name] = attributor.scores([prompt], [turn])[0].tolist()
        with telling_out_of_memory(self.model.device, len(prompt.ids) + len(turn[0]), settings.tokens):
            values = removal.values([everything, *without.values()])
            # By score: what each block's removal takes away.
            lost = {
                kind: {block: values[everything][place] - values[without[block]][place] for block in blocks}
                for place, kind in enumerate(self.kinds)
            }
            falling = {kind: tuple(sorted(blocks, key=lambda block: -one[block])) for kind, one in lost.items()}
            own = {}
            for key in self.attributors:
                scores = signed[(*key.kind, key.method, key.steps)]
                own[key] = ranking(scores if key.order == "signed" else [abs(one) for one in scores], blocks)
            random = random_orders(blocks, self.orders, (self.seed, number))
            every = [*falling.values(), *own.values(), *random]
            wanted = [one for order in every for sets in curve_sets(order) for one in sets]
            values = removal.values(wanted)
        places = {kind: place for place, kind in enumerate(self.kinds)}
        by_chance = {
            kind: mean_areas(areas(order, _scored(values, place)) for order in random) for kind, place in places.items()
        }
        for key, one in found.items():
            for measure, kind in zip(MEASURES, (key.kind, YARDSTICK), strict=True):
                value = _scored(values, places[kind])
                whole = value(everything) - value(frozenset())
                curves = Curves(whole, areas(own[key], value), by_chance[kind], areas(falling[kind], value))
                one.curves[measure].append(curves)
            scores = signed[(*key.kind, key.method, key.steps)]
            pairs = [(scores[block], lost[key.kind][block]) for block in blocks]
            if key.order == "magnitude":
                pairs = [(abs(mine), abs(its)) for mine, its in pairs]
            one.rank.append(rank_agreement(*(list(column) for column in zip(*pairs, strict=True))))

    def _attributor(self, settings: AttributionSettings) -> Attributor:
        settings = replace(settings, log_probs=False)
        return Attributor(self.model, self.encoder.pixels, settings, tokenizer=self.encoder.tokenizer)


def normalised(heights: Sequence[float], wholes: Sequence[float], resamples: int = 2000) -> Estimate:
    """Returns a mean area over the mean distance of the whole from the empty prompt, with a bootstrap interval.

    The mean of the quotients would be ruled by calls for which the whole prompt does nothing.

    Args:
        heights: Areas of the calls.
        wholes: What each call's whole prompt scores above the empty one.
        resamples: Number of bootstrap draws over the calls; seeded.

    Returns:
        Nothing counted where the distance is not above 0 in all draws, so that there is nothing to normalise by.
    """
    above, below = np.asarray(heights), np.asarray(wholes)
    drawn = np.random.default_rng(0).integers(len(above), size=(resamples, len(above)))
    distances = below[drawn].sum(1)
    if below.sum() <= 0 or distances.min() <= 0:
        return Estimate(None, None, None, 0)
    low, high = np.quantile(above[drawn].sum(1) / distances, [0.025, 0.975])
    return Estimate(float(above.sum() / below.sum()), float(low), float(high), len(above))


def _scored(values: Mapping[frozenset[int], tuple[float, ...]], place: int) -> Callable[[frozenset[int]], float]:
    """Returns the score at one place of each set's values."""
    return lambda some: values[some][place]
