"""The views of a trace in a browser: its prompt, its group, the same sample elsewhere; orders, exports, wrong links."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_browser import CONTRAST, MARKS, Watched, count, playwright, until
from report_damage import spoiled
from report_runs import HOSTILE, make_group, make_run, make_trace

import iapo.report.traces
from iapo.errors import InputError
from iapo.records import Turn
from iapo.report.command import write_report

pytestmark = MARKS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods with whole groups, the same samples before and after, and one sample that the second alone has."""
    root = tmp_path_factory.mktemp("runs") / "views"
    held_out = [make_trace(number, step=step) for step in (0, 20) for number in range(200, 203)]
    groups = [trace for number in range(6) for trace in make_group(number)]
    settings: dict[str, Any] = {"num_generations": 4, "attribution_normalization": "softmax", "attribution_eps": 0.01}
    make_run(
        root / "grpo", groups, held_out=held_out, defaults={"penalty_weight": 0.1}, **settings | {"penalty_weight": 0}
    )
    odd = [make_trace(300, step=0), make_trace(301, step=0, question=HOSTILE, status="failed")]
    odd[1] = dataclasses.replace(odd[1], turns=(odd[1].turns[0], Turn("=1+1")))
    make_run(root / "iapo", make_group(7), held_out=[*held_out, *odd], defaults={"penalty_weight": 0.2}, **settings)
    return write_report([root], root / "report.html").path


def column(page: playwright.Page, title: str) -> list[str]:
    """A row of the view's table, by its title: the text of each rollout."""
    row = page.locator(f"#view .sides tr:has(> th:text-is('{title}'))")
    return [text.strip() for text in row.locator("td").all_inner_texts()]


def saved(page: playwright.Page, button: str) -> Path:
    """What a button saves; the menu that it is in is opened."""
    page.evaluate("document.querySelectorAll('details.take').forEach((one) => one.open = true)")
    with page.expect_download() as found:
        page.click(f"button[aria-label='{button}']")
    return Path(found.value.path())


def test_the_prompt_with_its_tint(watched: Watched):
    page = watched.open("#trace=grpo%3At2&view=prompt")
    blocks = page.locator(".prompt-block")
    assert blocks.count() == 5
    assert "You answer questions about charts" in blocks.nth(0).inner_text()
    assert "def focus_on_columns_with_mask(" in blocks.nth(2).inner_text()
    assert "QUESTION: value of A0?" in blocks.nth(4).inner_text()
    assert [text.replace("\u2009", "") for text in page.locator(".prompt-block .share").all_inner_texts()] == [
        "10.0%", "12.0%", "14.0%", "16.0%", "18.0%",
    ]  # fmt: skip
    # The rows' tool is the one that was called.
    assert "called" in blocks.nth(3).inner_text()
    assert "called" not in blocks.nth(2).inner_text()
    alpha = "(one) => Number(getComputedStyle(one).backgroundColor.match(/[\\d.]+/g)[3])"
    tints = [blocks.nth(place).evaluate(alpha) for place in range(5)]
    assert tints == sorted(tints)
    assert tints[4] == pytest.approx(0.34, abs=0.005)
    assert "Block shares by softmax" in page.inner_text("#view")
    page.check("input[value=none]")
    assert page.locator(".prompt-block .share").first.inner_text() == ""
    page.check("input[value=teacher]")
    assert page.locator(".prompt-block .share").first.inner_text() == "20.0\u2009%"
    assert page.get_attribute("#permalink", "href") == "#trace=grpo%3At2&view=prompt"


def test_the_group_side_by_side(watched: Watched):
    page = watched.open("#trace=grpo%3At2&view=group")
    assert page.locator("#view .sides thead a").all_inner_texts() == ["t1", "t2", "t3", "t4"]
    assert page.get_attribute("#view .sides thead a[aria-current]", "href") == "#trace=grpo%3At2&view=group"
    assert column(page, "reward") == ["0.000", "0.990", "\u22120.020", "0.970"]
    assert column(page, "alignment (weight 0.100)") == ["0.000", "\u22120.100", "\u22120.200", "\u22120.300"]
    advantages = [float(text.replace("\u2212", "-")) for text in column(page, "advantage")]
    assert sum(advantages) == pytest.approx(0.0, abs=0.002)
    assert advantages[1] == max(advantages) == pytest.approx(0.505 / 0.5717, abs=0.002)
    parts = [column(page, f"advantage from {name}") for name in ("outcome", "alignment")]
    for total, *some in zip(advantages, *parts, strict=True):
        assert total == pytest.approx(sum(float(text.replace("\u2212", "-")) for text in some), abs=0.0016)
    assert "4 of 4 rollouts of this prompt in step 1; mean reward 0.485, deviation 0.572" in page.inner_text("#view")
    page.click("#view .sides thead a:text-is('t3')")
    until(page, "document.querySelector('#permalink').hash.includes('t3')")
    assert page.get_attribute("#tab-group", "aria-selected") == "true"
    page.goto(watched.path.as_uri() + "#trace=iapo%3Ah1&view=group")
    assert "Held-out rollouts are in no group" in page.inner_text("#view")


def test_the_same_sample_side_by_side(watched: Watched):
    page = watched.open("#trace=iapo%3Ah2&view=sample")
    assert column(page, "run") == ["grpo", "grpo", "iapo", "iapo"]
    before, after = "held out, before training", "held out, after 20 steps"
    assert column(page, "when") == [before, after] * 2
    assert column(page, "share of query") == ["18.0\u2009%"] * 4
    text = page.inner_text("#view")
    assert "grpo: wrong before, wrong after; iapo: wrong before, wrong after." in text
    assert "Block shares by softmax" in text
    page.goto(watched.path.as_uri() + "#trace=iapo%3Ah7&view=sample")
    assert "Not kept by grpo." in page.inner_text("#view")
    assert column(page, "run") == ["iapo"]


def test_views_by_keyboard(watched: Watched):
    page = watched.open("#trace=grpo%3At1")
    page.focus("#tab-rollout")
    for name in ("prompt", "group", "sample", "rollout"):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"tab-{name}"
        assert page.get_attribute("#view", "aria-labelledby") == f"tab-{name}"
    page.go_back()
    until(page, "document.getElementById('tab-sample').getAttribute('aria-selected') === 'true'")


def test_orders_and_ranges(watched: Watched):
    page = watched.open("#run=grpo&part=training")
    assert count(page) == 24
    page.select_option("#sort", "divergence")
    page.click("#direction")
    assert page.inner_text("#direction") == "Descending"
    assert page.inner_text("#row-0 .marks").endswith("0.300")
    page.select_option("#sort", "advantage")
    link = page.evaluate("location.hash")
    assert "sort=-advantage" in link
    first = page.inner_text("#row-0 .marks .tag:last-child")
    assert float(first) == pytest.approx(0.883, abs=0.001)
    page.select_option("#sort", "family")
    # Vertical bars before horizontal ones; those of one family stay in their order.
    assert page.inner_text("#row-0 .line") == "value of A0?"
    page.click("#direction")
    assert page.inner_text("#row-0 .line") == "value of B1?"
    page.select_option("#measure", "reward")
    page.fill("#least", "0.98")
    assert count(page) == 6
    page.fill("#most", "0.985")
    assert count(page) == 0
    page.goto("about:blank")
    watched.open("#run=grpo&part=training&sort=-reward&range=divergence%3A0.05%3A0.15")
    assert count(page) == 6
    assert (page.input_value("#least"), page.input_value("#sort")) == ("0.05", "reward")
    # What has no advantage stands last, in both directions.
    for hash in ("#run=grpo&sort=advantage", "#run=grpo&sort=-advantage"):
        page.goto("about:blank")
        watched.open(hash)
        page.focus("#list")
        page.keyboard.press("End")
        assert "held out" in page.inner_text("#detail .about")
    page.click("#clear")
    assert (count(page), page.evaluate("location.hash.includes('sort')")) == (42, False)


@pytest.mark.parametrize(
    ("hash", "said"),
    [
        ("#trace=grpo%3At99", "no trace \u201cgrpo:t99\u201d"),
        ("#trace=grpo%3At1&status=odd", "no traces of the status \u201codd\u201d"),
        ("#trace=grpo%3At1&view=odd", "no view \u201codd\u201d"),
        ("#sort=odd", "no order by \u201codd\u201d"),
        ("#range=reward%3Ax%3A", "no range \u201creward:x:\u201d"),
        ("#wat=1", "\u201cwat\u201d, which this page does not know"),
        ("#nowhere", "no part \u201cnowhere\u201d"),
        ("#%E0%A4%A", "no part \u201c%E0%A4%A\u201d"),
    ],
)
def test_wrong_links_say_so_and_lead_back(watched: Watched, hash: str, said: str):
    page = watched.open(hash)
    assert page.is_visible("#lost")
    text = page.inner_text("#lost-text")
    assert said in text
    assert text.count(". ") == 0
    page.click("#lost-back")
    assert page.is_hidden("#lost")
    assert page.evaluate("location.hash").startswith(("#trace=grpo%3At1", "#traces"))
    assert (count(page), page.inner_text("#detail h3")) == (42, "value of A0?")


def test_tables_to_take_along(watched: Watched):
    page = watched.open("#trace=grpo%3At2&view=group")
    rows = list(csv.reader(io.StringIO(saved(page, "Save CSV: Measures").read_text())))
    assert rows[0][:6] == ["run", "on", "samples", "accuracy", "accuracy low", "accuracy high"]
    assert rows[1][:6] == ["all runs", "held-out, before", "4", "50.0", "47.0", "53.0"]
    assert {len(row) for row in rows} == {21}
    latex = saved(page, "Save LaTeX: Settings that differ").read_text()
    assert "penalty\\_weight & 0 & 0.1" in latex
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1
    group = list(csv.reader(io.StringIO(saved(page, "Save CSV: Group").read_text())))
    assert next(row for row in group if row[0] == "reward")[1:] == ["0.000", "0.990", "-0.020", "0.970"]
    page.goto(watched.path.as_uri() + "#trace=iapo%3Ah8&view=sample")
    page.wait_for_selector("#view .sides")
    same = list(csv.reader(io.StringIO(saved(page, "Save CSV: Same sample").read_text())))
    # What a model wrote is no formula to a spreadsheet.
    assert next(row for row in same if row[0] == "turn 2") == ["turn 2", "'=1+1"]


def test_figures_to_take_along(watched: Watched):
    page = watched.open("#trace=grpo%3At1")
    rows = list(csv.reader(io.StringIO(saved(page, "Save CSV: Outcome").read_text())))
    assert rows[0] == ["step", "grpo [share]", "iapo [share]"]
    assert rows[20] == ["20", "0.7", "0.7"]
    chart = saved(page, "Save SVG: Outcome").read_text()
    for part in ("optimiser step", "outcome (%)", ">grpo<", ">Outcome<", "<path"):
        assert part in chart
    for figure, size in (("Outcome", (1360, 768)), ("Attribution by block", None), ("Heat map", None)):
        with Image.open(saved(page, f"Save PNG: {figure}")) as image:
            assert size is None or image.size == size
            assert len(image.convert("RGB").getcolors(1 << 20)) > 5
    bars = saved(page, "Save SVG: Attribution by block").read_text()
    assert "Block shares by softmax" in bars
    assert "share of the attribution (%)" in bars
    grid = list(csv.reader(io.StringIO(saved(page, "Save CSV: Heat map").read_text())))
    assert [len(row) for row in grid] == [3, 3]
    assert float(grid[0][1]) == pytest.approx(-0.2)


def test_settings_that_left_their_default(watched: Watched):
    page = watched.open()
    assert page.locator("#runs table mark.changed").all_inner_texts() == ["0", "0.1"]
    assert page.get_attribute("#runs table mark.changed >> nth=0", "title") == "default: 0.1"
    assert "Block shares are by softmax" in page.inner_text("#curves")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_the_views(watched: Watched, scheme: str):
    page = watched.page
    page.emulate_media(color_scheme=scheme)
    for hash in (
        "#trace=grpo%3At2&view=prompt",
        "#trace=grpo%3At2&view=group",
        "#trace=iapo%3Ah8&view=sample",
        "#nowhere",
    ):
        page.goto("about:blank")
        watched.open(hash)
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        found = page.evaluate(CONTRAST)
        assert found["texts"] > 150
        assert found["found"] == []


def test_views_on_narrow_screens(watched: Watched):
    page = watched.page
    page.set_viewport_size({"width": 360, "height": 740})
    for view in ("prompt", "group", "sample"):
        page.goto("about:blank")
        watched.open(f"#trace=grpo%3At2&view={view}")
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_any_number_of_turns(watch: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of_two = iapo.report.traces.turns_of

    def of_four(record: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = of_two(record)
        failed = {
            **first,
            "text": "I try again.",
            "status": "failed",
            "span": None,
            "image": None,
            "error": "line 2: no",
        }
        return [first, failed, first, last]

    monkeypatch.setattr(iapo.report.traces, "turns_of", of_four)
    make_run(tmp_path / "run", make_group(0), num_generations=4)
    written = write_report([tmp_path / "run"])
    with watch(written.path) as watched:
        page = watched.open("#trace=run%3At1")
        headings = [text for text in page.locator("#view h4").all_inner_texts() if text.startswith("Turn")]
        assert headings == [
            "Turn 1: the tool program",
            "Turn 2: the tool program",
            "Turn 3: the tool program",
            "Turn 4: the answer",
        ]
        captions = page.locator(".pictures > figure > figcaption").all_inner_texts()
        assert captions == ["Picture", *(f"After the program of turn {number}" for number in (1, 2, 3))]
        assert "OBSERVATION: line 2: no" in page.inner_text("#view")
        page.click("#tab-group")
        assert column(page, "turn 2") == ["I try again."] * 4


def test_the_page_of_a_damaged_run_works(watch: Callable[[Path], Any], tmp_path: Path):
    """What a report takes of a damaged line, its page shows without an error, in each view."""
    run = tmp_path / "run"
    make_run(run, make_group(1, size=2), steps=1, held_out=[make_trace(9, step=1)], num_generations=2)
    chance, pages = random.Random(5), 0
    files = [run / "traces.jsonl", run / "manifest.json", run / "held-out.jsonl"]
    whole = {path: path.read_bytes() for path in files}
    while pages < 8:
        path = chance.choice(files)
        path.write_bytes(spoiled(whole[path].decode(), path.suffix == ".jsonl", chance))
        try:
            written = write_report([run], tmp_path / "page.html")
        except InputError:
            continue
        finally:
            path.write_bytes(whole[path])
        with watch(written.path) as watched:
            page = watched.open()
            for view in ("prompt", "group", "sample", "rollout"):
                page.evaluate(f"document.getElementById('tab-{view}').click()")
                page.evaluate("document.querySelector('#next').click()")
        pages += 1
