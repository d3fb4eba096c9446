"""`iapo tiny build`: makes the tiny models from nothing, stage by stage, measures and packages them."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import PreTrainedTokenizerFast

from iapo.data.synthetic import TRAINED_FAMILIES, Chart, draw
from iapo.errors import InputError
from iapo.experiments.parent import PARENT
from iapo.experiments.processes import run_child
from iapo.kinds import checks_kinds
from iapo.locks import hold_file
from iapo.records import AXES
from iapo.results import read_result, write_result
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import TINY, find_prompt
from iapo.rollout.writing import writing
from iapo.runs import RunFolder, versions
from iapo.stopping import stoppable
from iapo.storage import make_folder, read_json, write_text
from iapo.tiny.evaluate import behaviour, roll_out, samples_of
from iapo.tiny.lessons import LessonWriter, answer_text, here, program_text
from iapo.tiny.models import start_with_lookups, train_tokenizer
from iapo.tiny.names import INVENTED, UNSEEN, Naming, draw_tools
from iapo.tiny.pretrain import Teaching, run_stage
from iapo.tiny.recipes import RECIPES, STAGES, Recipe
from iapo.tiny.state import STATE, StageState
from iapo.training.aside import remove_checkpoints
from iapo.training.ends import is_finished
from iapo.training.files import find_config

QUESTION_TYPES = ("value",)
"""What the tiny world asks."""

BUILD = "build.json"
"""In each stage's folder: what was done up to and with this stage."""

_FOLDERS = {"sight": "sight", "protocol": "protocol", "teacher": "grpo"}

Log = Callable[[dict[str, Any]], None]


@checks_kinds
def build(
    name: str,
    out: Path,
    *,
    stage: str | None = None,
    seed: int = 0,
    scale: float = 1.0,
    log: Log = lambda row: None,
) -> dict[str, Any]:
    """Makes one tiny model, or runs one of its stages.

    A build that was stopped goes on: whole stages are kept, and the one that was under way goes on from its last state.

    Stage by stage, `out` gets the folders `<name>-sight`, `<name>-protocol` and, for a teacher, `<name>-grpo` (a run
    folder); after the last stage, the finished checkpoint `<name>` in bf16 with its `manifest.json`.

    Args:
        name: One of `RECIPES`.
        out: Folder that the checkpoints are written to.
        stage: One of `STAGES`, which takes up the folder of the stage before it and is made anew where it is done; None
            runs all that the model has and that is not done.
        seed: Seed of weights, lessons, rollouts and measurements.
        scale: Factor on each stage's steps; below 1 for a quick trial.
        log: Callback, called with each log line.

    Returns:
        The manifest, as far as it goes.

    Raises:
        InputError: If there is no such recipe or stage, the folder of the stage before is missing, or `out` holds a
            build with another seed or scale, or one that is under way.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
        RuntimeError: If the reinforcement learning fails; the message names its log.
    """
    if name not in RECIPES:
        raise InputError(f"no tiny model {name!r}; use one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    stages = [one for one in STAGES if one in recipe.stages or (one == "teacher" and recipe.config)]
    if stage is not None and stage not in stages:
        raise InputError(f"{name} has no stage {stage!r}; use one of {', '.join(stages)}")
    manifest: dict[str, Any] = {}
    with stoppable(), hold_file(out / name):
        for one in stages if stage is None else [stage]:
            before = None if one == stages[0] else out / f"{name}-{_FOLDERS[stages[stages.index(one) - 1]]}"
            done = _done(out / f"{name}-{_FOLDERS[one]}" / BUILD, seed, scale) if stage is None else None
            manifest = done or _run(name, recipe, one, before, out, seed, scale, log)
        if stage in (None, stages[-1]):
            packaged = _done(out / name / "manifest.json", seed, scale) if stage is None else None
            source = out / f"{name}-{_FOLDERS[stages[-1]]}"
            manifest = packaged or _package(name, recipe, source, out / name, manifest, seed)
    return manifest


def _done(path: Path, seed: int, scale: float) -> dict[str, Any] | None:
    """Reads what says that a stage or a model is done; None where it is not.

    Raises:
        InputError: If it was made with another seed or scale.
    """
    if not path.exists():
        return None
    found = read_result(path, "tiny_model")
    for name, value in (("seed", seed), ("scale", scale)):
        if found[name] != value:
            raise InputError(f"{path.parent} was made with {name} {found[name]}, not {value}; choose another --out")
    return found


def _run(
    name: str, recipe: Recipe, stage: str, before: Path | None, out: Path, seed: int, scale: float, log: Log
) -> dict[str, Any]:
    folder = out / f"{name}-{_FOLDERS[stage]}"
    # A stage that is made anew is not done until it is.
    (folder / BUILD).unlink(missing_ok=True)
    manifest: dict[str, Any] = {"name": name, "seed": seed, "scale": scale, "stages": {}}
    if before is not None:
        if not (before / BUILD).exists():
            raise InputError(f"stage {stage!r} of {name} starts from {before}, which is missing; run the stage before")
        manifest = read_result(before / BUILD, "tiny_model")
    started = time.perf_counter()
    if stage == "teacher":
        assert before is not None
        assert recipe.config is not None
        history = _reinforce(recipe.config, before, folder, seed, scale)
    else:
        history = _teach(name, recipe, stage, before, folder, seed, scale, log)
    seconds = round(time.perf_counter() - started)
    manifest["stages"][stage] = {"seconds": seconds, "threads": torch.get_num_threads(), "history": history}
    write_result(folder / BUILD, "tiny_model", manifest)
    (folder / STATE).unlink(missing_ok=True)
    return manifest


def _teach(
    name: str, recipe: Recipe, stage: str, before: Path | None, folder: Path, seed: int, scale: float, log: Log
) -> list[dict[str, Any]]:
    """Runs the supervised stages; writes a checkpoint in full precision."""
    if before is None:
        random.seed(seed)
        torch.manual_seed(seed)
        processor = recipe.processor(train_tokenizer(_corpus()))
        model = recipe.make(_tokenizer(processor), **recipe.widths)
        start_with_lookups(model)
    else:
        policy = load_policy(str(before))
        model, processor = policy.model, policy.processor
    encoder = PromptEncoder(processor)
    teaching = Teaching(model, encoder, LessonWriter(encoder, recipe.habits))
    teaching.fix_names()
    state = StageState(folder, {"name": name, "stage": stage, "seed": seed, "scale": scale})

    def keep(row: dict[str, Any]) -> None:
        state.history.append(row)
        log({"model": name, **row})

    parts = recipe.stages[stage]
    with stoppable() as stop, stop.later():
        for part in parts[state.part :]:
            rng = np.random.default_rng([seed, *part.name.encode()])
            charts = _charts(seed, f"pretrain-{part.name}")
            run_stage(teaching, charts, replace(part, steps=max(1, round(part.steps * scale))), rng, keep, state=state)
            state.end_part(model)
        if state.part == len(parts):
            # Nothing of the model but the state may be in memory.
            state.load_weights(model)
    with writing(folder, keep=True):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return state.history


def _reinforce(config: str, before: Path, folder: Path, seed: int, scale: float) -> list[dict[str, Any]]:
    """Returns the project's own GRPO, in a process and a run folder of its own; returns every tenth line of its
    metrics.
    """
    words = [sys.executable, "-m", "iapo", "train", "--config", config, "--model", str(before)]
    words += ["--output_dir", str(folder), "--seed", str(seed), "--eval_seed", str(seed)]
    words += ["--threads", str(torch.get_num_threads()), "--disable_tqdm", "true"]
    words += ["--save_strategy", "steps", "--save_steps", "10", "--save_total_limit", "1"]
    if scale != 1.0:
        settings = yaml.safe_load(find_config(config).read_text())
        words += ["--max_steps", str(max(1, round(settings["max_steps"] * scale))), "--eval_samples", "16"]
    make_folder(folder)
    environment = {**os.environ, PARENT: str(os.getpid())}
    if not is_finished(folder):
        with (folder / "log.txt").open("ab") as log:
            code = run_child(words, log, environment)
        if code != 0:
            raise RuntimeError(f"the reinforcement learning of {before} failed; see {folder / 'log.txt'}")
    remove_checkpoints(folder)
    keys = ("step", "reward/outcome", "tools/misuse_rate", "tools/success_rate")
    return [{key: row[key] for key in keys} for row in RunFolder(folder).read_metrics()[::10]]


def _package(name: str, recipe: Recipe, source: Path, out: Path, manifest: dict[str, Any], seed: int) -> dict[str, Any]:
    """Writes the finished checkpoint; it is measured as it is packaged."""
    policy = load_policy(str(source / "policy" if (source / "policy").exists() else source))
    with writing(out, keep=True):
        policy.model.to(torch.bfloat16).save_pretrained(out)
        policy.processor.save_pretrained(out)
    tokenizer = out / "tokenizer.json"
    # Written for people by default, at twice the size.
    write_text(tokenizer, json.dumps(read_json(tokenizer), separators=(",", ":")))
    policy = Policy(policy.model.to(torch.float32).eval(), policy.processor)
    manifest = {
        **manifest,
        "command": f"iapo tiny build --model {name} --seed {seed}",
        "parameters": policy.model.num_parameters(),
        "recipe": {
            "widths": recipe.widths,
            "habits": asdict(recipe.habits),
            "stages": {stage: [asdict(part) for part in parts] for stage, parts in recipe.stages.items()},
            "config": recipe.config,
        },
        "metrics": measure(policy, seed=seed),
        "versions": versions(),
    }
    write_result(out / "manifest.json", "tiny_model", manifest)
    return manifest


def measure(policy: Policy, *, seed: int = 0, count: int = 100) -> dict[str, Any]:
    """Returns the sampled behaviour on held-out images of the trained families, by how the tools are called.

    Args:
        policy: The model.
        seed: Seed of the images, the tool sets and the sampling.
        count: Images a family.

    Returns:
        For `canonical` and `unseen`: `iapo.tiny.evaluate.behaviour` over all families, as JSON.
    """
    samples = [sample for family in TRAINED_FAMILIES for sample in samples_of(family, count, seed=seed)]
    return {
        offer: {
            key: asdict(value)
            for key, value in behaviour(roll_out(policy, samples, offer, seed=seed, temperature=1.0)).items()
        }
        for offer in ("canonical", "unseen")
    }


def _charts(seed: int, split: str) -> Iterator[Chart]:
    """Returns an endless stream of images, families in turn."""
    streams = [draw(one, 10**9, seed=seed, question_types=QUESTION_TYPES, split=split) for one in TRAINED_FAMILIES]
    return itertools.chain.from_iterable(zip(*streams, strict=True))


def _corpus() -> Iterator[str]:
    """Returns what the tokenizer is trained on: the parts of prompts and turns."""
    rng = np.random.default_rng(0)
    for name in (*INVENTED, *UNSEEN):
        yield from [f"def {name}(image", f"display({name}(image_1"] * 2
    namings: tuple[Naming, ...] = ("invented", "unseen", "canonical")
    for index, chart in enumerate(itertools.islice(_charts(0, "tokenizer"), 1500)):
        tools = draw_tools(rng, namings[index % 3])
        blocks = build_blocks(chart.sample, tools)
        yield f"<|im_start|>system\n{blocks[0].text}<|im_end|>\n"
        yield "".join(block.text for block in blocks[1:])
        steps = [
            (next(tool for tool in tools.values() if tool.axis == axis), names) for axis, names in chart.focus.items()
        ]
        yield program_text(steps)
        yield from (program_text(steps[:1], axis) for axis in AXES)
        yield answer_text(chart.sample.question, here(chart))
        yield from ("QUESTION: columns\n", "QUESTION: rows\n", find_prompt(TINY).observation_edited)
        yield from ("system\n", "user\n", "assistant\n")


def _tokenizer(processor: ImageTextProcessor) -> PreTrainedTokenizerFast:
    tokenizer = processor.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer
