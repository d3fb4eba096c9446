"""Takes the pictures of the report that the README shows: python docs/screenshots.py runs/demo

Writes docs/images/report-overview.png, report-trace.png and report-dark.png. Needs Playwright (the `dev` extra) and a
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


def find_browser() -> str:
    """The Chromium to use."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("IAPO_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise SystemExit("no Chromium: install chromium, or name one with IAPO_BROWSER=PATH")
    return found


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="a finished demo, for example runs/demo")
    parser.add_argument("--trace", default="iapo:h20", help="the trace that is shown")
    given = parser.parse_args()
    shots = [
        ("report-overview", "light", 1400, ""),
        ("report-trace", "light", 1100, f"#trace={given.trace.replace(':', '%3A')}"),
        ("report-dark", "dark", 860, "#curves"),
    ]
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
            with Image.open(target) as shot:
                shot.convert("RGB").save(target, optimize=True)
            print(f"{target} {target.stat().st_size / 1000:.0f} kB")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
