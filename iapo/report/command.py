"""What `iapo report` does."""

from __future__ import annotations

import datetime
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.report.curves import case_studies, charts, group_runs
from iapo.report.pictures import Mode, Pictures
from iapo.report.read import Run, find_runs, walk_notes
from iapo.report.render import GENERATOR, render
from iapo.report.shares import shares_of, shares_sentence
from iapo.report.tables import MEASURES, comparison, configuration, measures, paired, provenance
from iapo.report.traces import browse
from iapo.runs import versions
from iapo.storage import make_folder, without_empty, write_all

NAME = "report.html"


@dataclass(frozen=True, slots=True)
class Written:
    """A written report.

    Attributes:
        path: The page.
        runs: Number of runs it shows.
        shown: Number of traces.
        total: Number of traces there are.
        size: Bytes of the page, without images beside it.
        foreign: Sentences about what it shows and what seems to be of another run.
    """

    path: Path
    runs: int
    shown: int
    total: int
    size: int
    foreign: Sequence[str] = ()


@checks_kinds
def write_report(
    folders: Sequence[Path], out: Path | None = None, *, pictures: str = "embed", max_traces: int = 2000
) -> Written:
    """Writes one HTML page about runs.

    Args:
        folders: Run folders, or folders that hold some.
        out: The page; `report.html` in a single folder, or in the current one if there are several, if None.
        pictures: `embed`, or `folder` for a folder `<name>_files` beside the page.
        max_traces: Largest number of traces, taken evenly from all runs; 0 for all.

    Raises:
        InputError: If an argument cannot be, a folder holds no run, a file in one is damaged, or `out` is something
            else than an earlier report.
    """
    modes = get_args(Mode)
    if pictures not in modes:
        raise InputError(f"pictures is {pictures!r}; use {' or '.join(modes)}")
    if max_traces < 0:
        raise InputError(f"max_traces is {max_traces}; give the most that are wanted, or 0 for all")
    if not folders:
        raise InputError("there is nothing to report; give at least one run folder")
    found = find_runs(folders)
    path = out or (folders[0] if len(folders) == 1 else Path()) / NAME
    _check_target(path)
    make_folder(path.parent)
    store = Pictures("embed" if pictures == "embed" else "folder", path.with_name(f"{path.stem}_files"))
    browsed = browse(found.runs, store, max_traces)
    groups = group_runs(found.runs)
    others = [run for run in found.runs if not run.trained]
    notes = list(walk_notes(found))
    if len(browsed.traces) < browsed.total:
        notes.append(
            f"This page holds {len(browsed.traces):,} of {browsed.total:,} traces, evenly from all files of traces, "
            "those of one prompt together (iapo report --max-traces; 0 takes all)."
        )
    if browsed.without_patches:
        notes.append(
            f"{browsed.without_patches:,} traces have no shares of the picture's tokens, so no heat map: they were "
            "kept by an earlier version."
        )
    if store.missing:
        notes.append(
            f"{store.missing:,} pictures that traces name are not in their run folder, or cannot be read, and are not "
            "shown."
        )
    notes += [*browsed.notes, *browsed.foreign]
    own = versions()
    text = render(
        {
            "title": ", ".join(dict.fromkeys(folder.resolve().name for folder in folders)),
            "notes": notes,
            "written": f"{datetime.date.today():%d %B %Y}".lstrip("0"),
            "version": own.get("iapo", ""),
            "runs": [{"name": run.name, "method": run.method, "trained": run.trained} for run in found.runs],
            "configuration": configuration(groups, others),
            "provenance": provenance(groups, others),
            "headings": [heading for heading, _ in MEASURES.values()],
            "measures": measures(found.runs),
            # Of several seeds no one run stands for the others.
            "paired": paired([group.runs[0] for group in groups if len(group.runs) == 1]),
            "comparisons": [comparison(name, table) for name, table in found.comparisons.items()],
            "banded": any(len(group.runs) > 1 for group in groups),
            "total": browsed.total,
            "shown": len(browsed.traces),
            "has_curves": any(run.metrics for run in found.runs),
            "has_studies": any(run.case_study is not None for run in found.runs),
            "shares": shares_sentence(found.runs),
        },
        {
            "curve-data": {"charts": charts(groups), "studies": case_studies(found.runs)},
            "trace-data": {
                "runs": [
                    {"name": run.name, "method": run.method, "shares": shares_of(run), "scope": _scope(run)}
                    for run in found.runs
                ],
                "samples": browsed.samples,
                "blocks": browsed.blocks,
                "prompts": browsed.prompts,
                "texts": browsed.texts,
                "groups": browsed.groups,
                "traces": browsed.traces,
                "total": browsed.total,
            },
            "picture-data": store.addresses,
        },
    )
    # A lone surrogate, which a configuration may hold, has no encoding but a name.
    content = text.encode("utf-8", "xmlcharrefreplace")
    with without_empty():
        if store.files:
            make_folder(store.folder)
        # The page comes last, since it names the others.
        write_all({**store.files, path: content})
    foreign = [*(note for run in found.runs for note in run.foreign), *browsed.foreign]
    return Written(path, len(found.runs), len(browsed.traces), browsed.total, len(content), foreign)


def describe(written: Written) -> list[str]:
    """Writes what is said about a written report, line by line."""
    traces = f"{written.shown:,}" if written.shown == written.total else f"{written.shown:,} of {written.total:,}"
    lines = [f"Report: {written.path} ({written.runs} runs, {traces} traces, {written.size / 1e6:.1f} MB)"]
    if written.shown < written.total:
        lines.append("Not all traces are in it; --max-traces 0 takes all.")
    return [*lines, *written.foreign]


def open_report(path: Path) -> None:
    """Shows a report in the browser."""
    webbrowser.open(path.resolve().as_uri())


def _scope(run: Run) -> str:
    """Returns which tokens the teacher's components count for in a training; `rollout` where it does not say."""
    training = run.config.get("training")
    return str(training.get("penalty_scope", "rollout")) if isinstance(training, dict) else "rollout"


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of the page, for example {path / NAME}")
    if path.exists():
        if not path.is_file():
            raise InputError(f"{path} is a pipe or a device; give the name of a file, for example {NAME}")
        with path.open("rb") as file:
            if f'content="{GENERATOR}'.encode() not in file.read(4096):
                raise InputError(f"{path} exists and is no report; choose another --out or remove it")
