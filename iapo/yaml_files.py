"""Reads YAML files of people: plain data, and errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from iapo.errors import InputError


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        InputError: If it is not text or not YAML, holds no mapping, or gives a key twice in one mapping.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as such") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise InputError(f"{path} is not YAML{where}: {' '.join(problem.split())}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no settings; give a mapping, a line `name: value` for each")
    return found


class _Loader(yaml.SafeLoader):
    """Plain data alone; a key that is given twice is an error and not silently the last one."""

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
