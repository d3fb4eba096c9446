"""Renders chats by a checkpoint's template, which is foreign: in bounded time, memory and length.

The sandbox of Transformers (Jinja's) keeps a template from files and from Python, but not from a loop without end, or a
text that doubles. What cannot do either is told by its source and rendered here; all others are rendered in a process
of their own, which is ended when its time is up.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from iapo.errors import InputError

if TYPE_CHECKING:
    from transformers import ProcessorMixin

SECONDS, START_SECONDS = 10.0, 300.0
"""Longest time of one rendering, and of the start of the process."""

LONGEST_TEMPLATE, LONGEST_TEXT = 256 * 1024, 16 * 2**20
"""Characters of a template, and of the text that it makes."""

_DATA = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem)
_LOGIC = (nodes.Slice, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.If, nodes.CondExpr)
_OTHERS = (nodes.Test, nodes.NSRef, nodes.Keyword, nodes.Neg, nodes.For, nodes.Assign, nodes.Filter, nodes.Call)
_PLAIN = (*_DATA, *_LOGIC, *_OTHERS, nodes.Add, nodes.Sub, nodes.Concat, nodes.List, nodes.Tuple)
"""Parts of a template that make no text longer than what they are given, but for loops, sums and calls."""

_FILTERS = {"trim", "tojson", "length", "count", "lower", "upper", "default", "d", "first", "last", "safe"}
_METHODS = {"strip", "lstrip", "rstrip", "split", "startswith", "endswith", "get"}
_FUNCTIONS = {"raise_exception", "namespace"}
_NAMES = 200
"""Names in a template: those of published ones have fifteen to a hundred."""

_INDENT = 8
"""Spaces of an indent."""

_LISTS = {"content", "tool_calls"}
"""Fields of a message that are looped over."""


def render(processor: ProcessorMixin, messages: Sequence[Mapping[str, Any]]) -> str:
    """Renders a chat by a processor's template, with the header of the next turn behind it.

    Args:
        processor: Processor with a chat template.
        messages: The chat; images in it are not looked at.

    Raises:
        InputError: If the template fails, or takes too long, or makes too long a text.
    """
    template = template_of(processor)
    if len(template) > LONGEST_TEMPLATE:
        raise InputError(
            f"the chat template has {len(template)} characters; one of a published model has a few thousand, so mend "
            "the checkpoint's chat_template"
        )
    if is_plain(template):
        try:
            return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise _failure(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    asked = {
        "conversations": [[_without_images(message) for message in messages]],
        "chat_template": template,
        "add_generation_prompt": True,
        **processor.tokenizer.special_tokens_map,
    }
    return _renderer().render(asked)


def template_of(processor: ProcessorMixin) -> str:
    """Returns the template that a processor renders chats by.

    Raises:
        InputError: If it has none.
    """
    found = processor.chat_template or processor.tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    if not isinstance(found, str):
        raise InputError("the processor has no chat template; put its chat_template.jinja beside the checkpoint")
    return found


@functools.lru_cache(maxsize=32)
def is_plain(template: str) -> bool:
    """Tells whether a template goes through each message's parts once at most, and makes no text longer by itself.

    Args:
        template: The template's source.
    """
    try:
        tree = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        # Each name may stand for all messages, which are written once for each part.
        return sum(1 for _ in tree.find_all(nodes.Name)) <= _NAMES and _is_plain(tree, loops=0, output=False)
    except (jinja2.TemplateError, RecursionError, ValueError):
        return False


def _is_plain(node: nodes.Node, loops: int, output: bool) -> bool:
    """Tells it of a part that lies within that many loops, and directly within what is written, or not."""
    if not isinstance(node, _PLAIN):
        return False
    if isinstance(node, nodes.For):
        loops += 1
        if loops > 2 or node.recursive or not _is_list(node.iter):
            return False
    elif isinstance(node, nodes.Filter):
        # As a block over a text of the template's own, it has no node. Each tojson doubles backslashes.
        if node.name not in _FILTERS or node.node is None:
            return False
        if node.name == "tojson" and not (output and all(map(_is_small, node.args + _values(node.kwargs)))):
            return False
    elif isinstance(node, nodes.Call):
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            return False
        function = node.node
        known = isinstance(function, nodes.Getattr) and function.attr in _METHODS
        if not known and not (isinstance(function, nodes.Name) and function.name in _FUNCTIONS):
            return False
        if any(not isinstance(one.value, nodes.Const) for one in node.kwargs):
            return False
    elif isinstance(node, nodes.List | nodes.Tuple):
        # Of a list that holds one twice that holds one twice, the text has no end.
        if not all(isinstance(one, nodes.Const) or getattr(one, "ctx", "") == "store" for one in node.items):
            return False
    elif isinstance(node, nodes.Add | nodes.Concat) and not output:
        # Kept in a variable, a text could double each time; a number may count.
        parts = [] if isinstance(node, nodes.Concat) else [node.left, node.right]
        if not any(isinstance(one, nodes.Const) and isinstance(one.value, int) for one in parts):
            return False
    output = isinstance(node, nodes.Output) or (output and isinstance(node, nodes.Add | nodes.Concat))
    return all(_is_plain(child, loops, output) for child in node.iter_child_nodes())


def _values(keywords: Sequence[Any]) -> list[nodes.Expr]:
    return [one.value for one in keywords]


def _is_small(node: nodes.Node) -> bool:
    """Tells whether an argument of `tojson` is a truth value or a few spaces, and not a thousand million of them."""
    return isinstance(node, nodes.Const) and isinstance(node.value, int | None) and (node.value or 0) <= _INDENT


def _is_list(node: nodes.Node) -> bool:
    """Tells whether an expression is the list of messages, or a message's parts."""
    if isinstance(node, nodes.Name):
        return node.name in ("messages", "tools")
    if isinstance(node, nodes.Getattr):
        return node.attr in _LISTS
    if isinstance(node, nodes.Getitem):
        if isinstance(node.arg, nodes.Slice):
            return _is_list(node.node)
        return isinstance(node.arg, nodes.Const) and node.arg.value in _LISTS
    return False


def _without_images(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return dict(message)
    parts = [{**part, "image": "image"} if "image" in part else dict(part) for part in content]
    return {**message, "content": parts}


def _failure(reason: str) -> InputError:
    return InputError(f"the checkpoint's chat template fails ({reason}); mend it, or take another checkpoint")


class _Renderer:
    """The process that renders; it starts at the first rendering, and again after it was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def render(self, asked: Mapping[str, Any]) -> str:
        """Returns the text, or raises `InputError`."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            found = self._ask(json.dumps({**asked, "longest": LONGEST_TEXT}, default=str))
        if "error" in found:
            raise _failure(found["error"])
        return str(found["text"])

    def stop(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> None:
        child = str(Path(__file__).with_name("render_child.py"))
        # Without -P its own folder would come before the packages.
        self._process = subprocess.Popen(
            [sys.executable, "-P", child],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        self._answers = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        self._answer(START_SECONDS)

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            # It has ended; the answer says so.
            pass
        return self._answer(SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.stop()
            raise _failure(f"it takes more than {seconds:.0f} seconds") from None
        if not line:
            self.stop()
            raise _failure("the process that renders it has ended")
        found: dict[str, Any] = json.loads(line)
        return found


def _read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        answers.put(line)
    answers.put("")


@functools.lru_cache(maxsize=1)
def _renderer_of(process: int) -> _Renderer:
    found = _Renderer()
    atexit.register(found.stop)
    return found


def _renderer() -> _Renderer:
    # A process that was forked must not share the pipes.
    return _renderer_of(os.getpid())
