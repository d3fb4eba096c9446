"""What a run's attribution shares are: the one name by which the whole page speaks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iapo.attribution.forms import form_values
from iapo.errors import InputError
from iapo.report.numbers import finite, setting
from iapo.report.read import Run


def shares_of(run: Run) -> dict[str, Any] | None:
    """Names the normalisation by which a training's block scores became shares.

    Returns:
        `name` (`softmax`, ...), `rule` (a formula in words, with its numbers) and `signed` (whether they have a sign);
        None of an evaluation, which has no attribution.
    """
    training = run.config.get("training")
    if not isinstance(training, dict):
        return None
    try:
        form = form_values(training)
    except (InputError, TypeError):
        return {"name": "unknown", "rule": "by a rule that this version does not know", "signed": False}
    name = str(form["attribution_normalization"])
    temperature, floor = (setting(finite(form[f"attribution_{one}"])) for one in ("temperature", "floor"))
    rules = {
        "magnitude": "|S| of a block over the sum of all blocks\u2019 |S|",
        "softmax": f"softmax of the block scores S divided by {temperature}",
        "floored": f"|S| + {floor} of a block over the sum of all blocks\u2019",
        "signed": "S of a block over the sum of all blocks\u2019 |S|, with its sign",
    }
    rule = rules.get(name, "by a rule that this version does not know")
    eps = finite(training.get("attribution_eps"))
    if name != "signed" and eps:
        rule += f", mixed with {100 * eps:g}\u2009% of the uniform distribution"
    return {"name": name, "rule": rule, "signed": name == "signed"}


def shares_sentence(runs: Sequence[Run]) -> str:
    """Writes the sentence that stands wherever the page shows shares or divergences; empty where no run has any."""
    named = [(run.name, found) for run in runs if (found := shares_of(run)) is not None]
    if not named:
        return ""
    rules = {(found["name"], found["rule"]) for _, found in named}
    if len(rules) == 1:
        ((name, rule),) = rules
        return f"Block shares are by {name}: {rule}."
    return (
        "Block shares are by "
        + "; ".join(
            f"{found['name']} in {', '.join(run for run, one in named if one == found)} ({found['rule']})"
            for found in _distinct([found for _, found in named])
        )
        + "."
    )


def _distinct(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for place, one in enumerate(found) if one not in found[:place]]
