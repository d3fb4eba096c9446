"""The report in a browser, from disk: what it shows, what it asks for, whom it can be used by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from report_browser import CONTRAST, MARKS, Watched, count, until
from report_runs import HOSTILE, make_run, make_trace, picture

from iapo.report.command import write_report

pytestmark = MARKS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, a case study, traces of every status, and a question that would break a careless page."""
    root = tmp_path_factory.mktemp("runs") / "both"
    traces = [make_trace(number, step=1 + number // 8) for number in range(40)]
    odd = [
        make_trace(100, question=HOSTILE),
        make_trace(101, status="refused", question=HOSTILE),
        make_trace(102, status="no_call"),
        make_trace(103, status="failed"),
        make_trace(104, patches=False),
    ]
    held_out = [make_trace(number, step=step) for step in (0, 20) for number in range(200, 206)]
    make_run(root / "grpo", traces, penalty_weight=0.0)
    make_run(root / "iapo", odd, shift=0.05, held_out=held_out, study=True)
    return write_report([root], root / "report.html").path


def test_sections_and_charts(watched: Watched):
    page = watched.open()
    assert page.locator("#charts .chart").count() == 6
    assert page.locator("#studies .chart").count() == 2
    assert page.locator("#charts canvas").first.evaluate("(one) => one.getContext('2d') && one.width") > 100
    # Something is drawn: pixels that are not transparent.
    drawn = "(one) => one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some((v) => v > 0)"
    assert page.locator("#charts canvas").first.evaluate(drawn)
    # The mean of the last three values, and beside it the last one itself.
    assert "grpo 69.0\u2009% (raw 70.0\u2009%)" in page.locator("#charts .plot").first.get_attribute("aria-label")
    assert "last, smoothed: grpo 69.0" in page.locator("#charts .reading").first.inner_text()
    page.click("#legend button >> nth=0")
    assert "grpo" not in page.locator("#charts .plot").first.get_attribute("aria-label")
    page.select_option("#smoothing", "1")
    assert "iapo 75.0" in page.locator("#charts .plot").first.get_attribute("aria-label")


def test_filters_and_search(watched: Watched):
    page = watched.open()
    assert count(page) == 57
    expected = {
        "run": ("iapo", 17),
        "part": ("before", 6),
        "family": ("synthetic/vbar", 29),
        "outcome": ("wrong", 28),
        "misuse": ("misuse", 18),
        "status": ("refused", 1),
    }
    for name, (value, number) in expected.items():
        page.select_option(f"#{name}", value)
        assert count(page) == number, name
        page.click("#clear")
        assert count(page) == 57
    page.fill("#query", "COLUMNS_bbox vbar-4")
    # Numbers 4 and, with the wrong tools, none: 6 and 12 are misused.
    assert count(page) == 1
    assert page.inner_text("#detail h3") == "value of E4?"
    page.fill("#query", "no such words")
    assert count(page) == 0
    assert "No trace fits" in page.inner_text("#detail")


def test_a_trace_in_full(watched: Watched):
    page = watched.open("#trace=grpo%3At1")
    text = page.inner_text("#detail")
    for part in ("value of A0?", "synthetic/vbar", "misuse", "FINAL ANSWER: 0", "gold", "alignment", "called"):
        assert part in text
    # The offsets of the program count characters, of which the first is two halves in JavaScript.
    assert page.inner_text("#detail mark").startswith("display(")
    assert page.inner_text("#detail mark").endswith("rows_bbox))")
    assert page.locator("#detail .bar-row").count() == 10
    assert page.inner_text("#detail table tr:last-child td:last-child") == "0.975"
    page.click("#traces .list .row >> nth=3")
    assert page.inner_text("#detail h3") == "value of D3?"
    page.goto(watched.path.as_uri() + "#trace=iapo%3At2")
    assert "was refused" in page.inner_text("#detail")
    assert "line 1:" in page.inner_text("#detail .error")
    page.goto(watched.path.as_uri() + "#trace=iapo%3At5")
    assert "No heat map" in page.inner_text("#detail")


def test_heat_map(watched: Watched):
    page = watched.open("#trace=grpo%3At1")
    heat = page.locator(".heat-map")
    size = "(one) => [one.width, one.height, one.clientWidth > 100]"
    assert heat.evaluate(size) == [3, 2, True]
    # Read from a copy: Chromium warns of canvases that are read often.
    pixels = """(one) => {
      const copy = new OffscreenCanvas(3, 2).getContext("2d", { willReadFrequently: true });
      copy.drawImage(one, 0, 0);
      return Array.from(copy.getImageData(0, 0, 3, 2).data);
    }"""
    student = heat.evaluate(pixels)
    # One scale for both models: the teacher's 0.4 is the end of it, the student's -0.2 half of the other end.
    assert student[4] < student[6]
    page.check("input[value=teacher]")
    teacher = heat.evaluate(pixels)
    assert teacher[4:8] == [178, 24, 43, 255]
    assert student != teacher
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert heat.evaluate("(one) => getComputedStyle(one).opacity") == "0"
    page.keyboard.press("End")
    assert heat.evaluate("(one) => getComputedStyle(one).opacity") == "1"
    box = heat.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    assert "row 1, column 2: +40.00" in page.inner_text(".heat .reading")
    page.check("input[value=none]")
    assert heat.is_hidden()


def test_each_image_has_its_heat_map(watch: Callable[[Path], Any], tmp_path: Path) -> None:
    """Of a sample with two; a trace of an earlier version has the first one's alone."""
    one = make_trace(2)
    pair = dataclasses.replace(one.sample, more_images=(picture(3),))
    further = {"student": ((-0.8,), (0.1,)), "teacher": ((0.2,), (0.3,))}
    both = {who: (*grids, further[who]) for who, grids in one.patches.items()}
    traces = [dataclasses.replace(one, sample=pair, patches=patches) for patches in (both, one.patches)]
    make_run(tmp_path / "pairs", traces)
    with watch(write_report([tmp_path / "pairs"], tmp_path / "report.html").path) as watched:
        page = watched.open("#trace=pairs%3At1")
        heats = page.locator(".heat-map")
        assert heats.evaluate_all("(all) => all.map((one) => [one.width, one.height])") == [[3, 2], [1, 2]]
        assert page.locator(".pictures figure").nth(1).locator(".heat-map").count() == 1
        assert page.inner_text(".heat .reading").startswith("student: picture 1\u2019s 2 \u00d7 3 tokens hold 45")
        assert "picture 2\u2019s 2 \u00d7 1 tokens hold 90" in page.inner_text(".heat .reading")
        # One scale for all of them: the largest share is the second picture's.
        assert "80.0" in page.inner_text(".heat .scale")
        box = heats.nth(1).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
        assert "student, picture 2, row 1, column 1: \u221280.00" in page.inner_text(".heat .reading")
        assert page.locator("[aria-label='Save CSV: Heat map of picture 2']").count() == 1
        page.focus("#opacity")
        page.keyboard.press("Home")
        assert heats.evaluate_all("(all) => all.map((one) => getComputedStyle(one).opacity)") == ["0", "0"]
        page.check("input[value=none]")
        assert [heats.nth(place).is_hidden() for place in range(2)] == [True, True]
        page.goto(watched.path.as_uri() + "#trace=pairs%3At2")
        page.wait_for_selector("#detail h3")
        until(page, "document.querySelectorAll('.heat-map').length === 1")
        assert page.locator(".pictures figure").first.locator(".heat-map").count() == 1


def test_links_restore_and_back_works(watched: Watched):
    page = watched.open("#trace=iapo%3Ah3&run=iapo&part=before&q=value")
    assert count(page) == 6
    assert page.input_value("#part") == "before"
    assert page.inner_text("#detail h3") == "value of C202?"
    assert page.get_attribute("[aria-selected=true]", "id") == "row-2"
    page.click(".row >> nth=4")
    assert page.inner_text("#detail h3") == "value of E204?"
    link = page.get_attribute("#permalink", "href")
    assert link == "#" + page.evaluate("location.hash.slice(1)")
    page.go_back()
    assert page.inner_text("#detail h3") == "value of C202?"
    page.go_forward()
    assert page.inner_text("#detail h3") == "value of E204?"
    # A section's own link leaves the browser as it is.
    page.click("nav a[href='#curves']")
    assert page.inner_text("#detail h3") == "value of E204?"
    page.goto("about:blank")
    watched.open(link)
    assert page.inner_text("#detail h3") == "value of E204?"
    assert count(page) == 6
    page.goto("about:blank")
    watched.open("#trace=iapo%3At999")
    assert "no trace \u201ciapo:t999\u201d" in page.inner_text("#lost")
    assert "No trace is open" in page.inner_text("#detail")


def test_keyboard(watched: Watched):
    page = watched.open()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        if reached[-1] == "list":
            break
    for wanted in ("Skip to the report", "Traces", "theme", "smoothing", "query", "run", "status", "clear", "list"):
        assert wanted in reached
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#detail h3") == "value of C2?"
    assert page.get_attribute("#list", "aria-activedescendant") == "row-2"
    page.keyboard.press("End")
    assert page.inner_text("#detail h3") == "value of F205?"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "next"
    page.keyboard.press("Enter")
    assert page.inner_text("#detail h3") == "value of B1?"
    assert page.evaluate("document.activeElement.id") == "next"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(watched: Watched, scheme: str):
    page = watched.page
    page.emulate_media(color_scheme=scheme)
    for hash in ("#trace=grpo%3At1", "#trace=iapo%3At2", "#trace=iapo%3At5"):
        page.goto("about:blank")
        watched.open(hash)
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        found = page.evaluate(CONTRAST)
        assert found["texts"] > 150
        assert found["found"] == []


def test_theme_switch(watched: Watched):
    page = watched.open()
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) == light
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    dark = page.evaluate(background)
    assert dark != light
    page.emulate_media(color_scheme="dark")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: automatic"
    assert page.evaluate(background) == dark


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens(watched: Watched, width: int):
    page = watched.page
    page.set_viewport_size({"width": width, "height": 740})
    for hash in ("", "#trace=iapo%3At1", "#trace=iapo%3At2"):
        page.goto("about:blank")
        watched.open(hash)
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".row >> nth=1")
    until(page, "Math.abs(document.getElementById('detail').getBoundingClientRect().top) < 200")


def test_hostile_texts_are_texts(watched: Watched):
    page = watched.open("#trace=iapo%3At1")
    shown = page.evaluate("document.querySelector('#detail h3').textContent")
    # A lone half of a pair cannot be shown; all else is what it was.
    assert shown.replace("\ufffd", "\ud800") == HOSTILE
    assert page.evaluate("window.broken") is None
    assert page.locator("#detail img[src=x]").count() == 0
    page.goto(watched.path.as_uri() + f"#trace={quote('</script><img src=x onerror=window.broken=1>')}&q=%3Cb%3E")
    until(page, "document.getElementById('lost').textContent.includes('no trace')")
    assert page.evaluate("window.broken") is None


def test_two_thousand_traces(watch: Callable[[Path], Any], tmp_path: Path):
    make_run(tmp_path / "run", [make_trace(number, step=1 + number // 100) for number in range(2000)])
    written = write_report([tmp_path / "run"], tmp_path / "report.html", pictures="folder")
    with watch(written.path) as watched:
        page = watched.open()
        assert count(page) == 2000
        assert page.locator(".row").count() < 40
        page.evaluate("document.getElementById('list').scrollTop = 1e6")
        page.wait_for_selector("#row-1999")
        assert page.locator(".row").count() < 40
        assert page.locator(".row img").evaluate_all("(all) => all.every((one) => one.src.includes('report_files/'))")
        until(page, "[...document.querySelectorAll('#detail img')].every((one) => one.naturalWidth === 96)")
        page.fill("#query", "vbar-1998")
        assert count(page) == 1
        assert page.inner_text("#detail h3") == "value of G1998?"
