"""The command line of `iapo study`. Heavy imports stay inside the verbs, so that `iapo --help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Studies of training runs: the paper's figures and ablations.", no_args_is_help=True)

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or NAME=FOLDER; or a folder of runs.")]


@app.command("misuse")
def study_misuse(
    runs: Runs,
    out: Annotated[Path | None, typer.Option(help="For misuse.csv, .svg and .png; the runs' folder.")] = None,
    samples: Annotated[int | None, typer.Option(help="Clearly divisible pictures; else the run's number, 256.")] = None,
    data: Annotated[str | None, typer.Option(help="File, folder or hub id; else the run's held-out data.")] = None,
    split: Annotated[str | None, typer.Option(help="Of the data or the synthetic pictures.")] = None,
    families: Annotated[str | None, typer.Option(help="Synthetic families, with commas between.")] = None,
    teacher: Annotated[str | None, typer.Option(help="The teacher's checkpoint; the run's own.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; the run's eval_temperature.")] = None,
    tools: Annotated[str | None, typer.Option(help="Offered tools, with commas; the run's own if not given.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the policies run; the CPU if not given.")] = None,
) -> None:
    """Misused calls, and the attribution of right and wrong tools, at a run's checkpoints (the paper's Fig. 3).

    For example: iapo study misuse runs/grpo runs/iapo --out runs/misuse
    """
    from iapo.data.sources import split_list
    from iapo.studies.misuse import study_misuse

    changes: dict[str, object] = {"samples": samples, "data": data, "split": split, "teacher": teacher, "tools": tools}
    changes |= {"families": None if families is None else split_list(families), "temperature": temperature}
    study_misuse(runs, out, changes, device=device)


@app.command("curves")
def study_curves(
    runs: Runs,
    out: Annotated[Path | None, typer.Option(help="For curves.csv, .svg and .png; the runs' folder.")] = None,
    smooth: Annotated[int, typer.Option(help="Steps of a running mean, an odd number; 1: none.")] = 1,
) -> None:
    """Calls, success, misuse, outcome, divergence and penalty per step; seeds of one method together (Fig. 4).

    For example: iapo study curves runs/full --smooth 5
    """
    from iapo.studies.curves import study_curves

    study_curves(runs, out, smooth=smooth)


@app.command("ablate", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def study_ablate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Holds all runs; an ablation that was stopped there goes on.")],
    preset: Annotated[str, typer.Option(help="smoke or full.")] = "smoke",
    file: Annotated[str | None, typer.Option(help="A YAML file of your own (docs/studies.md), instead.")] = None,
    groups: Annotated[str | None, typer.Option(help="Some of its groups, with commas between.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Of the trainings, with commas between.")] = None,
    sets: Annotated[str | None, typer.Option(help="Test sets, with commas between.")] = None,
    samples: Annotated[int | None, typer.Option(help="How many of each test set.")] = None,
    together: Annotated[int, typer.Option(help="Runs at a time, 1 or 2.")] = 2,
) -> None:
    """Train variants under equal budgets: teachers (Table 2), coefficient and decay (Table 3), our own choices.

    Any setting of the training can be given by a flag of its name and holds for all variants. For example:
    iapo study ablate --preset full --groups penalty --seeds 0,1 --out runs/penalty
    """
    from iapo.experiments.ablate import ablate

    given: dict[str, object] = {"groups": groups, "seeds": seeds, "sets": sets, "samples": samples}
    ablate(file or preset, given, context.args, out, together=together)
