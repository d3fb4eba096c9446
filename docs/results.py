"""Prints the tables of docs/results.md from the folder of `iapo study ablate --file results`.

    python docs/results.py RUNS [--seeds 0,1,2,3,4] [--groups methods,controls]
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
from scipy import stats

from iapo.experiments.ablations import Variant, read_ablation
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


def keep(run: Path, folder: Path, base: Path, names: Sequence[str] = CURVES) -> None:
    """Copies what the tables need of a run, without the places where it and its test sets lay.

    Args:
        run: Folder of the run.
        folder: Folder of the copy.
        base: Folder of all runs, which the copy does not name.
        names: Names of the metrics that are copied, where it has trained.
    """
    for name in ("evaluation", "evaluation-greedy"):
        told = json.loads((run / name / "evaluation.json").read_text().replace(f"{base.absolute()}/", ""))
        told["sets"] = {Path(key).stem: value for key, value in told["sets"].items()}
        told["settings"]["sets"] = list(told["sets"])
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_text(folder / name / "evaluation.json", json.dumps(told, separators=(",", ":")) + "\n")
    if (run / "metrics.jsonl").exists():
        rows = [{key: row[key] for key in names if key in row} for row in read_records(run / "metrics.jsonl")]
        write_text(folder / "metrics.jsonl", "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def finished(
    runs: Path, variants: Sequence[Variant], seeds: Sequence[int]
) -> tuple[list[tuple[Variant, list[int]]], str]:
    """Finds what is trained and evaluated.

    Args:
        runs: Folder of all runs.
        variants: The variants.
        seeds: Seeds that are wanted of each.

    Returns:
        Variants that have some, with their seeds, and a sentence on what is missing; empty if nothing is.
    """
    found, missing = [], []
    for one in variants:
        done = [seed for seed in seeds if (runs / one.key / f"seed-{seed}/evaluation-greedy/evaluation.json").exists()]
        if done:
            found.append((one, done))
        if len(done) < len(seeds):
            missing.append(f"{one.name} ({len(done)} of {len(seeds)})")
    return found, f"Not finished: {', '.join(missing)}." if missing else ""


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


def gone(step: int, steps: int) -> str:
    return "never" if step == steps else str(step)


def span(values: Sequence[float]) -> str:
    """Writes the mean of the seeds' values, and between which they lie."""
    found = np.array([value for value in values if np.isfinite(value)])
    if not len(found):
        return "-"
    return f"{found.mean():.2f}" if len(found) == 1 else f"{found.mean():.2f} ({found.min():.2f} to {found.max():.2f})"


@dataclasses.dataclass(frozen=True)
class Curve:
    """What the rollouts of one training tell, by step.

    Attributes:
        misuse: Share of misused calls.
        aucs: AUC within groups, the student's own distribution and another rollout's.
    """

    misuse: np.ndarray
    aucs: tuple[np.ndarray, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> Curve:
        own, shuffled = (curve(folder, f"attribution/misuse_auc{end}") for end in ("", "_shuffled"))
        return cls(curve(folder, "tools/misuse_rate"), (own, shuffled))

    @property
    def tens(self) -> list[float]:
        return [mean(self.misuse[start : start + WINDOW]) for start in range(0, len(self.misuse), WINDOW)]

    def early(self, place: int) -> float:
        return mean(self.aucs[place][: len(self.aucs[place]) // 2])


def show_training(curves: Mapping[str, Mapping[int, Curve]]) -> None:
    """Prints how misuse went in the rollouts, over the seeds."""
    steps = len(next(iter(next(iter(curves.values())).values())).misuse)
    heads = [f"{step}-{step + WINDOW - 1}" for step in range(1, steps + 1, WINDOW)]
    rows = []
    for name, by_seed in curves.items():
        found = list(by_seed.values())
        last = [gone(steps_until_gone(one.misuse), len(one.misuse)) for one in found]
        tens = np.array([one.tens for one in found]).mean(0)
        aucs = (span([one.early(place) for one in found]) for place in range(2))
        rows.append([name, ", ".join(last), *aucs, *map(number, tens)])
    show(["misuse in training", "gone after, by seed", "AUC", "AUC, shuffled", *heads], rows)


def steps_text(steps: Sequence[int]) -> str:
    """Writes differences by seed, with their mean and its 95% interval over seeds (Student's t)."""
    by_seed = ", ".join(f"{step:+d}" for step in steps)
    if len(steps) < 2 or np.ptp(steps) == 0:
        return by_seed
    low, high = stats.t.interval(0.95, len(steps) - 1, np.mean(steps), stats.sem(steps))
    return f"{np.mean(steps):+.0f} [{low:+.0f}, {high:+.0f}]: {by_seed}"


PAIRS = (
    ("IAPO, softmax", "softmax, student uniform"),
    ("IAPO, softmax", "softmax, student shuffled"),
    ("IAPO, name_odds", "name_odds, student shuffled"),
    ("IAPO, name_odds", "name_odds, teacher shuffled"),
    ("IAPO, name_odds", "name_odds, student of the same tools"),
    ("IAPO, name_odds", "IAPO, softmax"),
    ("IAPO, name_odds", "IAPO, paper"),
    ("IAPO, name_odds", "distill"),
    ("IAPO, name_odds signed", "distill"),
    ("IAPO, name_odds", "name_odds, student by name"),
    ("IAPO, paper", "paper, student shuffled"),
    ("softmax, teacher of random weights", "IAPO, softmax"),
    ("softmax, teacher of random weights", "GRPO"),
    ("name_odds, call tokens only", "IAPO, name_odds"),
    ("name_odds, call tokens only", "IAPO, paper"),
    ("name_odds, image in 2 x 2 cells", "IAPO, name_odds"),
    ("distill, call tokens only", "distill"),
    ("softmax and distill", "distill"),
    ("softmax and distill", "IAPO, paper"),
    ("attention", "IAPO, paper"),
    ("overlap", "GRPO"),
    ("ToRL", "GRPO"),
    ("TRM, verifier by rules", "GRPO"),
    ("distill by token", "distill"),
    ("distill by token, weight 1", "distill"),
)
"""Which variants are compared: a form and its control, two forms, a form and the likelihood, more and its base."""


def show_pairs(rows: Mapping[str, Row], curves: Mapping[str, Mapping[int, Curve]]) -> None:
    """Prints the paired differences that the plan's claims are about."""
    lines = []
    for one, other in PAIRS:
        if one not in rows or other not in rows:
            continue
        found = next(row for row in table_one([rows[one], rows[other]], other)["rows"] if row["name"] == one)
        calls = [interval(found["calls_difference"].get(name), "+") for name in ("misuse", "accuracy")]
        seeds = [seed for seed in curves[one] if seed in curves[other]]
        counts = [[steps_until_gone(curves[name][seed].misuse) for seed in seeds] for name in (one, other)]
        steps = [mine - theirs for mine, theirs in zip(*counts, strict=True)]
        lines.append([f"{one} - {other}", *calls, interval(found["difference"][AVERAGE], "+"), steps_text(steps)])
    heads = ["difference", "misuse", "accuracy, bar charts", "accuracy, six families", "steps until gone, by seed"]
    show(heads, lines)


def show_goals(rows: Mapping[str, Row], reference: str) -> None:
    """Prints in how many seeds misuse ends at a quarter of the reference's, and where accuracy is apart above it."""

    def misuse(name: str, seed: int | None) -> float:
        tallies = rows[name].calls[seed]["misuse"].values()
        return sum(one.successes.sum() for one in tallies) / sum(one.counted.sum() for one in tallies)

    lines = []
    for row in table_one(list(rows.values()), reference)["rows"]:
        name = row["name"]
        if name == reference:
            continue
        seeds = [seed for seed in rows[name].runs if seed in rows[reference].runs]
        quarter = sum(misuse(name, seed) <= misuse(reference, seed) / 4 for seed in seeds)
        apart = [key for key in rows[name].data if row["difference"][key]["low"] > 0]
        below = [key for key in rows[name].data if row["difference"][key]["high"] < 0]
        lines.append([name, f"{quarter} of {len(seeds)}", ", ".join(apart) or "none", ", ".join(below) or "none"])
    show(["goals", f"misuse at most 1/4 of {reference}'s", "accuracy above, apart", "accuracy below, apart"], lines)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--groups", default="", help="groups of variants, with commas between; all if not given")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    groups = set(filter(None, options.groups.split(",")))
    ablation = read_ablation("results")
    variants = [one for one in ablation.variants if not groups or one.group in groups or one.key == ablation.reference]
    rows: dict[str, Row] = {}
    curves: dict[str, dict[int, Curve]] = {}
    all_done, missing = finished(options.runs, variants, seeds)
    for variant, done in all_done:
        folder = options.runs / variant.key
        rows[variant.name] = read_variant(variant.name, folder, done)
        curves[variant.name] = {seed: Curve.read(folder / f"seed-{seed}") for seed in done}
        for seed in done if options.keep is not None else ():
            keep(folder / f"seed-{seed}", options.keep / variant.key / f"seed-{seed}", options.runs)
    if not rows:
        raise SystemExit(f"{options.runs} holds no finished run")
    reference = next(iter(rows))
    found = table_one(list(rows.values()), reference)
    calls = [
        [
            row["name"],
            row["seeds"],
            *(interval(row["calls"].get(name)) for name in COLUMNS),
            *(interval((row["calls_difference"] or {}).get(name), "+") for name in ("misuse", "accuracy")),
        ]
        for row in found["rows"]
    ]
    show(["bar charts", "seeds", *COLUMNS.values(), f"misuse - {reference}", f"accuracy - {reference}"], calls)
    keys = [*found["sets"], AVERAGE]
    show(
        ["accuracy", *keys], [[row["name"], *(interval(row["accuracy"][key]) for key in keys)] for row in found["rows"]]
    )
    show_training(curves)
    show_pairs(rows, curves)
    show_goals(rows, reference)
    if missing:
        print(missing)


if __name__ == "__main__":
    main()
