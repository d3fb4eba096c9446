"""The page of `iapo serve` in a browser: images and a question go in, text and images come out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.asked import SETTINGS, boxes_of, charts
from endpoint_server import serve
from PIL import Image
from report_browser import CONTRAST, find_browser, until
from several import photo

from iapo.agent.agent import Agent
from iapo.agent.answers import Answer, TextEvent
from iapo.agent.questions import make_question
from iapo.endpoints.chat import EndpointSettings
from iapo.records import MOST_IMAGES
from iapo.serving.limits import Limits
from iapo.serving.server import Server

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
pytestmark = [
    pytest.mark.slow(4),
    pytest.mark.skipif(find_browser() is None, reason="no Chromium on PATH; set IAPO_BROWSER"),
]

SAMPLE = charts(1)[0]
EVIL = "<img src=x onerror='window.broken=1'><script>window.broken=1</script>"


CROPS = [f"```python\ndisplay(crop(image_{one}, [0, 0, {side}, {side}]))\n```" for one, side in ((2, 40), (3, 30))]


class Evil:
    """An agent whose answers would break a careless page.

    Attributes:
        sizes: Sizes of the images that it was asked about last, in order.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.sizes = agent, list[tuple[int, int]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def ask(self, question: Any, **more: Any) -> Answer:
        self.sizes = [image.size for image in question.sample.images]
        watch = more.pop("watch")

        def told(event: Any) -> None:
            watch(dataclasses.replace(event, text=f"{EVIL}{event.text}") if hasattr(event, "text") else event)

        return dataclasses.replace(self.agent.ask(question, watch=told, **more), answer=EVIL)


@contextlib.contextmanager
def running(agent: Any, limits: Limits | None = None) -> Iterator[Server]:
    with Server(agent, "tiny", "127.0.0.1", 0, limits, log=False) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(Evil(Agent.from_pretrained("tiny-student", settings=SETTINGS))) as found:
        yield found


class Opened:
    """The page of a server, with what went wrong in it."""

    def __init__(self, browser: Any, server: Server, **more: Any) -> None:
        self.problems: list[str] = []
        self.page = browser.new_page(**more)
        self.page.on("console", lambda said: self.problems.append(said.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(server.url)
        until(self.page, "document.getElementById('model').textContent === 'tiny'")

    def wait_for_error(self, part: str) -> None:
        until(self.page, f"document.getElementById('error').textContent.includes({json.dumps(part)})")

    def wait_for_answer(self) -> None:
        until(self.page, "!document.getElementById('answer').hidden || !document.getElementById('error').hidden")
        assert self.page.is_hidden("#error"), self.page.inner_text("#error")

    def labels(self) -> list[str]:
        found: list[str] = self.page.locator("#pictures span").all_inner_texts()
        return found

    def drop(self, kind: str, *files: tuple[str, str, bytes], on: str = "h1") -> None:
        """Drops or pastes files, each with its name, type and bytes."""
        self.page.evaluate(
            """([kind, on, files]) => {
              const held = new DataTransfer();
              for (const [name, type, data] of files) held.items.add(new File([new Uint8Array(data)], name, { type }));
              const more = { bubbles: true, cancelable: true };
              const event = kind === "drop"
                ? new DragEvent("drop", { ...more, dataTransfer: held })
                : new ClipboardEvent("paste", { ...more, clipboardData: held });
              document.querySelector(on).dispatchEvent(event);
            }""",
            [kind, on, [[name, type, list(data)] for name, type, data in files]],
        )


def save(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    paths = [folder / f"{width}.png" for width, _ in sizes]
    for path, size in zip(paths, sizes, strict=True):
        photo(*size).save(path)
    return paths


def test_it_asks_and_shows(server: Server, browser: Any, tmp_path: Path) -> None:
    SAMPLE.image.save(tmp_path / "chart.png")
    opened = Opened(browser, server)
    page = opened.page
    page.fill("#question", SAMPLE.question)
    page.click("#ask")
    opened.wait_for_error("Choose an image first.")
    page.set_input_files("#file", tmp_path / "chart.png")
    until(page, "document.querySelector('#pictures img').naturalWidth === 112")
    assert page.is_hidden("#error")
    page.click("summary")
    page.fill("#boxes", json.dumps(boxes_of(SAMPLE)))
    page.click("#ask")
    opened.wait_for_answer()
    assert page.inner_text("#answer") == EVIL
    assert page.inner_text("#note").startswith("Boxes: given: 4 columns")
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
    opened.wait_for_error("did you mean column_boxes?")
    assert page.locator("#turns > li").count() == 0
    assert page.is_hidden("#note")
    page.fill("#boxes", '{"column_boxes": ')
    page.click("#ask")
    opened.wait_for_error("The boxes are no JSON: ")
    page.close()
    # The browser itself tells of the response with status 400.
    assert [one for one in opened.problems if "400 (Bad Request)" not in one] == []


def test_it_takes_several_images(server: Server, browser: Any, tmp_path: Path) -> None:
    """They are chosen, dropped anywhere and pasted; one is taken away with the keyboard alone."""
    paths = save(tmp_path, *((28 + 4 * index, 60) for index in range(MOST_IMAGES + 1)))
    opened = Opened(browser, server)
    page = opened.page
    assert f"{MOST_IMAGES} at most" in page.inner_text("#drop")
    page.set_input_files("#file", paths[:2])
    opened.drop("drop", (paths[2].name, "image/png", paths[2].read_bytes()))
    opened.drop("paste", (paths[3].name, "image/png", paths[3].read_bytes()))
    assert opened.labels() == [f"image_{place + 1}: {path.name}" for place, path in enumerate(paths[:4])]
    until(page, "[...document.querySelectorAll('#pictures img')].every((one) => one.naturalHeight === 60)")
    # From the field with the images, past the first one's button, to the second's.
    page.focus("#file")
    for key in ("Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    assert opened.labels() == [f"image_{place + 1}: {paths[index].name}" for place, index in enumerate((0, 2, 3))]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Remove image_2, {paths[2].name}"
    page.fill("#question", "what changed?")
    page.press("#question", "Enter")
    opened.wait_for_answer()
    assert server.agent.sizes == [(28 + 4 * index, 60) for index in (0, 2, 3)]  # type: ignore[attr-defined]
    # The same file once more, and too many: what there is room for is taken, and the rest is named.
    page.set_input_files("#file", paths[2])
    page.set_input_files("#file", paths[4:])
    opened.wait_for_error(f"{paths[-1].name} is left out: a question is about {MOST_IMAGES} images at most.")
    assert [label.partition(": ")[2] for label in opened.labels()] == [
        paths[index].name for index in (0, 2, 3, 2, 4, 5, 6, 7)
    ]
    for _ in range(MOST_IMAGES):
        page.locator("#pictures button", has_text="Remove").last.press("Enter")
    assert opened.labels() == []
    assert page.evaluate("document.activeElement.id") == "file"
    page.close()
    assert opened.problems == []


def test_images_change_places(server: Server, browser: Any, tmp_path: Path) -> None:
    paths = save(tmp_path, *((28 + 4 * index, 60) for index in range(3)))
    opened = Opened(browser, server)
    page = opened.page
    page.set_input_files("#file", paths)
    assert page.locator("#pictures button", has_text="Earlier").count() == 2
    page.focus(f"[aria-label='Move image_3, {paths[2].name}, before image_2']")
    # The button goes along with its image; the first one has none.
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        f"Move image_2, {paths[2].name}"
    )
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Remove image_1, {paths[2].name}"
    assert opened.labels() == [f"image_{place + 1}: {paths[index].name}" for place, index in enumerate((2, 0, 1))]
    page.fill("#question", "what changed?")
    page.press("#question", "Enter")
    opened.wait_for_answer()
    assert server.agent.sizes == [(28 + 4 * index, 60) for index in (2, 0, 1)]  # type: ignore[attr-defined]
    page.close()
    assert opened.problems == []


class Endless:
    """An agent that goes on writing until it is stopped."""

    settings, at_once = SETTINGS, 1

    def __init__(self) -> None:
        self.ended = threading.Event()

    def question(self, images: Any, question: str, boxes: Any = None) -> Any:
        return make_question(images, question, {})

    def ask(self, question: Any, *, watch: Any, **_: Any) -> Any:
        try:
            while True:
                watch(TextEvent(1, "word "))
                self.ended.wait(0.02)
        finally:
            self.ended.set()


def test_an_answer_is_stopped(browser: Any, tmp_path: Path) -> None:
    """With the keyboard; the model is free again, and the next question is answered."""
    agent = Endless()
    (path,) = save(tmp_path, (60, 60))
    with running(agent) as server:
        opened = Opened(browser, server)
        page = opened.page
        assert page.is_hidden("#stop")
        page.set_input_files("#file", path)
        page.fill("#question", "how long?")
        page.press("#question", "Enter")
        until(page, "document.querySelector('#turns pre')?.textContent.includes('word word')")
        page.focus("#stop")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('state').textContent === 'Stopped.'")
        assert page.is_hidden("#stop")
        assert page.is_hidden("#error")
        assert page.evaluate("document.activeElement.id") == "ask"
        assert agent.ended.wait(30)
        server.agent = Evil(Agent.from_pretrained("tiny-student", settings=SETTINGS))
        page.press("#question", "Enter")
        opened.wait_for_answer()
        page.close()
        assert opened.problems == []


def test_it_says_what_is_no_image(server: Server, browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, server)
    page = opened.page
    good = save(tmp_path, (40, 40))[0].read_bytes()
    opened.drop("drop", ("a.txt", "text/plain", b"x"), ("b.png", "image/png", b""), ("c.png", "image/png", good))
    opened.wait_for_error("a.txt is no image. b.png is empty.")
    assert opened.labels() == ["image_1: c.png"]
    # What calls itself an image is the server's to judge.
    opened.drop("drop", ("d.png", "image/png", b"no image"))
    page.fill("#question", "what?")
    page.click("#ask")
    opened.wait_for_error("picture 2 of 2: the picture is in no known picture format")
    # A file that has changed since.
    path = tmp_path / "later.png"
    path.write_bytes(good)
    page.set_input_files("#file", path)
    path.unlink()
    page.click("#ask")
    opened.wait_for_error("later.png cannot be read; it may have changed, so remove it and choose it again.")
    page.close()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_large_images(browser: Any, tmp_path: Path) -> None:
    """Too many bytes are refused before they are sent, too many pixels by the server; both in one sentence."""
    agent = Agent.from_pretrained("tiny-student", settings=SETTINGS)
    with running(agent, Limits(body=100_000)) as server:
        opened = Opened(browser, server)
        page = opened.page
        page.fill("#question", "what?")
        opened.drop("drop", ("large.bmp", "image/bmp", bytes(90_000)))
        page.click("#ask")
        opened.wait_for_error("The request has 0.1 MiB, and the server takes 0.1; choose fewer or smaller images.")
        page.click("#pictures button")
        bomb = tmp_path / "bomb.png"
        Image.new("1", (10_000, 10_000)).save(bomb)
        page.set_input_files("#file", bomb)
        page.click("#ask")
        opened.wait_for_error("pixels")
        assert page.evaluate("document.body.scrollWidth <= window.innerWidth")
        page.close()


def test_all_edited_images_are_shown(browser: Any, tmp_path: Path) -> None:
    """Of every turn, each under what the model wrote."""
    replies = iter([*CROPS, "FINAL ANSWER: 3. TERMINATE"])
    settings = dataclasses.replace(SETTINGS, max_turns=3, max_turn_tokens=200)
    with serve(lambda _: next(replies)) as upstream:
        more: dict[str, Any] = {"prompt": "tools-turns", "tools": "standard,crop", "settings": settings}
        agent = Agent.from_endpoint(EndpointSettings("m", upstream.url, retries=0), **more)
        with running(agent) as server:
            opened = Opened(browser, server)
            page = opened.page
            page.set_input_files("#file", save(tmp_path, (90, 60), (80, 60), (70, 60)))
            page.fill("#question", "what changed?")
            page.click("#ask")
            opened.wait_for_answer()
            assert page.inner_text("#answer") == "3"
            until(page, "[...document.querySelectorAll('#turns img')].every((one) => one.naturalWidth)")
            widths = "[...document.querySelectorAll('#turns > li')].map((one) => [...one.querySelectorAll('img')].map"
            assert page.evaluate(f"{widths}((img) => img.naturalWidth))") == [[40], [30], []]
            page.close()
            assert opened.problems == []


def test_a_server_that_goes_away_is_told(server: Server, browser: Any, tmp_path: Path) -> None:
    """Before it answers, in the middle of an answer, and where something before it answers in its place."""
    opened = Opened(browser, server)
    page = opened.page
    page.set_input_files("#file", save(tmp_path, (40, 40)))
    page.fill("#question", "what?")
    for change, told in (
        (lambda route: route.abort(), "The server cannot be reached; see whether it still runs."),
        (lambda route: route.fulfill(body='data: {"iapo"'), "The answer broke off; see whether the server still runs."),
        (lambda route: route.fulfill(status=502, body="<html>"), "The server answered with status 502."),
    ):
        page.route("**/v1/chat/completions", change)
        page.click("#ask")
        opened.wait_for_error(told)
        assert page.is_hidden("#state")
        page.unroute("**/v1/chat/completions")
    # It can be asked again.
    page.click("#ask")
    opened.wait_for_answer()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(server: Server, browser: Any, tmp_path: Path, scheme: str) -> None:
    """Text has contrast, on a phone nothing is cut off, and each field has a name."""
    opened = Opened(browser, server, color_scheme=scheme, viewport={"width": 360, "height": 640})
    page = opened.page
    page.set_input_files("#file", save(tmp_path, (300, 60), (60, 300)))
    opened.drop("drop", (f"{'long' * 40}.txt", "text/plain", b"x"))
    opened.wait_for_error("is no image.")
    found = page.evaluate(CONTRAST)
    assert found["texts"] > 6
    assert found["found"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = "(one) => !one.labels?.length && !one.textContent && !one.getAttribute('aria-label')"
    assert page.evaluate(f"[...document.querySelectorAll('input, textarea, button')].filter({unnamed}).length") == 0
    page.close()
