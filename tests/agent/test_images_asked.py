"""Questions about several images: evaluations, endpoints, agents, requests, `iapo ask`, attributions and reports."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent.asked import SETTINGS, boxes_of
from PIL import Image
from report_runs import make_run, make_trace
from several import mixed, photo

from iapo.agent.agent import Agent
from iapo.cli.main import main
from iapo.errors import InputError
from iapo.evaluation.local import check_fit, evaluate
from iapo.evaluation.solvers import solve_by_chat
from iapo.records import Sample, ToolResult, Trace
from iapo.report.pictures import Pictures
from iapo.report.read import find_runs
from iapo.report.traces import browse
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.serving.requests import RequestError, read_request
from iapo.studies.attribute import run_attribute
from iapo.studies.attribute_inputs import AttributePlan
from iapo.supervised.examples import IGNORED, Collator, ExampleMaker
from iapo.supervised.run import _hold_out
from iapo.tools import TOOLS, offered_tools
from iapo.training.batches import to_dataset

FREE = {**TOOLS, **offered_tools("crop")}
PAIR, SINGLE, TRIPLE = mixed()
CALL = "```python\ndisplay(crop(image_2, [0, 0, 50, 40]))\n```"
ANSWER = "FINAL ANSWER: 3. TERMINATE"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny-student")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def texts(trace: Trace) -> list[str]:
    return [turn.text for turn in trace.turns]


def test_an_evaluation_of_a_batch_is_that_of_each_alone(policy: Policy) -> None:
    together = evaluate(policy, mixed(), SETTINGS)
    check_fit(policy, mixed(), SETTINGS)
    for one, sample in zip(together, mixed(), strict=True):
        (alone,) = evaluate(policy, [sample], SETTINGS)
        assert texts(one) == texts(alone)
        assert [image.size for image in one.sample.images] == [image.size for image in sample.images]


def test_an_agent_answers_as_an_evaluation_does(policy: Policy, tmp_path: Path) -> None:
    agent = Agent(policy, settings=SETTINGS)
    files = []
    for number, image in enumerate(TRIPLE.images):
        files.append(tmp_path / f"{number}.png")
        image.save(files[-1])
    (trace,) = evaluate(policy, [TRIPLE], SETTINGS)
    for images in (files, list(TRIPLE.images), tuple(map(png, TRIPLE.images))):
        found = agent.answer(images, TRIPLE.question, boxes_of(TRIPLE), attribution=True)
        assert [turn.text for turn in found.turns] == texts(trace)
        assert "on the first of 3 images" in found.note
        if found.attribution:
            assert [name for name in found.attribution if name.startswith("image")] == list(TRIPLE.named_images)
    assert agent.answer_many([(files, TRIPLE.question, {})])[0].turns
    with pytest.raises(InputError, match="comes with 0 images; give 1 to 8"):
        agent.answer([], "what?")
    with pytest.raises(InputError, match="comes with 9 images"):
        agent.answer([photo(30, 30)] * 9, "what?")
    with pytest.raises(InputError, match="picture 2 of 2: the picture is in no known picture format"):
        agent.answer([photo(30, 30), b"no image"], "what?")


def test_an_endpoint_is_sent_all_of_them() -> None:
    seen: list[Any] = []
    replies = iter([CALL, ANSWER])

    def chat(messages: Sequence[Mapping[str, Any]]) -> str:
        seen.append(
            [[part["image"].size for part in one["content"] if part["type"] == "image"] for one in messages[1::2]]
        )
        return next(replies)

    trace = solve_by_chat(chat, TRIPLE, tools=FREE, template=find_prompt("tools"))
    assert trace.result.status == "edited", trace.result.error
    assert trace.result.made_of == "image_2"
    sizes = [image.size for image in TRIPLE.images]
    assert trace.result.image is not None
    assert seen == [[sizes], [sizes, [trace.result.image.size]]]


def test_requests_hold_several(policy: Policy) -> None:
    def body(*images: Image.Image) -> bytes:
        parts: list[dict[str, Any]] = [{"type": "text", "text": "what "}, {"type": "text", "text": "changed?"}]
        for image in images:
            url = f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]}).encode()

    asked = read_request(body(*PAIR.images), "m", SETTINGS)
    assert asked.images == tuple(map(png, PAIR.images))
    assert asked.question == "what \nchanged?"
    question = Agent(policy, settings=SETTINGS).question(asked.images, asked.question, {})
    assert [image.size for image in question.sample.images] == [(112, 112), (84, 140)]
    for images, count in (((), 0), ((photo(30, 30),) * 9, 9)):
        with pytest.raises(RequestError, match=f"the message has {count} images; give 1 to 8"):
            read_request(body(*images), "m", SETTINGS)


def test_iapo_ask_takes_further_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, image in zip("abc", TRIPLE.images, strict=True):
        image.save(f"{name}.png")
    Path("boxes.json").write_text(json.dumps(boxes_of(TRIPLE)))
    words = ["ask", "a.png", "what changed?", "--model", "tiny-student", "--boxes", "boxes.json"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--more-image", "b.png", "--more-image", "c.png", "--attribution"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert "on the first of 3 images" in out
    assert "image_3" in out or "shares    none" in out
    with pytest.raises(SystemExit) as end:
        main([*words, "--more-image", "gone.png"])
    assert end.value.code == 2
    assert "there is no image gone.png" in capsys.readouterr().err


@pytest.mark.slow(1)
def test_an_attribution_has_a_heat_map_of_each(tmp_path: Path) -> None:
    numbers = run_attribute(AttributePlan(tools="standard,crop"), tmp_path / "out", sample=TRIPLE, call=CALL)
    blocks = [block["name"] for block in numbers["blocks"]]
    assert [name for name in blocks if name.startswith("image")] == list(TRIPLE.named_images)
    found = numbers["models"]["student"]
    assert {name: (len(grid), len(grid[0])) for name, grid in found["images"].items()} == {
        "image_1": (5, 5),
        "image_2": (2, 2),
        "image_3": (3, 4),
    }
    assert found["patches"] == found["images"]["image_3"]
    # Each map is of its own image's tokens.
    whole = sum(abs(token["score"]) for token in found["tokens"])
    for name, grid in found["images"].items():
        its = [one["score"] for one in found["tokens"] if one["block"] == name and one["text"] == "<|image_pad|>"]
        assert sum(map(sum, grid)) == pytest.approx(sum(its) / whole, rel=1e-3, abs=1e-5)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["attribution.image_1.png", "attribution.image_2.png", "attribution.json", "attribution.png"]


def test_supervised_examples_show_all(policy: Policy) -> None:
    encoder = PromptEncoder(policy.processor)
    maker = ExampleMaker(encoder, FREE)
    rows = [
        {**row, "turns": turns}
        for row, turns in zip(to_dataset(mixed()), ([CALL, ANSWER], [ANSWER], [CALL, ANSWER]), strict=True)
    ]
    batch = Collator(maker)(rows)
    sizes = [[image.size for image in one.images] for one in mixed()]
    assert len(batch["image_grid_thw"]) == sum(map(len, sizes)) + 2
    tokens = batch["input_ids"] == encoder.image_token_id
    assert tokens.sum() * encoder.merge_area == len(batch["pixel_values"])
    assert not ((batch["labels"] != IGNORED) & tokens).any()


def test_no_image_is_held_out_and_learnt() -> None:
    class Transcript:
        def __init__(self, *images: Image.Image) -> None:
            self.sample = Sample("s", images[0], "?", ("1",), more_images=images[1:])

    red, green, blue, white, black = (photo(30, 30, one) for one in ("red", "green", "blue", "white", "black"))
    some: list[Any] = [
        Transcript(red, green),
        Transcript(white),
        Transcript(blue, green),
        Transcript(black),
        Transcript(blue),
    ]
    train, held_out = _hold_out(some, 1)
    assert (train, held_out) == ([some[1], some[3]], [some[0], some[2], some[4]])


def test_reports_show_all(tmp_path: Path) -> None:
    traces = []
    for sample in mixed():
        image = photo(20, 20) if sample.more_images else None
        result = ToolResult("edited", image=image, span=(0, 3), made_of="image_2") if image else ToolResult("no_call")
        grids = tuple(((0.1 * place, -0.1),) for place in range(len(sample.images)))
        shares = {"student": {"query": 1.0}, "teacher": {"query": 1.0}}
        one = Trace.of(sample, "text", result, None, make_trace(3).scores, shares, patches={"student": grids})
        traces.append(one)
    make_run(tmp_path, traces)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["config"] |= {"run": {"tools": "standard"}, "prompt": find_prompt("tools").to_json()}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    pictures = Pictures("embed", tmp_path)
    browsed = browse(find_runs([tmp_path]).runs, pictures, 0)
    for trace, sample in zip(browsed.traces, mixed(), strict=True):
        shown = browsed.samples[trace["sample"]]
        assert [pictures.sizes[one] for one in (shown["picture"], *shown["more"])] == [i.size for i in sample.images]
        names = [one["name"] for one in browsed.prompts[trace["prompt"]]["blocks"] if one["type"] == "image"]
        assert names == list(sample.named_images)
        assert ("There are" in browsed.texts[trace["query"]]) == bool(sample.more_images)
        assert [grid["most"] for grid in trace["patches"]["student"]] == [0.1, 0.1, 0.2][: len(sample.images)]
    assert pictures.missing == 0
