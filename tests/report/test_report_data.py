"""What a report holds: which runs, which numbers, which traces, in how many bytes."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_runs import BLOCKS, HOSTILE, make_run, make_trace, picture

from iapo.errors import InputError
from iapo.estimates import Estimate
from iapo.records import save_png
from iapo.report.command import write_report
from iapo.report.curves import charts, group_runs
from iapo.report.numbers import cell, number, setting
from iapo.report.pictures import Pictures
from iapo.report.read import find_runs
from iapo.report.render import to_json
from iapo.report.tables import comparison, configuration, measures, paired, provenance
from iapo.report.traces import LEVELS, browse, evenly, pack_grid, share_out
from iapo.results import write_result
from iapo.runs import RunFolder


class Scripts(HTMLParser):
    """The scripts of a page as a parser of HTML finds them, and its text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._attributes: dict[str, str | None] | None = None
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        if tag == "script":
            self.found.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)
        elif self.get_starttag_text().startswith("<script"):
            attributes, text = self.found[-1]
            self.found[-1] = attributes, text + data


def data_of(page: Path) -> dict[str, Any]:
    scripts = Scripts(page.read_text(encoding="utf-8")).found
    return {str(one["id"]): json.loads(text) for one, text in scripts if one.get("type") == "application/json"}


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Two methods with three and one seed."""
    root = tmp_path / "compared"
    for seed in range(3):
        make_run(root / "grpo" / f"seed-{seed}", [make_trace(seed)], seed=seed, shift=0.1 * seed, penalty_weight=0.0)
    make_run(root / "iapo" / "seed-0", [make_trace(9)])
    return root


def test_curves_are_means_with_bands_over_seeds(seeds: Path):
    groups = group_runs(find_runs([seeds]).runs)
    assert [(group.label, len(group.runs)) for group in groups] == [("grpo", 3), ("iapo/seed-0", 1)]
    outcome = next(chart for chart in charts(groups) if chart["key"] == "reward/outcome")
    assert outcome["steps"] == list(range(1, 21))
    several, one = outcome["series"]
    assert several["runs"] == 3
    for end, value in (("mean", 0.61), ("low", 0.51), ("high", 0.71)):
        assert several[end][0] == pytest.approx(value)
    assert one["mean"][-1] == pytest.approx(0.7)
    assert "low" not in one


def test_a_step_that_one_seed_lacks_has_no_mean(seeds: Path):
    path = seeds / "grpo" / "seed-1" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    outcome = charts(group_runs(find_runs([seeds]).runs))[0]["series"][0]
    assert outcome["mean"][4] is not None
    assert outcome["mean"][5:] == [None] * 15
    path.write_text("")
    outcome = charts(group_runs(find_runs([seeds]).runs))[0]["series"][0]
    assert (outcome["runs"], outcome["mean"][0]) == (2, pytest.approx(0.61))


def test_other_settings_are_other_lines(tmp_path: Path):
    for name, rate in (("a", 1e-4), ("b", 2e-4)):
        defaults = {"learning_rate": 1e-4, "reward": "none"} if name == "b" else None
        make_run(tmp_path / name, [], learning_rate=rate, defaults=defaults)
    runs = find_runs([tmp_path]).runs
    groups = group_runs(runs)
    assert [group.label for group in groups] == ["a", "b"]
    found = configuration(groups, [])
    rate = {"name": "learning_rate", "values": ["0.0001", "0.0002"], "changed": [False, True], "default": "0.0001"}
    assert found["differing"] == [rate]
    assert {"name": "families", "value": "vbar, hbar", "default": None} in found["shared"]
    assert {"name": "reward", "value": "iapo", "default": "none"} in found["shared"]
    # The manifest of the other one does not say.
    assert found["unmarked"] == ["a"]
    assert "secret-one" not in str(found)
    rows = {row["name"]: row for row in provenance(groups, [])}
    assert rows["data: test"] == {"name": "data: test", "values": ["b" * 12] * 2, "same": True}
    assert rows["steps logged"]["values"] == ["20", "20"]


def test_table_one(tmp_path: Path):
    make_run(tmp_path / "iapo", [], shift=0.05)
    make_run(tmp_path / "plain", [], penalty_weight=0.0)
    runs = find_runs([tmp_path]).runs
    rows = measures(runs)
    # Both start alike, which is said once.
    assert [(row["run"], row["what"]) for row in rows] == [
        ("all runs", "before"),
        ("iapo", "after"),
        ("plain", "after"),
    ]
    assert rows[1]["cells"][0] == {"value": "65.0", "interval": "[62.0, 68.0]"}
    assert rows[1]["cells"][4] == {"value": "0.650", "interval": "[0.620, 0.680]"}
    assert rows[1]["change"] == {"value": "+10.0", "interval": "[+7.0, +13.0]"}
    (difference,) = paired(runs)
    assert (difference["run"], difference["reference"]) == ("iapo", "plain")
    assert difference["cell"]["value"] == "+25.0"


def test_runs_that_were_evaluated_at_different_temperatures_are_not_paired(tmp_path: Path):
    for name in ("a", "b"):
        make_run(tmp_path / name, [])
    assert len(paired(find_runs([tmp_path]).runs)) == 1
    path = tmp_path / "b" / "evaluation.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "settings": {"temperature": 0.25}}))
    assert paired(find_runs([tmp_path]).runs) == []
    for name, heat in (("a", 1), ("b", 1.0)):
        path = tmp_path / name / "evaluation.json"
        path.write_text(json.dumps({**found, "settings": {"temperature": heat}}))
    assert len(paired(find_runs([tmp_path]).runs)) == 1


def on_sets(folder: Path, settings: Any, data: Any = "c") -> None:
    half = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 4}
    sets = {"vbar": {"samples": 4, "data": data * 64, "accuracy": half, "outcomes": [[1.0, 0.0, 1.0, 0.0]]}}
    RunFolder(folder).write_manifest({"evaluation": {"model": "m"}, "checkpoint": None}, {"sampling": 0}, {})
    RunFolder(folder).write_evaluation({"model": "m", "settings": settings, "sets": sets, "average": half})


@pytest.mark.parametrize(
    ("settings", "data", "said"),
    [
        ([{"generation": {"temperature": 0.0}}] * 2, "cc", ["vbar", "vbar"]),
        (
            [{"generation": {"temperature": 0.0}}, {"endpoint": {"temperature": 0.5}, "tools": "none"}],
            "cc",
            ["vbar, greedy", "vbar, at temperature 0.5, without tools"],
        ),
        (
            [{"tools": "own.py"}, []],
            "cc",
            ["vbar, at an unknown temperature, with own.py", "vbar, at an unknown temperature"],
        ),
        ([{}, {}], "cd", ["vbar, data cccccccc", "vbar, data dddddddd"]),
        ([{}, {}], [[3], [4]], ["vbar, data [3, 3, 3", "vbar, data [4, 4, 4"]),
        ([{"generation": {"temperature": 10**400}}, {}], "cc", ["vbar", "vbar"]),
        (
            [{"tools": True}, {"tools": False}],
            "cc",
            ["vbar, at an unknown temperature", "vbar, at an unknown temperature, without tools"],
        ),
    ],
)
def test_evaluations_side_by_side_say_in_what_they_differ(
    tmp_path: Path, settings: list[Any], data: list[Any] | str, said: list[str]
):
    for place, one in enumerate(settings):
        on_sets(tmp_path / str(place), one, data[place])
    assert [row["what"] for row in measures(find_runs([tmp_path]).runs)] == said


def test_numbers():
    assert [number(value) for value in (0.5, 1.0, -0.0001, 0.12345)] == ["50.0", "100.0", "0.0", "12.3"]
    assert number(-0.25, signed=True) == "\u221225.0"
    assert number(-0.0004, "nats") == "0.000"
    assert cell(None) == cell(Estimate(None, None, None, 0)) == {"value": "\u2013", "interval": ""}
    assert cell(Estimate(0.1, None, None, 1))["interval"] == ""
    assert [setting(value) for value in (None, True, [], [1, "a"], 1e-4, "x")] == [
        "none",
        "yes",
        "none",
        "1, a",
        "0.0001",
        "x",
    ]


def test_no_seed_stands_for_its_method(seeds: Path):
    text = " ".join(Scripts(write_report([seeds]).path.read_text(encoding="utf-8")).words)
    assert "Table 1" in text
    assert "Paired differences" not in text


def test_a_comparisons_own_table(seeds: Path):
    one = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 3, "over": "seeds"}
    star = one | {"over": "samples"}
    table: dict[str, Any] = {
        "sets": ["vbar"],
        "reference": "grpo",
        "rows": [
            {"name": "start", "seeds": 0, "accuracy": {"vbar": star, "average": star}, "difference": None},
            {"name": "iapo", "seeds": 3, "accuracy": {"vbar": one, "average": one}, "difference": {"average": one}},
        ],
    }
    (seeds / "table1.json").write_text(json.dumps(table))
    (seeds / "comparison.json").write_text("{}")
    found = find_runs([seeds])
    assert list(found.comparisons) == ["compared"]
    rows = comparison("compared", found.comparisons["compared"])["rows"]
    assert rows[0] == {
        "name": "start",
        "seeds": "\u2013",
        "cells": [{"value": "50.0", "interval": "[40.0, 60.0]*"}] * 2,
        "difference": None,
    }
    assert rows[1]["difference"] == {"value": "+50.0", "interval": "[+40.0, +60.0]"}
    greedy = {"name": "big", "seeds": 0, "accuracy": None, "difference": None, "notes": ["big was measured greedily"]}
    (seeds / "table1.json").write_text(json.dumps({**table, "rows": [*table["rows"], greedy]}))
    found_table = comparison("compared", find_runs([seeds]).comparisons["compared"])
    assert found_table["rows"][2]["cells"] == [{"value": "\u2013", "interval": ""}] * 2
    assert found_table["notes"] == ["big was measured greedily"]
    words = " ".join(Scripts(write_report([seeds]).path.read_text(encoding="utf-8")).words)
    assert "big was measured greedily." in words
    text = " ".join(Scripts(write_report([seeds]).path.read_text(encoding="utf-8")).words)
    assert "average − grpo" in text
    (seeds / "table1.json").unlink()
    assert find_runs([seeds]).notes == ["The comparison compared is not finished; it has no table yet."]
    with pytest.raises(ValueError, match=r"table1\.json of x is damaged"):
        comparison("x", {"sets": []})
    large = {"rows": [{**table["rows"][0], "accuracy": {"vbar": star | {"low": 10**400}, "average": star}}]}
    with pytest.raises(ValueError, match=r"table1\.json of x is damaged"):
        comparison("x", {**table, **large})


def test_a_run_that_is_given_twice_is_one(seeds: Path) -> None:
    runs = find_runs([seeds]).runs
    again = find_runs([seeds, runs[0].path, runs[0].path, seeds]).runs
    assert [one.path for one in again] == [one.path for one in runs]


def test_evaluations_of_a_comparison_belong_to_their_run(seeds: Path):
    inner = seeds / "iapo" / "seed-0" / "evaluation"
    make_run(inner, [make_trace(number, step=None) for number in range(3)])
    manifest = json.loads((inner / "manifest.json").read_text())
    start = {**manifest, "kind": "evaluation", "config": {"evaluation": {"model": "tiny-student"}}}
    for path in (inner, seeds / "start" / "evaluation"):
        path.mkdir(parents=True, exist_ok=True)
        (path / "manifest.json").write_text(json.dumps(start))
    runs = {run.name: run for run in find_runs([seeds]).runs}
    assert list(runs) == ["grpo/seed-0", "grpo/seed-1", "grpo/seed-2", "iapo/seed-0", "start"]
    assert [(file.part, file.prefix, len(file.lines)) for file in runs["iapo/seed-0"].traces] == [
        ("training", "t", 1),
        ("held-out", "e", 3),
    ]
    assert (runs["start"].method, runs["start"].trained) == ("tiny-student", False)


@pytest.mark.parametrize(
    ("lengths", "most", "expected"),
    [([5, 5], 0, [5, 5]), ([5, 5], 10, [5, 5]), ([100, 2, 100], 20, [9, 2, 9]), ([3, 3, 3], 4, [1, 1, 2]), ([], 5, [])],
)
def test_a_cut_is_even(lengths: list[int], most: int, expected: list[int]):
    assert share_out(lengths, most) == expected


def test_a_cut_is_spread_and_said(tmp_path: Path):
    assert evenly(100, 4) == [0, 25, 50, 75]
    assert evenly(3, 3) == [0, 1, 2]
    assert evenly(3, 0) == []
    make_run(tmp_path / "run", [make_trace(number) for number in range(30)])
    written = write_report([tmp_path / "run"], max_traces=10)
    assert (written.shown, written.total) == (10, 30)
    data = data_of(written.path)["trace-data"]
    assert [trace["id"] for trace in data["traces"]] == [f"t{1 + 3 * place}" for place in range(10)]
    assert data["total"] == 30
    assert "10 of 30 traces" in " ".join(Scripts(written.path.read_text(encoding="utf-8")).words)


def test_a_trace_in_the_page(tmp_path: Path):
    traces = [make_trace(0), make_trace(3, status="refused"), make_trace(2, patches=False), make_trace(0)]
    make_run(tmp_path / "run", traces, held_out=[make_trace(4, step=20)])
    found = find_runs([tmp_path / "run"])
    browsed = browse(found.runs, Pictures("embed", tmp_path), 0)
    first, refused, without, again, held_out = browsed.traces
    assert (first["misused"], first["outcome"], first["status"]) == (True, 1.0, "edited")
    assert [(score["name"], score["weight"]) for score in first["scores"]] == [
        ("outcome", 1.0),
        ("alignment", 0.1),
        ("divergence", None),
    ]
    assert browsed.blocks == [list(BLOCKS)]
    assert first["shares"]["student"] == [0.1, 0.12, 0.14, 0.16, 0.18]
    (wrong, last) = refused["turns"]
    assert (refused["misused"], wrong["error"]) == (None, "line 1: import is not allowed")
    assert browsed.texts[wrong["told"]].startswith("OBSERVATION: line 1: import is not allowed")
    assert last == {"text": "FINAL ANSWER: 3. TERMINATE"}
    assert "shares" not in refused
    assert without["patches"] == {}
    assert browsed.without_patches == 1
    # The same question is there once, and so is its picture.
    assert again["sample"] == first["sample"]
    assert (held_out["part"], held_out["step"], held_out["id"]) == ("held-out", 20, "h1")
    assert [score["weight"] for score in held_out["scores"]] == [None] * 3


def test_grids_in_bytes():
    packed = pack_grid([[0.5, -0.25, 0.0], [0.001, -0.5, 0.125]])
    levels = [byte - 256 if byte > 127 else byte for byte in base64.b64decode(packed["data"])]
    assert levels == [LEVELS, -64, 0, 0, -LEVELS, 32]
    assert (packed["rows"], packed["columns"], packed["most"], packed["sum"]) == (2, 3, 0.5, pytest.approx(1.376))
    assert set(base64.b64decode(pack_grid([[0.0, 0.0]])["data"])) == {0}
    with pytest.raises(ValueError, match="different lengths"):
        pack_grid([[0.1], [0.1, 0.2]])


def test_pictures_are_there_once(tmp_path: Path):
    for name in ("a.png", "b.png", "c.png"):
        save_png(picture(1 if name < "c" else 2), tmp_path / name)
    inside = Pictures("embed", tmp_path / "files")
    places = [inside.add({"path": name}, tmp_path) for name in ("a.png", "b.png", "c.png", "a.png")]
    assert places == [0, 0, 1, 0]
    assert base64.b64decode(inside.addresses[0].partition(",")[2]) == (tmp_path / "a.png").read_bytes()
    assert not (tmp_path / "files").exists()
    beside = Pictures("folder", tmp_path / "files")
    assert [beside.add({"path": name}, tmp_path) for name in ("a.png", "c.png")] == [0, 1]
    assert [str(path.relative_to(tmp_path)) for path in beside.files] == beside.addresses
    assert all(content.startswith(b"\x89PNG") for content in beside.files.values())


def test_only_pictures_of_the_run_are_shown(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    save_png(picture(1), tmp_path / "outside.png")
    (run / "text.png").write_text("no picture")
    store = Pictures("embed", tmp_path)
    asked = [
        {"path": "../outside.png"},
        {"path": str(tmp_path / "outside.png")},
        {"path": "text.png"},
        {"path": "gone"},
        # More letters than a file's name may have.
        {"path": f"{'a' * 300}.png"},
    ]
    assert [store.add(one, run) for one in asked] == [None] * 5
    assert store.add(None, run) is None
    assert store.missing == 5
    assert store.addresses == []


def test_json_cannot_leave_its_script():
    text = to_json({"question": HOSTILE, "number": float("nan")})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"question": HOSTILE, "number": None}


def test_hostile_texts_stay_data(tmp_path: Path):
    make_run(tmp_path / "run", [make_trace(1, question=HOSTILE)], note=HOSTILE, **{"</td><script>1": 3})
    written = write_report([tmp_path / "run"])
    parsed = Scripts(written.path.read_text(encoding="utf-8"))
    assert data_of(written.path)["trace-data"]["samples"][0]["question"] == HOSTILE
    # Three of data and two of ours; nothing of the run became one.
    assert len(parsed.found) == 5
    assert sum("window.broken" in text for _, text in parsed.found) == 1
    assert "</td><script>1" in "".join(parsed.words)


def test_one_file_without_addresses(tmp_path: Path):
    make_run(tmp_path / "run", [make_trace(number) for number in range(4)], study=True)
    written = write_report([tmp_path / "run"])
    text = written.path.read_text(encoding="utf-8")
    assert written.size == len(text.encode()) < 260_000
    assert not re.search(r"""(src|href)=["']?(https?:|//)|@import|url\(""", text)
    assert "default-src &#39;none&#39;" in text
    assert data_of(written.path)["curve-data"]["studies"][0]["points"][0]["wrong_tools"] is None
    beside = write_report([tmp_path / "run"], tmp_path / "page" / "one.html", pictures="folder")
    assert beside.size < written.size
    assert all(address.startswith("one_files/") for address in data_of(beside.path)["picture-data"])
    # A second time it replaces itself.
    assert write_report([tmp_path / "run"]).size == written.size


def test_a_run_that_is_still_going(tmp_path: Path):
    folder = make_run(tmp_path / "run", [make_trace(number) for number in range(3)])
    (folder.path / "evaluation.json").unlink()
    for name in ("traces.jsonl", "metrics.jsonl"):
        path = folder.path / name
        path.write_text(path.read_text()[:-30])
    written = write_report([folder.path])
    assert written.total == 2
    words = " ".join(Scripts(written.path.read_text(encoding="utf-8")).words)
    for part in (
        "half a line at the end of traces.jsonl is left out",
        "of metrics.jsonl is",
        "run has no evaluation.json",
    ):
        assert part in words
    assert "No run has been evaluated yet" in words


def test_a_run_that_has_only_begun(tmp_path: Path):
    folder = make_run(tmp_path / "run", [], steps=0)
    written = write_report([folder.path])
    assert written.total == 0
    assert "kept no traces" in " ".join(Scripts(written.path.read_text(encoding="utf-8")).words)


def test_refusals(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    folder = make_run(tmp_path / "run", [make_trace(1), make_trace(2)])
    (tmp_path / "page.html").write_text("<p>mine</p>")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"config": {}}')
    for arguments, options, message in [
        ([tmp_path / "gone"], {}, "gone is no folder"),
        ([tmp_path / "empty"], {}, "empty holds no run"),
        ([tmp_path / "other"], {}, "is not the manifest of a run"),
        ([folder.path], {"out": tmp_path / "page.html"}, "exists and is no report"),
        ([folder.path], {"out": tmp_path / "empty"}, "is a folder; give the name"),
        ([folder.path], {"pictures": "none"}, "use embed or folder"),
        ([folder.path], {"max_traces": -1}, "max_traces is -1"),
        ([], {}, "nothing to report"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_report(arguments, **options)
    traces = folder.path / "traces.jsonl"
    lines = traces.read_text().splitlines(keepends=True)
    for damage, message in (
        ("nonsense\n", "line 1 is not JSON"),
        ("{}\n", "line 1 is no trace"),
        ("[]\n", "line 1 is no record"),
    ):
        traces.write_text(damage + lines[1])
        with pytest.raises(ValueError, match=message):
            write_report([folder.path])
    assert not (folder.path / "report.html").exists()


def test_reading_writes_nothing(tmp_path: Path):
    folder = make_run(tmp_path / "run", [make_trace(1)])
    before = sorted(path.name for path in folder.path.rglob("*"))
    write_report([folder.path], tmp_path / "page.html")
    assert sorted(path.name for path in folder.path.rglob("*")) == before


def test_folders_of_earlier_versions(tmp_path: Path):
    """They had neither formats nor kinds, and an evaluation by set beside a manifest with its plan."""
    run = make_run(tmp_path / "runs" / "run", [make_trace(number) for number in range(3)], study=True)
    inner = run.path / "evaluation"
    half = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 4}
    measured = dict.fromkeys(("accuracy", "call_ratio", "call_success", "misuse"), half)
    sets = {"vbar": {"samples": 4, "data": "c" * 64, **measured, "outcomes": [[1.0, 0.0, 1.0, 0.0]]}}
    RunFolder(inner).write_manifest({"evaluation": {"model": "m"}, "checkpoint": None}, {"sampling": 0}, {"vbar": "c"})
    RunFolder(inner).write_evaluation({"model": "m", "settings": {}, "sets": sets, "average": half})
    table = {"sets": ["vbar"], "reference": "grpo", "rows": []}
    write_result(tmp_path / "runs" / "table1.json", "table", table)
    page = write_report([tmp_path / "runs"], tmp_path / "new.html").path.read_text(encoding="utf-8")
    written = [path for path in (tmp_path / "runs").rglob("*.json") if path.name != "case-study.json"]
    assert len(written) == 5
    for path in written:
        data = json.loads(path.read_text())
        assert data.pop("format") == 1
        del data["kind"]
        path.write_text(json.dumps(data))
    assert write_report([tmp_path / "runs"], tmp_path / "old.html").path.read_text(encoding="utf-8") == page
    words = " ".join(Scripts(page).words)
    assert "vbar 4 50.0" in re.sub(r"\s+", " ", words)
    # Of the evaluation inside a run, the manifest is not looked into.
    for path in set(written) - {inner / "manifest.json"}:
        text = path.read_text()
        path.write_text(json.dumps({"format": 2, **json.loads(text)}))
        with pytest.raises(InputError, match=f"{path} has the format 2, but this iapo reads up to 1"):
            write_report([tmp_path / "runs"], tmp_path / "page.html")
        path.write_text(text)
    assert not (tmp_path / "page.html").exists()
