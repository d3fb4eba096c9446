"""What tiny models do, by family and by how the tools are called, and where their calls come from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from transformers import set_seed

from iapo.attribution.calls import ATTRIBUTED, Attributor
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.occlusion import occlusion_scores
from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import FAMILIES, generate
from iapo.estimates import Estimate, mean, proportion
from iapo.evaluation.local import EvaluationSettings, make_generator
from iapo.evaluation.measures import MEASURES, share
from iapo.grading.outcome import grade_sample
from iapo.records import Sample
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Generate, Rollout, rollout
from iapo.tiny.names import draw_tools, offer_some
from iapo.tools import TOOLS, ToolDefinition

Offer = Literal["canonical", "unseen", "missing"]
"""The standard prompt; names that no lesson holds, in random order; some of the standard six."""

OFFERS: tuple[Offer, ...] = ("canonical", "unseen", "missing")

TURN_TOKENS = 32
"""Longest turn of a tiny model; two chained calls take 13 tokens, the rest is room for mistakes."""

_SHARING = 10
"""So many samples in a row are offered one tool set."""


@dataclass(frozen=True, slots=True)
class Done:
    """One rollout and the tools that it was offered."""

    rollout: Rollout
    tools: Mapping[str, ToolDefinition]

    @property
    def right(self) -> bool:
        """It answered right."""
        trace = self.rollout.trace
        return grade_sample(trace.final_text, trace.sample).value == 1

    @property
    def executed(self) -> bool:
        """It called tools, and they edited the image."""
        return self.rollout.trace.result.executed


def samples_of(family: str, count: int, *, seed: int, split: str = "test") -> list[Sample]:
    """Returns the held-out images of a family, asked for one value each."""
    return list(generate(family, count, seed=seed, question_types=("value",), split=split))


def roll_out(policy: Policy, samples: Sequence[Sample], offer: Offer, *, seed: int, temperature: float) -> list[Done]:
    """Rolls a policy out once on each sample.

    Args:
        policy: The policy.
        samples: Samples that it is asked about.
        offer: Tools it is offered, under which names; each run of 10 samples has a tool set of its own.
        seed: Seed of the tool sets and of the sampling.
        temperature: 0 is greedy.
    """
    settings = EvaluationSettings(max_turn_tokens=TURN_TOKENS, temperature=temperature, seed=seed)
    set_seed(seed)
    encoder, generate_turns = make_generator(policy, settings)
    rng = np.random.default_rng(seed)
    done: list[Done] = []
    for start in range(0, len(samples), _SHARING):
        some = samples[start : start + _SHARING]
        tools = _offered(offer, some, rng)
        done += [Done(one, tools) for one in rollout(some, encoder, generate_turns, tools=tools)]
    return done


def _offered(offer: Offer, samples: Sequence[Sample], rng: np.random.Generator) -> Mapping[str, ToolDefinition]:
    if offer == "missing":
        axis = samples[0].axis
        return offer_some(rng, TOOLS, ("columns", "rows") if axis is None else (axis,))
    return draw_tools(rng, offer)


def behaviour(done: Sequence[Done]) -> dict[str, Estimate]:
    """Returns accuracy, valid calls (executed, of all) and misuse (of the executed, where an axis is right).

    `after_right` and `after_misuse` are the accuracies after right and wrong tools, where an axis is right: whether a
    model gets away with wrong ones.
    """
    misused = [MEASURES["misuse"](one.rollout.trace) for one in done]
    return {
        "accuracy": proportion([one.right for one in done]),
        "valid": proportion([one.executed for one in done]),
        "misuse": share("misuse", (one.rollout.trace for one in done)),
        "after_right": proportion([one.right for one, wrong in zip(done, misused, strict=True) if wrong is False]),
        "after_misuse": proportion([one.right for one, wrong in zip(done, misused, strict=True) if wrong]),
    }


def attributions(policy: Policy, done: Sequence[Done]) -> dict[str, dict[str, Estimate]]:
    """Returns the mean share of the attribution by kind of block, for right and for misused calls.

    Args:
        policy: Policy whose calls they are, and who explains them.
        done: Its rollouts; those whose program is not in the allowed language are left out.

    Returns:
        For `right` and `misused`: `called` (mean over the called tools' blocks), `others` (mean over the other tools'
        blocks), `called_minus_others` (paired), `image`, `query` and `context`, each with a bootstrap interval.
    """
    encoder = PromptEncoder(policy.processor)
    attributor = Attributor(policy.model, encoder.pixels, AttributionSettings())
    rows: dict[str, list[dict[str, float]]] = {"right": [], "misused": []}
    # Prompts with equal numbers of blocks together.
    explained = sorted((one for one in done if _is_explained(one)), key=lambda one: len(one.tools))
    for _, group in itertools.groupby(explained, key=lambda one: len(one.tools)):
        some = [one.rollout for one in group]
        shares = attributor.distributions(
            [one.prompt for one in some], [(one.first.ids, one.first.target) for one in some]
        )
        for one, row in zip(some, shares.tolist(), strict=True):
            parts = _parts(one, dict(zip(one.prompt.block_names, row, strict=True)))
            rows["misused" if one.trace.misused else "right"].append(parts)
    return {kind: {name: mean([row[name] for row in some]) for name in _PARTS} for kind, some in rows.items()}


_PARTS = ("called", "others", "called_minus_others", "image", "query", "context")


def _is_explained(one: Done) -> bool:
    """Tells whether it has a call to explain, and tools that it did not call to compare with."""
    result = one.rollout.trace.result
    return result.status in ATTRIBUTED and 0 < len({call.name for call in result.calls}) < len(one.tools)


def _parts(one: Rollout, shares: Mapping[str, float]) -> dict[str, float]:
    names = {f"tool:{call.name}" for call in one.trace.result.calls}
    called = float(np.mean([shares[name] for name in names]))
    rest = [share for name, share in shares.items() if name.startswith("tool:") and name not in names]
    others = float(np.mean(rest))
    return {
        "called": called,
        "others": others,
        "called_minus_others": called - others,
        "image": shares["image_1"],
        "query": shares["query"],
        "context": shares["context"],
    }


def rank_agreement(policy: Policy, done: Sequence[Done]) -> Estimate:
    """Returns the Spearman correlation between a call's attribution and occlusion over the prompt's blocks, mean
    over calls.
    """
    encoder = PromptEncoder(policy.processor)
    correlations = []
    for one in (one.rollout for one in done if _is_explained(one)):
        pixels = encoder.pixels(one.prompt.images)
        pictures = Pictures(pixels["pixel_values"], pixels["image_grid_thw"])
        prompt, first = one.prompt, one.first
        call = CallInput(prompt.ids, prompt.block_of, len(prompt.block_names), first.ids, first.target, (0,))
        gradient = block_scores(policy.model, [call], pictures)[0].abs()
        occluded = occlusion_scores(policy.model, [call], pictures)[0].abs()
        correlations.append(float(stats.spearmanr(gradient.tolist(), occluded.tolist()).statistic))
    return mean(correlations)


def removals(policy: Policy, done: Sequence[Done]) -> dict[str, Estimate]:
    """Returns how often a greedy choice of tool changes when a definition is taken out of the prompt.

    Args:
        policy: The policy.
        done: Its greedy rollouts; those that call one tool, and execute, are looked at.

    Returns:
        `called_removed` and `other_removed` (the definition next to the called one).
    """
    settings = EvaluationSettings(max_turn_tokens=TURN_TOKENS)
    encoder, generate_turns = make_generator(policy, settings)
    changed: dict[str, list[bool]] = {"called_removed": [], "other_removed": []}
    for one in done:
        calls = one.rollout.trace.result.calls
        if not one.executed or len(calls) != 1:
            continue
        names = list(one.tools)
        neighbour = names[(names.index(calls[0].name) + 1) % len(names)]
        for kind, removed in (("called_removed", calls[0].name), ("other_removed", neighbour)):
            left = {name: tool for name, tool in one.tools.items() if name != removed}
            changed[kind].append(_choice(one.rollout.trace.sample, left, encoder, generate_turns) != calls[0].name)
    return {kind: proportion(values) for kind, values in changed.items()}


def _choice(
    sample: Sample, tools: Mapping[str, ToolDefinition], encoder: PromptEncoder, generate_turns: Generate
) -> str | None:
    (one,) = rollout([sample], encoder, generate_turns, tools=tools)
    calls = one.trace.result.calls
    return calls[0].name if calls else None


def report(
    policies: Mapping[str, Policy],
    *,
    families: Sequence[str] = FAMILIES,
    samples: int = 100,
    seed: int = 0,
    temperature: float = 1.0,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measures each model; yields its name and its numbers, ready for JSON.

    Args:
        policies: Models by name.
        families: Families that they are asked about.
        samples: Images a family.
        seed: Seed of the images, the tool sets and the sampling.
        temperature: Temperature of the sampling; what is removed is measured greedily.
    """
    pictures = {family: samples_of(family, samples, seed=seed) for family in families}
    for name, policy in policies.items():
        behaviours: dict[str, dict[str, Any]] = {}
        everything: list[Done] = []
        for offer in OFFERS:
            behaviours[offer] = {}
            together: list[Done] = []
            for family, asked in pictures.items():
                done = roll_out(policy, asked, offer, seed=seed, temperature=temperature)
                behaviours[offer][family] = _plain(behaviour(done))
                together += done
            behaviours[offer]["all"] = _plain(behaviour(together))
            if offer != "missing":
                everything += together
        probes = everything[:: max(1, len(everything) // 100)]
        probed = [one.rollout.trace.sample for one in probes]
        with torch.no_grad():
            greedy = roll_out(policy, probed, "canonical", seed=seed, temperature=0.0)
            removed = removals(policy, greedy)
        yield (
            name,
            {
                "parameters": policy.model.num_parameters(),
                "behaviour": behaviours,
                "attribution": {kind: _plain(parts) for kind, parts in attributions(policy, everything).items()},
                "occlusion": _plain({"rank_correlation": rank_agreement(policy, probes), **removed}),
            },
        )


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: dataclasses.asdict(estimate) for name, estimate in estimates.items()}
