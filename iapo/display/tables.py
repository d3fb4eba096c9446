"""Tables of saved evaluations for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from iapo.estimates import Estimate, mean_difference
from iapo.results import SetsEvaluation, TrainingEvaluation
from iapo.runs import RunFolder

MEASURES = {
    "accuracy": "accuracy",
    "call_ratio": "call ratio",
    "call_success": "call success",
    "misuse": "misuse",
    "divergence": "mean divergence",
}
"""Rows of the comparison: key in `evaluation.json` -> heading."""

GREEDY = {"accuracy": "accuracy, greedy", "misuse": "misuse, greedy"}
"""More rows of the comparison, of the greedy evaluation."""

ENTROPIES = {"student_entropy": "entropy, student", "teacher_entropy": "entropy, teacher"}
"""More rows of the comparison: mean entropies of the shares, in nats."""

SHORTFALLS = {
    "observation_cut": "ended before the answer: the edited image did not fit",
    "empty_turn": "have an empty turn",
    "cut_turn": "have a turn that was cut off at its longest",
}
"""Keys of shares of rollouts in which something came short, and what they are; there only where there were some."""

TURNS = {"turns": "turns", "calls_per_turn": "calls a turn"}
"""Headings of what is measured of rollouts with more than two turns, by key."""


def estimate_text(estimate: Estimate | None, sign: str = "") -> str:
    """Writes an estimate as `value [low, high]`, or a dash where nothing was counted.

    Args:
        estimate: Estimate; None where there is none.
        sign: `+` where positive numbers are to have their sign as well.
    """
    if estimate is None or estimate.value is None:
        return "-"
    value, low, high = (f"{end:{sign}.3f}" for end in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def comparison_table(folders: Mapping[str, RunFolder]) -> Table:
    """Makes a table of one column for the start and one a run, 95% intervals beside the values.

    Args:
        folders: Evaluated runs by name, all from one start and on the same held-out samples.
    """
    evaluations = {name: folder.read_evaluation() for name, folder in folders.items()}
    first = next(iter(evaluations.values()))
    table = Table(title=f"{_held_out(first)}; 95% intervals")
    columns = {"before": (first.before, first.greedy.get("before", {}))}
    columns |= {name: (one.after, one.greedy.get("after", {})) for name, one in evaluations.items()}
    for heading in ("", *columns):
        table.add_column(heading)
    for headings, place in ((MEASURES, 0), (GREEDY, 1), (ENTROPIES, 0)):
        for key, heading in headings.items():
            cells = [estimate_text(column[place].get(key)) for column in columns.values()]
            if any(cell != "-" for cell in cells):
                table.add_row(heading, *cells)
    return table


def difference_lines(folders: Mapping[str, RunFolder]) -> list[str]:
    """Writes paired changes of accuracy, a line each: of runs against the start, of the others against the first."""
    evaluations = {name: folder.read_evaluation() for name, folder in folders.items()}
    lines = []
    for name, one in evaluations.items():
        lines.append(f"{name} - before, accuracy, paired: {estimate_text(one.differences['outcome'])}")
    (first, reference), *others = ((name, one.outcomes["after"]) for name, one in evaluations.items())
    for name, outcomes in others:
        change = mean_difference(outcomes, reference, shares=True)
        lines.append(f"{name} - {first}, accuracy, paired: {estimate_text(change)}")
    return lines


def training_table(evaluation: TrainingEvaluation) -> Table:
    """Makes one row a measure of a training: before, after, and the paired difference; 95% intervals beside the values.

    Args:
        evaluation: Evaluation before and after the training.
    """
    caption = _shortfalls([evaluation.before, evaluation.after])
    table = Table(title=f"{_held_out(evaluation)}; 95% intervals", caption=caption)
    for heading in ("", "before", "after", "difference"):
        table.add_column(heading)
    greedy = [evaluation.greedy.get(when, {}) for when in ("before", "after")]
    parts = (
        (MEASURES | TURNS, [evaluation.before, evaluation.after], evaluation.differences),
        (GREEDY, greedy, evaluation.greedy_differences),
    )
    for headings, sides, differences in parts:
        for name, heading in headings.items():
            if any(name in one and one[name].value is not None for one in sides):
                change = differences.get("outcome" if name == "accuracy" else name)
                table.add_row(heading, *(estimate_text(one.get(name)) for one in sides), estimate_text(change, "+"))
    return table


def _shortfalls(measured: Sequence[Mapping[str, Estimate]]) -> str | None:
    """Says in how many rollouts something came short; None where nothing did."""
    found = []
    for key, said in SHORTFALLS.items():
        if share := max((one[key].value or 0.0 for one in measured if key in one), default=0.0):
            found.append(f"up to {share:.1%} of rollouts {said}")
    return "; ".join(found) or None


def _held_out(evaluation: TrainingEvaluation) -> str:
    settings = evaluation.settings
    how = "greedy" if settings["temperature"] == 0 else f"sampled at temperature {settings['temperature']:g}"
    return f"{evaluation.samples} held-out charts, {how}"


def endings(paths: Sequence[str]) -> list[str]:
    """Returns names of test sets as a table shows them: of paths as many of the last parts as tell them apart.

    Args:
        paths: Families, benchmarks, hub ids and paths; a name with one slash may be a hub id, and stays whole.
    """
    parts = [name.rstrip("/").split("/") if name.count("/") > 1 else [name] for name in paths]
    shown = ["/".join(one[-1:]) for one in parts]
    for length in range(2, max(map(len, parts), default=1) + 1):
        if len(set(shown)) == len(shown):
            break
        shown = ["/".join(one[-length:]) for one in parts]
    return shown


def evaluation_table(evaluation: SetsEvaluation) -> Table:
    """Returns one row a test set of an `iapo evaluate`, and the average of the accuracies; 95% intervals beside the
    values.
    """
    settings = evaluation.settings
    generation = settings["endpoint"] or settings["generation"]
    how = "greedy" if generation["temperature"] == 0 else f"sampled at temperature {generation['temperature']:g}"
    named = {None: "with tools", "none": "without tools"}
    tools = named.get(settings["tools"], f"with {settings['tools']}")
    times = "" if settings["repeats"] == 1 else f", {settings['repeats']} times each"
    caption = _shortfalls([row.measures for row in evaluation.sets.values()])
    table = Table(title=f"{evaluation.model}, {tools}, {how}{times}; 95% intervals", caption=caption)
    measures = {key: MEASURES[key] for key in list(MEASURES)[:4]}
    measures |= {key: TURNS[key] for key in TURNS if any(key in row.measures for row in evaluation.sets.values())}
    for heading in ("", "samples", *measures.values()):
        table.add_column(heading)
    for name, row in zip(endings(list(evaluation.sets)), evaluation.sets.values(), strict=True):
        samples = f"{row.samples} of {row.rows['expected']}" if row.rows else str(row.samples)
        table.add_row(name, samples, *(estimate_text(row.measures.get(key)) for key in measures))
    if len(evaluation.sets) > 1:
        table.add_row("average", "", estimate_text(evaluation.average))
    return table
