"""The setting `prompt` -> a YAML file, read and checked before anything is loaded -> a `PromptTemplate`."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from iapo.errors import InputError, did_you_mean, unknown
from iapo.rollout.wording import FILE, MORE, PLACEHOLDER, Example, Part, PromptTemplate
from iapo.tools import TOOLS, check_program
from iapo.yaml_files import read_yaml

__all__ = [
    "DEFAULT",
    "FILE",
    "TINY",
    "PromptTemplate",
    "find_prompt",
    "packaged_prompts",
    "prompt_of_data",
    "read_prompt",
]

PROMPTS = Path(str(resources.files("iapo"))) / "configs" / "prompts"
"""Where the packaged templates lie."""

TINY, DEFAULT = "tiny", "tools"
"""The packaged template that the tiny models know, and the one for checkpoints that bring none."""

_KEYS = tuple(one.name for one in dataclasses.fields(PromptTemplate))
_NEEDED = tuple(
    one.name
    for one in dataclasses.fields(PromptTemplate)
    if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING and one.name != "name"
)
_BASE = "base"

# By key: the placeholders that may stand in a text, and those of which one must.
_PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "instructions": ((), ()),
    "instructions_without_tools": ((), ()),
    "tool": (
        ("definition", "name", "image", "names", "boxes", "description", "axis", "boxes_name"),
        ("definition", "name"),
    ),
    "question": (("question", "names", "width", "height"), ("question",)),
    "question_without_tools": (("question", "width", "height"), ("question",)),
    "names": (("columns", "rows"), ("columns", "rows")),
    "observation_edited": ((), ()),
    "observation_error": (("error",), ("error",)),
    "observation_edited_more": (("left",), ()),
    "observation_error_more": (("error", "left"), ("error",)),
    "several": (("images", "count"), ("images",)),
    "several_without_tools": (("images", "count"), ("images",)),
    "observation_text": (("text",), ("text",)),
    "observation_text_more": (("text", "left"), ("text",)),
}
_CHOICES = {
    "names_listed": ("always", "asked"),
    "names_style": ("literal", "plain"),
    "programs": ("lenient", "strict"),
}
_MAY_LACK = ("names", *MORE)
_PARTS: tuple[str, ...] = get_args(Part)


def find_prompt(name: str | PromptTemplate) -> PromptTemplate:
    """Finds a template by the setting `prompt`.

    Args:
        name: Name of a packaged one (`tiny`, `tools`), a YAML file, or a folder with a `prompt.yaml` in it, such as
            that of a run or a trained policy; a template is returned as it is.

    Raises:
        InputError: If there is none, or it is not a template.
    """
    if isinstance(name, PromptTemplate):
        return name
    if not isinstance(name, str):
        raise InputError(f"prompt is of type {type(name).__name__}; give a packaged name, a YAML file or a template")
    if name in packaged_prompts():
        return _packaged(name)
    path = Path(name) / FILE if Path(name).is_dir() else Path(name)
    if path.is_file():
        return read_prompt(path)
    if Path(name).is_dir():
        raise InputError(f"the folder {name!r} has no {FILE}; give a YAML file, or the name of a packaged prompt")
    raise unknown("prompt", name, (*packaged_prompts(), "FILE.yaml"))


def check_wording(template: PromptTemplate, turns: int) -> None:
    """Refuses more than two turns with a template that is worded for two: its observations forbid a third.

    Raises:
        InputError: If so.
    """
    if turns > 2 and not template.observation_edited_more:
        better = f"{template.name}-turns" if f"{template.name}-turns" in packaged_prompts() else f"{DEFAULT}-turns"
        raise InputError(
            f"the prompt {template.name!r} is worded for two turns, and max_turns is {turns}; set prompt to {better}, "
            f"or give yours {' and '.join(MORE)}"
        )


def packaged_prompts() -> tuple[str, ...]:
    """Returns the names of the packaged templates."""
    return tuple(sorted(path.stem for path in PROMPTS.glob("*.yaml")))


@functools.cache
def _packaged(name: str) -> PromptTemplate:
    return read_prompt(PROMPTS / f"{name}.yaml")


def read_prompt(path: Path) -> PromptTemplate:
    """Reads a template's YAML file.

    Raises:
        InputError: If it is not one; the sentence names the file, and what is wrong in it.
    """
    return prompt_of_data(read_yaml(path), path)


def prompt_of_data(data: Mapping[str, Any], path: Path) -> PromptTemplate:
    """Reads a template from plain data, as `PromptTemplate.to_json` gives it.

    Args:
        data: The data.
        path: File that holds them; another prompt that they take over is looked for beside it.

    Raises:
        InputError: If they are not a template; the sentence names the file, and what is wrong in it.
    """
    try:
        return _template(data, path)
    except InputError as error:
        raise InputError(f"the prompt {path}: {error}") from error


def _template(data: Mapping[str, Any], path: Path) -> PromptTemplate:
    for key in data:
        if key not in (*_KEYS, _BASE):
            guess = did_you_mean(str(key), _KEYS)
            raise InputError(f"there is no key {key!r}; {guess or 'use some of ' + ', '.join(_KEYS)}")
    values: dict[str, Any] = {"name": path.stem}
    if _BASE in data:
        base = _text(_BASE, data[_BASE])
        # Beside the file, or a packaged one.
        beside = path.parent / base
        values |= find_prompt(str(beside) if beside.is_file() and beside != path else base).to_json()
        values["name"] = path.stem
    values |= {key: value for key, value in data.items() if key != _BASE}
    for key in _NEEDED:
        if key not in values:
            raise InputError(f"the key {key!r} is missing; give it, or take over another prompt's with `base: tools`")
    for key, choices in _CHOICES.items():
        if key in values and values[key] not in choices:
            raise InputError(f"{key} is {values[key]!r}; use {choices[0]} or {choices[1]}")
    name = _text("name", values["name"])
    texts: dict[str, Any] = {
        key: _checked(key, values[key]) for key in _PLACES if key in values and (key not in _MAY_LACK or values[key])
    }
    given = [key for key in MORE if texts.get(key)]
    if len(given) == 1:
        lacking = next(key for key in MORE if key not in given)
        raise InputError(f"it has {given[0]} and no {lacking}; more than two turns need both")
    if texts.get("names") and "{names}" not in texts["question"]:
        raise InputError("question has no place {names}, so that the boxes' names are told nowhere; put it in")
    if "{names}" in texts["question"] and not texts.get("names"):
        raise InputError("question has the place {names}, but names says nothing; give names a text")
    examples = _examples(values.get("examples", ()), lenient=values.get("programs", "lenient") == "lenient")
    order = _order(values.get("order", _PARTS), examples)
    descriptions = values.get("descriptions", {})
    if not isinstance(descriptions, Mapping):
        raise InputError("descriptions is no mapping; give a line `tool: text` for each")
    described = {str(tool): _checked(f"the description of {tool}", text) for tool, text in descriptions.items()}
    rest: dict[str, Any] = {key: values[key] for key in _CHOICES if key in values}
    return PromptTemplate(name=name, order=order, descriptions=described, examples=examples, **texts, **rest)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key} is of type {type(value).__name__}; give a text, in quotes if need be")
    if not value.strip():
        raise InputError(f"{key} has no text; give one")
    return value


def _checked(key: str, value: Any) -> str:
    """Checks a text of the prompt: its placeholders, and that no part of it is a control token."""
    text = _text(key, value)
    control = re.search(r"<\|[^\s|]*\|?>?", text)
    if control:
        raise InputError(
            f"{key} holds {control[0]!r}, which is or may become a control token; the chat template writes these, "
            "remove it"
        )
    allowed, wanted = _PLACES.get(key, ((), ()))
    found = PLACEHOLDER.findall(text)
    for one in found:
        if one not in allowed:
            known = ", ".join(f"{{{name}}}" for name in allowed)
            raise InputError(
                f"{key} has the placeholder {{{one}}}, which does not exist there; "
                + (f"use some of {known}" if known else "it takes none")
            )
    if wanted and not set(wanted) & set(found):
        raise InputError(f"{key} has no place {' or '.join(f'{{{name}}}' for name in wanted)}; put it in")
    return text


def _order(value: Any, examples: tuple[Example, ...]) -> tuple[Part, ...]:
    parts = tuple(value) if isinstance(value, list | tuple) else (value,)
    needed = [part for part in _PARTS if part != "examples" or examples]
    wrong = [part for part in parts if part not in _PARTS or parts.count(part) > 1]
    missing = [part for part in needed if part not in parts]
    if wrong or missing:
        what = f"has {wrong[0]!r}, unknown or twice" if wrong else f"lacks {missing[0]!r}"
        raise InputError(f"order {what}; give {', '.join(_PARTS)} in some order, each once")
    return parts


def _examples(value: Any, *, lenient: bool) -> tuple[Example, ...]:
    if not isinstance(value, list | tuple):
        raise InputError("examples is no list; give `- name:`, `tools:` and `text:` for each")
    found: list[Example] = []
    for index, one in enumerate(value, 1):
        if not isinstance(one, Mapping) or set(one) != {"name", "tools", "text"}:
            raise InputError(f"example {index} has not the keys name, tools and text; give these and no other")
        name = _text(f"the name of example {index}", one["name"])
        if name in [other.name for other in found]:
            raise InputError(f"two examples are called {name!r}; names must be unique")
        if not isinstance(one["tools"], list | tuple) or not all(isinstance(tool, str) for tool in one["tools"]):
            raise InputError(f"tools of example {name!r} is no list of names; give [] where it uses none")
        example = Example(name, tuple(one["tools"]), _checked(f"example {name!r}", one["text"]))
        unlisted = [tool for tool in TOOLS if tool not in example.tools and re.search(rf"\b{tool}\b", example.text)]
        if unlisted:
            raise InputError(f"example {name!r} names {unlisted[0]}, which its tools do not list; list it")
        reason = check_program(example.text, example.tools, lenient=lenient)
        if reason is not None:
            raise InputError(f"example {name!r} has a program that would be refused ({reason}); mend it")
        found.append(example)
    return tuple(found)
