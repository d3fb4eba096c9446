"""Chromium for tests of the report: one for the whole session, pages that tell what they said and asked for."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")

CONTRAST = """() => {
  const channel = (value) => (value /= 255, value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const over = (top, below) => [0, 1, 2].map((place) => top[place] * top[3] + below[place] * (1 - top[3]));
  const backgroundOf = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  let texts = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(node.tagName)) continue;
    if (!node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (node.closest("button:disabled")) continue;
    const style = getComputedStyle(node);
    const background = backgroundOf(node);
    const [a, b] = [light(over(parse(style.color), background)), light(background)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    texts += 1;
    if (ratio < (large ? 3 : 4.5)) found.push([ratio.toFixed(2), node.className, walker.currentNode.data.trim()]);
  }
  return { texts, found };
}"""


def find_browser() -> str | None:
    return os.environ.get("IAPO_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


MARKS = [
    pytest.mark.slow(3),
    pytest.mark.skipif(
        find_browser() is None, reason="no Chromium: none of " + ", ".join(NAMES) + " on PATH; set IAPO_BROWSER"
    ),
]


class Watched:
    """A page with what it said and asked for."""

    def __init__(self, page: playwright.Page, path: Path) -> None:
        self.page, self.path = page, path
        # A busy machine is slow, and that is no fault of the page.
        page.set_default_timeout(120_000)
        self.problems: list[str] = []
        self._heard = {"console": self._said, "pageerror": self._failed, "request": self._asked}
        for event, hear in self._heard.items():
            page.on(event, hear)

    def close(self) -> None:
        """Listens no longer; the page stays open."""
        for event, hear in self._heard.items():
            self.page.remove_listener(event, hear)

    def _said(self, message: playwright.ConsoleMessage) -> None:
        self.problems.append(f"console: {message.text}")

    def _failed(self, error: Exception) -> None:
        self.problems.append(f"error: {error}")

    def _asked(self, request: playwright.Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.problems.append(f"request: {request.url}")

    def open(self, hash: str = "") -> playwright.Page:
        self.page.goto(self.path.as_uri() + hash)
        self.page.wait_for_selector("#detail *")
        return self.page


def count(page: playwright.Page) -> int:
    return int(re.match(r"[\d,]+", page.inner_text("#count"))[0].replace(",", ""))


def until(page: playwright.Page, condition: str) -> None:
    """Waits until a condition holds. The page's security policy refuses Playwright's own waiting, as it should."""
    for _ in range(2000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"it never holds that {condition}")
