"""The student of several causes: a small adapter on the packaged `tiny-student`, taught by lessons."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from iapo.data.synthetic import Chart
from iapo.data.synthetic import draw as draw_family
from iapo.errors import InputError
from iapo.locks import hold_folder
from iapo.results import read_result, write_result
from iapo.rollout.names import ADAPTER
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.writing import writing
from iapo.runs import versions
from iapo.stopping import stoppable
from iapo.storage import read_json, write_text
from iapo.tiny.causes.lessons import Causes, CauseWriter
from iapo.tiny.causes.world import mixed, table
from iapo.tiny.lessons import Habits
from iapo.tiny.pretrain import Stage, Teaching, run_stage
from iapo.tiny.state import STATE, StageState

NAME = "tiny-student-causes"
"""The packaged adapter."""

BASE = "tiny-student"

BUILD = "manifest.json"
"""In the adapter's folder: how it was made; there once it is."""

CAUSES = Causes()

HABITS = Habits(first=0.58, broken=0.12, guessed=0.5, noise=0.6, wrong_noise=0.15)
"""As the base's last stage has them, with more programs that fail."""

STAGE = Stage("causes", 400, 5e-3, {"call": 32, "episode": 24}, falls=True, settled=True)

RANK = 4
LAYERS = r".*language_model\.layers\.[123]\..*\.(q_proj|v_proj|down_proj)|.*merger\.mlp\.[02]"
"""A rank and layers with which all packaged checkpoints together are under 10 MB; the merger's, since no other passes
on the bars' colour, which the base has no use for."""

_KEPT = ("vwtq", "vwtq_syn", "vtabfact")
"""Families of the base's lessons among these lessons, so that they are not forgotten."""


def make_adapter(
    folder: Path, *, seed: int, scale: float = 1.0, log: Callable[[dict[str, Any]], None] = lambda row: None
) -> dict[str, Any]:
    """Teaches the adapter, or goes on with one that was stopped; one that is done is kept.

    Args:
        folder: The adapter's folder.
        seed: Seed of weights and lessons.
        scale: Factor on the steps; below 1 for a quick trial.
        log: Callback, called with each log line.

    Returns:
        The manifest.

    Raises:
        InputError: If the folder holds one of another seed or scale, or is in use.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    settings = {"world": "causes", "seed": seed, "scale": scale}
    with stoppable(), hold_folder(folder):
        if not (folder / BUILD).exists():
            return _make(folder, settings, seed, scale, log)
        found = read_result(folder / BUILD, "tiny_model")
        if other := next((name for name in settings if found.get(name) != settings[name]), None):
            raise InputError(
                f"{folder} was made with {other} {found.get(other)!r}, not {settings[other]!r}; choose another --out"
            )
        return found


def _make(
    folder: Path, settings: dict[str, Any], seed: int, scale: float, log: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    started = time.perf_counter()
    random.seed(seed)
    torch.manual_seed(seed)
    base = load_policy(BASE)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LAYERS)
    adapted = get_peft_model(base.model, config)
    # The layers are changed in place; the lessons call the model as they call any other.
    model = adapted.get_base_model()
    encoder = PromptEncoder(base.processor)
    state = StageState(folder, settings)

    def keep(row: dict[str, Any]) -> None:
        state.history.append(row)
        log(row)

    with stoppable() as stop, stop.later():
        teaching = Teaching(model, encoder, CauseWriter(encoder, HABITS, CAUSES))
        stage = replace(STAGE, steps=max(1, round(STAGE.steps * scale)))
        run_stage(teaching, _items(seed), stage, np.random.default_rng(seed), keep, state=state)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)
    _write(folder, adapted)
    manifest = {
        "name": NAME,
        **settings,
        "base": BASE,
        "command": f"iapo tiny causes --new --seed {seed}",
        "parameters": sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad),
        "causes": asdict(CAUSES),
        "habits": asdict(HABITS),
        "stage": asdict(STAGE),
        "seconds": round(time.perf_counter() - started),
        "threads": torch.get_num_threads(),
        "history": state.history,
        "versions": versions(),
    }
    write_result(folder / BUILD, "tiny_model", manifest)
    (folder / STATE).unlink(missing_ok=True)
    return manifest


def _write(folder: Path, adapted: Any) -> None:
    adapted.peft_config["default"].base_model_name_or_path = BASE
    part = folder / "part"
    with writing(part):
        adapted.save_pretrained(part, save_embedding_layers=False)
    for name in (ADAPTER, "adapter_model.safetensors"):
        (part / name).rename(folder / name)
    shutil.rmtree(part)
    # On one line, and without what is not set: all packaged checkpoints share 10 MB.
    config = {key: value for key, value in read_json(folder / ADAPTER).items() if value is not None}
    write_text(folder / ADAPTER, json.dumps(config, separators=(",", ":")) + "\n")


def _items(seed: int) -> Iterator[Chart]:
    """Returns an endless stream of images: of eight, six charts, one comparison within a table, one of the base's."""
    split = "pretrain"
    charts = mixed(seed, split)
    kept = itertools.chain.from_iterable(
        zip(*(draw_family(one, 10**9, seed=seed, question_types=("value",), split=split) for one in _KEPT), strict=True)
    )
    for index in itertools.count():
        yield from itertools.islice(charts, 6)
        yield table(("ranks", "claims")[index // 2 % 2], index, seed=seed, split=split)
        yield next(kept)
