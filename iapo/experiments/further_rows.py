"""Further rows of a comparison: finished evaluations of other models, beside those that it measures itself.

They were measured before, by other commands. What makes numbers something else is refused; what a foreign model may
rightly have otherwise, such as no tools, is said below the table.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from iapo.errors import InputError, brief
from iapo.experiments.calls_table import read_calls
from iapo.experiments.table_one import Row, read_row, read_sets_evaluation
from iapo.experiments.trials import Budget, shared
from iapo.own_files import PART
from iapo.results import EVALUATION, MANIFEST, Manifest, SetsEvaluation
from iapo.runs import data_hash
from iapo.storage import take
from iapo.tools.offered import NONE, STANDARD

_SAMPLING = ("top_p", "repeats")
"""What a greedy evaluation has not, of what tells how one was made."""

_ASKED = ("url", "served_as", "kind")
"""What tells an endpoint's model, beside its name."""

if TYPE_CHECKING:
    from iapo.evaluation.plan import EvaluationPlan


def split_rows(rows: Iterable[str]) -> dict[str, Path]:
    """Takes `NAME=FOLDER` apart.

    Raises:
        InputError: If one has no name or no folder, or a name is given twice.
    """
    found: dict[str, Path] = {}
    for row in rows:
        name, _, folder = row.partition("=")
        name = name.strip()
        if not name or not folder:
            raise InputError(f"a row is NAME=FOLDER, not {row!r}")
        if name in found:
            raise InputError(f"two rows are named {name!r}; give each a name of its own")
        found[name] = Path(folder)
    return found


def check_names(names: Iterable[str], others: Collection[str]) -> None:
    """Refuses names of further rows that other rows have, however they are written.

    Args:
        names: Names of the further rows.
        others: Names of the comparison's own rows.

    Raises:
        InputError: If a name is empty, or that of another row.
    """
    taken = {_key(name): name for name in others}
    for name in names:
        key = _key(name)
        if not key:
            raise InputError("a further row has no name; give it one")
        if key in taken:
            raise InputError(f"a row is named {name!r}, as {taken[key]!r} is; choose another name for it")
        taken[key] = name


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def read_further_rows(rows: Mapping[str, Path], budget: Budget) -> list[Row]:
    """Reads further rows, and refuses those whose numbers are something else than the trials' will be.

    A row that was measured greedily has, beside trials that sample, greedy numbers alone. The greedy measurement of one
    that was sampled is taken from `FOLDER-greedy`, where that is one of the same model.

    Args:
        rows: Folders of finished evaluations by the name of their row.
        budget: Budget of the trials.

    Raises:
        InputError: If one is not on the trials' samples, or sampled at another temperature than they are.
    """
    if not rows:
        return []
    # With torch, which the names do without.
    from iapo.evaluation.sets import read_sets

    plan = shared(budget)[0]
    read = read_sets(plan.sets, plan.source, plan.data_damage)
    hashes = {name: data_hash(one.samples) for name, one in read.items()}
    return [_read(name, folder, plan, hashes) for name, folder in rows.items()]


def _read(name: str, folder: Path, plan: EvaluationPlan, hashes: Mapping[str, str]) -> Row:
    found = read_sets_evaluation(folder)
    _check_samples(name, found, plan, hashes)
    heat, ours = found.temperature, plan.generation.temperature
    if heat and heat != ours:
        raise InputError(
            f"row {name!r} was sampled at temperature {heat:g}, and the trials are measured "
            f"{f'at {ours:g}' if ours else 'greedily'}; evaluate it with --temperature {ours:g}"
        )
    # The current folder has no name of its own.
    folder = folder.resolve() if folder.name in ("", "..") else folder
    notes = _notes(name, folder, found, plan)
    if heat == 0 and ours:
        greedy = f"{name} was measured greedily: its numbers are in the greedy columns of the table of calls alone"
        return Row(name, {}, hashes, calls={None: read_calls({}, found.sets)}, notes=[greedy, *notes])
    beside, taken = folder.with_name(f"{folder.name}-greedy"), False
    if ours and (beside / EVALUATION).exists():
        other = _other(folder, beside)
        taken = not other
        if other:
            notes.append(f"{beside} is not the greedy measurement of {name} ({other}), and is left out")
    return dataclasses.replace(read_row(name, [folder], greedy=taken), notes=notes)


def _check_samples(name: str, found: SetsEvaluation, plan: EvaluationPlan, hashes: Mapping[str, str]) -> None:
    """Refuses an evaluation on other test samples than those of the trials."""
    if set(found.sets) != set(hashes):
        raise InputError(
            f"row {name!r} was evaluated on {', '.join(found.sets)}, and the trials are on {', '.join(hashes)}; "
            "evaluate it on the same"
        )
    for key, one in hashes.items():
        if found.sets[key].data != one:
            source = plan.source
            types = f" --question-types {','.join(source.question_types)}" if source.question_types else ""
            raise InputError(
                f"row {name!r} was evaluated on other samples of {key} than the trials are to be; evaluate it on the "
                f"same: --split {source.split} --samples {source.count} --data-seed {source.seed} --size {source.size}"
                f"{types}"
            )


def _notes(name: str, folder: Path, found: SetsEvaluation, plan: EvaluationPlan) -> list[str]:
    """Says in what an evaluation was made otherwise than those of the trials."""
    if not found.settings:
        return [f"{folder / EVALUATION} does not say how {name} was measured"]
    theirs, ours = _read_measured(folder, found), _measured(dataclasses.asdict(plan))
    other = [
        f"{what} {_word(value)} (here {_word(ours[what])})"
        for what, value in theirs.items()
        if what in ours and value != ours[what]
    ]
    if prompt := _other_prompt(folder, plan):
        other.append(prompt)
    return [f"{name} was measured otherwise than the runs here: {', '.join(other)}"] if other else []


def _read_measured(folder: Path, found: SetsEvaluation) -> dict[str, Any]:
    try:
        return _measured(found.settings)
    except InputError as error:
        raise InputError(f"{folder / EVALUATION} is damaged: {error}; restore it or give another folder") from error


def _measured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what tells how an evaluation was made, of what its file says; a model's loading is its own."""
    endpoint = take(settings, "endpoint", dict, NoneType, default=None)
    # Earlier versions knew two turns.
    generation = {"max_turns": 2, **take(settings, "generation", dict, default={})}
    asked = endpoint or generation
    # The first versions wrote down whether there were the six.
    tools = settings.get("tools")
    tools = STANDARD if tools is None or tools is True else NONE if tools is False else tools
    found = {"tools": tools, "max_turn_tokens": asked.get("max_turn_tokens")}
    if tools != NONE:
        found |= {"max_turns": generation["max_turns"], "tool_timeout": settings.get("tool_timeout")}
    if asked.get("temperature"):
        found |= {"top_p": asked.get("top_p"), "repeats": settings.get("repeats")}
    if endpoint is None:
        loading = take(settings, "loading", dict, default={})
        found |= {name: loading.get(name) for name in ("min_pixels", "max_pixels")}
        found["max_sequence_length"] = generation.get("max_sequence_length")
    return found


def _word(value: object) -> str:
    return "the six" if value == STANDARD else "none" if value is None else value if value == NONE else brief(value)


def _other_prompt(folder: Path, plan: EvaluationPlan) -> str:
    """Says that an evaluation had another prompt than the trials have; empty where it had not, or does not say."""
    # With torch.
    from iapo.evaluation.identity import template_of

    theirs, ours = _manifest(folder).get("prompt"), json.loads(json.dumps(template_of(plan).to_json()))
    if not isinstance(theirs, Mapping) or {**theirs, "name": ""} == {**ours, "name": ""}:
        return ""
    name = theirs.get("name")
    return "prompt worded otherwise" if name == ours["name"] else f"prompt {name} (here {ours['name']})"


def _manifest(folder: Path) -> Mapping[str, Any]:
    """Returns the configuration in the manifest beside an evaluation; empty where there is none."""
    return Manifest.read(folder / MANIFEST).config if (folder / MANIFEST).exists() else {}


def _other(folder: Path, beside: Path) -> str:
    """Says why an evaluation is not the greedy measurement of what another one sampled; empty where it is."""
    sampled, greedy = read_sets_evaluation(folder), read_sets_evaluation(beside)
    if sampled.model != greedy.model:
        return f"it is of {greedy.model or 'no model'}"
    if greedy.temperature != 0:
        return "it was sampled" if greedy.temperature else "it does not say that it was greedy"
    if {key: one.data for key, one in sampled.sets.items()} != {key: one.data for key, one in greedy.sets.items()}:
        return "it is on other samples"
    theirs, ours = _model(beside, greedy), _model(folder, sampled)
    return next((f"it had another {what}" for what, value in theirs.items() if value != ours.get(what)), "")


def _model(folder: Path, found: SetsEvaluation) -> dict[str, Any]:
    """Returns what tells which model was measured and with what, but for how it sampled."""
    # With torch.
    from iapo.evaluation.identity import FILES

    config, measured = _manifest(folder), _read_measured(folder, found)
    endpoint = found.settings.get("endpoint") or {}
    asked = {"endpoint": bool(endpoint), **{f"{name} of its endpoint": endpoint.get(name) for name in _ASKED}}
    loading = {} if endpoint else {"loading": found.settings.get("loading")}
    told = {"checkpoint": "checkpoint", FILES: "file of its checkpoint", PART: "own code", "prompt": "prompt"}
    rest = {name: value for name, value in measured.items() if name not in _SAMPLING}
    return {word: config.get(name) for name, word in told.items()} | asked | loading | rest
