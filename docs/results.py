"""Prints the tables of docs/results.md from the folder of `iapo study ablate --file results`.

    python docs/results.py RUNS [--seeds 0,1,2,3,4]
    python docs/results.py RUNS --keep docs/results-runs

Variants without a finished training are left out, and named at the end. `--keep` copies of each finished run what the
tables are made of, so that they can be made again where the runs are not: verdicts by sample, and misuse by step.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iapo.experiments.ablations import read_ablation
from iapo.experiments.calls_table import COLUMNS
from iapo.experiments.table_one import AVERAGE, Row, read_row, table_one
from iapo.storage import read_records, write_text

CHARTS = ("vbar", "hbar")
"""What was trained on, where calls are counted: tables have no wrong axis."""

WINDOW, GONE = 10, 0.05
"""Misuse is gone from the first step on from which its mean over so many steps stays under this."""


def curve(folder: Path, name: str) -> np.ndarray:
    """Reads a metric's values by step, NaN where a step has none."""
    values = [row.get(name) for row in read_records(folder / "metrics.jsonl")]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def mean(values: np.ndarray) -> float:
    """Returns the mean of what is there, NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def steps_until_gone(misuse: np.ndarray) -> int:
    """Returns the number of steps until misuse is gone, that of all steps if it never is."""
    means = [mean(misuse[start : start + WINDOW]) for start in range(len(misuse) - WINDOW + 1)]
    return next((start for start in range(len(means)) if max(means[start:]) < GONE), len(misuse))


CURVES = ("step", "tools/misuse_rate", "attribution/misuse_auc", "attribution/misuse_auc_shuffled")


def keep(run: Path, folder: Path, base: Path) -> None:
    """Copies what the tables need of a run, without the places where it lay.

    Args:
        run: Folder of the run.
        folder: Folder of the copy.
        base: Folder of all runs, which the copy does not name.
    """
    for name in ("evaluation", "evaluation-greedy"):
        told = json.loads((run / name / "evaluation.json").read_text().replace(f"{base.absolute()}/", ""))
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_text(folder / name / "evaluation.json", json.dumps(told, separators=(",", ":")) + "\n")
    rows = [{key: row[key] for key in CURVES if key in row} for row in read_records(run / "metrics.jsonl")]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def read_variant(name: str, folder: Path, seeds: Sequence[int]) -> Row:
    """Reads the evaluations of one variant, its calls on charts alone."""
    row = read_row(name, [folder / f"seed-{seed}" / "evaluation" for seed in seeds], seeds)
    calls = {
        seed: {measure: {key: sets[key] for key in CHARTS} for measure, sets in measures.items()}
        for seed, measures in row.calls.items()
    }
    return dataclasses.replace(row, calls=calls)


def number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def interval(one: Mapping[str, Any] | None, sign: str = "") -> str:
    return "-" if one is None else f"{one['value']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]"


def show(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table."""
    for cells in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")
    print()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows, curves, missing = [], [], []
    for variant in read_ablation("results").variants:
        folder = options.runs / variant.key
        done = [seed for seed in seeds if (folder / f"seed-{seed}/evaluation-greedy/evaluation.json").exists()]
        if len(done) < len(seeds):
            missing.append(f"{variant.name} ({len(done)} of {len(seeds)})")
        if done:
            rows.append(read_variant(variant.name, folder, done))
        for seed in done:
            if options.keep is not None:
                keep(folder / f"seed-{seed}", options.keep / variant.key / f"seed-{seed}", options.runs)
            misuse = curve(folder / f"seed-{seed}", "tools/misuse_rate")
            told = [curve(folder / f"seed-{seed}", f"attribution/misuse_auc{end}") for end in ("", "_shuffled")]
            tens = [mean(misuse[start : start + WINDOW]) for start in range(0, len(misuse), WINDOW)]
            early = [mean(one[: len(one) // 2]) for one in told]
            curves.append([variant.name, seed, steps_until_gone(misuse), *map(number, early), *map(number, tens)])
    if not rows:
        raise SystemExit(f"{options.runs} holds no finished run")
    found = table_one(rows, rows[0].name)
    calls = [
        [
            row["name"],
            row["seeds"],
            *(interval(row["calls"].get(name)) for name in COLUMNS),
            *(interval((row["calls_difference"] or {}).get(name), "+") for name in ("misuse", "accuracy")),
        ]
        for row in found["rows"]
    ]
    show(["bar charts", "seeds", *COLUMNS.values(), f"misuse - {rows[0].name}", f"accuracy - {rows[0].name}"], calls)
    keys = [*found["sets"], AVERAGE]
    show(
        ["accuracy", *keys], [[row["name"], *(interval(row["accuracy"][key]) for key in keys)] for row in found["rows"]]
    )
    heads = [f"{step}-{step + WINDOW - 1}" for step in range(1, 1 + WINDOW * (len(curves[0]) - 5), WINDOW)]
    show(["misuse in training", "seed", "gone after", "AUC", "AUC, shuffled", *heads], curves)
    if missing:
        print(f"Not finished: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
