"""Table 1 by hand: means over seeds, Student's intervals, paired differences, all four forms."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from iapo.data.benchmarks import BENCHMARKS
from iapo.errors import InputError
from iapo.estimates import Tally, mean, proportion
from iapo.experiments.calls_table import calls_csv, calls_text
from iapo.experiments.table_one import Row, csv_table, latex_table, read_row, table_one, text_table, write_table
from iapo.results import stamp

DATA = {"vbar": "a", "h_bar": "b"}


def run_of(vbar: list[float], hbar: list[float]) -> dict[str, Any]:
    return {"vbar": np.array(vbar), "h_bar": np.array(hbar)}


GRPO = Row("grpo", {0: run_of([1, 0, 0, 0], [1, 1]), 1: run_of([1, 1, 0, 0], [1, 0])}, DATA)
IAPO = Row("iapo", {0: run_of([1, 1, 0, 0], [1, 1]), 1: run_of([1, 1, 1, 1], [1, 0])}, DATA)
START = Row("start", {None: run_of([0, 0, 0, 0], [0, 1])}, DATA)


def found_rows(*rows: Row) -> dict[str, Any]:
    return {row["name"]: row for row in table_one(rows, "grpo")["rows"]}


def two_way(runs: list[list[float]]) -> tuple[float, float]:
    """The interval over two seeds and their samples by hand: t at Satterthwaite's degrees of freedom."""
    centres = [sum(one) / len(one) for one in runs]
    seeds = (centres[0] - centres[1]) ** 2 / 2 / 2
    samples = float(np.var(np.mean(runs, 0), ddof=1)) / len(runs[0])
    freedom = (seeds + samples) ** 2 / (seeds**2 / 1 + samples**2 / (len(runs[0]) - 1))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(seeds + samples)
    return sum(centres) / 2 - half, sum(centres) / 2 + half


def test_means_over_seeds():
    rows = found_rows(START, GRPO, IAPO)
    assert [rows[name]["seeds"] for name in ("start", "grpo", "iapo")] == [0, 2, 2]
    vbar = rows["grpo"]["accuracy"]["vbar"]
    value = 0.375
    low, high = two_way([[1, 0, 0, 0], [1, 1, 0, 0]])
    assert (vbar["value"], vbar["over"], vbar["count"]) == (value, "seeds and samples", 2)
    # A share has bounds.
    assert low < 0 < 1 < high
    assert (vbar["low"], vbar["high"]) == (0, 1)
    vbar = rows["iapo"]["difference"]["vbar"]
    low, high = two_way([[0, 1, 0, 0], [0, 0, 1, 1]])
    assert (vbar["value"], vbar["low"], vbar["high"]) == (0.375, pytest.approx(low), pytest.approx(high))
    # Sets count alike, whatever their sizes.
    assert rows["iapo"]["accuracy"]["average"]["value"] == pytest.approx((0.75 + 0.75) / 2)


def test_an_interval_by_hand():
    """Of a hundred thousand samples that do not vary, so that the seeds alone move it."""
    rows = {seed: {"vbar": np.full(100_000, share)} for seed, share in enumerate((0.50, 0.51, 0.55))}
    (row,) = table_one([Row("grpo", rows, {"vbar": "a"})], "grpo")["rows"]
    one = row["accuracy"]["average"]
    # Mean 0.52, deviation sqrt(0.0007), t quantile 4.302653 at two degrees of freedom.
    half = 4.302653 * math.sqrt(0.0007) / math.sqrt(3)
    assert one["value"] == pytest.approx(0.52)
    assert (one["low"], one["high"]) == (pytest.approx(0.52 - half, abs=1e-6), pytest.approx(0.52 + half, abs=1e-6))


def test_differences_are_paired_by_seed():
    rows = found_rows(START, GRPO, IAPO)
    assert rows["start"]["difference"] is rows["grpo"]["difference"] is None
    difference = rows["iapo"]["difference"]
    assert difference["vbar"]["value"] == pytest.approx((0.25 + 0.5) / 2)
    assert difference["average"]["value"] == pytest.approx((0.125 + 0.25) / 2)
    # Equal in both seeds: the seeds tell nothing, the samples do.
    assert (difference["h_bar"]["value"], difference["h_bar"]["over"]) == (0, "samples")


def test_only_common_seeds_are_paired():
    third = Row("iapo", {1: IAPO.runs[1], 7: IAPO.runs[0]}, DATA)
    one = found_rows(GRPO, third)["iapo"]["difference"]["vbar"]
    assert (one["value"], one["over"]) == (0.5, "samples")
    assert -1 <= one["low"] < one["value"] < one["high"] <= 1


def test_one_run_has_an_interval_over_samples():
    row = found_rows(GRPO, START)["start"]["accuracy"]
    assert row["h_bar"]["over"] == "samples"
    assert (row["h_bar"]["low"], row["h_bar"]["high"]) == (mean([0, 1]).low, mean([0, 1]).high)
    # None right of four is not certainly none.
    assert (row["vbar"]["value"], row["vbar"]["high"]) == (0, proportion([False] * 4).high)


def test_other_samples_are_refused():
    with pytest.raises(ValueError, match="'iapo' has other test samples"):
        table_one([GRPO, Row("iapo", IAPO.runs, {**DATA, "vbar": "c"})], "grpo")


def evaluation(folder: Path, outcomes: list[list[float]], data: str = "a") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    sets = {"vbar": {"data": data, "outcomes": outcomes}}
    (folder / "evaluation.json").write_text(json.dumps({"sets": sets}))
    return folder


def test_rows_are_read(tmp_path: Path):
    folders = [evaluation(tmp_path / "0", [[1, 0], [1, 1]]), evaluation(tmp_path / "1", [[0, 0], [0, 1]])]
    row = read_row("grpo", folders, [0, 1])
    assert {seed: run["vbar"].tolist() for seed, run in row.runs.items()} == {0: [1, 0.5], 1: [0, 0.5]}
    assert row.data == {"vbar": "a"}


def test_unfinished_and_foreign_evaluations_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no finished evaluation"):
        read_row("grpo", [tmp_path])
    (tmp_path / "evaluation.json").write_text('{"before": {}}')
    with pytest.raises(ValueError, match="not written by iapo evaluate"):
        read_row("grpo", [tmp_path])
    folders = [evaluation(tmp_path / "0", [[1]]), evaluation(tmp_path / "1", [[1]], data="b")]
    with pytest.raises(ValueError, match="other samples"):
        read_row("grpo", folders, [0, 1])


def test_all_forms_say_the_same(tmp_path: Path):
    found = table_one([START, GRPO, IAPO], "grpo")
    write_table(found, tmp_path)
    assert json.loads((tmp_path / "table1.json").read_text()) == stamp("table", json.loads(json.dumps(found)))
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table1.csv").read_text())))
    assert len(lines) == 3 * 3
    one = next(line for line in lines if (line["row"], line["set"]) == ("iapo", "average"))
    assert (float(one["accuracy_value"]), float(one["difference_value"])) == (0.75, 0.1875)
    assert (one["seeds"], one["difference_over"]) == ("2", "seeds and samples")
    latex = (tmp_path / "table1.tex").read_text()
    assert latex.count(r"\\") == 4
    assert r"h\_bar" in latex
    assert "$+18.8$" in latex
    text = (tmp_path / "table1.txt").read_text()
    for words in ("h_bar", "+18.8", "75.0", "over samples"):
        assert words in text
    assert csv_table(found) == (tmp_path / "table1.csv").read_text()


def test_latex_names_are_escaped():
    row = Row("a_b&c%", GRPO.runs, DATA)
    assert r"a\_b\&c\%" in latex_table(table_one([GRPO, row], "grpo"))


def on(sets: list[str], name: str) -> Row:
    outcomes = {one: np.asarray([0.0, 1.0]) for one in sets}
    return Row(name, {0: outcomes}, dict.fromkeys(sets, "hash"))


def test_the_papers_averages_stand_beside_its_own_test_sets():
    sets = [f"{name}@data" for name in BENCHMARKS]
    found = table_one([on(sets, "grpo"), on(sets, "iapo"), on(sets, "mine")], "grpo")
    assert [row["paper"] for row in found["rows"]] == [0.529, 0.559, None]
    console = Console(file=io.StringIO(), width=300)
    console.print(text_table(found))
    assert "55.9" in console.file.getvalue()
    assert "$55.9$" in latex_table(found)
    lines = csv_table(found).splitlines()
    assert lines[0].endswith(",paper")
    assert [line.rpartition(",")[2] for line in lines if ",average," in line] == ["0.529", "0.559", ""]


@pytest.mark.parametrize("sets", [["vbar", "hbar"], list(BENCHMARKS), ["vwtq@data", "vtabfact@data"]])
def test_other_test_sets_have_no_numbers_of_the_paper(sets: list[str]):
    found = table_one([on(sets, "grpo")], "grpo")
    assert found["rows"][0]["paper"] is None
    assert "paper" not in latex_table(found) + csv_table(found)


def with_verdicts(folder: Path, misuse: list[list[bool | None]], greedy: list[list[bool | None]] | None) -> Path:
    for name, values in (("evaluation", misuse), ("evaluation-greedy", greedy)):
        if values is not None:
            outcomes = [[float(not value) for value in one] for one in values]
            one = {"data": "a", "outcomes": outcomes, "verdicts": {"misuse": values}}
            (folder / name).mkdir(parents=True)
            (folder / name / "evaluation.json").write_text(json.dumps({"sets": {"vbar": one}}))
    return folder / "evaluation"


def test_what_the_policies_call(tmp_path: Path):
    first = [with_verdicts(tmp_path / f"g{seed}", [[True, False, True, None]], [[True] * 4]) for seed in (0, 1)]
    second = [with_verdicts(tmp_path / f"i{seed}", [[True, False, False, None]], None) for seed in (0, 1)]
    rows = [read_row("grpo", first, (0, 1)), read_row("iapo", second, (0, 1))]
    found = table_one(rows, "grpo")
    grpo, iapo = found["rows"]
    assert set(grpo["calls"]) == {"accuracy", "misuse", "accuracy_greedy", "misuse_greedy"}
    assert grpo["calls"]["misuse"]["value"] == pytest.approx(2 / 3)
    assert grpo["calls"]["misuse_greedy"]["value"] == 1
    # One of the two was not measured greedily: it has no such number, and no difference of it.
    assert set(iapo["calls"]) == {"accuracy", "misuse"} == set(iapo["calls_difference"])
    assert iapo["calls_difference"]["misuse"]["value"] == pytest.approx(-1 / 3)
    assert grpo["calls_difference"] is None
    write_table(found, tmp_path)
    assert "66.7" in (tmp_path / "table1.txt").read_text()
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table1-calls.csv").read_text())))
    one = next(line for line in lines if (line["row"], line["measure"]) == ("iapo", "misuse"))
    assert float(one["difference_value"]) == pytest.approx(-1 / 3)


def test_evaluations_of_earlier_versions_have_no_calls(tmp_path: Path):
    evaluation(tmp_path, [[1, 0]])
    (row,) = table_one([read_row("grpo", [tmp_path])], "grpo")["rows"]
    assert set(row["calls"]) == {"accuracy"}


@pytest.mark.parametrize("sampled", [[[1, 0], [1, 1]], [[1, 0, 1], [0, 0, 1]]])
def test_one_number_has_one_interval(tmp_path: Path, sampled: list[list[float]]):
    """The accuracies of both tables are of the same outcomes; a star says what an interval is over."""
    folders = [evaluation(tmp_path / str(seed), [one]) for seed, one in enumerate(sampled)]
    rows = [read_row("start", folders[:1]), read_row("grpo", folders, (0, 1)), read_row("iapo", folders[::-1], (0, 1))]
    found = table_one(rows, "grpo")
    for row in found["rows"]:
        assert row["calls"]["accuracy"] == row["accuracy"]["average"]
        if row["difference"]:
            assert row["calls_difference"]["accuracy"] == row["difference"]["average"]
    assert [row["calls"]["accuracy"]["over"] for row in found["rows"]] == ["samples", *["seeds and samples"] * 2]
    console = Console(file=io.StringIO(), width=300)
    console.print(calls_text(found))
    first, *rest = (line for line in console.file.getvalue().splitlines() if "\u2502" in line)
    assert "]*" in first
    assert not any("]*" in line for line in rest)
    assert "over seeds and samples" not in console.file.getvalue()
    assert "tells nothing about seeds" in console.file.getvalue()
    lines = list(csv.DictReader(io.StringIO(calls_csv(found))))
    assert [line["over"] for line in lines] == ["samples", *["seeds and samples"] * 2]


def test_misuse_of_one_run_is_over_samples(tmp_path: Path):
    folder = with_verdicts(tmp_path / "start", [[True, False, True, None]], None)
    rows = [read_row("start", [folder]), read_row("grpo", [folder, folder], (0, 1))]
    found = table_one(rows, "grpo")["rows"]
    assert [row["calls"]["misuse"]["over"] for row in found] == ["samples", "samples"]


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(InputError, match="two rows are named 'grpo'"):
        table_one([GRPO, Row("grpo", IAPO.runs, DATA)], "grpo")
    # In groups of their own they are two.
    assert len(table_one([GRPO, Row("grpo", IAPO.runs, DATA, "more")], "grpo")["rows"]) == 2


def test_what_was_measured_otherwise_is_said_in_each_form(tmp_path: Path):
    greedy = {None: {"accuracy_greedy": {"vbar": Tally(np.ones(4), np.ones(4))}}}
    found = table_one([Row("[b]", {}, DATA, calls=greedy, notes=["[b] has\nno tools"]), GRPO], "grpo")
    assert found["rows"][0]["accuracy"] is None
    write_table(found, tmp_path)
    text = (tmp_path / "table1.txt").read_text()
    assert "[b] has\\nno tools" in text
    assert "\u2502 [b]" in text
    assert "% [b] has\\nno tools.\n" in (tmp_path / "table1.tex").read_text()
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table1.csv").read_text())))
    assert [line["accuracy_value"] for line in lines if line["row"] == "[b]"] == ["", "", ""]


@pytest.mark.parametrize(
    ("data", "settings"), [("b", {"generation": {"temperature": 0.0}}), ("a", {"generation": {"temperature": 0.5}})]
)
def test_what_only_has_the_name_of_a_greedy_measurement_is_refused(tmp_path: Path, data: str, settings: dict[str, Any]):
    folder = evaluation(tmp_path / "evaluation", [[1, 0]])
    beside = evaluation(tmp_path / "evaluation-greedy", [[1, 0]], data)
    path = beside / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))
    with pytest.raises(InputError, match=r"evaluation-greedy is not the greedy measurement of .*evaluation"):
        read_row("grpo", [folder])
