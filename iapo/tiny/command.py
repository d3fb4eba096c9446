"""What `iapo tiny build` and `iapo tiny evaluate` do on the terminal."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from iapo.data.synthetic.families import FAMILIES, find_family
from iapo.errors import InputError
from iapo.experiments.parent import end_with_parent
from iapo.kinds import checks_kinds
from iapo.rollout.policy import load_policy
from iapo.runs import versions
from iapo.tiny.build import build
from iapo.tiny.evaluate import OFFERS, report
from iapo.tiny.recipes import RECIPES


@checks_kinds
def build_models(
    out: Path, model: str, *, stage: str | None, seed: int, scale: float, quiet: bool = False
) -> dict[str, Any]:
    """Builds one or all tiny models, as many at a time as there are cores, one thread each, and prints their metrics.

    Args:
        out: The folder to write to.
        model: Its name, or `all`.
        stage: The stage; all that the model has if None.
        seed: Seed of all that is random.
        scale: Factor on the number of steps.
        quiet: Whether the processes print nothing.

    Returns:
        The manifests by name.

    Raises:
        InputError: If there is no such model, or it has no such stage.
    """
    names = list(RECIPES) if model == "all" else [model]
    if unknown := [name for name in names if name not in RECIPES]:
        raise InputError(f"no tiny model {unknown[0]!r}; use one of {', '.join(RECIPES)} or all")
    if model == "all" and stage == "teacher":
        names = [name for name in names if RECIPES[name].config is not None]
    console = Console()
    # One alone needs no process of its own, and ends with this one.
    if len(names) == 1:
        manifest = _build(names[0], out, stage, seed, scale, quiet)
        _show(console, manifest, out)
        return {names[0]: manifest}
    manifests: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    workers = min(len(names), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),)) as pool:
        try:
            for done in as_completed([pool.submit(_build, name, out, stage, seed, scale, quiet) for name in names]):
                manifest = done.result()
                _show(console, manifest, out)
                manifests[manifest["name"]] = manifest
        except BaseException:
            # The pool waits for the other builds at its end, and they take minutes.
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return manifests


def _show(console: Console, manifest: Mapping[str, Any], out: Path) -> None:
    seconds = sum(one["seconds"] for one in manifest["stages"].values())
    console.print(_built(manifest))
    console.print(f"{manifest['name']}: stages {', '.join(manifest['stages'])} in {seconds} s; folders in {out}")


def _build(name: str, out: Path, stage: str | None, seed: int, scale: float, quiet: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    console = Console(quiet=quiet)

    def log(row: dict[str, Any]) -> None:
        losses = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float))
        console.print(f"{row['model']}  {row['stage']:11s} step {row['step']:4d}  {losses}")

    return build(name, out, stage=stage, seed=seed, scale=scale, log=log)


def _built(manifest: Mapping[str, Any]) -> Table:
    table = Table(title=manifest["name"])
    for heading in ("tools", "measure", "value", "95% interval", "n"):
        table.add_column(heading)
    for offer, metrics in manifest.get("metrics", {}).items():
        for name, estimate in metrics.items():
            table.add_row(offer, name, *_cells(estimate))
    return table


@checks_kinds
def evaluate_models(
    models: Sequence[str],
    families: Sequence[str] | None,
    *,
    samples: int,
    seed: int,
    temperature: float,
) -> dict[str, Any]:
    """Measures tiny models on all families, with canonical, unseen and missing tools, and prints the tables.

    Args:
        models: Checkpoints: packaged names or folders.
        families: Families that they are asked about; all if None.
        samples: Images a family.
        seed: Seed of the images, the tool sets and the sampling.
        temperature: Temperature of the sampling.

    Returns:
        Settings, versions, and all numbers by model.

    Raises:
        InputError: If a model, a family or a count does not exist.
    """
    if samples < 1:
        raise InputError(f"samples is {samples}; give at least 1")
    families = FAMILIES if families is None else families
    for family in families:
        find_family(family)
    policies = {name: load_policy(name) for name in models}
    console = Console()
    found: dict[str, Any] = {}
    measured = report(policies, families=families, samples=samples, seed=seed, temperature=temperature)
    for name, numbers in measured:
        found[name] = numbers
        for table in (_behaviour(name, numbers), _attribution(name, numbers), _occlusion(name, numbers)):
            console.print(table)
    settings = {"families": list(families), "samples": samples, "seed": seed, "temperature": temperature}
    return {"settings": settings, "versions": versions(), "models": found}


def _behaviour(name: str, numbers: Mapping[str, Any]) -> Table:
    table = Table(title=f"{name}: {numbers['parameters']:,} parameters, share of pictures with 95% intervals")
    for heading in ("family", "tools", "accuracy", "valid calls", "misuse"):
        table.add_column(heading)
    for family in numbers["behaviour"][OFFERS[0]]:
        for offer in OFFERS:
            row = numbers["behaviour"][offer][family]
            table.add_row(family, offer, *(_short(row[key]) for key in ("accuracy", "valid", "misuse")))
    return table


def _attribution(name: str, numbers: Mapping[str, Any]) -> Table:
    table = Table(title=f"{name}: mean share of the attribution, a block")
    table.add_column("block")
    kinds = list(numbers["attribution"])
    for kind in kinds:
        table.add_column(f"{kind} calls")
    for part in numbers["attribution"][kinds[0]]:
        table.add_row(part.replace("_", " "), *(_short(numbers["attribution"][kind][part]) for kind in kinds))
    return table


def _occlusion(name: str, numbers: Mapping[str, Any]) -> Table:
    table = Table(title=f"{name}: taking definitions away")
    for heading in ("measure", "value", "95% interval", "n"):
        table.add_column(heading)
    words = {
        "rank_correlation": "rank correlation of attribution and occlusion over blocks",
        "called_removed": "choice changes without the called tool's definition",
        "other_removed": "choice changes without another tool's definition",
    }
    for key, text in words.items():
        table.add_row(text, *_cells(numbers["occlusion"][key]))
    return table


def _cells(estimate: Mapping[str, Any]) -> tuple[str, str, str]:
    if estimate["value"] is None:
        return "-", "", "0"
    return f"{estimate['value']:.3f}", f"{estimate['low']:.3f} .. {estimate['high']:.3f}", str(estimate["count"])


def _short(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
