"""The tools that a command offers: the setting `tools` -> definitions by name."""

from __future__ import annotations

from collections.abc import Mapping

from iapo.errors import InputError
from iapo.plugins import is_reference, load_module, look_up, resolve
from iapo.tools.definitions import TOOLS, ToolDefinition

NONE = "none"
"""The setting that offers no tool: the answer is asked for in one turn."""

STANDARD = "standard"
"""The six standard tools, where others are named beside them."""


def offered_tools(setting: str | None) -> Mapping[str, ToolDefinition]:
    """Returns the tools that a setting names, in its order, which is that of the prompt.

    Args:
        setting: Parts with commas between: `FILE.py` (all tools in it, made with `iapo.define`), `FILE.py:NAME` or
            `package.module:NAME` (one tool, or a mapping of tools), the name of a standard tool, or `standard` for all
            six. `none` alone offers none; None is `standard`.

    Raises:
        InputError: If a part names no tool, or a name stands for two.
    """
    if setting is None:
        return TOOLS
    if setting.strip() == NONE:
        return {}
    found: dict[str, ToolDefinition] = {}
    for part in filter(None, (part.strip() for part in setting.split(","))):
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
        value = resolve(part, "tool", _is_tools, "what iapo.define makes of a function, or a mapping of such")
        return [value] if isinstance(value, ToolDefinition) else list(value.values())
    if part.endswith(".py"):
        values = vars(load_module(part, "tools")).values()
        # A tool may have several names in the file.
        tools = list({id(one): one for one in values if isinstance(one, ToolDefinition)}.values())
        if not tools:
            raise InputError(f"{part} holds no tool; make one of a function with iapo.define, and give it a name there")
        return tools
    return [look_up(TOOLS, part, "tool")]


def _is_tools(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(one, ToolDefinition) for one in value.values())
    return isinstance(value, ToolDefinition)
