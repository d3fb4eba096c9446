"""Takes the pictures of the report that README.md and docs/report.md show: python docs/screenshots.py runs/demo

Writes docs/images/report-*.png in the place of those that are there, each below 150 kB.
Needs Playwright (the `dev` extra) and a
Chromium on PATH, or its path in IAPO_BROWSER.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from iapo.report.command import write_report

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
WIDTH = 1180
MOST = 150_000


def find_browser() -> str:
    """The Chromium to use."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("IAPO_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise SystemExit("no Chromium: install chromium, or name one with IAPO_BROWSER=PATH")
    return found


def shrink(path: Path) -> int:
    """Writes a picture anew, with fewer colours where it would have `MOST` bytes or more; returns its size."""
    with Image.open(path) as shot:
        whole = shot.convert("RGB")
    whole.save(path, optimize=True)
    for colours in (256, 128, 64, 32):
        if path.stat().st_size < MOST:
            break
        # Rare colours, of a legend for example, stay.
        few = whole.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    return path.stat().st_size


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="a finished demo, for example runs/demo")
    parser.add_argument("--trace", default="iapo:h8", help="the held-out trace that is shown")
    parser.add_argument("--group", default="iapo:t11", help="a trace of the group that is shown")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="pictures to take, for example report-group")
    given = parser.parse_args()
    trace, group = (f"#trace={name.replace(':', '%3A')}" for name in (given.trace, given.group))
    shots = [
        ("report-overview", "light", 1400, ""),
        ("report-trace", "light", 1100, trace),
        ("report-prompt", "light", 1000, f"{trace}&view=prompt"),
        ("report-group", "light", 1000, f"{group}&view=group"),
        ("report-sample", "light", 1000, f"{trace}&view=sample"),
        ("report-dark", "dark", 860, "#curves"),
    ]
    if given.only:
        unknown = set(given.only) - {name for name, *_ in shots}
        if unknown:
            raise SystemExit(f"no picture {min(unknown)}; use some of {', '.join(name for name, *_ in shots)}")
        shots = [shot for shot in shots if shot[0] in given.only]
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_path = write_report([given.runs], Path(folder) / "report.html").path
        browser = driver.chromium.launch(executable_path=find_browser(), args=FLAGS)
        for name, scheme, height, place in shots:
            page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme=scheme)
            page.set_default_timeout(120_000)
            page.goto(page_path.as_uri() + place)
            page.wait_for_selector("#detail *")
            page.evaluate("document.fonts.ready")
            page.wait_for_timeout(500)
            target = IMAGES / f"{name}.png"
            page.screenshot(path=target)
            print(f"{target} {shrink(target) / 1000:.0f} kB")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
