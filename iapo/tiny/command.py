"""What `iapo tiny build` does: one process a model, progress on the terminal."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from iapo.tiny.build import RECIPES, build


def build_models(out: Path, model: str, *, seed: int, scale: float) -> None:
    """Builds one or both tiny models side by side, one thread each, and prints their metrics.

    Raises:
        ValueError: If there is no such model.
    """
    names = list(RECIPES) if model == "both" else [model]
    if unknown := [name for name in names if name not in RECIPES]:
        raise ValueError(f"no tiny model {unknown[0]!r}; use one of {', '.join(RECIPES)} or both")
    console = Console()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(names), os.cpu_count() or 1), context) as pool:
        running = {pool.submit(_build, name, out / name, seed, scale): name for name in names}
        for done in as_completed(running):
            manifest = done.result()
            console.print(_table(manifest))
            console.print(f"{out / running[done]}  ({manifest['seconds']} s)")


def _build(name: str, out: Path, seed: int, scale: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    console = Console()

    def log(row: dict[str, Any]) -> None:
        console.print(
            f"{row['model']}  {row['stage']:9s} step {row['step']:5d}  loss {row['loss']:.4f}  {row['seconds']} s"
        )

    return build(name, out, seed=seed, scale=scale, log=log)


def _table(manifest: dict[str, Any]) -> Table:
    table = Table(title=f"{manifest['name']}: {manifest['parameters']:,} parameters")
    for heading in ("measure", "value", "95% interval", "n"):
        table.add_column(heading)
    metrics = manifest["metrics"]
    rows = {f"{mode} {key}": value for mode in ("sampled", "greedy") for key, value in metrics[mode].items()}
    rows |= {mode: metrics[mode] for mode in ("reading_right", "reading_wrong")}
    for name, estimate in rows.items():
        interval = f"{estimate['low']:.3f} .. {estimate['high']:.3f}"
        table.add_row(name, f"{estimate['value']:.3f}", interval, str(estimate["count"]))
    return table
