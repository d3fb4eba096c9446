"""Run folders for tests of the report, written as a training writes them, but of invented numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
from iapo.rollout.template import find_prompt
from iapo.runs import RunFolder

BLOCKS = ("context", "image_1", "tool:focus_on_columns_with_mask", "tool:focus_on_rows_with_mask", "query")

HOSTILE = (
    "</script><script>window.broken=1</script><!-- \u2028 \u2029 \"quotes\" 'and' `more` \\ {{ 7*7 }} "
    '<img src=x onerror="window.broken=1"> &lt;b&gt; \U0001f4ca \ud800 \x00'
)


def picture(number: int) -> Image.Image:
    image = Image.new("RGB", (96, 72), "white")
    ImageDraw.Draw(image).rectangle(
        (8 * (number % 10), 20, 8 * (number % 10) + 12, 70), fill=(30, 60, 40 * (number % 6))
    )
    return image


def make_trace(
    number: int, *, step: int | None = 1, status: Any = "edited", question: str | None = None, patches: bool = True
) -> Trace:
    """A trace whose properties follow from its number: every second is right, every third misused."""
    axis, family = ("columns", "vbar") if number % 2 == 0 else ("rows", "hbar")
    used = ({"columns": "rows", "rows": "columns"}[axis]) if number % 3 == 0 else axis
    sample = Sample(
        f"{family}-{number}",
        picture(number),
        f"value of {'ABCDEFGH'[number % 8]}{number}?" if question is None else question,
        (str(number % 9),),
        axis=axis,
        source=f"synthetic/{family}",
    )
    call = ToolCall(f"focus_on_{used}_with_mask", ("A",), f"{used}_bbox", used)
    program = f'display(focus_on_{used}_with_mask(image_1, ["A"], {used}_bbox))'
    turn = f"\U0001f4ca I look.\n```python\n{program}\n```"
    start = turn.index("display")
    span = (start, start + len(program))
    if status == "edited":
        result = ToolResult("edited", (call,), picture(number + 1), span=span)
    elif status == "no_call":
        result = ToolResult("no_call")
    else:
        result = ToolResult(status, (), None, f"line 1: {question or 'import is not allowed'}", span)
    student = {name: 0.1 + 0.02 * place for place, name in enumerate(BLOCKS)}
    teacher = {name: 0.2 - 0.02 * place for place, name in enumerate(BLOCKS)}
    attributed = status in ("edited", "failed")
    return Trace.of(
        sample,
        turn if status != "no_call" else "FINAL ANSWER: 3. TERMINATE",
        result,
        None if status == "no_call" else f"FINAL ANSWER: {number % 9}. TERMINATE",
        {"outcome": Score(float(number % 2 == 0)), "alignment": Score(-0.25), "divergence": Score(0.25)},
        {"student": student, "teacher": teacher} if attributed else {},
        step,
        {"student": (((0.1, -0.2, 0.0), (0.05, 0.0, 0.1)),), "teacher": (((0.0, 0.4, 0.0), (0.0, 0.0, 0.0)),)}
        if attributed and patches
        else {},
    )


def make_group(number: int, *, size: int = 4, step: int = 1) -> list[Trace]:
    """The rollouts of one prompt in one step: every second is right, the first one nearest to the teacher."""
    return [
        dataclasses.replace(
            make_trace(number, step=step),
            scores={
                "outcome": Score(float(place % 2)),
                "alignment": Score(-0.1 * place),
                "divergence": Score(0.1 * place),
            },
        )
        for place in range(size)
    ]


def estimate(value: float, count: int = 500) -> dict[str, Any]:
    return {"value": value, "low": value - 0.03, "high": value + 0.03, "count": count}


def make_run(
    path: Path,
    traces: list[Trace],
    *,
    seed: int = 0,
    shift: float = 0.0,
    steps: int = 20,
    study: bool = False,
    held_out: list[Trace] | None = None,
    defaults: dict[str, Any] | None = None,
    **training: Any,
) -> RunFolder:
    """A finished run of `steps` steps; `training` are settings (`defaults` the defaults of some), `shift` moves all of
    its measurements.
    """
    folder = RunFolder(path)
    config = {"reward": "iapo", "penalty_weight": 0.1, "seed": seed, "output_dir": str(path), "hub_token": "secret-one"}
    folder.write_manifest(
        {
            "run": {"model": "tiny-student", "families": ["vbar", "hbar"]},
            "training": config | training,
            "prompt": find_prompt("tiny").to_json(),
        },
        seeds={"training": seed, "charts": 0, "evaluation": 0},
        data={"train": "a" * 64, "test": "b" * 64},
        defaults={"training": defaults} if defaults else None,
    )
    for step in range(1, steps + 1):
        folder.append_metrics(
            {
                "step": step,
                "reward/outcome": 0.5 + 0.01 * step + shift,
                "tools/misuse_rate": 0.4 - 0.01 * step,
                "tools/success_rate": 1.0,
                "tools/call_ratio": 1.0,
                "attribution/divergence": 0.5 - 0.01 * step + shift,
                "attribution/lambda": 0.1,
                "weight/outcome": 1.0,
                "weight/alignment": 0.1,
            }
        )
    folder.append_traces(traces)
    if held_out is not None:
        folder.write_held_out(held_out)
    names = ("accuracy", "call_ratio", "call_success", "misuse", "divergence")
    folder.write_evaluation(
        {
            "samples": 4,
            "before": {name: estimate(0.5) for name in names},
            "after": {name: estimate(0.6 + shift) for name in names},
            "after_minus_before": {"outcome": estimate(0.1)},
            "outcomes": {"before": [0.0, 1.0, 0.0, 1.0], "after": [1.0, 1.0, 0.0, float(shift > 0)]},
        }
    )
    if study:
        points = [
            {
                "step": step,
                "samples": 64,
                "misuse": estimate(0.4 - 0.01 * step, 64),
                "right_tools": estimate(0.1 + 0.002 * step, 64),
                "wrong_tools": None if step == 0 else estimate(0.08, 64),
            }
            for step in (0, 10, 20)
        ]
        level = {"right_tools": estimate(0.12), "wrong_tools": estimate(0.05)}
        text = json.dumps({"points": points, "teacher": level, "settings": {"samples": 64}})
        (path / "case-study.json").write_text(text)
    return folder
