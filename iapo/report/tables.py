"""The report's tables: what was run, and Table 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from iapo.bounds import ENDPOINT_HEAT
from iapo.errors import InputError, brief
from iapo.estimates import Estimate, mean_difference
from iapo.report.curves import APART, Group
from iapo.report.numbers import cell, setting
from iapo.report.read import Run
from iapo.results import Evaluation, SetsEvaluation, TrainingEvaluation

MEASURES = {
    "accuracy": ("accuracy", "share"),
    "call_ratio": ("call ratio", "share"),
    "call_success": ("call success", "share"),
    "misuse": ("misuse", "share"),
    "divergence": ("divergence", "nats"),
}
"""Columns of Table 1: key in `evaluation.json` -> heading and unit."""

_SECRET = ("hub_token", "push_to_hub_token")
_SHORT_LISTS = 6


def configuration(groups: Sequence[Group], others: Sequence[Run]) -> dict[str, Any]:
    """Compares configurations: how they differ, and what they share.

    Args:
        groups: The trainings; those of a group differ in their seed alone and have one column.
        others: Evaluations, a column each.

    Returns:
        `columns` (names), `differing` (rows of a setting's name and its value in each column; empty of one column),
        `shared` (a name and a value each), of both the `default` where a value is not that (None where all are, or the
        runs' manifests do not say), and `unmarked` (columns whose manifest says nothing of defaults).
    """
    columns = [(group.label, group.runs[0]) for group in groups] + [(run.name, run) for run in others]
    settings = [_flat(run.config) for _, run in columns]
    defaults = [_flat(run.manifest.defaults) for _, run in columns]
    differing, shared = [], []
    for key in dict.fromkeys(key for one in settings for key in one):
        values = [setting(one[key]) if key in one else "\u2013" for one in settings]
        left = [
            setting(default[key]) if key in default and setting(default[key]) != value else None
            for default, value in zip(defaults, values, strict=True)
        ]
        known = next((one for one in left if one is not None), None)
        if len(set(values)) > 1:
            changed = [one is not None for one in left]
            differing.append({"name": key, "values": values, "changed": changed, "default": known})
        else:
            shared.append({"name": key, "value": values[0], "default": known})
    unmarked = [name for name, run in columns if not run.manifest.defaults]
    return {"columns": [name for name, _ in columns], "differing": differing, "shared": shared, "unmarked": unmarked}


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        # `run` and `training` are one list of settings to whoever wrote the YAML file.
        name = f"{above}.{key}" if above not in ("", "run", "training", "evaluation") else key
        if isinstance(value, dict) and value:
            found |= _flat(value, name)
        elif key not in APART and key not in _SECRET:
            found[name] = value
    return found


def provenance(groups: Sequence[Group], others: Sequence[Run]) -> list[dict[str, Any]]:
    """Lists seeds, steps, commit, versions and data of the runs: rows of a name and a value for each column.

    A value that all columns share stands once, in `same`.
    """
    columns = [list(group.runs) for group in groups] + [[run] for run in others]
    rows: list[tuple[str, list[str]]] = [
        ("runs", [", ".join(run.name for run in runs) for runs in columns]),
        ("training seeds", [_seeds(runs) for runs in columns]),
        ("steps logged", [_distinct(str(len(run.metrics)) for run in runs if run.trained) for runs in columns]),
        ("commit", [_distinct(_commit(run) for run in runs) for runs in columns]),
    ]
    for part in ("versions", "data"):
        keys = dict.fromkeys(key for runs in columns for run in runs for key in getattr(run.manifest, part))
        for key in keys:
            values = [_distinct(_short(getattr(run.manifest, part).get(key)) for run in runs) for runs in columns]
            rows.append((f"data: {key}" if part == "data" else key, values))
    return [{"name": name, "values": values, "same": len(set(values)) == 1} for name, values in rows]


def _seeds(runs: Sequence[Run]) -> str:
    seeds = [str(run.manifest.seeds.get("training", "\u2013")) for run in runs]
    if len(seeds) > _SHORT_LISTS:
        return f"{', '.join(seeds[:_SHORT_LISTS])}, \u2026 ({len(seeds)} in all)"
    return ", ".join(seeds)


def _distinct(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or "\u2013"


def _commit(run: Run) -> str:
    head, plus, changes = str(run.manifest.commit or "unknown").partition("+")
    return head[:12] + plus + changes


def _short(value: Any) -> str:
    """Shortens a hash; a version stays as it is."""
    text = setting(value) if not isinstance(value, dict) else ", ".join(f"{key} {one}" for key, one in value.items())
    return text[:12] if len(text) == 64 else text


def measures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Makes the rows of Table 1: what each run measured, before and after training or set by set.

    Rows before training that say the same of several runs, which start from one policy, stand once. Evaluations of test
    sets that were made in different ways say how.

    Returns:
        Rows with `run`, `what`, `samples`, `cells` (one for each of `MEASURES`) and `change`, the paired difference
        to the row before training.
    """
    rows: list[dict[str, Any]] = []
    on_sets = [one for run in runs for one in run.evaluations if isinstance(one, SetsEvaluation)]
    hashes: dict[str, set[str]] = {}
    for one in on_sets:
        for name, measured in one.sets.items():
            hashes.setdefault(name, set()).add(str(measured.data))
    told = len({_how(one) for one in on_sets}) > 1
    for run in runs:
        for evaluation in run.evaluations:
            for row in _rows(run, evaluation):
                if isinstance(evaluation, SetsEvaluation):
                    name = row["what"]
                    more = [_how(evaluation)] if told else []
                    more += [f"data {str(evaluation.sets[name].data)[:8]}"] if len(hashes[name]) > 1 else []
                    row["what"] = ", ".join([name, *more])
                rows.append(row)
    starts = [row for row in rows if row["what"] == "before"]
    if len(starts) > 1 and all(row["cells"] == starts[0]["cells"] for row in starts):
        rest = [row for row in rows if row["what"] != "before"]
        return [{**starts[0], "run": "all runs"}, *rest]
    return rows


def _how(evaluation: SetsEvaluation) -> str:
    """Says how an evaluation of test sets was made."""
    heat = evaluation.temperature
    tools = evaluation.settings.get("tools") if isinstance(evaluation.settings, Mapping) else None
    sampled = "at an unknown temperature" if heat is None else f"at temperature {heat:g}" if heat else "greedy"
    # Early versions wrote down whether there were the six.
    if tools in (None, True):
        return sampled
    return f"{sampled}, without tools" if tools in ("none", False) else f"{sampled}, with {tools}"


def _rows(run: Run, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    if isinstance(evaluation, SetsEvaluation):
        for name, one in evaluation.sets.items():
            cells = _cells(one.measures)
            yield {"run": run.name, "what": name, "samples": one.samples, "cells": cells, "change": None}
        return
    for when, measured in (("before", evaluation.before), ("after", evaluation.after)):
        if measured:
            change = evaluation.differences.get("outcome") if when == "after" else None
            yield {
                "run": run.name,
                "what": when,
                "samples": evaluation.samples,
                "cells": _cells(measured),
                "change": None if change is None else cell(change, signed=True),
            }


def _cells(found: Mapping[str, Estimate]) -> list[dict[str, str]]:
    return [cell(found.get(key), unit) for key, (_, unit) in MEASURES.items()]


def paired(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Compares accuracies after training, sample by sample, of runs with one test set with the first's.

    Returns:
        Rows with `run`, `reference` and the difference's `cell`; a 95% bootstrap interval over samples. Runs that were
        evaluated at different temperatures are not paired.
    """
    by_data: dict[tuple[str, str], list[tuple[Run, Sequence[float]]]] = {}
    for run in runs:
        trained = [one for one in run.evaluations if isinstance(one, TrainingEvaluation)]
        found = [one for one in trained if "after" in one.outcomes]
        test = run.manifest.data.get("test")
        if found and isinstance(test, str):
            settings = found[0].settings
            heat = settings.get("temperature") if isinstance(settings, Mapping) else None
            if isinstance(heat, int | float) and ENDPOINT_HEAT.allows(heat):
                heat = float(heat)
            key = (test, str(heat))
            by_data.setdefault(key, []).append((run, found[0].outcomes["after"]))
    rows = []
    for same in by_data.values():
        reference, base = same[_reference([run for run, _ in same])]
        for run, outcomes in same:
            if run is reference or len(outcomes) != len(base):
                continue
            change = cell(mean_difference(outcomes, base, shares=True), signed=True)
            rows.append({"run": run.name, "reference": reference.name, "cell": change})
    return rows


def _reference(runs: Sequence[Run]) -> int:
    """Finds plain GRPO, or else the first run."""
    return next((place for place, run in enumerate(runs) if run.method == "grpo"), 0)


def comparison(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Reads Table 1 of an `iapo compare` folder, as its `table1.json` has it.

    Raises:
        InputError: If it is no such table.
    """
    try:
        headings = [*found["sets"], "average"]
        rows = [
            {
                "name": row["name"],
                "seeds": str(row["seeds"] or "\u2013"),
                "cells": [cell(None) if row["accuracy"] is None else _marked(row["accuracy"][key]) for key in headings],
                "difference": None if row["difference"] is None else _marked(row["difference"]["average"], signed=True),
            }
            for row in found["rows"]
        ]
        # Earlier versions had no notes.
        notes = [str(note) for row in found["rows"] for note in row.get("notes", ())]
        return {"name": name, "headings": headings, "reference": found["reference"], "rows": rows, "notes": notes}
    except (KeyError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"table1.json of {name} is damaged ({brief(error)}); run iapo compare on its folder again"
        ) from error


def _marked(estimate: Mapping[str, Any], *, signed: bool = False) -> dict[str, str]:
    found = cell(Estimate.from_json(estimate), signed=signed)
    return found | {"interval": found["interval"] + ("*" if estimate.get("over") == "samples" else "")}
