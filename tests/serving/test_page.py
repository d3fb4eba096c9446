"""The page of `iapo serve` in a browser: an image and a question go in, text and images come out."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.asked import SETTINGS, boxes_of, charts
from report_browser import find_browser, until

from iapo.agent.agent import Agent
from iapo.agent.answers import Answer
from iapo.serving.server import Server

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
pytestmark = [
    pytest.mark.slow(4),
    pytest.mark.skipif(find_browser() is None, reason="no Chromium on PATH; set IAPO_BROWSER"),
]

SAMPLE = charts(1)[0]
EVIL = "<img src=x onerror='window.broken=1'><script>window.broken=1</script>"


class Evil:
    """An agent whose answers would break a careless page."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def ask(self, *words: Any, **more: Any) -> Answer:
        watch = more.pop("watch")

        def told(event: Any) -> None:
            watch(dataclasses.replace(event, text=f"{EVIL}{event.text}") if hasattr(event, "text") else event)

        return dataclasses.replace(self.agent.ask(*words, watch=told, **more), answer=EVIL)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    agent = Evil(Agent.from_pretrained("tiny-student", settings=SETTINGS))
    with Server(agent, "tiny", "127.0.0.1", 0, log=False) as found:  # type: ignore[arg-type]
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_it_asks_and_shows(server: Server, browser: Any, tmp_path: Path) -> None:
    SAMPLE.image.save(tmp_path / "chart.png")
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda said: problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.url)
    until(page, "document.getElementById('model').textContent === 'tiny'")
    page.fill("#question", SAMPLE.question)
    page.click("#ask")
    until(page, "document.getElementById('error').textContent === 'Choose an image first.'")
    page.set_input_files("#file", tmp_path / "chart.png")
    until(page, "document.getElementById('shown').naturalWidth === 112")
    page.click("summary")
    page.fill("#boxes", json.dumps(boxes_of(SAMPLE)))
    page.click("#ask")
    until(page, "!document.getElementById('answer').hidden")
    assert page.inner_text("#answer") == EVIL
    turns = page.locator("#turns > li")
    assert turns.count() == 2
    assert "display(focus_on_" in turns.nth(0).locator("pre").first.inner_text()
    assert turns.nth(0).locator("img").count() == 1
    assert page.evaluate("document.querySelector('#turns img').naturalWidth") == 112
    assert page.evaluate("window.broken") is None
    assert page.locator("#turns script, #answer *").count() == 0
    # A request that is refused is said, and nothing of the answer before is left.
    page.fill("#boxes", '{"colum_boxes": {}}')
    page.click("#ask")
    until(page, "document.getElementById('error').textContent.includes('did you mean column_boxes?')")
    assert page.locator("#turns > li").count() == 0
    page.screenshot(path=tmp_path / "page.png")
    page.close()
    # The browser itself tells of the response with status 400.
    assert [one for one in problems if "400 (Bad Request)" not in one] == []
