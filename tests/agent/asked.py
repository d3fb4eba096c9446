"""Questions as a user has them: a few tiny charts, their boxes, and what evaluations make of them."""

from __future__ import annotations

from typing import Any

from endpoint_server import pictures

from iapo.data.synthetic import generate
from iapo.evaluation.local import EvaluationSettings
from iapo.records import Sample
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder

SETTINGS = EvaluationSettings(max_turn_tokens=24)


def charts(count: int = 2) -> list[Sample]:
    """Held-out charts of both families, on which the packaged student calls a tool."""
    return [
        sample
        for family in ("vbar", "hbar")
        for sample in generate(family, count, seed=0, split="test", question_types=("value",))
    ]


def boxes_of(sample: Sample) -> dict[str, Any]:
    """Boxes as `--boxes`, `Agent.answer` and a request take them."""
    return {
        "column_boxes": {name: list(box) for name, box in sample.column_boxes.items()},
        "row_boxes": {name: list(box) for name, box in sample.row_boxes.items()},
    }


class Chat:
    """The packaged student behind an endpoint: writes the next turn of the chat that it is sent.

    Attributes:
        requests: What it was sent.
    """

    def __init__(self) -> None:
        self.policy = load_policy("tiny-student")
        self.requests: list[dict[str, Any]] = []
        encoder = PromptEncoder(self.policy.processor)
        self._generate = make_generate(self.policy, encoder, max_new_tokens=SETTINGS.max_turn_tokens)

    def __call__(self, request: dict[str, Any]) -> str:
        self.requests.append(request)
        processor: Any = self.policy.processor
        images = [image for message in request["messages"] for image in pictures(message)]
        chat = [{**message, "content": _plain(message["content"])} for message in request["messages"]]
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        (row,) = processor(text=[text], images=images)["input_ids"]
        (ids,) = self._generate([list(row)], [images])
        return str(processor.tokenizer.decode(ids, skip_special_tokens=True))


def _plain(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [{"type": "image"} if part["type"] == "image_url" else part for part in content]
