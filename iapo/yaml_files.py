"""Reads YAML files of people: plain data, and errors that name the file and the line."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import yaml

from iapo.errors import InputError

LONGEST = 128 * 1024
"""Bytes of a file."""

MOST_VALUES = 20_000
"""Values of a file, those that are named and used again counted each time."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        InputError: If it is too long, not text or not YAML, holds no mapping, or gives a key twice in one mapping.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise InputError(f"{path} has more than {LONGEST // 1024} kB; settings need less")
        found = parse_yaml(text.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as such") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no settings; give a mapping, a line `name: value` for each")
    return found


def parse_yaml(text: str, where: str) -> Any:
    """Reads a text of YAML.

    Args:
        text: The text.
        where: Place of it, for the sentence of an error.

    Raises:
        InputError: If it is not YAML, gives a key twice in one mapping, or holds itself or too much by names of its
            parts (`&name`, `*name`).
    """
    # What is read again, as packaged configurations are, is parsed once; whoever changes what came of it has a copy.
    try:
        return copy.deepcopy(_parse(text, where))
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error


@functools.lru_cache(maxsize=64)
def _parse(text: str, where: str) -> Any:
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        line = "" if mark is None else f" in line {mark.line + 1}"
        raise InputError(f"{where} is not YAML{line}: {' '.join(problem.split())}") from error
    except ValueError as error:
        # A day that no month has, or a number of thousands of digits.
        raise InputError(f"{where} holds a number or a date that cannot be read ({error}); put it in quotes") from error
    finally:
        if loader is not None:
            loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuses what is large or endless by names alone: ten lines of them can stand for a thousand million values."""
    sizes: dict[int, int] = {}
    # Children first, without recursion: a node is looked at again once those below it are counted.
    waiting = [(root, False)]
    open_nodes: set[int] = set()
    while waiting:
        node, counted = waiting.pop()
        if id(node) in sizes:
            continue
        below: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            below = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            below = [one for pair in node.value for one in pair]
        if counted:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(one)] for one in below)
            if sizes[id(node)] > MOST_VALUES:
                raise InputError(f"it holds more than {MOST_VALUES} values, counting those that `*name` stands for")
            continue
        open_nodes.add(id(node))
        waiting.append((node, True))
        for one in below:
            if id(one) in open_nodes:
                raise InputError(f"the value in line {one.start_mark.line + 1} holds itself by its name; write it out")
            waiting.append((one, False))


_OTHER_BASE = re.compile(r"[+-]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
"""Numbers of YAML 1.1 to the base of 8 and 60, which nobody means: 010 is 8, and 1:30 is 90."""


class _Loader(yaml.SafeLoader):
    """Plain data alone; a key that is given twice is an error and not silently the last one."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Refuses a number that is another one than it looks like; the parser calls it."""
        if _OTHER_BASE.fullmatch(node.value):
            raise InputError(
                f"the number {node.value} in line {node.start_mark.line + 1} is to the base of 8 or 60 in YAML; write "
                "it without zeros before it and colons, or put it in quotes"
            )
        whole = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key.value, str):
                raise InputError(f"the key in line {line} is a list or a mapping; give a name")
            if key.value in seen:
                raise InputError(f"{key.value!r} is given twice, the second time in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)
