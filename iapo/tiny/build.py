"""`iapo tiny build`: pretrains the tiny student and the tiny teacher from nothing, measures and packages them."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from iapo.estimates import Estimate, proportion
from iapo.evaluation import EvaluationSettings, evaluate, summarize
from iapo.generation import make_generate
from iapo.policy import Policy
from iapo.prompt import OBSERVATION_EDITED, PromptEncoder, build_blocks
from iapo.rewards.outcome import grade
from iapo.rollout import encode_prompts, finish
from iapo.runs import versions
from iapo.tasks.synthetic import BAR_FAMILIES, Chart, draw
from iapo.tiny.lessons import STYLES, Lesson, LessonWriter, answer_text, call_text, names_of, other
from iapo.tiny.models import make_model, make_processor, train_tokenizer
from iapo.tiny.pretrain import Stage, run_stage

QUESTION_TYPES = ("value",)
"""What the tiny world asks."""

TURN_TOKENS = 24
"""Longest turn of a tiny model; its programs take 8 tokens, the rest is room for mistakes."""

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tiny model is made.

    Attributes:
        widths: Arguments of `make_model`.
        stages: The curriculum.
    """

    widths: dict[str, int]
    stages: tuple[Stage, ...]


def _stages(misuse: dict[str, float], wrong: float) -> tuple[Stage, ...]:
    """Short lessons first, then whole episodes; `misuse` and `wrong` as in `Stage`."""
    short = {"sight": 1.0, "pointing": 1.0}
    whole = {"sight": 0.2, "pointing": 0.1, "episode": 0.7}
    return (
        Stage("sight", 400, 64, 1.5e-3, short, misuse, wrong=wrong, unmarked=0.1),
        Stage("protocol", 400, 64, 1e-3, whole, misuse, wrong=wrong, unmarked=0.1),
    )


RECIPES = {
    # The student has a favourite: it reaches for a column tool, also where the chart is divisible by rows.
    "tiny-student": Recipe(
        {"hidden": 128, "layers": 4, "heads": 4, "vision_hidden": 96, "vision_layers": 2},
        _stages(misuse={"vbar": 0.15, "hbar": 0.65}, wrong=0.1),
    ),
    "tiny-teacher": Recipe(
        {"hidden": 160, "layers": 6, "heads": 5, "vision_hidden": 120, "vision_layers": 2},
        _stages(misuse={}, wrong=0.1),
    ),
}


def build(name: str, out: Path, *, seed: int = 0, scale: float = 1.0, log: Log = lambda row: None) -> dict[str, Any]:
    """Pretrains one tiny model and writes it as a checkpoint folder.

    Args:
        name: One of `RECIPES`.
        out: The folder to write; `manifest.json` in it holds the recipe, seed, versions, times and metrics.
        seed: Of weights, lessons and measurements.
        scale: Factor on each stage's steps; below 1 for a quick trial.
        log: Called with each log line of the training.

    Returns:
        The manifest.

    Raises:
        ValueError: If there is no such recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; use one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    started = time.perf_counter()
    random.seed(seed)
    torch.manual_seed(seed)
    processor = make_processor(train_tokenizer(_corpus()))
    encoder = PromptEncoder(processor)
    model = make_model(_tokenizer(encoder), **recipe.widths)
    writer = LessonWriter(encoder)
    history: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        history.append(row)
        log({"model": name, **row})

    for number, stage in enumerate(recipe.stages):
        steps = max(1, round(stage.steps * scale))
        stage = replace(stage, steps=steps)
        run_stage(model, encoder, _lessons(writer, stage, seed, number), stage, keep)
    # The weights are measured as they are packaged.
    model.to(torch.bfloat16)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    policy = Policy(model.to(torch.float32), processor)
    manifest = {
        "name": name,
        "command": f"iapo tiny build --model {name} --seed {seed}",
        "seed": seed,
        "parameters": model.num_parameters(),
        "recipe": asdict(recipe),
        "scale": scale,
        "metrics": measure(policy, seed=seed),
        "history": history,
        "seconds": round(time.perf_counter() - started),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def measure(policy: Policy, *, seed: int = 0, count: int = 500) -> dict[str, Any]:
    """What a tiny model can do on held-out charts.

    Args:
        policy: The model.
        seed: Of the sampling.
        count: Charts.

    Returns:
        `sampled` and `greedy` (each `iapo.evaluation.summarize`), `reading_right` and `reading_wrong` (share of right
        answers, greedy, after a call along the right and along the wrong axis that is put in the model's mouth).
    """
    charts = list(itertools.islice(_charts(seed, "validation"), count))
    samples = [chart.sample for chart in charts]
    metrics: dict[str, Any] = {}
    for mode, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        settings = EvaluationSettings(max_turn_tokens=TURN_TOKENS, temperature=temperature, seed=seed)
        summary = summarize(evaluate(policy, samples, settings))
        metrics[mode] = {key: asdict(estimate) for key, estimate in summary.items() if estimate.count}
    for mode, right in (("reading_right", True), ("reading_wrong", False)):
        metrics[mode] = asdict(_reading(policy, charts, right=right))
    return metrics


def _reading(policy: Policy, charts: Sequence[Chart], *, right: bool, batch: int = 64) -> Estimate:
    encoder = PromptEncoder(policy.processor)
    generate = make_generate(policy, encoder, max_new_tokens=TURN_TOKENS)
    outcomes: list[bool] = []
    for start in range(0, len(charts), batch):
        some = charts[start : start + batch]
        samples = [chart.sample for chart in some]
        turns = []
        for index, chart in enumerate(some):
            assert chart.sample.axis is not None
            axis = chart.sample.axis if right else other(chart.sample.axis)
            text = call_text(axis, STYLES[index % len(STYLES)], names_of(chart))
            turns.append([*encoder.tokenizer(text)["input_ids"], encoder.tokenizer.eos_token_id])
        rollouts = finish(samples, encode_prompts(samples, encoder), turns, encoder, generate)
        outcomes += [grade(one.trace.final_text, one.trace.sample.answers).value == 1 for one in rollouts]
    return proportion(outcomes)


def _charts(seed: int, split: str) -> Iterator[Chart]:
    """An endless stream of charts, families in turn."""
    streams = [draw(family, 10**9, seed=seed, question_types=QUESTION_TYPES, split=split) for family in BAR_FAMILIES]
    return itertools.chain.from_iterable(zip(*streams, strict=True))


def _lessons(writer: LessonWriter, stage: Stage, seed: int, number: int) -> Iterator[Lesson]:
    """An endless stream of a stage's lessons."""
    rng = np.random.default_rng([seed, number])
    charts = _charts(seed, f"pretrain-{number}")
    kinds = list(stage.mix)
    weights = np.array([stage.mix[kind] for kind in kinds])
    for chart in charts:
        kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
        if kind == "sight":
            yield writer.sight(chart, rng, stage.wrong, stage.unmarked)
        elif kind == "pointing":
            yield writer.pointing(chart, rng, stage.misuse)
        else:
            yield writer.episode(chart, rng, stage.misuse)


def _corpus() -> Iterator[str]:
    """What the tokenizer is trained on: the parts of prompts and turns."""
    for chart in itertools.islice(_charts(0, "tokenizer"), 800):
        blocks = build_blocks(chart.sample)
        yield f"<|im_start|>system\n{blocks[0].text}<|im_end|>\n"
        yield "".join(block.text for block in blocks[1:])
        for axis in ("columns", "rows"):
            yield from (call_text(axis, style, names_of(chart)) for style in STYLES)
        yield answer_text(chart.sample.answers[0])
        yield OBSERVATION_EDITED
        yield from ("system\n", "user\n", "assistant\n")


def _tokenizer(encoder: PromptEncoder) -> PreTrainedTokenizerFast:
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer
