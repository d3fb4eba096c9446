"""The tools that a command offers: the setting `tools` -> definitions by name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from iapo.bounds import SECONDS, check_number, split_list
from iapo.errors import InputError, unknown
from iapo.kinds import checks_kinds
from iapo.plugins import is_reference, load_module, resolve
from iapo.tools.definitions import TOOLS, ToolDefinition, check_tools, define
from iapo.tools.packaged import PACKAGED, packaged_tool
from iapo.tools.worker import check_own_process

NONE = "none"
"""The setting that offers no tool: the answer is asked for in one turn."""

STANDARD = "standard"
"""The six standard tools, where others are named beside them."""


@checks_kinds
def offered_tools(setting: str | None, timeout: float | None = None) -> Mapping[str, ToolDefinition]:
    """Returns the tools that a setting names, in its order, which is that of the prompt.

    Args:
        setting: Parts with commas between: `FILE.py` (all tools in it: what `iapo.define` made of functions, or where
            there is none every public function of the file), `FILE.py:NAME` or `package.module:NAME` (one tool or
            function, or a mapping of such), the name of a standard or another packaged tool, or `standard` for all six.
            `none` alone offers none; None is `standard`.
        timeout: Longest call of each tool in seconds, in a process of its own; None: no limit, in this process. The six
            know what they do and stay in this one.

    Raises:
        InputError: If a part names no tool, a name stands for two, a tool needs what is not installed or cannot run in
            a process of its own where it is to, or no call can keep the limit.
    """
    return limited(_named_tools(setting), timeout)


def is_packaged(setting: str) -> bool:
    """Whether a setting names packaged tools alone, and no code of anyone's."""
    parts = [part.strip() for part in setting.split(",")]
    return all(part in {NONE, STANDARD, *PACKAGED, *TOOLS} for part in parts if part)


def limited(tools: Mapping[str, ToolDefinition], timeout: float | None) -> Mapping[str, ToolDefinition]:
    """Limits the calls of tools as `offered_tools` does.

    Raises:
        InputError: If a tool stands under another name than its own or cannot run in a process of its own, or no call
            can keep the limit.
    """
    check_tools(tools)
    check_number("tool_timeout", timeout, SECONDS)
    if timeout is None:
        return tools
    own = {name: tool for name, tool in tools.items() if TOOLS.get(name) is not tool}
    for name, tool in own.items():
        check_own_process(tool.function, name)
    return {**tools, **{name: dataclasses.replace(tool, timeout=timeout) for name, tool in own.items()}}


def _named_tools(setting: str | None) -> Mapping[str, ToolDefinition]:
    if setting is None:
        return TOOLS
    if setting.strip() == NONE:
        return {}
    found: dict[str, ToolDefinition] = {}
    for part in split_list("tools", setting):
        for tool in _tools_of(part):
            if tool.name in found:
                raise InputError(f"tools {setting!r} name {tool.name!r} twice; a name can stand for one tool alone")
            found[tool.name] = tool
    if not found:
        raise InputError(f"tools are {setting!r}; name some, or write {NONE!r} to offer none")
    return found


def _tools_of(part: str) -> list[ToolDefinition]:
    if part == STANDARD:
        return list(TOOLS.values())
    if is_reference(part):
        value = resolve(part, "tool", _is_tools, "a function, what iapo.define makes of one, or a mapping of such")
        if not isinstance(value, Mapping):
            return [_tool(value)]
        check_tools(named := {name: _tool(one) for name, one in value.items()})
        return list(named.values())
    if part.endswith(".py"):
        return _tools_in(part)
    if part in PACKAGED:
        return [packaged_tool(part)]
    if part in TOOLS:
        return [TOOLS[part]]
    raise unknown("tool", part, (*TOOLS, *PACKAGED))


def _tools_in(file: str) -> list[ToolDefinition]:
    """Returns the tools of a file: what `define` made, or where there is none each public function of its own."""
    module = load_module(file, "tools")
    values = vars(module)
    # A tool may have several names in the file.
    tools = list({id(one): one for one in values.values() if isinstance(one, ToolDefinition)}.values())
    if not tools:
        functions = {
            id(one): one
            for name, one in values.items()
            if inspect.isfunction(one) and one.__module__ == module.__name__ and not name.startswith("_")
        }
        tools = [define(one) for one in functions.values()]
    if not tools:
        raise InputError(f"{file} holds no tool; write a function with a docstring and annotations (docs/your-own.md)")
    return tools


def _tool(value: ToolDefinition | Callable[..., Any]) -> ToolDefinition:
    return value if isinstance(value, ToolDefinition) else define(value)


def _is_tools(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(_is_tool(one) for one in value.values())
    return _is_tool(value)


def _is_tool(value: object) -> bool:
    return isinstance(value, ToolDefinition) or inspect.isfunction(value)
