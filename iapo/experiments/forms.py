"""What `iapo study forms` does: which forms of the penalty tell misuse by the student's own attribution."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from iapo.bounds import COUNT, SETTINGS, Bound, check_number, check_seeds
from iapo.data.sources import SourceSettings, read_sources
from iapo.display.tables import estimate_text
from iapo.errors import InputError
from iapo.estimates import Estimate, ratio
from iapo.evaluation.local import EvaluationSettings
from iapo.experiments.forms_grid import NamedForm
from iapo.experiments.forms_measure import VALUES, Cell, FormsMeter, Sampling
from iapo.experiments.study_run import files, progress_bars, write_study
from iapo.kinds import check_kinds, checks_kinds
from iapo.records import Sample
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.policy import load_policy, see_alike
from iapo.storage import check_new
from iapo.tiny.names import UNSEEN, rename
from iapo.tools import ToolDefinition, offered_tools

KIND = "forms"
NAMINGS = ("canonical", "unseen")
ENDS = ("value", "low", "high", "count")


@dataclass(frozen=True, slots=True)
class FormsPlan:
    """What is measured; written down with the numbers.

    Attributes:
        student: The student's checkpoint.
        teacher: The teacher's.
        sources: Sources of the images (`iapo.data.sources`), in equal shares.
        prompts: Images with one right axis for each seed.
        rollouts: First turns to each.
        seeds: Seeds of the synthetic images, of the turns, of the shuffling and of the unseen names.
        namings: How tools are called: by their own names (`canonical`), or by names of no lesson in a random order
            (`unseen`), other ones for each part of the prompts.
        split: Split of the data.
        question_types: Question types of synthetic images; empty: all.
        temperature: Temperature of the student's turns.
        max_turn_tokens: Longest turn in tokens.
        tools: Offered tools as a setting; None is the standard ones.
    """

    student: str
    teacher: str
    sources: tuple[str, ...] = ("vbar", "hbar")
    prompts: int = 60
    rollouts: int = 8
    seeds: tuple[int, ...] = (0,)
    namings: tuple[str, ...] = ("canonical",)
    split: str = "test"
    question_types: tuple[str, ...] = ()
    temperature: float = 1.0
    max_turn_tokens: int = 64
    tools: str | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        check_seeds(self.seeds)
        for name, bound in _BOUNDS.items():
            check_number(name, getattr(self, name), bound)


_BOUNDS = {
    "prompts": COUNT,
    "rollouts": Bound(2, whole=True),
    "temperature": SETTINGS["temperature"],
    "max_turn_tokens": COUNT,
}


@checks_kinds
def study_forms(
    plan: FormsPlan, forms: Sequence[NamedForm], out: Path, loading: tuple[LoadSettings, LoadSettings]
) -> dict[str, Any]:
    """Measures forms, prints a table a naming, and writes `forms.json` and `forms.csv`.

    Args:
        plan: The models and images.
        forms: The forms.
        out: Folder for the files.
        loading: Loading settings of the student and of the teacher.

    Returns:
        What `forms.json` holds.

    Raises:
        InputError: If `out` holds such files already, a checkpoint or the images cannot be had, or no two calls to one
            prompt differ in misuse.
    """
    check_new(out, *files(KIND))
    with progress_bars() as begin:
        cells = run_forms(plan, forms, loading, begin)
    found = summarize(plan, forms, cells)
    write_study(out, KIND, found, forms_csv(found), [forms_table(found, naming) for naming in plan.namings])
    return found


def run_forms(
    plan: FormsPlan,
    forms: Sequence[NamedForm],
    loading: tuple[LoadSettings, LoadSettings],
    begin: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None,
) -> dict[tuple[str, int], Cell]:
    """Measures each naming and seed; see `study_forms`.

    Returns:
        Cells by naming and seed.
    """
    tools = offered_tools(plan.tools)
    if len({tool.axis for tool in tools.values()} - {None}) < 2:
        raise InputError("the offered tools are all of one axis, so that no call can be misuse; offer tools of both")
    if len(tools) > len(UNSEEN) and "unseen" in plan.namings:
        raise InputError(f"there are {len(UNSEEN)} unseen names for {len(tools)} tools; take --names canonical")
    samples = {seed: read_divisible(plan, seed) for seed in plan.seeds}
    student = load_policy(plan.student, loading[0])
    teacher = load_policy(plan.teacher, loading[1])
    see_alike(teacher.processor, student.processor, loading[0])
    sampling = Sampling(plan.rollouts, EvaluationSettings(plan.max_turn_tokens, plan.temperature))
    settings = {form.name: form.settings(64, plan.max_turn_tokens) for form in forms}
    meter = FormsMeter(student, teacher, settings, sampling)
    cells = {}
    for naming in plan.namings:
        for seed, some in samples.items():
            progress = begin(f"{naming} names, seed {seed}", len(some))
            cells[naming, seed] = meter.measure(some, _naming(naming, tools, seed), seed, progress)
    return cells


def read_divisible(plan: FormsPlan, seed: int) -> list[Sample]:
    """Returns the first samples that have one right axis.

    Raises:
        InputError: If there is none, or they have different numbers of images.
    """
    settings = SourceSettings(plan.prompts, seed, plan.split, question_types=plan.question_types)
    found = [sample for sample in read_sources(plan.sources, settings) if sample.axis is not None]
    if not found:
        given = ", ".join(plan.sources)
        raise InputError(f"the first {plan.prompts} images of {given} have no right axis; take vbar or hbar, or more")
    if len({len(sample.images) for sample in found}) > 1:
        # All calls are compared over the same blocks.
        raise InputError(
            f"the samples of {', '.join(plan.sources)} have different numbers of images, so that their prompts have "
            "not the same blocks; give samples with equally many"
        )
    return found


def _naming(
    naming: str, tools: Mapping[str, ToolDefinition], seed: int
) -> Callable[[int], Mapping[str, ToolDefinition]]:
    """Returns the offered tools of each part of the prompts."""
    if naming == "canonical":
        return lambda part: tools

    def unseen(part: int) -> Mapping[str, ToolDefinition]:
        rng = np.random.default_rng((seed, part))
        mixed = [list(tools.values())[index] for index in rng.permutation(len(tools))]
        return rename(mixed, [UNSEEN[index] for index in rng.permutation(len(UNSEEN))[: len(tools)]])

    return unseen


def summarize(plan: FormsPlan, forms: Sequence[NamedForm], cells: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    """Returns the numbers of all forms: AUC over the pairs of all prompts, with bootstrap intervals over prompts; null
    with names under which there is no pair.

    Raises:
        InputError: If there is no pair of a misused and a right call to one prompt at all.
    """
    if not any(sum(cell.pairs.counted) for cell in cells.values()):
        raise InputError(
            "no prompt has both a misused and a right call, so that nothing can be told apart; take more prompts or "
            "rollouts, a higher temperature, or another student"
        )
    rows = []
    for naming in plan.namings:
        some = [cells[naming, seed] for seed in plan.seeds]
        for form in forms:
            aucs = {what: asdict(_auc(some, form.name, what)) for what in VALUES}
            by_seed = {what: [_auc([cell], form.name, what).value for cell in some] for what in VALUES}
            calls = sum(cell.calls for cell in some)
            seconds = sum(cell.seconds.get(form.name, 0.0) for cell in some) / calls if calls else None
            rows.append({"naming": naming, "form": form.name, "auc": aucs, "by_seed": by_seed, "seconds": seconds})
    counts = [
        {"naming": naming, "seed": seed, "calls": cell.calls, "executed": cell.executed, "misused": cell.misused}
        | {"pairs": sum(cell.pairs.counted) // 2}
        for (naming, seed), cell in cells.items()
    ]
    return {
        "plan": asdict(plan),
        "forms": {form.name: dict(form.given) for form in forms},
        "counts": counts,
        "rows": rows,
    }


def _auc(cells: Sequence[Cell], form: str, what: str) -> Estimate:
    counted = np.array([one for cell in cells for one in cell.pairs.counted], dtype=np.int64)
    won = [one for cell in cells for one in _of_all(cell, form, what)]
    found = ratio(np.array(won, dtype=np.int64), counted)
    return Estimate(found.value, found.low, found.high, found.count // 2)


def _of_all(cell: Cell, form: str, what: str) -> Iterator[int]:
    """Yields what was won at each prompt, 0 at one of a batch without any call."""
    won = iter(cell.pairs.won.get((form, what), ()))
    yield from (next(won, 0) for _ in cell.pairs.counted)


def forms_csv(found: Mapping[str, Any]) -> str:
    """Returns one line a naming, form and value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["naming", "form", "measure", *ENDS])
    for row in found["rows"]:
        for what, one in row["auc"].items():
            writer.writerow([row["naming"], row["form"], f"auc_{what}", *(one[end] for end in ENDS)])
        writer.writerow([row["naming"], row["form"], "seconds_a_call", row["seconds"], "", "", ""])
    return file.getvalue()


def forms_table(found: Mapping[str, Any], naming: str) -> Table:
    """Returns one line a form for the terminal, with 95% intervals over prompts."""
    counts = [one for one in found["counts"] if one["naming"] == naming]
    pairs, misused, executed = (sum(one[name] for one in counts) for name in ("pairs", "misused", "executed"))
    table = Table(
        title=f"{naming} names: {misused} of {executed} calls misused; share of {pairs} pairs of a misused and a right "
        "call to one prompt in which the misused one has the larger divergence",
        caption="uniform, named, same tools, shuffled: in the student's place; surprise: -log p of the teacher "
        "instead; CPU s: for a call",
    )
    for heading in ("form", "AUC", "uniform", "named", "same tools", "shuffled", "surprise", "CPU s"):
        table.add_column(heading)
    for row in found["rows"]:
        if row["naming"] == naming:
            values = (estimate_text(Estimate.from_json(row["auc"][what])) for what in VALUES)
            table.add_row(row["form"], *values, "" if row["seconds"] is None else f"{row['seconds']:.4f}")
    return table
