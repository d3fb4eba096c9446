"""The tables of `iapo plan` for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from iapo.planning.plan import GIB, Plan
from iapo.planning.report import Report


def gib(size: float) -> str:
    """Writes bytes in GiB."""
    return f"{size / GIB:.1f}" if size >= GIB else f"{size / GIB:.2f}"


def phase_table(plan: Plan) -> Table:
    """Makes a table of one row a part and one column a phase, in GiB of one device."""
    each = "each of " if plan.gpus > 1 else ""
    title = f"GiB on {each}{plan.gpus} GPU{'s' if plan.gpus > 1 else ''} of {gib(plan.memory)}"
    table = Table(title=title, pad_edge=False)
    table.add_column("", no_wrap=True)
    for phase in plan.phases:
        table.add_column(phase, justify="right")
    parts = dict.fromkeys(part for phase in plan.phases.values() for part in phase)
    for part in parts:
        row = [gib(phase[part]) if part in phase else "" for phase in plan.phases.values()]
        table.add_row(part, *row)
    table.add_section()
    table.add_row("all", *(gib(plan.total(phase)) for phase in plan.phases))
    return table


def change_table(report: Report) -> Table:
    """Makes a table of what takes less: settings, the peak after them, whether it fits."""
    table = Table(title="What takes less, each change alone")
    for heading in ("settings", "peak", "fits", "effect"):
        table.add_column(heading, justify="right" if heading == "peak" else "left")
    for option in report.alone:
        (change,) = option.changes
        unset = "".join(f", without {name}" for name in change.remove)
        fits = "yes" if option.plan.fits else "no"
        table.add_row((change.text or "no setting") + unset, gib(option.plan.peak), fits, change.effect)
    return table


def lines(report: Report) -> Iterator[str]:
    """Yields sentences: the size, the tokens, whether it fits, and what together does."""
    plan, load, step = report.plan, report.plan.load, report.steps
    yield f"{plan.parameters / 1e6:,.0f} M parameters, {plan.trainable / 1e6:,.1f} M of them trained"
    each = f"image {load.image:,}" if load.images == 1 else f"{load.images} images of {load.image:,}"
    yield (
        f"prompt {load.prompt:,} tokens ({each}), first turn {load.turn:,}, "
        f"completion {load.completion:,}; {load.rows} rows at once"
    )
    yield (
        f"an optimiser step: {step['prompts']} prompts, {step['rollouts']} rollouts; tokens read {step['read']:,}, "
        f"written {step['written']:,}, attributed {step['attributed']:,}, trained {step['trained']:,}"
    )
    if plan.least:
        yield f"the attribution of one call takes {gib(plan.least)} GiB at least; more memory makes it faster"
    verdict = "fits" if plan.fits else "does not fit"
    tight = ", but with less than a tenth to spare" if plan.fits and plan.peak > 0.9 * plan.memory else ""
    yield f"It {verdict}: {gib(plan.peak)} of {gib(plan.memory)} GiB, at its largest in {plan.worst}{tight}."
    if not plan.fits:
        if report.together is None:
            yield "No change known here makes it fit; take a smaller model or a larger device."
        else:
            text = " ".join(change.text for change in report.together.changes if change.text)
            yield f"It fits, {gib(report.together.plan.peak)} GiB, with: {text}"
