"""How long the report takes to be there and to answer with many traces, in a browser.

    python benchmarks/report_page.py [--traces 5000] [--repeats 3] [--json FILE]

Writes a run of invented traces (groups of eight, an attribution and a grid of 64 shares each, 40 different pictures)
and its report, and opens that from disk in Chromium. Wall-clock milliseconds, medians: from the start of the
navigation to the first paint and to a page that answers, and for what a reader does from the event to the next frame.
Needs Playwright (the `dev` extra) and a Chromium on PATH, or its path in IAPO_BROWSER.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
from iapo.report.command import write_report
from iapo.rollout.template import find_prompt
from iapo.runs import RunFolder

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
GROUP, PICTURES, STEPS = 8, 40, 200
BLOCKS = ("context", "image_1", "tool:focus_on_columns_with_mask", "tool:focus_on_rows_with_mask", "query")

PAINTED = """(act) => new Promise((resolve) => {
  const start = performance.now();
  act();
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
})"""

ACTS = {
    "sort by divergence": "() => { sort.value = 'divergence'; sort.dispatchEvent(new Event('change')); }",
    "turn the order": "() => direction.click()",
    "filter by status": "() => { status.value = 'refused'; status.dispatchEvent(new Event('change')); }",
    "first search": "() => { query.value = 'value of c'; query.dispatchEvent(new Event('input')); }",
    "search again": "() => { query.value = 'value of d1'; query.dispatchEvent(new Event('input')); }",
    "clear": "() => clear.click()",
    "scroll to the end": "() => { list.scrollTop = 1e9; }",
    "group view": "() => document.getElementById('tab-group').click()",
    "same sample": "() => document.getElementById('tab-sample').click()",
}
"""What a reader does, in this order; names are ids of the page's elements."""

NAMES = "const [sort, direction, status, query, clear, list] = "
NAMES += "['sort', 'direction', 'status', 'query', 'clear', 'list'].map((id) => document.getElementById(id));"


def make_traces(count: int) -> list[Trace]:
    """Traces in groups, of invented numbers."""
    draw = random.Random(0)
    pictures = []
    for number in range(PICTURES):
        pictures.append(Image.new("RGB", (112, 112), "white"))
        ImageDraw.Draw(pictures[-1]).rectangle((number, 20, number + 20, 100), fill=(30, 6 * number, 90))
    traces: list[Trace] = []
    while len(traces) < count:
        number = len(traces) // GROUP
        name = f"{'ABCDEFGH'[number % 8]}{number}"
        sample = Sample(
            f"vbar-{number}", pictures[number % PICTURES], f"value of {name}?", (str(number % 9),), axis="columns"
        )
        for _ in range(min(GROUP, count - len(traces))):
            refused = draw.random() < 0.1
            axis = draw.choice(("columns", "rows"))
            program = f'display(focus_on_{axis}_with_mask(image_1, ["{name}"], {axis}_bbox))'
            turn = f"```python\n{program}\n```"
            call = ToolCall(f"focus_on_{axis}_with_mask", (name,), f"{axis}_bbox", axis)
            span = (10, 10 + len(program))
            edited = pictures[draw.randrange(PICTURES)]
            result = (
                ToolResult("refused", (), None, "line 1: no", span)
                if refused
                else ToolResult("edited", (call,), edited, None, span)
            )
            shares = [{block: draw.random() / 3 for block in BLOCKS} for _ in range(2)]
            grid = tuple(tuple(draw.uniform(-0.02, 0.02) for _ in range(8)) for _ in range(8))
            divergence = draw.random()
            scores = {"outcome": float(draw.random() < 0.5), "alignment": -divergence, "divergence": divergence}
            traces.append(
                Trace(
                    sample,
                    turn,
                    result,
                    f"FINAL ANSWER: {draw.randrange(9)}. TERMINATE",
                    {name: Score(value) for name, value in scores.items()},
                    {} if refused else {"student": shares[0], "teacher": shares[1]},
                    1 + number * STEPS // max(1, count // GROUP),
                    {} if refused else {"student": grid, "teacher": grid},
                )
            )
    return traces


def make_run(path: Path, count: int) -> None:
    """A run folder with that many traces."""
    folder = RunFolder(path)
    config = {"training": {"reward": "iapo", "penalty_weight": 0.1, "num_generations": GROUP, "attribution_eps": 0.01}}
    folder.write_manifest(config | {"prompt": find_prompt("tiny").to_json()}, {"training": 0}, {"train": "a" * 64})
    for step in range(1, STEPS + 2):
        folder.append_metrics({"step": step, "reward/outcome": 0.5, "weight/outcome": 1.0, "weight/alignment": 0.1})
    folder.append_traces(make_traces(count))


def measure(page: Page, address: str) -> dict[str, float]:
    """Opens the page and does what a reader does."""
    page.goto(address)
    page.wait_for_selector("#detail *")
    ready = "performance.getEntriesByName('iapo-ready')[0].startTime"
    found = {
        "first paint": page.evaluate("performance.getEntriesByName('first-paint')[0].startTime"),
        "page answers": page.evaluate(ready),
    }
    for name, act in ACTS.items():
        found[name] = page.evaluate(f"() => {{ {NAMES} return ({PAINTED})({act}); }}")
    return found


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("IAPO_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise SystemExit("no Chromium: install chromium, or name one with IAPO_BROWSER=PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        make_run(Path(folder) / "run", given.traces)
        start = time.process_time()
        written = write_report([Path(folder) / "run"], max_traces=0)
        seconds = time.process_time() - start
        chromium = driver.chromium.launch(executable_path=browser, args=FLAGS)
        runs = []
        for _ in range(given.repeats):
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(300_000)
            runs.append(measure(page, written.path.as_uri()))
            page.close()
        chromium.close()
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    table = Table("what", "milliseconds", title=f"{written.total:,} traces, a page of {written.size / 1e6:.1f} MB")
    for name, value in medians.items():
        table.add_row(name, f"{value:.0f}")
    console = Console()
    console.print(table)
    console.print(f"iapo report took {seconds:.1f} s of CPU.")
    if given.json is not None:
        given.json.write_text(
            json.dumps({"traces": written.total, "bytes": written.size, "cpu": seconds, "ms": medians})
        )


if __name__ == "__main__":
    main()
