"""Rollouts with more than two turns in the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from report_runs import make_run, make_trace, picture

from iapo.records import ToolResult, Trace, Turn
from iapo.report.command import write_report
from iapo.report.pictures import Pictures
from iapo.report.read import find_runs
from iapo.report.traces import browse


def longer(number: int) -> Trace:
    """Three turns: a call, a failed one, an answer."""
    one = make_trace(number)
    first, last = one.turns
    failed = Turn("Again.\n```python\nno\n```", ToolResult("failed", error="line 1: no", span=(7, 26)), 0.5)
    edited = Turn("Once more.", ToolResult("edited", one.calls, picture(9), span=(0, 4)), 0.25)
    turns = (dataclasses.replace(first, divergence=0.125), failed, edited, last)
    return dataclasses.replace(one, turns=turns)


def test_a_page_has_all_turns(tmp_path: Path):
    traces = [longer(2), make_trace(4)]
    make_run(tmp_path, traces)
    found = find_runs([tmp_path])
    browsed = browse(found.runs, Pictures("embed", tmp_path), 0)
    long, short = browsed.traces
    assert (long["turn1"], long["turn2"]) == (traces[0].turns[0].text, traces[0].turns[1].text)
    assert [one["text"] for one in long["more"]] == [turn.text for turn in traces[0].turns[1:]]
    assert [one["status"] for one in long["more"]] == ["failed", "edited", None]
    assert [one.get("divergence") for one in long["more"]] == [0.5, 0.25, None]
    assert long["more"][1]["edited"] is not None
    assert long["misused"] == traces[0].misuse
    assert short["more"] == []
    text = write_report([tmp_path]).path.read_text()
    assert "Once more." in text
