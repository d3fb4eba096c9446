"""Rollouts with more than two turns in the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from report_runs import make_run, make_trace, picture

from iapo.records import ToolResult, Trace, Turn
from iapo.report.command import write_report
from iapo.report.pictures import Pictures
from iapo.report.read import find_runs
from iapo.report.traces import browse
from iapo.rollout.template import find_prompt


def longer(number: int) -> Trace:
    """Four turns: a call, a failed one, another, an answer."""
    one = make_trace(number)
    first, last = one.turns
    failed = Turn("Again.\n```python\nno\n```", ToolResult("failed", error="line 1: no", span=(7, 26)), 0.5)
    edited = Turn("Once more.", ToolResult("edited", one.calls, picture(9), span=(0, 4)), 0.25)
    turns = (dataclasses.replace(first, divergence=0.125), failed, edited, last)
    return dataclasses.replace(one, turns=turns)


def test_a_page_has_all_turns(tmp_path: Path):
    traces = [longer(2), make_trace(4)]
    make_run(tmp_path, traces, max_turns=4)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["config"]["prompt"] = find_prompt("tiny-turns").to_json()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    browsed = browse(find_runs([tmp_path]).runs, Pictures("embed", tmp_path), 0)
    long, short = browsed.traces
    assert [one["text"] for one in long["turns"]] == [turn.text for turn in traces[0].turns]
    assert [one.get("status") for one in long["turns"]] == ["edited", "failed", "edited", None]
    assert [one.get("divergence") for one in long["turns"]] == [0.125, 0.5, 0.25, None]
    assert long["turns"][2]["edited"] is not None
    told = [browsed.texts[one["told"]] for one in long["turns"][:-1]]
    again = "Write another block, or answer the question now."
    assert told == [
        f"OBSERVATION: the edited picture is shown. {again}",
        f"OBSERVATION: line 1: no {again}",
        "OBSERVATION: the edited picture is shown. Answer the question now.",
    ]
    assert long["misused"] == traces[0].misuse
    assert [one.get("divergence") for one in short["turns"]] == [None, None]
    assert "Once more." in write_report([tmp_path]).path.read_text()
