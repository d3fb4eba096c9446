"""`iapo study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iapo.bounds import HEAT, Bound, read_seeds, split_list
from iapo.cli.base import SETTINGS, Resumable, Verb, make_app, options_of
from iapo.cli.checks import (
    check_drawn,
    check_questions,
    check_sets,
    check_source,
    check_split,
    checkpoint,
    offered,
    prompt,
)
from iapo.cli.loading import check_loading, check_revision, check_revisions, loading_options
from iapo.cli.options import Json, Quiet, at_least, between, folder, one_of, within, write_json
from iapo.errors import InputError
from iapo.storage import check_new

app = make_app(help="Studies of training runs: the paper's figures and ablations.")

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or NAME=FOLDER; or a folder of runs.")]


@app.command("misuse", cls=Verb)
@loading_options("", "teacher")
def study_misuse(
    loading: dict[str, Any],
    runs: Runs,
    out: Annotated[
        Path | None, typer.Option(callback=folder, help="Folder for misuse.csv, .svg and .png; the runs' own.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(callback=at_least(1), help="Clearly divisible images; else the run's number, 256.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="File, folder or hub id; else the run's held-out data.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data or the synthetic images.")] = None,
    data_damage: Annotated[
        str | None,
        typer.Option(
            "--data-damage",
            callback=one_of("strict", "quarantine"),
            help="A damaged row is refused (strict), or left out and counted (quarantine); the run's own.",
        ),
    ] = None,
    families: Annotated[str | None, typer.Option(help="Synthetic families, with commas between.")] = None,
    teacher: Annotated[
        str | None, typer.Option(callback=checkpoint, help="Checkpoint of the teacher; the run's own.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(callback=within(HEAT), help="Temperature, 0 is greedy; the run's eval_temperature.")
    ] = None,
    tools: Annotated[
        str | None, typer.Option(callback=offered, help="Offered tools, with commas between; the run's own.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(callback=prompt, help="Prompt: tools, tiny, FILE.yaml; the run's own.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of the policies; the CPU if not given.")] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Misused calls, and the attribution of right and wrong tools, at a run's checkpoints (the paper's Fig. 3).

    For example: iapo study misuse runs/grpo runs/iapo --out runs/misuse
    """
    from iapo.data.sources import source_names
    from iapo.data.synthetic.families import find_family
    from iapo.studies.folders import find_runs

    if data is not None and families is not None:
        raise InputError("data and families are both given; take one of them")
    chosen = None if families is None else split_list("--families", families)
    for family in chosen or ():
        find_family(family)
    if split is not None:
        for source in chosen or ([] if data is None else source_names(data)):
            check_split(source, split)
    if data is not None:
        for source in source_names(data):
            check_source(source)
    check_loading(loading, device)
    check_revision(teacher, loading, "teacher")
    found = find_runs(runs)
    check_revisions([(one.manifest.config.get("run") or {}).get("model") for one in found], loading)
    from iapo.studies.misuse import study_misuse

    changes: dict[str, object] = {"samples": samples, "data": data, "split": split, "teacher": teacher, "tools": tools}
    changes |= {"data_damage": data_damage, "families": chosen, "temperature": temperature, "prompt": prompt}
    write_json(json, study_misuse(runs, out, changes, device=device, loading=loading))


@app.command("curves", cls=Verb)
def study_curves(
    runs: Runs,
    out: Annotated[
        Path | None, typer.Option(callback=folder, help="Folder for curves.csv, .svg and .png; the runs' own.")
    ] = None,
    smooth: Annotated[
        int, typer.Option(callback=at_least(1), help="Steps of a running mean, an odd number; 1: none.")
    ] = 1,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Calls, success, misuse, outcome, divergence and penalty per step; seeds of one method together (Fig. 4).

    For example: iapo study curves runs/full --smooth 5
    """
    from iapo.studies.curves import study_curves

    write_json(json, study_curves(runs, out, smooth=smooth))


@app.command("ablate", cls=Resumable, context_settings=SETTINGS)
def study_ablate(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(callback=folder, help="Folder of all runs; an ablation that was stopped there goes on.")
    ],
    preset: Annotated[
        str, typer.Option(callback=one_of("smoke", "full"), help="Packaged ablation, smoke or full.")
    ] = "smoke",
    file: Annotated[str | None, typer.Option(help="YAML file of your own (docs/studies.md), instead.")] = None,
    groups: Annotated[str | None, typer.Option(help="Some of its groups, with commas between.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of the trainings, with commas between.")] = None,
    sets: Annotated[str | None, typer.Option(help="Test sets, with commas between.")] = None,
    samples: Annotated[int | None, typer.Option(callback=at_least(1), help="Samples of each test set.")] = None,
    together: Annotated[int, typer.Option(callback=between(1, 2), help="Runs at a time, 1 or 2.")] = 2,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train variants under equal budgets: teachers (Table 2), coefficient and decay (Table 3), our own choices.

    Any setting of the training can be given by a flag of its name and holds for all variants. For example:
    iapo study ablate --preset full --groups penalty --seeds 0,1 --out runs/penalty
    """
    from iapo.experiments.ablate import ablate
    from iapo.experiments.ablations import read_ablation
    from iapo.training.settings import typed

    if sets is not None:
        check_sets(sets)
    else:
        for name in read_ablation(file or preset).budget.sets:
            check_source(name)
    given: dict[str, object] = {"groups": groups, "seeds": seeds, "sets": sets, "samples": samples}
    settings = typed(context.args, options=options_of(context))
    write_json(json, ablate(file or preset, given, settings, out, together=together))


@app.command("forms", cls=Verb)
@loading_options("", "teacher")
def study_forms(
    loading: dict[str, Any],
    out: Annotated[Path, typer.Option(callback=folder, help="Folder for forms.json and forms.csv.")],
    student: Annotated[str, typer.Option(callback=checkpoint, help="Checkpoint of the student.")] = "tiny-student",
    teacher: Annotated[str, typer.Option(callback=checkpoint, help="Checkpoint of the teacher.")] = "tiny-teacher",
    file: Annotated[str, typer.Option(help="YAML file of forms (docs/forms.md), or default.")] = "default",
    families: Annotated[str, typer.Option(help="Synthetic families, with commas between.")] = "vbar,hbar",
    data: Annotated[str | None, typer.Option(help="File, folder or hub id, instead of the families.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data or the synthetic images.")] = "test",
    question_types: Annotated[str, typer.Option(help="Question types of synthetic images; none given: all.")] = "",
    prompts: Annotated[int, typer.Option(callback=at_least(1), help="Images for each seed.")] = 60,
    rollouts: Annotated[int, typer.Option(callback=at_least(2), help="First turns to each.")] = 8,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "0",
    names: Annotated[str, typer.Option(help="Names of the tools: canonical, unseen, or both.")] = "canonical",
    temperature: Annotated[
        float, typer.Option(callback=within(Bound(0.01, HEAT.high)), help="Temperature of the turns.")
    ] = 1.0,
    max_turn_tokens: Annotated[int, typer.Option(callback=at_least(1), help="Longest turn in tokens.")] = 64,
    tools: Annotated[str | None, typer.Option(callback=offered, help="Offered tools, with commas between.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of both models; the CPU if not given.")] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """How well forms of the penalty tell misused calls from right ones to the same prompt, and what does the work.

    For example: iapo study forms --seeds 0,1,2 --names canonical,unseen --out runs/forms
    """
    from iapo.data.sources import source_names
    from iapo.experiments.forms_grid import read_forms
    from iapo.rollout.load_settings import LoadSettings, load_settings

    forms = read_forms(file)
    sources = split_list("--families", families) if data is None else source_names(data)
    check_sets(",".join(sources), split)
    asked = split_list("--question-types", question_types)
    if data is None:
        check_questions(question_types, sources)
    check_drawn({"--question-types": question_types}, sources)
    check_new(out, "forms.json", "forms.csv")
    chosen = split_list("--names", names)
    for name in chosen:
        if name not in ("canonical", "unseen"):
            raise InputError(f"names is {name!r}; use canonical, unseen, or both with a comma between")
    numbers = read_seeds(split_list("--seeds", seeds))
    for what, given in (("names", chosen), ("families", sources)):
        if not given:
            raise InputError(f"{what} is empty; give one at least")
        if len(set(given)) < len(given):
            raise InputError(f"{what} names {', '.join(given)}, one of them twice; give each once")
    check_loading(loading, device)
    check_revision(student, loading)
    check_revision(teacher, loading, "teacher")
    own = load_settings({**loading, "device": device})
    view = LoadSettings(min_pixels=own.min_pixels, max_pixels=own.max_pixels)
    other = load_settings({**loading, "teacher_device": device}, "teacher", view)
    from iapo.experiments.forms import FormsPlan, study_forms

    plan = FormsPlan(
        student=student,
        teacher=teacher,
        sources=sources,
        prompts=prompts,
        rollouts=rollouts,
        seeds=numbers,
        namings=chosen,
        split=split,
        question_types=asked,
        temperature=temperature,
        max_turn_tokens=max_turn_tokens,
        tools=tools,
    )
    write_json(json, study_forms(plan, forms, out, (own, other)))


@app.command("faithfulness", cls=Verb)
@loading_options("")
def study_faithfulness(
    loading: dict[str, Any],
    out: Annotated[Path, typer.Option(callback=folder, help="Folder for faithfulness.json and faithfulness.csv.")],
    model: Annotated[
        str, typer.Option(callback=checkpoint, help="Checkpoint whose attributions are measured.")
    ] = "tiny-teacher",
    calls_of: Annotated[
        str | None, typer.Option(callback=checkpoint, help="Checkpoint that writes the calls; the model itself.")
    ] = None,
    forms: Annotated[str, typer.Option(help="YAML file of forms (docs/forms.md), or default.")] = "default",
    families: Annotated[str | None, typer.Option(help="Synthetic families, with commas between; vbar,hbar.")] = None,
    data: Annotated[str | None, typer.Option(help="File, folder or hub id, instead of the families.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data or the synthetic images.")] = "test",
    samples: Annotated[int, typer.Option(callback=at_least(2), help="Samples, one call each.")] = 24,
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of images, turns and random orders.")] = 0,
    orders: Annotated[int, typer.Option(callback=at_least(1), help="Random orders of each call's blocks.")] = 5,
    temperature: Annotated[float, typer.Option(callback=within(HEAT), help="Temperature of the turns, 0: greedy.")] = 0,
    max_turn_tokens: Annotated[int, typer.Option(callback=at_least(1), help="Longest turn in tokens.")] = 512,
    tools: Annotated[str | None, typer.Option(callback=offered, help="Offered tools, with commas between.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of the models; the CPU if not given.")] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Whether attributions tell which blocks a call needs: deletion and insertion curves, agreement with occlusion.

    For example: iapo study faithfulness --model tiny-teacher --out runs/faithfulness
    """
    from iapo.data.sources import source_names
    from iapo.experiments.forms_grid import read_forms
    from iapo.rollout.load_settings import LoadSettings, load_settings

    chosen = read_forms(forms)
    if data is not None and families is not None:
        raise InputError("data and families are both given; take one of them")
    given = "vbar,hbar" if families is None else families
    sources = split_list("--families", given) if data is None else source_names(data)
    if not sources:
        raise InputError("families is empty; give one at least")
    check_sets(",".join(sources), split)
    check_new(out, "faithfulness.json", "faithfulness.csv")
    check_loading(loading, device)
    check_revision(model, loading)
    own = load_settings({**loading, "device": device})
    other = LoadSettings(device=device, min_pixels=own.min_pixels, max_pixels=own.max_pixels)
    from iapo.experiments.faithfulness import FaithfulnessPlan, study_faithfulness

    plan = FaithfulnessPlan(
        model=model,
        caller=calls_of,
        sources=sources,
        samples=samples,
        split=split,
        seed=seed,
        orders=orders,
        temperature=temperature,
        max_turn_tokens=max_turn_tokens,
        tools=tools,
    )
    write_json(json, study_faithfulness(plan, chosen, out, (own, other)))
