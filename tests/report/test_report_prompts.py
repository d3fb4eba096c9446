"""The prompt that the report shows is the run's; shares have one name; settings say where they left their default."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from report_runs import BLOCKS, make_run, make_trace

from iapo.evaluation.plan import EvaluationPlan
from iapo.records import Trace
from iapo.report.command import write_report
from iapo.report.pictures import Pictures
from iapo.report.read import Run, find_runs
from iapo.report.shares import shares_of, shares_sentence
from iapo.report.traces import Browsed, browse
from iapo.results import Manifest, defaults_left
from iapo.rollout.prompt import build_blocks
from iapo.rollout.template import find_prompt
from iapo.runs import RunFolder
from iapo.tools import TOOLS


def browse_run(path: Path, trace: Trace, edit: dict[str, Any] | None = None) -> Browsed:
    """One trace of a run, whose configuration may be changed."""
    make_run(path, [trace])
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["config"] |= edit or {}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return browse(find_runs([path]).runs, Pictures("embed", path), 0)


def shown_prompt(browsed: Browsed) -> list[tuple[str, str, str | None]]:
    (trace,) = browsed.traces
    blocks = browsed.prompts[trace["prompt"]]["blocks"]
    question = browsed.texts[trace["query"]]
    return [(one["type"], one["name"], question if one["type"] == "query" else one["text"]) for one in blocks]


@pytest.mark.parametrize("prompt", ["tiny", "tools"])
@pytest.mark.parametrize("tools", [None, "focus_on_rows_with_mask,focus_on_columns_with_draw", "none", "standard"])
def test_the_blocks_are_those_of_the_run(tmp_path: Path, prompt: str, tools: str | None):
    template = find_prompt(prompt)
    trace = make_trace(3, status="refused")
    browsed = browse_run(tmp_path, trace, {"run": {"tools": tools}, "prompt": template.to_json()})
    offered = (
        TOOLS if tools in (None, "standard") else {name: TOOLS[name] for name in tools.split(",") if name in TOOLS}
    )
    wanted = build_blocks(trace.sample, offered, template)
    assert shown_prompt(browsed) == [
        (block.type, block.name, None if block.type == "image" else block.text) for block in wanted
    ]
    assert browsed.prompts[0]["assumed"] is False


def test_tools_of_a_file_are_named_but_never_run(tmp_path: Path):
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    trace = make_trace(1)
    found = shown_prompt(browse_run(tmp_path / "run", trace, {"run": {"tools": f"{tmp_path}/mine.py"}}))
    # The attribution tells their names; a file's tool may bear a standard one's.
    assert [name for _, name, _ in found] == list(BLOCKS)
    assert [text for kind, _, text in found if kind == "tool"] == [None, None]


def test_what_the_folder_does_not_hold(tmp_path: Path):
    assert "prompt" not in browse_run(tmp_path / "a", make_trace(1), {"prompt": None}).traces[0]
    damaged = find_prompt("tiny").to_json() | {"question": "no place"}
    browsed = browse_run(tmp_path / "b", make_trace(1), {"prompt": damaged})
    assert "prompt" not in browsed.traces[0]
    (note,) = browsed.notes
    assert note.startswith("b has a prompt template that cannot be read")
    assert "has no place {question}" in note
    # Of a run from Python the tools are not known.
    (prompt,) = browse_run(tmp_path / "d", make_trace(1), {"run": None}).prompts
    assert prompt["assumed"]
    other = find_prompt("tools").to_json()
    make_run(tmp_path / "c", [make_trace(1)])
    for path in (tmp_path / "c" / "pictures").iterdir():
        path.unlink()
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    manifest["config"]["prompt"] = other | {"question": "{names}{width} x {height} {question}"}
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(manifest))
    # The size of a picture that is gone stands in this prompt.
    assert "prompt" not in browse(find_runs([tmp_path / "c"]).runs, Pictures("embed", tmp_path), 0).traces[0]


def run_with(path: Path, **training: Any) -> Run:
    make_run(path, [], **training)
    return find_runs([path]).runs[0]


def test_shares_have_one_name(tmp_path: Path):
    softmax = run_with(tmp_path / "a", attribution_normalization="softmax", attribution_eps=0.01)
    paper = run_with(tmp_path / "b", attribution_eps=0.01)
    signed = run_with(tmp_path / "c", attribution_form="name_signed", attribution_eps=0.01)
    assert shares_of(softmax) == {
        "name": "softmax",
        "rule": "softmax of the block scores S divided by 1, mixed with 1\u2009% of the uniform distribution",
        "signed": False,
    }
    assert shares_of(signed) == {
        "name": "signed",
        "rule": "S of a block over the sum of all blocks\u2019 |S|, with its sign",
        "signed": True,
    }
    assert shares_sentence([softmax]).startswith("Block shares are by softmax: softmax of")
    both = shares_sentence([softmax, paper])
    assert "softmax in a (" in both
    assert "magnitude in b (" in both
    unknown = run_with(tmp_path / "d", attribution_form="of another version")
    assert shares_of(unknown)["name"] == "unknown"


@dataclass
class Settings:
    needed: str
    rate: float = 0.1
    names: list[str] = field(default_factory=lambda: ["a"])
    inner: EvaluationPlan | None = None


def test_defaults_that_were_left():
    assert defaults_left(Settings("x")) == {}
    assert defaults_left(Settings("x", 0.2, ["b"])) == {"rate": 0.1, "names": ["a"]}
    plan = EvaluationPlan("tiny-student", ("vbar",), repeats=1, tools="none")
    assert defaults_left(plan) == {"tools": None}


def test_a_page_marks_them(tmp_path: Path):
    make_run(tmp_path, [make_trace(1)], defaults={"penalty_weight": 0.5})
    assert Manifest.read(tmp_path / "manifest.json").defaults == {"training": {"penalty_weight": 0.5}}
    text = write_report([tmp_path]).path.read_text(encoding="utf-8")
    assert '<mark class="changed" title="default: 0.5">0.1</mark>' in text
    RunFolder(tmp_path / "x").write_manifest({"training": {"reward": "iapo"}}, {}, {})
    assert "do not say which settings" in write_report([tmp_path / "x"]).path.read_text(encoding="utf-8")
