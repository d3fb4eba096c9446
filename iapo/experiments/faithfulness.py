"""What `iapo study faithfulness` does: whether a model's attributions of calls deserve trust (docs/faithfulness.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import set_seed

from iapo.attribution.calls import ATTRIBUTED, Turn
from iapo.attribution.settings import AttributionSettings
from iapo.bounds import COUNT, HEAT, SEED, Bound, check_number
from iapo.data.sources import SourceSettings, read_sources
from iapo.display.tables import estimate_text
from iapo.errors import InputError
from iapo.estimates import Estimate, mean
from iapo.evaluation.local import EvaluationSettings, make_generator, same_randomness
from iapo.experiments.faithfulness_measure import (
    MEASURES,
    Explanation,
    FaithfulnessMeter,
    Found,
    explanation_of,
    normalised,
)
from iapo.experiments.forms_grid import NamedForm
from iapo.experiments.study_run import files, progress_bars, write_study
from iapo.kinds import check_kinds, checks_kinds
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.policy import Policy, load_policy, see_alike
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.turns import encode_prompts, first_turns
from iapo.storage import check_new
from iapo.teachers.student_call import StudentCall
from iapo.tools import offered_tools

KIND = "faithfulness"
ENDS = ("value", "low", "high", "count")
CURVES = ("deletion", "insertion")
BATCH = 64
"""Prompts that are rolled out, or explained, together."""


@dataclass(frozen=True, slots=True)
class FaithfulnessPlan:
    """What is measured; written down with the numbers.

    Attributes:
        model: Checkpoint whose attributions are measured.
        caller: Checkpoint that writes the calls; None is the model itself.
        sources: Sources of the images (`iapo.data.sources`), in equal shares.
        samples: Samples.
        split: Split of the data.
        seed: Seed of the synthetic images, of the turns where they are sampled, and of the random orders.
        orders: Random orders of each call's blocks.
        temperature: Temperature of the turns; 0 is greedy.
        max_turn_tokens: Longest turn in tokens.
        tools: Offered tools as a setting; None is the standard ones.
    """

    model: str
    caller: str | None = None
    sources: tuple[str, ...] = ("vbar", "hbar")
    samples: int = 24
    split: str = "test"
    seed: int = 0
    orders: int = 5
    temperature: float = 0.0
    max_turn_tokens: int = 512
    tools: str | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, bound in _BOUNDS.items():
            check_number(name, getattr(self, name), bound)


_BOUNDS = {
    "samples": Bound(2, whole=True),
    "seed": SEED,
    "orders": COUNT,
    "temperature": HEAT,
    "max_turn_tokens": COUNT,
}


@checks_kinds
def study_faithfulness(
    plan: FaithfulnessPlan, forms: Sequence[NamedForm], out: Path, loading: tuple[LoadSettings, LoadSettings]
) -> dict[str, Any]:
    """Measures explanations, prints a table for each score, and writes `faithfulness.json` and `faithfulness.csv`.

    Args:
        plan: The model and samples.
        forms: Forms whose explanations are measured.
        out: Folder for the files.
        loading: Loading settings of the model and of the caller.

    Returns:
        What `faithfulness.json` holds.

    Raises:
        InputError: If `out` holds such files already, a checkpoint or the samples cannot be had, or fewer than two
            samples get a call.
    """
    check_new(out, *files(KIND))
    with progress_bars() as begin:
        found = run_faithfulness(plan, forms, loading, begin)
    tables = [faithfulness_table(found, measure) for measure in MEASURES]
    write_study(out, KIND, found, faithfulness_csv(found), tables)
    return found


def run_faithfulness(
    plan: FaithfulnessPlan,
    forms: Sequence[NamedForm],
    loading: tuple[LoadSettings, LoadSettings],
    begin: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None,
) -> dict[str, Any]:
    """Measures the explanations of all forms; see `study_faithfulness`."""
    settings = {form.name: form.settings(BATCH, plan.max_turn_tokens) for form in forms}
    named: dict[Explanation, list[str]] = {}
    for name, one in settings.items():
        named.setdefault(explanation_of(one), []).append(name)
    encoder, prompts, turns, policy = _calls(plan, loading)
    chosen = {key: settings[names[0]] for key, names in named.items()}
    meter = FaithfulnessMeter(policy, encoder, chosen, plan.orders, plan.seed)
    found = meter.measure(prompts, turns, begin("calls", len(turns)))
    return {
        "plan": asdict(plan),
        "forms": {form.name: dict(form.given) for form in forms},
        "calls": len(turns),
        "rows": [_row(key, named[key], one) for key, one in found.items()],
    }


def _calls(
    plan: FaithfulnessPlan, loading: tuple[LoadSettings, LoadSettings]
) -> tuple[PromptEncoder, list[EncodedPrompt], list[Turn], Policy]:
    """Rolls first turns out, and gives those with a call in the model's tokens."""
    tools = offered_tools(plan.tools)
    samples = read_sources(plan.sources, SourceSettings(plan.samples, plan.seed, plan.split))
    policy = load_policy(plan.model, loading[0])
    caller = policy
    if plan.caller is not None:
        caller = load_policy(plan.caller, loading[1])
        see_alike(policy.processor, caller.processor, loading[1])
    generation = EvaluationSettings(plan.max_turn_tokens, plan.temperature)
    encoder, generate = make_generator(caller, generation)
    with same_randomness():
        set_seed(plan.seed)
        rollouts = [
            one
            for start in range(0, len(samples), BATCH)
            for one in first_turns(samples[start : start + BATCH], encoder, generate, tools)
        ]
    called = [one for one in rollouts if one.trace.result.status in ATTRIBUTED]
    if len(called) < 2:
        raise InputError(
            f"{plan.caller or plan.model} calls a tool on {len(called)} of {len(samples)} samples, and at least two "
            "calls are needed; take more samples, a temperature above 0, or another model's calls by --calls-of"
        )
    reader = StudentCall(policy, encoder, AttributionSettings(), tools)
    prompts = encode_prompts([one.trace.sample for one in called], reader.encoder, tools)
    return reader.encoder, prompts, [reader.turn_of(one) for one in called], policy


def _row(key: Explanation, names: Sequence[str], found: Found) -> dict[str, Any]:
    row: dict[str, Any] = {"forms": list(names), "explanation": asdict(key)}
    row["rank"] = asdict(mean([one for one in found.rank if one is not None]))
    for measure in MEASURES:
        calls = found.curves[measure]
        wholes = [one.whole for one in calls]
        curves: dict[str, Any] = {"whole": asdict(mean(wholes))}
        for curve in CURVES:
            heights = {
                who: [getattr(getattr(one, who), curve) for one in calls] for who in ("own", "random", "occlusion")
            }
            sign = -1 if curve == "deletion" else 1
            gains = [sign * (own - other) for own, other in zip(heights["own"], heights["random"], strict=True)]
            gain = mean(gains)
            curves[curve] = {who: asdict(normalised(one, wholes)) for who, one in heights.items()}
            curves[curve]["gain"] = asdict(gain)
            curves[curve]["better_than_random"] = gain.low is not None and gain.low > 0
        row[measure] = curves
    return row


def faithfulness_csv(found: Mapping[str, Any]) -> str:
    """Returns one line an explanation and number."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["target", "score", "method", "steps", "order", "forms", "measure", "curve", "number", *ENDS])
    for row in found["rows"]:
        start = [*row["explanation"].values(), "; ".join(row["forms"])]
        writer.writerow([*start, "", "", "rank", *(row["rank"][end] for end in ENDS)])
        for measure in MEASURES:
            writer.writerow([*start, measure, "", "whole", *(row[measure]["whole"][end] for end in ENDS)])
            for curve in CURVES:
                for number in ("own", "random", "occlusion", "gain"):
                    one = row[measure][curve][number]
                    writer.writerow([*start, measure, curve, number, *(one[end] for end in ENDS)])
    return file.getvalue()


def faithfulness_table(found: Mapping[str, Any], measure: str) -> Table:
    """Returns one line an explanation for the terminal, with 95% intervals over calls.

    Args:
        found: What was measured.
        measure: Score of the curves, one of `MEASURES`.
    """
    scores = {"own": "the score that is explained", "call": "the log-probability of the call"}
    table = Table(
        title=f"{found['plan']['model']}, {found['calls']} calls: areas under the curves of {scores[measure]}; "
        "0 is the empty prompt, 1 the whole one",
        caption="Deletion: lower is better; insertion: higher is. * the deletion is not better than that of random "
        "orders. Rank: Spearman's correlation with occlusion. -: the prompt does not raise the score.",
    )
    table.add_column("explains")
    for heading in ("deletion", "random", "occl.", "insertion", "random", "occl.", "rank"):
        table.add_column(heading, min_width=6 if heading in ("random", "occl.") else 8)
    for row in found["rows"]:
        cells = []
        for curve in CURVES:
            one = row[measure][curve]
            own, random, best = (estimate_text(Estimate.from_json(one[who])) for who in ("own", "random", "occlusion"))
            mark = "*" if curve == "deletion" and not one["better_than_random"] else ""
            # The intervals of what it is set against are in the files.
            cells += [own + mark, random.split(" ")[0], best.split(" ")[0]]
        table.add_row(explains(row["explanation"]), *cells, estimate_text(Estimate.from_json(row["rank"])))
    return table


def explains(explanation: Mapping[str, Any]) -> str:
    """Names an explanation in a table."""
    words = "{target} {score}, {order}".format(**explanation)
    method = explanation["method"]
    return words if method == "gradient" else f"{words}, {method}"
