"""The model card of an exported policy: what its run's files say of it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.display.tables import GREEDY, MEASURES, estimate_text
from iapo.errors import InputError
from iapo.estimates import Estimate
from iapo.images import side_by_side
from iapo.records import Trace, save_png
from iapo.results import EVALUATION, MANIFEST, Manifest, SetsEvaluation, TrainingEvaluation, read_evaluation
from iapo.storage import parse_record, read_json, read_lines, write_text

CARD, PICTURE = "README.md", "example.png"

_SETTINGS = (
    *("reward", "penalty_weight", "teacher", "data", "families", "question_types", "train_samples", "data_samples"),
    *("tools", "max_steps", "num_generations", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "beta", "temperature", "max_turn_tokens", "max_completion_length"),
    *("use_peft", "lora_r", "lora_alpha", "load_in_4bit", "load_in_8bit", "seed", "charts_seed"),
)
"""Settings of a run that its card names, where they are set."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        name: Name of the policy.
        base: Base of its adapter; None where it was none.
        dtype: Type of its weights.
        parameters: Number of its weights.
        prompt: Name of its prompt.
    """

    name: str
    base: str | None
    dtype: str
    parameters: int
    prompt: str


def run_of(folder: Path) -> Path | None:
    """Returns the run of `iapo train` that a policy or checkpoint lies in, or that a folder is; None where there is
    none.

    Raises:
        InputError: If its manifest is damaged.
    """
    if not folder.is_dir():
        return None
    return next((one for one in (folder, folder.resolve().parent) if _is_training(one / MANIFEST)), None)


_RUN_FILES = ("metrics.jsonl", "traces.jsonl", "finished.json")
"""Files of runs: a manifest beside one of them is a run's, and has to be whole."""


def _is_training(path: Path) -> bool:
    """Whether a manifest is a training's: packaged checkpoints, supervised runs and other programs have others."""
    if not path.is_file():
        return False
    try:
        config = read_json(path).get("config")
    except InputError:
        if any((path.parent / name).is_file() for name in _RUN_FILES):
            raise
        return False
    if not isinstance(config, dict) or not isinstance(config.get("training"), dict):
        return False
    return Manifest.read(path).kind == "training"


def write_card(folder: Path, exported: Exported, run: Path | None, *, final: bool) -> None:
    """Writes `README.md`, and `example.png` where the run has an example.

    Args:
        folder: Folder of the exported policy.
        exported: What it is.
        run: The run folder that it comes from; None where there is none.
        final: Whether it is the run's last policy, which its evaluation measured.

    Raises:
        InputError: If a file of the run is damaged.
    """
    parts = [_front(exported, run), *_head(exported)]
    if run is None:
        parts.append("It comes from no run folder, so that nothing is known here of its training and its measures.")
    else:
        manifest = Manifest.read(run / MANIFEST)
        parts += _training(manifest)
        if final:
            parts += _measures(run)
            parts += _example(folder, run)
        else:
            parts.append("It is a checkpoint of that run; the run's evaluation is of its last policy, so none is here.")
    write_text(folder / CARD, "\n\n".join(parts) + "\n")


def _front(exported: Exported, run: Path | None) -> str:
    """Returns what the hub reads: only what is known. A license is the user's to say."""
    start = exported.base
    if start is None and run is not None:
        start = (Manifest.read(run / MANIFEST).config.get("run") or {}).get("model")
    lines = ["library_name: transformers", "pipeline_tag: image-text-to-text"]
    # Only a hub id means the same elsewhere.
    if (
        isinstance(start, str)
        and start.count("/") == 1
        and not start.startswith((".", "/"))
        and not Path(start).exists()
    ):
        lines.append(f"base_model: {json.dumps(start)}")
    return "\n".join(["---", *lines, "tags:", "- iapo", "- tool-use", "---"])


def _head(exported: Exported) -> Iterator[str]:
    yield f"# {_one_line(exported.name)}"
    merged = f", an adapter added to {_place(exported.base)}" if exported.base is not None else ""
    yield (
        "A vision-language model that calls tools on the image that it is asked about, exported by `iapo export`: "
        f"{exported.parameters:,} parameters in {exported.dtype}{merged}. It is asked with the prompt in "
        f"`prompt.yaml` ({_one_line(exported.prompt)})."
    )
    yield '```\niapo ask chart.png "QUESTION" --model .\niapo serve --model .\n```'


def _training(manifest: Manifest) -> Iterator[str]:
    run, training = (manifest.config.get(name) or {} for name in ("run", "training"))
    settings = {**training, **run}
    rows = [("model", _place(run["model"]))] if "model" in run else []
    for name in _SETTINGS:
        value = settings.get(name)
        if value not in (None, [], "", False):
            rows.append((name, _place(value)))
    yield "## Training"
    yield _table(("setting", "value"), rows)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    commit = f"; commit {manifest.commit}" if manifest.commit else ""
    yield f"Versions: {_one_line(versions)}{_one_line(commit)}."


def _measures(run: Path) -> Iterator[str]:
    yield "## Measures"
    found = [read_evaluation(path) for path in (run / EVALUATION, run / "evaluation" / EVALUATION) if path.is_file()]
    if not found:
        yield "The run was not evaluated."
    for one in found:
        yield from _held_out(one) if isinstance(one, TrainingEvaluation) else _sets(one)


def _held_out(one: TrainingEvaluation) -> Iterator[str]:
    temperature = one.settings.get("temperature")
    how = "greedy" if temperature == 0 else f"sampled at temperature {temperature:g}" if temperature else "sampled"
    rows = []
    for names, before, after in (
        (MEASURES, one.before, one.after),
        (GREEDY, one.greedy.get("before", {}), one.greedy.get("after", {})),
    ):
        for name, heading in names.items():
            cells = [estimate_text(_some(part.get(name))) for part in (before, after)]
            if cells != ["-", "-"]:
                rows.append((heading, *cells))
    yield f"{one.samples} held-out samples, {how} unless a row says otherwise; 95% intervals."
    yield _table(("", "before", "after"), rows)


def _sets(one: SetsEvaluation) -> Iterator[str]:
    yield f"`iapo evaluate` of {_place(one.model)}; 95% intervals."
    rows = [
        (name, str(part.samples), *(estimate_text(_some(part.measures.get(key))) for key in list(MEASURES)[:4]))
        for name, part in one.sets.items()
    ]
    yield _table(("set", "samples", *list(MEASURES.values())[:4]), rows)


def _some(estimate: Estimate | None) -> Estimate | None:
    """Returns an estimate that can be written; what has no ends is none."""
    known = estimate is not None and None not in (estimate.value, estimate.low, estimate.high)
    return estimate if known else None


def _example(folder: Path, run: Path) -> Iterator[str]:
    trace = _first_edited(run)
    if trace is None or trace.result.image is None:
        return
    save_png(side_by_side([*trace.sample.images, trace.result.image]), folder / PICTURE)
    outcome = trace.scores.get("outcome")
    graded = "" if outcome is None else f" It was graded {'right' if outcome.value == 1 else 'wrong'}."
    yield "## An example"
    yield (
        "The first rollout with an edited image among those that the run kept of its last policy on held-out samples: "
        f"the image, and what the model made of it.{graded}"
    )
    yield f"![The image that was asked about, and the image that the tool made of it]({PICTURE})"
    gold = " || ".join(trace.sample.answers)
    yield _quoted(f"question: {trace.sample.question}\n{trace.turn_1}\n{trace.final_text}\ngold answer: {gold}")


def _first_edited(run: Path) -> Trace | None:
    path = run / "held-out.jsonl"
    if not path.is_file():
        return None
    records = [parse_record(path, index, line) for index, line in enumerate(read_lines(path)[0])]
    last = max((one["step"] for one in records if isinstance(one.get("step"), int)), default=0)
    try:
        traces = (Trace.from_json(one, run) for one in records if one.get("step") == last and last)
        return next((one for one in traces if one.result.image is not None), None)
    except InputError as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and the card has no example") from error


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _place(value: Any) -> str:
    """Writes a setting; of a path on this machine its name alone."""
    if isinstance(value, Mapping):
        return json.dumps({str(key): _place(one) for key, one in value.items()})
    if isinstance(value, list | tuple):
        return ", ".join(_place(one) for one in value)
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith((".", "~"))):
        return Path(value).name
    return str(value)


def _quoted(text: str) -> str:
    """Indents a text, so that nothing of what a model wrote is read as Markdown."""
    return "\n".join(f"    {_printable(line)}" for line in text.splitlines())


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)
