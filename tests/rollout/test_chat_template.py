"""Chat templates are foreign: those that may run on, or make endless texts, are ended and named."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import iapo
from iapo.errors import InputError
from iapo.rollout import chat_template
from iapo.rollout.chat_template import is_plain, render
from iapo.rollout.policy import load_processor
from iapo.rollout.prompt import PromptEncoder

MESSAGES = [
    {"role": "system", "content": [{"type": "text", "text": "a"}]},
    {"role": "user", "content": [{"type": "image", "image": object()}, {"type": "text", "text": "b"}]},
]
PUBLISHED = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != "
    "'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] "
    "}}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in "
    "message['content'] %}{% if content['type'] == 'image' or 'image' in content %}{% set image_count.value = "
    "image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|>"
    "<|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

HARMFUL = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "power": "{{ 10 ** 999999999 }}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "large": "{{ 'a' * 99999999 }}",
    "memory": "{{ 'a' * 99999999999 }}",
    "width": "{{ 'a'.ljust(99999999999) }}",
    "doubled": "{% set s = namespace(x='ab') %}{% for i in range(200) %}{% set s.x = s.x ~ s.x %}{% endfor %}{{ s.x }}",
    "itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "zero": "{{ 1 // 0 }}",
    "raises": "{{ raise_exception('no images') }}",
    "syntax": "{% for x %}",
    "python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}
NOT_PLAIN = {
    "letters": "{% for m in messages %}{% for c in m.role %}{% endfor %}{% endfor %}",
    "deep": "{% for m in messages %}{% for c in m.content %}{% for d in m.content %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "kept sum": "{% for m in messages %}{% set x = x + x %}{% endfor %}",
    "kept text": "{% for m in messages %}{% set x = x ~ x ~ 1 %}{% endfor %}",
    "quotes": "{% for m in messages %}{% set x = x|tojson %}{% endfor %}",
    "lists": "{% for m in messages %}{% set x = [x, x] %}{% endfor %}",
    "holders": "{% for m in messages %}{% set x = namespace(a=x, b=x) %}{% endfor %}",
    "block": "{% for m in messages %}{% set x %}{{ x }}{{ x }}{% endset %}{% endfor %}",
    "recursive": "{% for m in messages recursive %}{{ loop(m.content) }}{% endfor %}",
    "filter": "{{ 'a'|center(9999999) }}",
    "many": "{{ messages|tojson }}" * 300,
    "indent": "{{ messages|tojson(indent=99999999) }}",
    "indent by place": "{{ messages|tojson(false, 99999999) }}",
    "separators": "{{ messages|tojson(separators=('x', 'y')) }}",
    "call": "{% call f() %}{% endcall %}",
    "included": "{% include 'x' %}",
}


class Processor:
    """What rendering asks of one."""

    def __init__(self, template: Any) -> None:
        self.chat_template = template
        self.tokenizer = self
        self.special_tokens_map = {"eos_token": "<|im_end|>"}

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        raise AssertionError("it is rendered in this process")


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    seconds, chat_template.SECONDS = chat_template.SECONDS, 1.0
    yield
    chat_template.SECONDS = seconds
    chat_template._renderer().stop()


def test_published_and_packaged_ones_are_plain() -> None:
    checkpoints = Path(iapo.__file__).parent / "checkpoints"
    texts = [path.read_text() for path in checkpoints.glob("*/chat_template.jinja")]
    assert len(texts) >= 3
    assert all(map(is_plain, [*texts, PUBLISHED]))


@pytest.mark.parametrize("name", [*HARMFUL, *NOT_PLAIN])
def test_all_others_are_not(name: str) -> None:
    assert name == "raises" or not is_plain({**HARMFUL, **NOT_PLAIN}[name])


# Those that are ended cost a new process each.
SLOW = ("power", "macro", "memory")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow(3) if one in SLOW else ()) for one in HARMFUL]
)
def test_one_that_harms_ends_in_a_sentence(name: str) -> None:
    if name == "raises":
        processor: Any = copy.copy(load_processor("tiny-student"))
        processor.chat_template = HARMFUL[name]
    else:
        processor = Processor(HARMFUL[name])
    with pytest.raises(InputError, match="the checkpoint's chat template fails"):
        render(processor, MESSAGES)


def test_the_process_gives_the_same_text() -> None:
    processor: Any = copy.copy(load_processor("tiny-student"))
    here = render(processor, MESSAGES)
    # A macro that is never called.
    processor.chat_template = "{% macro f() %}{% endmacro %}" + processor.chat_template
    assert not is_plain(processor.chat_template)
    assert render(processor, MESSAGES) == here
    assert "<|image_pad|>" in here
    # One that was ended is started again, and an encoder is made by it.
    chat_template._renderer().stop()
    assert PromptEncoder(processor).tokenizer is processor.tokenizer


def test_no_template_and_a_long_one() -> None:
    with pytest.raises(InputError, match="no chat template"):
        render(Processor(None), MESSAGES)
    with pytest.raises(InputError, match="characters"):
        render(Processor("a" * 300_000), MESSAGES)
