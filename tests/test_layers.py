"""The package's structure: imports point downwards, light modules stay light, nothing runs model-written Python."""

from __future__ import annotations

import ast
import graphlib
import sys
from functools import cache
from pathlib import Path

from processes import run as run_process

import iapo

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "iapo").rglob("*.py"))
}


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text()) for name, path in FILES.items()}


# From low to high; a module may import its own floor and those below it.
FLOORS = [
    {
        "errors",
        "answer_texts",
        "box_names",
        "checkpoint_names",
        "bounds",
        "kinds",
        "read_only",
        "control",
        "plugins",
        "images",
        "models",
        "records",
        "calls",
        "samples",
        "ocr",
        "estimates",
        "storage",
        "yaml_files",
        "grouping",
        "locks",
        "own_files",
        "home",
        "rank",
        "stopping",
        "attribution",
    },
    {"tools", "results", "runs", "endpoints"},
    {"rollout", "grading", "display", "report"},
    {"data", "teachers"},
    {"rewards"},
    {"evaluation"},
    {"studies"},
    {"training"},
    {"experiments", "standins", "supervised", "tiny", "planning", "agent", "serving"},
    {"cli"},
    {"__main__"},
]
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}

UNKNOWN = {
    "iapo.records": ["torch", "transformers", "trl", "numpy"],
    "iapo.results": ["torch", "transformers", "trl"],
    "iapo.runs": ["torch", "transformers", "trl"],
    "iapo.report": ["torch", "transformers", "trl"],
    "iapo.tools": ["iapo.rollout", "torch", "transformers", "trl"],
    "iapo.data": ["iapo.tools", "iapo.rollout", "torch", "transformers", "trl"],
    "iapo.attribution": ["trl", "iapo.records"],
    "iapo.rollout": ["trl", "iapo.rewards", "iapo.attribution"],
    "iapo.teachers": ["trl"],
    "iapo.rewards": ["trl"],
    "iapo.evaluation": ["trl"],
    "iapo.agent": ["trl", "iapo.training", "iapo.serving"],
    "iapo.serving": ["torch", "transformers", "trl", "iapo.training"],
    "iapo.evaluation.measures": ["torch", "transformers", "trl"],
}
"""What a part does not know of, although it may stand on a lower floor."""


def imports(tree: ast.Module) -> set[str]:
    """Every module that a file imports, also inside functions and for type checking alone."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full"
            assert node.module is not None
            # `from iapo import runs` imports a module by its name, `from iapo.runs import RunFolder` does not.
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys()
            found |= inner or {node.module}
    return found


@cache
def all_imports() -> dict[str, set[str]]:
    return {name: imports(tree) for name, tree in trees().items()}


def part_of(module: str) -> str | None:
    """The part of the package that a module belongs to; None for other packages and the package's own root."""
    root, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if root == "iapo" else None


def uses(module: str, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in all_imports()[module])


def modules_of(package: str) -> list[str]:
    found = [name for name in FILES if name == package or name.startswith(f"{package}.")]
    assert found, package
    return found


def test_imports_point_downwards():
    assert {part_of(name) for name in FILES} - {None} == FLOOR.keys()
    upward = {
        (module, name)
        for module in FILES
        for name in all_imports()[module]
        if (part := part_of(module)) and (other := part_of(name)) and FLOOR[other] > FLOOR[part]
    }
    assert not upward
    assert not [module for module in FILES if "iapo" in all_imports()[module]], "the package's root stands above all"


def test_no_cycles():
    graph = {name: found & FILES.keys() for name, found in all_imports().items()}
    # A package's own __init__ collects its modules, which may use one another.
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_parts_do_not_know():
    assert not [
        (module, name)
        for part, forbidden in UNKNOWN.items()
        for module in modules_of(part)
        for name in forbidden
        if uses(module, name)
    ]


def test_no_module_bears_an_exported_name():
    """`from iapo import evaluate` must give the function, whatever was imported before."""
    modules = {name.removeprefix("iapo.") for name in FILES if name.count(".") == 1}
    assert not modules & set(iapo.__all__)


def test_trl_is_reached_in_one_place():
    for name, only in (("GRPOTrainer", "iapo.training.trainer"), ("GRPOConfig", "iapo.training.config")):
        users = {
            module
            for module, tree in trees().items()
            for node in ast.walk(tree)
            if (isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names})
            or (isinstance(node, ast.Attribute) and node.attr == name)
        }
        assert users == {only}


def test_presets_do_not_import_one_another():
    """They share a few helpers, and `presets` puts them together."""
    helpers = {f"iapo.rewards.{name}" for name in ("columns", "alignment", "verifier")}
    for module in set(modules_of("iapo.rewards")) - {"iapo.rewards.presets", *helpers}:
        assert {name for name in all_imports()[module] if part_of(name) == "rewards"} <= helpers, module


def test_light_modules_stay_light():
    """These must load in an instant, and where torch is not wanted, such as in a report; one process for all."""
    modules = [
        "iapo.records",
        "iapo.results",
        "iapo.runs",
        "iapo.tools",
        "iapo.data.synthetic",
        "iapo.data.loading",
        "iapo.cli.main",
    ]
    modules.append("iapo.report.command")
    code = "\n".join(
        [
            "import importlib, sys",
            "import iapo",
            "assert not [name for name in sys.modules if name.startswith('iapo.')], 'the root imports on first use'",
            f"for name in {modules}:",
            "    importlib.import_module(name)",
            "    heavy = {'torch', 'transformers', 'trl', 'datasets', 'scipy', 'matplotlib'} & set(sys.modules)",
            "    assert not heavy, f'{name} loads {sorted(heavy)}'",
        ]
    )
    done = run_process([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_files_are_short():
    assert not [name for name, path in FILES.items() if path.read_text().count("\n") >= 400]


def test_nothing_runs_python():
    """What a model writes is parsed; `re.compile` and the like are methods of other things than the built-ins."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.id if isinstance(function, ast.Name) else ""
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    name = function.attr if function.value.id in ("builtins", "__builtins__") else ""
                assert name not in ("exec", "eval", "compile", "__import__"), f"{module}, line {node.lineno}"
