"""Prints the tables of "Misuse of several causes" in docs/results.md, from `iapo study ablate --file causes`.

    python docs/results_causes.py RUNS [--seeds 0]
    python docs/results_causes.py RUNS --keep docs/results-runs

Variants without a finished training are left out, and named at the end. `--keep` copies what the tables are made of.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import CURVES, WINDOW, curve, finished, gone, interval, keep, mean, number, show, steps_until_gone

from iapo.estimates import over_seeds_and_samples
from iapo.experiments.ablations import read_ablation
from iapo.experiments.calls_table import COLUMNS
from iapo.experiments.table_one import Row, read_row
from iapo.experiments.trials import START, TEACHER
from iapo.tiny.causes.command import HELD_OUT
from iapo.tiny.causes.world import draw

TRAINED = "mixed"
"""The set that is drawn like what was trained on."""

SHOWN = ("tools/call_ratio", "tools/success_rate", "tools/misuse_rate", "reward/outcome")
"""What is shown of the rollouts, by steps."""

METRICS = tuple(dict.fromkeys((*CURVES, *SHOWN)))
"""What is kept of them."""


def share(row: Row, measure: str, key: str, reference: Row | None = None) -> str:
    """Writes a measure on one set, over seeds and samples, or its difference to another row's on the same samples."""
    if any(measure not in calls for calls in row.calls.values()):
        return "-"
    seeds = [seed for seed in row.runs if reference is None or seed in reference.runs]

    def side(of: Row) -> list[list[Any]]:
        return [[{Path(name).stem: tally for name, tally in of.calls[seed][measure].items()}[key]] for seed in seeds]

    least = 0.0 if reference is None else -1.0
    found = over_seeds_and_samples(side(row), None if reference is None else side(reference), least=least, most=1.0)
    return interval(None if found is None else dataclasses.asdict(found), "" if reference is None else "+")


def show_training(curves: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]) -> None:
    """Prints how the rollouts went, over the seeds, and whether the divergence tells misuse."""
    lines = []
    for name, by_seed in curves.items():
        misuse = [one["tools/misuse_rate"] for one in by_seed.values()]
        last = ", ".join(gone(steps_until_gone(one), len(one)) for one in misuse)
        halves = [mean(one[key][: len(one[key]) // 2]) for key in CURVES[2:] for one in by_seed.values()]
        aucs = np.array(halves).reshape(2, -1)
        lines.append([name, last, *(number(mean(one)) for one in aucs)])
    show(["rollouts", "misuse gone after, by seed", "AUC", "AUC, shuffled"], lines)
    steps = len(next(iter(next(iter(curves.values())).values()))["tools/misuse_rate"])
    heads = [f"{step}-{step + WINDOW - 1}" for step in range(1, steps + 1, WINDOW)]
    for measure in SHOWN:
        lines = []
        for name, by_seed in curves.items():
            tens = [
                [mean(one[measure][start : start + WINDOW]) for start in range(0, steps, WINDOW)]
                for one in by_seed.values()
            ]
            lines.append([name, *map(number, np.array(tens).mean(0))])
        show([measure, *heads], lines)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    variants = read_ablation("causes").variants
    group = variants[0].group
    rows = {}
    copy = functools.partial(keep, base=options.runs, names=METRICS)
    for name in (START, TEACHER):
        # Among what is kept they lie with their group, since other comparisons have others.
        found = [one for one in (options.runs / name, options.runs / group / name) if one.is_dir()]
        if not found:
            raise SystemExit(f"{options.runs} holds no measurement of the {name}")
        rows[name] = read_row(name, [found[0] / "evaluation"])
        if options.keep is not None:
            copy(found[0], options.keep / group / name)
    curves: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    all_done, missing = finished(options.runs, variants, seeds)
    for variant, done in all_done:
        folder = options.runs / variant.key
        rows[variant.name] = read_row(variant.name, [folder / f"seed-{seed}/evaluation" for seed in done], done)
        curves[variant.name] = {seed: {name: curve(folder / f"seed-{seed}", name) for name in METRICS} for seed in done}
        for seed in done if options.keep is not None else ():
            copy(folder / f"seed-{seed}", options.keep / variant.key / f"seed-{seed}")
    show(
        [TRAINED, *COLUMNS.values()],
        [[name, *(share(row, one, TRAINED) for one in COLUMNS)] for name, row in rows.items()],
    )
    sets = [Path(key).stem for key in rows[START].data]
    for measure in COLUMNS:
        lines = [[name, *(share(row, measure, key) for key in sets)] for name, row in rows.items()]
        show([COLUMNS[measure], *sets], lines)
    show_directions(rows)
    show_differences(rows, sets)
    if curves:
        show_training(curves)
    if missing:
        print(missing)


def show_directions(rows: Mapping[str, Row]) -> None:
    """Prints misuse on the charts of `mixed` by cause and by what its cue suggests, sampled and greedy together."""
    charts = list(draw(TRAINED, HELD_OUT, seed=0, split="test"))
    kinds = [(one.cause, one.sample.axis, one.suggests) for one in charts]
    lines = []
    for name, row in rows.items():
        cells = []
        for cause, axis, suggests in WRONG:
            chosen = np.array([kind == (cause, axis, suggests) for kind in kinds])
            counts = np.zeros(2)
            for calls in row.calls.values():
                for measure in ("misuse", "misuse_greedy"):
                    tally = {Path(key).stem: one for key, one in calls[measure].items()}[TRAINED]
                    counts += [tally.successes[chosen].sum(), tally.counted[chosen].sum()]
            cells.append(f"{counts[0]:.0f} of {counts[1]:.0f}")
        lines.append([name, *cells])
    heads = [f"{cause}, {'vertical' if axis == 'columns' else 'horizontal'}" for cause, axis, _ in WRONG]
    show(["misused, mixed", *heads], lines)


WRONG = (
    ("position", "columns", None),
    ("position", "rows", None),
    ("wording", "columns", "rows"),
    ("wording", "rows", "columns"),
    ("look", "columns", "rows"),
    ("look", "rows", "columns"),
)
"""Charts without a cue, and with one for the wrong tool: cause, right axis, and what the cue suggests."""

PAIRS = (
    ("IAPO, name_odds", "GRPO"),
    ("IAPO, name_odds", "name_odds, student shuffled"),
    ("IAPO, name_odds", "distill"),
    ("name_odds, student shuffled", "GRPO"),
    ("name_odds, taught teacher", "GRPO"),
    ("name_odds, taught teacher", "taught teacher, student shuffled"),
    ("name_odds, taught teacher", "distill, taught teacher"),
)


def show_differences(rows: Mapping[str, Row], sets: Sequence[str]) -> None:
    """Prints paired differences of misuse and accuracy, set by set."""
    for measure in ("misuse", "accuracy"):
        pairs = [(one, other) for one, other in PAIRS if one in rows and other in rows]
        lines = [
            [f"{one} - {other}", *(share(rows[one], measure, key, rows[other]) for key in sets)] for one, other in pairs
        ]
        if lines:
            show([f"{measure}, difference", *sets], lines)


if __name__ == "__main__":
    main()
