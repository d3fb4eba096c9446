"""Evaluation within the longest sequence: what is refused before it, and what is said of rollouts that were cut."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from iapo.cli.main import main
from iapo.data.sources import SourceSettings
from iapo.data.synthetic import generate
from iapo.display.tables import evaluation_table
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, check_fit, evaluate
from iapo.evaluation.measures import summarize, summarize_repeats
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.run import run_evaluation
from iapo.results import SetMeasures, SetsEvaluation
from iapo.rollout.budget import Budget, lengths
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.tools import TOOLS

TOOL = """
import iapo
from iapo.tools.edits import focus_on_columns_with_mask as mask

def focus_on_columns_with_mask(image, names, boxes):
    "Returns a larger image."
    return mask(image, names, boxes).resize((448, 448))

tool = iapo.define(focus_on_columns_with_mask, axis="columns", style="mask")
"""


def larger(function: Callable[..., Image.Image]) -> Callable[..., Image.Image]:
    """Has a tool return a larger image; its definition in the prompt stays the same."""

    @functools.wraps(function)
    def edit(image: Image.Image, names: Any, boxes: Any, **more: Any) -> Image.Image:
        return function(image, names, boxes, **more).resize((448, 448))

    return edit


@pytest.mark.slow(1)
def test_cut_rollouts_are_counted(student: Policy) -> None:
    samples = [one for family in ("vbar", "hbar") for one in generate(family, 12, seed=5, question_types=("value",))]
    enough = max(one.needed(Budget(24)) for one in lengths(samples, PromptEncoder(student.processor)))
    tools = {
        name: dataclasses.replace(tool, function=larger(tool.function)) if tool.axis == "columns" else tool
        for name, tool in TOOLS.items()
    }
    limited = EvaluationSettings(24, temperature=1.0, max_sequence_length=enough + 100)
    traces = evaluate(student, samples, limited, tools=tools)
    cut = [one for one in traces if one.observation_cut]
    assert 0 < len(cut) < len(traces)
    assert all(any(call.axis == "columns" for call in one.result.calls) and one.turn_2 is None for one in cut)
    found = summarize(traces)
    assert found["observation_cut"].value == len(cut) / len(traces)
    executed = [one.result.executed for one in traces if one.result.called]
    assert found["call_success"].value == (sum(executed) - len(cut)) / len(executed)
    assert summarize_repeats([traces, traces])["observation_cut"].value == found["observation_cut"].value
    roomy = evaluate(student, samples, EvaluationSettings(24, temperature=1.0), tools=tools)
    assert not any(one.observation_cut for one in roomy)
    assert "observation_cut" not in summarize(roomy)
    settings = dataclasses.asdict(EvaluationPlan("m", ("s",), generation=limited))
    for some, said in ((traces, True), (roomy, False)):
        row = SetMeasures(24, "", summarize_repeats([some]), [[0.0]])
        text = io.StringIO()
        Console(file=text, width=200).print(
            evaluation_table(SetsEvaluation("m", settings, {"s": row}, row.measures["accuracy"]))
        )
        assert ("of rollouts ended before the answer" in text.getvalue()) == said


def test_set_that_does_not_fit_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    plan = EvaluationPlan(
        "tiny-student",
        ("vbar",),
        SourceSettings(count=2),
        generation=EvaluationSettings(24, max_sequence_length=100),
    )
    with pytest.raises(InputError, match=r"set max_sequence_length to \d+ or more"):
        run_evaluation(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_longer_than_the_model_takes(student: Policy) -> None:
    with pytest.raises(InputError, match="max_sequence_length is 100000, but the model takes 2048"):
        check_fit(student, [], EvaluationSettings(24, max_sequence_length=100_000))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tool.py").write_text(TOOL)
    words = f"evaluate --model tiny-student --sets vbar --samples 8 --max-turn-tokens 24 --tools {tmp_path}/tool.py"
    with pytest.raises(SystemExit) as end:
        main([*words.split(), "--out", str(tmp_path / "no"), "--max-sequence-length", "100"])
    assert end.value.code == 2
    assert "max_sequence_length" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
