"""What `iapo tiny causes` does: writes the world and its start student, and measures what leads it to wrong tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from iapo.data.formats.parquet import write_rows
from iapo.locks import hold_folder
from iapo.rollout.export import export
from iapo.rollout.policy import load_policy
from iapo.runs import versions
from iapo.stopping import stoppable
from iapo.storage import make_folder
from iapo.tiny.causes.measure import measure
from iapo.tiny.causes.start import make_adapter
from iapo.tiny.causes.world import SETS, draw

TRAINED, HELD_OUT = 4096, 200
"""Samples that are written: to train on, and of each set to be measured on."""


def run_causes(
    model: str, out: Path | None, *, new: bool, seed: int, samples: int, scale: float, quiet: bool = False
) -> dict[str, Any]:
    """Measures a student by cause; with a folder, writes what it is trained from beforehand.

    Args:
        model: The student.
        out: Folder that gets `data/train.parquet` and `sets/NAME.parquet`, always of seed 0, so that trainings of all
            seeds are measured on the same samples, and the student as a checkpoint, `start`. What is there is kept.
        new: Whether the student is taught anew, in `out/adapter`, instead of `model`.
        seed: Seed of the lessons, and of the images and the sampling that are measured.
        samples: Charts of a family in each case that is measured.
        scale: Factor on the steps of the lessons.
        quiet: Whether nothing is printed.

    Returns:
        Settings, versions and numbers, ready for JSON.

    Raises:
        InputError: If `out` is in use, or holds an adapter of another seed or scale.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    console = Console(quiet=quiet)
    if out is not None:
        with stoppable(), hold_folder(out):
            torch.set_num_threads(1)
            if new:
                make_adapter(out / "adapter", seed=seed, scale=scale, log=lambda row: console.print(_line(row)))
                model = str(out / "adapter")
            _write_world(out)
            if not (out / "start").exists():
                export(model, out / "start", "float32")
            model = str(out / "start")
            console.print(f"Start: {out / 'start'}, data: {out / 'data'}, sets: {out / 'sets'}", soft_wrap=True)
    found = measure(load_policy(model), seed=seed, samples=samples)
    for title, rows in found.items():
        console.print(_shown(title, rows))
    settings = {"model": model, "seed": seed, "samples": samples}
    return {"settings": settings, "versions": versions(), "measured": found}


def _write_world(out: Path) -> None:
    wanted = {out / "data/train.parquet": ("mixed", TRAINED, "train")}
    wanted |= {out / f"sets/{name}.parquet": (name, HELD_OUT, "test") for name in ("mixed", *SETS)}
    for path, (name, count, split) in wanted.items():
        if not path.exists():
            make_folder(path.parent)
            write_rows((one.sample for one in draw(name, count, seed=0, split=split)), path)


def _line(row: Mapping[str, Any]) -> str:
    losses = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float))
    return f"step {row['step']:4d}  {losses}"


def _shown(title: str, rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    shown = Table(title=title)
    heads = list(next(iter(rows.values())))
    for heading in ("for the wrong tool", *heads):
        shown.add_column(heading.replace("_", " "))
    for case, row in rows.items():
        shown.add_row(case, *(_cell(row[head]) for head in heads))
    return shown


def _cell(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
