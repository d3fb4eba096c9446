"""Reads what a module declares from its source alone: a dataclass's settings, a table's names.

Importing TRL's configuration takes seconds. Its source is there at once, and unlike a list of its settings that is
written down somewhere, it cannot be out of date.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_PLAIN: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str, "dict": dict, "list": list, "Any": Any}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a dataclass.

    Attributes:
        name: Its name.
        kind: Its type, made of built-in types, `Literal` and `Union`; `Any` stands for what only its library knows.
        annotation: Its type as written.
        default: Its default as written; empty where there is none.
        help: Text of its metadata.
    """

    name: str
    kind: Any
    annotation: str
    default: str
    help: str


@functools.cache
def settings_of(module: str, name: str) -> dict[str, Setting]:
    """Reads the fields of a dataclass that its constructor takes, those of its bases first.

    Args:
        module: The module that defines it.
        name: The class.

    Raises:
        LookupError: If the source does not define it.
    """
    tree = _tree(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            found: dict[str, Setting] = {}
            for base in node.bases:
                if isinstance(base, ast.Name) and (home := _home(tree, module, base.id)):
                    found |= settings_of(home, base.id)
            fields = (_setting(one) for one in node.body if isinstance(one, ast.AnnAssign))
            return found | {one.name: one for one in fields if one is not None}
    raise LookupError(f"{module} defines no class {name}")


@functools.cache
def keys_of(module: str, name: str) -> tuple[str, ...]:
    """Reads the keys of a table: a module's assignment of a dict with texts as keys.

    Args:
        module: The module that assigns it.
        name: The table.

    Raises:
        LookupError: If the source assigns no such dict.
    """
    for node in _tree(module).body:
        targets = (
            [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        )
        named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if named and isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return tuple(str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
    raise LookupError(f"{module} assigns no table {name}")


@functools.cache
def _tree(module: str) -> ast.Module:
    root, *parts = module.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"there is no package {root}")
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def _home(tree: ast.Module, module: str, name: str) -> str | None:
    """Returns the module that a name comes from; None for what is built in."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            above = module.split(".")[: -node.level] if node.level else []
            home = ".".join([*above, *((node.module,) if node.module else ())])
            # A package hands out what one of its modules defines; TRL's is found under its own name below.
            return _REEXPORTED.get((home, name), home)
    return None


_REEXPORTED = {
    ("trl", "GRPOConfig"): "trl.trainer.grpo_config",
    ("trl", "SFTConfig"): "trl.trainer.sft_config",
    ("transformers", "TrainingArguments"): "transformers.training_args",
}
"""Where classes are defined that their packages hand out under a shorter name."""


def _setting(node: ast.AnnAssign) -> Setting | None:
    annotation = ast.unparse(node.annotation)
    if not isinstance(node.target, ast.Name) or "ClassVar" in annotation:
        return None
    default, text = "", ""
    if isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith("field"):
        given = {keyword.arg: keyword.value for keyword in node.value.keywords}
        if "init" in given and ast.unparse(given["init"]) == "False":
            return None
        if "default" in given:
            default = ast.unparse(given["default"])
        elif "default_factory" in given:
            made = given["default_factory"]
            default = ast.unparse(made.body) if isinstance(made, ast.Lambda) else f"{ast.unparse(made)}()"
        if isinstance(metadata := given.get("metadata"), ast.Dict):
            text = " ".join(
                str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)
                for key, value in zip(metadata.keys, metadata.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "help"
            )
    elif node.value is not None:
        default = ast.unparse(node.value)
    return Setting(node.target.id, _kind(node.annotation), annotation, default, " ".join(text.split()))


def _kind(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Name(id=name):
            return _PLAIN.get(name, Any)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _kind(left) | _kind(right)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            nodes = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return Literal[tuple(ast.literal_eval(one) for one in nodes)]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _kind(inner) | None
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=nodes)):
            return functools.reduce(operator.or_, map(_kind, nodes))
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[_kind(inner)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="dict")):
            return dict
    return Any
