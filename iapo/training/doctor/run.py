"""What `iapo doctor` does, in order: settings, data, lengths, calls, teacher, one step."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from iapo.display.quiet import quiet_libraries
from iapo.records import Sample
from iapo.rollout.names import resolve
from iapo.rollout.prompt import PromptEncoder
from iapo.storage import check_place
from iapo.tools import ToolDefinition, offered_tools
from iapo.training.arguments import RunArguments
from iapo.training.budget import training_budget, training_context
from iapo.training.config import IAPOConfig
from iapo.training.doctor import data, lengths, step, teacher, tools
from iapo.training.doctor.findings import Findings
from iapo.training.keeper import refuse_taken
from iapo.training.lengths import long_prompts, without
from iapo.training.loaded import load_student, new_adapter
from iapo.training.progress import bar, duration
from iapo.training.run import check_run, make_teacher

SAMPLES = 200
"""Samples on which tools are called and prompts are encoded, if not said otherwise."""


def examine(
    arguments: RunArguments,
    args: IAPOConfig,
    given: Mapping[str, Any],
    *,
    samples: int = SAMPLES,
    with_step: bool = True,
    console: Console | None = None,
) -> Findings:
    """Looks for what would go wrong in a training, and says it; nothing is written to its `output_dir`.

    Args:
        arguments: Arguments of the run.
        args: Settings of the training.
        given: The same settings as they were given.
        samples: Samples on which tools are called and prompts are encoded, evenly taken from all; 0 takes all. Tokens
            are counted on all samples in any case.
        with_step: Whether models are loaded and one step is taken.
        console: Console that it is said on.

    Returns:
        What was found.
    """
    console = console or Console()
    findings = Findings()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with quiet_libraries():
        _examine(arguments, args, given, samples, with_step, console, findings)
    _print(findings, console)
    return findings


def _examine(
    arguments: RunArguments,
    args: IAPOConfig,
    given: Mapping[str, Any],
    count: int,
    with_step: bool,
    console: Console,
    findings: Findings,
) -> None:
    live = console.is_terminal
    offered = offered_tools(arguments.tools, arguments.tool_timeout)
    _check_place(args, arguments, findings)
    with findings.refusals("settings"):
        check_run(arguments, args)
    with _said(console, "reading the data"):
        train, test = data.read(arguments, "train", findings), data.read(arguments, "test", findings)
    data.check_data(train, test, arguments, args, offered, findings)
    with findings.refusals("settings"):
        processor, config = teacher.opened(arguments.model, arguments.loading, arguments.prompt)
        encoder = PromptEncoder(processor)
        budget = training_budget(args, config)
        lengths.check_limits(budget, findings)
        looked_at = _evenly(train, count)
        with _said(console, "counting tokens"):
            fine = {id(one) for one in data.check_controls(looked_at, encoder, offered, findings)}
            broken = {id(one) for one in looked_at} - fine
            context = training_context(args, config)
            dropped = long_prompts(train, args, encoder, config, offered)
            if dropped.places:
                findings.warn(lengths.CHECK, f"{dropped}; the training would be without them")
            train = without(train, dropped)
            sound = [one for one in train if id(one) not in broken]
            found = lengths.check_fit(sound, "training", encoder, budget, context, offered, findings)
            held_out = data.check_controls(_evenly(test, count), encoder, offered, findings)
            lengths.check_fit(held_out, "test", encoder, budget, context, offered, findings)
        called = [one for one in found if id(one.sample) in fine]
        with bar(console, "samples, each tool called once", len(called), live=live) as progress:
            tools.check_tools(called, encoder, budget, offered, findings, progress)
        _check_teachers([one.sample for one in called], train, arguments, args, encoder, offered, findings)
    if not with_step:
        return
    if findings.errors:
        console.print("No step was tried: what was found has to be mended first.", highlight=False)
        return
    _try_step(train, count, arguments, args, given, offered, console, findings)


def _check_teachers(
    samples: Sequence[Sample],
    train: Sequence[Sample],
    arguments: RunArguments,
    args: IAPOConfig,
    encoder: PromptEncoder,
    offered: Mapping[str, ToolDefinition],
    findings: Findings,
) -> None:
    if args.teacher_table is not None:
        teacher.check_table(train, args, encoder, offered, findings)
    of_training = None if args.teacher_table is not None else args.teacher
    names = (of_training, arguments.eval_teacher if arguments.eval_samples else None)
    for name in dict.fromkeys(name for name in names if name is not None):
        teacher.check_teacher(name, samples, args, encoder, offered, findings)


def _try_step(
    train: Sequence[Sample],
    count: int,
    arguments: RunArguments,
    args: IAPOConfig,
    given: Mapping[str, Any],
    offered: Mapping[str, ToolDefinition],
    console: Console,
    findings: Findings,
) -> None:
    prompts = args.generation_batch_size // args.num_generations
    some = _evenly(train, max(count, prompts) if count else 0)
    with findings.refusals(step.CHECK):
        with _said(console, "loading the models"):
            policy = load_student(arguments, arguments.model, args.device, arguments.prompt)
            adapter = new_adapter(arguments, policy.model)
            _, reference = make_teacher(arguments, args, policy, some, offered)
        with _said(console, "one step of training"):
            step.try_step(given, policy, reference, some, offered, findings, adapter)
    if (numbers := findings.numbers.get(step.CHECK)) is not None:
        steps = step.steps_of(args, len(train))
        numbers |= {"steps": steps}
        said = [f"{numbers['calling']} of {numbers['rollouts']} rollouts call a tool"]
        said += [
            f"{name} {one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
            for name, one in numbers["rewards"].items()
        ]
        said.append(step.say_duration(numbers["seconds"], steps))
        console.print(f"the step: {', '.join(said)}", soft_wrap=True, highlight=False)


def _check_place(args: IAPOConfig, arguments: RunArguments, findings: Findings) -> None:
    """Tries whether the run folder could be made, beside it, and whether the disk has room for the policy."""
    path = Path(args.output_dir)
    with findings.refusals("settings"):
        if args.resume_from_checkpoint is None:
            refuse_taken(args.output_dir)
        if path.is_file():
            findings.error("settings", f"{path} is a file; choose another output_dir, which is a folder")
            return
        above = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
        try:
            check_place(path)
            # What a mode says of a user, a file system that is read-only or full does not know.
            with tempfile.TemporaryDirectory(dir=above):
                free = shutil.disk_usage(above).free
        except OSError as error:
            findings.error("settings", f"output_dir {path} cannot be written: {error}; choose another output_dir")
            return
        folder = Path(resolve(arguments.model))
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
        if free < 2 * size:
            findings.warn(
                "settings",
                f"the disk of {path} has {free / 2**30:.1f} GiB left, and the student's weights alone are "
                f"{size / 2**30:.1f} GiB; each checkpoint has them and the optimiser's state",
            )


def _evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Returns so many samples from all places; all where there are no more, or 0 are asked for."""
    if not count or len(samples) <= count:
        return list(samples)
    return [samples[index * len(samples) // count] for index in range(count)]


@contextmanager
def _said(console: Console, what: str) -> Iterator[None]:
    """Shows that something is being done, and says how long it took."""
    started = time.perf_counter()
    with console.status(what):
        yield
    console.print(f"{what}: {duration(time.perf_counter() - started)}", soft_wrap=True, highlight=False)


def _print(findings: Findings, console: Console) -> None:
    if (counts := findings.numbers.get(lengths.CHECK)) is not None:
        console.print(_lengths_table(counts))
    for one in findings.found:
        console.print(f"{one.level}: {one.text}", soft_wrap=True, markup=False, highlight=False)
    warnings = len(findings.found) - findings.errors
    said = f"{findings.errors} error(s), {warnings} warning(s)" if findings.found else "nothing is wrong"
    console.print(f"iapo doctor: {said}", highlight=False)


def _lengths_table(counts: Mapping[str, Any]) -> Table:
    budget = counts["budget"]
    table = Table(title=f"tokens; a sequence may have {budget.sequence}, the model takes {counts['context']}")
    for heading in ("", "least", "median", "95%", "most", "sample"):
        table.add_column(heading, justify="left" if heading in ("", "sample") else "right")
    titles = {"image": "image", "prompt": "prompt", "sequence": "whole sequence"}
    for what in ("training", "test"):
        for name, title in titles.items():
            if what in counts:
                spread = counts[what][name]
                cells = (spread.low, spread.median, spread.most, spread.high)
                table.add_row(f"{what}: {title}", *map(str, cells), spread.sample.replace("[", "\\["))
    return table
