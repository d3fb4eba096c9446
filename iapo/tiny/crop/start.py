"""The crop world's student before reinforcement learning, made from nothing in a minute or two.

It reads a panel that it has cropped, and can find a panel where it is asked for nothing else; in whole episodes it
crops the upper left corner, whatever is asked.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iapo.errors import InputError
from iapo.experiments.parent import end_with_parent
from iapo.locks import hold_folder
from iapo.results import read_result, write_result
from iapo.rollout.policy import ImageTextProcessor
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.writing import writing
from iapo.stopping import stoppable
from iapo.storage import append_record, write_records
from iapo.tiny.crop.lessons import PROMPT, TOOLS, CropTeaching, Habits, answer_text, program_text
from iapo.tiny.crop.pages import PANELS, VIEW, draw, panel
from iapo.tiny.models import make_model, make_processor, start_with_lookups, train_tokenizer
from iapo.tiny.pretrain import Stage, run_stage
from iapo.tiny.state import STATE, StageState

BUILD = "build.json"
"""In the folder: what was done; there once the start is."""

PROGRESS = "progress.jsonl"
"""In the folder: the losses of its lessons, a line every so many steps."""

WIDTHS = {"hidden": 96, "layers": 4, "heads": 4, "vision_hidden": 64, "vision_layers": 2, "mlp": 2}

HABITS = Habits(right=0.2, corner=0.6)

STAGES = (
    Stage("sight", 80, 4e-3, {"content": 48}),
    Stage("protocol", 120, 3e-3, {"content": 16, "read": 8, "find": 16, "episode": 16}, falls=True),
)

# Names, numbers and single capital letters are tokens of their own.
_PIECES = r"`{3}(?:\w+\n)?|(?<![\w])\d+\b|\b[A-Z]\b|\bcrop\b|def |QUESTION: "

_EVERY = 10


def steps(scale: float = 1.0) -> int:
    """Returns the steps of all stages."""
    return sum(_scaled(stage, scale).steps for stage in STAGES)


def make_start(folder: Path, *, seed: int, scale: float = 1.0) -> None:
    """Makes the start as a checkpoint in a folder, or goes on with one that was stopped.

    Args:
        folder: The folder.
        seed: Seed of weights and lessons.
        scale: Factor on each stage's steps; below 1 for a quick trial.

    Raises:
        InputError: If the folder holds one of another seed or scale, or is in use.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    settings = {"world": "crop", "seed": seed, "scale": scale}
    with stoppable(), hold_folder(folder):
        if (folder / BUILD).exists():
            found = read_result(folder / BUILD, "tiny_model")
            if other := next((name for name in settings if found.get(name) != settings[name]), None):
                raise InputError(
                    f"{folder} was made with {other} {found.get(other)!r}, not {settings[other]!r}; choose another "
                    "--out"
                )
            return
        _make(folder, settings, seed, scale)


def _make(folder: Path, settings: dict[str, Any], seed: int, scale: float) -> None:
    started = time.perf_counter()
    random.seed(seed)
    torch.manual_seed(seed)
    processor = make_start_processor()
    model = make_model(processor.tokenizer, **WIDTHS)
    start_with_lookups(model)
    teaching = CropTeaching(model, PromptEncoder(processor), HABITS)
    state = StageState(folder, settings)
    # What was logged after the state that is gone on from is logged again.
    write_records(folder / PROGRESS, state.history)

    def keep(row: dict[str, Any]) -> None:
        before = sum(_scaled(part, scale).steps for part in STAGES[: state.part])
        state.history.append({"done": before + row["step"], **row})
        append_record(folder / PROGRESS, state.history[-1])

    with stoppable() as stop, stop.later():
        for part in STAGES[state.part :]:
            rng = np.random.default_rng([seed, *part.name.encode()])
            pages = draw(10**9, seed=seed, split=f"pretrain-{part.name}")
            run_stage(teaching, pages, _scaled(part, scale), rng, keep, every=_EVERY, state=state)
            state.end_part(model)
        if state.part == len(STAGES):
            # Nothing of the model but the state may be in memory.
            state.load_weights(model)
    with writing(folder, keep=True):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    seconds = round(time.perf_counter() - started)
    found = {**settings, "parameters": model.num_parameters(), "seconds": seconds, "history": state.history}
    write_result(folder / BUILD, "tiny_model", found)
    (folder / STATE).unlink(missing_ok=True)


def make_start_processor() -> ImageTextProcessor:
    """Returns the student's processor: whatever the picture, it sees 112 x 112 pixels, or as many of another shape."""
    processor = make_processor(train_tokenizer(_corpus(), pieces=_PIECES), least=VIEW, most=VIEW)
    processor.prompt = PROMPT
    return processor


def _scaled(stage: Stage, scale: float) -> Stage:
    return replace(stage, steps=max(1, round(stage.steps * scale)))


def _corpus() -> Iterator[str]:
    """Returns what the tokenizer is trained on: the parts of prompts and turns."""
    for page in draw(64, seed=0, split="tokenizer"):
        blocks = build_blocks(page.sample, TOOLS, PROMPT)
        yield f"<|im_start|>system\n{blocks[0].text}<|im_end|>\n"
        yield "".join(block.text for block in blocks[1:])
        yield "".join(block.text for block in build_blocks(page.sample, {}, PROMPT))
        yield from (page.asking(place).sample.question for place in range(PANELS**2))
        yield from (program_text(panel(place)) for place in range(PANELS**2))
        yield from map(answer_text, page.numbers)
        yield PROMPT.observation_edited
        yield from ("system\n", "user\n", "assistant\n")


if __name__ == "__main__":
    end_with_parent()
    where, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(given["threads"])
    make_start(where, seed=given["seed"], scale=given["scale"])
