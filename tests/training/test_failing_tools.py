"""Tools that fail, in training and in evaluation: data while they work at times, the end of the run where never."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scripted import scripted

from iapo.cli.main import main
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.policy import Policy
from iapo.runs import RunFolder
from iapo.tools import ToolDefinition, offered_tools

FREE = '''
from PIL import Image


def flaky(how: str) -> str:
    """Say something."""
    if how == "bad":
        raise RuntimeError("not today")
    return how


def turned(image: Image.Image) -> Image.Image:
    """Turn the image."""
    return image.rotate(180)
'''

# The six by their names, as the packaged student calls them.
NAMED = """
import functools

from iapo import TOOLS as SIX
from iapo import define


def _make(tool):
    @functools.wraps(tool.function)
    def edit(image, names, boxes, **more):
        if {condition}:
            raise RuntimeError("not today")
        return tool.function(image, names, boxes, **more)

    return define(edit, axis=tool.axis)


TOOLS = {{name: _make(tool) for name, tool in SIX.items()}}
"""


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


@pytest.fixture
def tools(tmp_path: Path) -> Mapping[str, ToolDefinition]:
    (tmp_path / "free.py").write_text(FREE)
    return offered_tools(f"standard,{tmp_path}/free.py", None)


def called(call: str) -> str:
    return f"```python\ndisplay({call})\n```"


def sometimes(sample: Sample, index: int) -> tuple[str, str]:
    """A text, a failure, an image, and no call."""
    right = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    return (
        (called('flaky("good")'), right),
        (called('flaky("bad")'), "FINAL ANSWER: none. TERMINATE"),
        (called("turned(image_1)"), right),
        ("FINAL ANSWER: none. TERMINATE", ""),
    )[index]


@pytest.mark.slow(1)
def test_two_steps_with_a_tool_that_fails_at_times(
    tmp_path: Path,
    model: Any,
    other_model: Any,
    processor: Any,
    charts: list[Sample],
    tools: Mapping[str, ToolDefinition],
) -> None:
    teacher = Policy(other_model, processor)
    more: dict[str, Any] = {"max_steps": 2, "tools": tools, "teacher": teacher, "penalty_weight": 0.1}
    trainer = scripted(tmp_path, model, processor, charts, script=sometimes, **more)
    trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in (row for row in rows if "reward/outcome" in row):
        assert row["tools/call_ratio"] == 0.75
        assert row["tools/success_rate"] == pytest.approx(2 / 3)
        # Neither tool has an axis: nothing is known of misuse.
        assert row.get("tools/misuse_rate") is None
        assert math.isfinite(row["reward/alignment"])
    traces = list(RunFolder(tmp_path / "run").read_traces())
    assert {one.result.status for one in traces} == {"edited", "failed", "no_call"}
    failed = next(one for one in traces if one.result.status == "failed")
    assert (failed.result.broken, failed.result.error) == (
        "flaky",
        "line 1, flaky: the tool flaky failed: RuntimeError: not today",
    )
    assert next(one for one in traces if one.result.text).result.text == "good"
    assert all("tool:turned" in one.attribution["student"] for one in traces if one.attribution)


def test_a_step_in_which_every_call_fails_ends_the_run(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], tools: Mapping[str, ToolDefinition]
) -> None:
    def never(sample: Sample, index: int) -> tuple[str, str]:
        return called('flaky("bad")'), "FINAL ANSWER: none. TERMINATE"

    trainer = scripted(tmp_path, model, processor, charts, script=never, max_steps=2, tools=tools)
    with pytest.raises(InputError, match=r"the tool flaky failed in every call of this step, 4 times in a row"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.slow(2)
def test_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.py").write_text(NAMED.format(condition="ord(names[0][0]) % 2"))
    Path("all.py").write_text(NAMED.format(condition="True"))
    words = "evaluate --model tiny-student --sets vbar --question-types value --samples 24 --max-turn-tokens 24"
    line = words.split()
    with pytest.raises(SystemExit) as end:
        main([*line, "--tools", "some.py:TOOLS", "--out", "some"])
    assert end.value.code == 0
    traces = [json.loads(one) for one in Path("some/traces.jsonl").read_text().splitlines()]
    broken = [one["result"] for one in traces if "broken" in one["result"]]
    assert 0 < len(broken) < 24
    assert all(one["status"] == "failed" and "RuntimeError: not today" in one["error"] for one in broken)
    measured = json.loads(Path("some/evaluation.json").read_text())["sets"]["vbar"]
    assert measured["call_success"]["value"] < 1
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*line, "--tools", "all.py:TOOLS", "--out", "all"])
    assert end.value.code == 2
    assert "failed in every call of this step" in capsys.readouterr().err
    assert not Path("all/evaluation.json").exists()
