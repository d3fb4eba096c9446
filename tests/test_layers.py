"""The package's structure: imports point downwards, light modules stay light, nothing runs model-written Python."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "iapo").rglob("*.py"))
}

# From low to high; a module may import its own layer and those below it.
LAYERS = [
    {"records"},
    {"attribution", "tasks", "tools", "prompt", "policy", "runs", "packing", "shared_prefix", "chat", "heatmap"},
    {"rollout", "generation", "rewards"},
    {
        "batches",
        "config",
        "attribution_config",
        "live",
        "trainer",
        "estimates",
        "evaluation",
        "case_study",
        "repeats",
        "solvers",
        "tiny",
    },
    {"training", "evaluate"},
    {
        "attribute",
        "store",
        "demo",
        "data",
        "compare",
        "compare_job",
        "trials",
        "table_one",
        "jobs",
        "report",
        "studies",
        "tables",
        "figures",
    },
    {"cli", "__main__"},
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions and for type checking alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module is not None
            # `from iapo import runs` imports a module by its name, `from iapo.runs import RunFolder` does not.
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys()
            found |= inner or {node.module}
    return found


IMPORTS = {name: imports(path) for name, path in FILES.items()}


def part_of(module: str) -> str | None:
    """The part of the package that a module belongs to; None for other packages and the package's own root."""
    root, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if root == "iapo" else None


def uses(module: str, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in IMPORTS[module])


def modules_of(part: str) -> list[str]:
    return [name for name in FILES if part_of(name) == part]


def test_every_module_has_a_layer():
    assert {part_of(name) for name in FILES} - {None} <= RANK.keys()


@pytest.mark.parametrize("module", [name for name in FILES if part_of(name)])
def test_imports_point_downwards(module: str):
    rank = RANK[part_of(module) or ""]
    above = {name for name in IMPORTS[module] if (other := part_of(name)) and RANK[other] > rank}
    assert not above, f"{module} imports what stands above it"
    assert "iapo" not in IMPORTS[module], f"{module} imports the package's root, which stands above all"


def test_no_cycles():
    graph = {name: found & FILES.keys() for name, found in IMPORTS.items()}
    # A package's own __init__ collects its modules, which may use one another.
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("records", ["torch", "transformers", "trl", "numpy"]),
        ("runs", ["torch", "transformers", "trl"]),
        ("tools", ["iapo.prompt", "iapo.policy", "iapo.rewards", "torch", "transformers", "trl"]),
        ("tasks", ["iapo.tools", "iapo.prompt", "iapo.policy", "torch", "transformers", "trl"]),
        ("attribution", ["trl", "iapo.tools", "iapo.rewards", "iapo.prompt", "iapo.records"]),
        ("rewards", ["trl"]),
        ("prompt", ["trl"]),
        ("policy", ["trl"]),
        ("rollout", ["trl", "iapo.rewards", "iapo.attribution"]),
        ("evaluation", ["trl"]),
    ],
)
def test_parts_do_not_know(part: str, forbidden: list[str]):
    modules = modules_of(part)
    assert modules
    assert not [(module, name) for module in modules for name in forbidden if uses(module, name)]


def test_config_imports_trl_alone():
    standard = sys.stdlib_module_names
    assert {name for name in IMPORTS["iapo.config"] if name.partition(".")[0] not in standard} == {"trl"}


def test_rewards_do_not_import_one_another():
    """They share a few helpers, and `presets` puts them together."""
    helpers = {"columns", "endpoint", "numbers"}
    for module in modules_of("rewards"):
        if module != "iapo.rewards.presets":
            used = {name for name in IMPORTS[module] if part_of(name) == "rewards"}
            assert used <= {f"iapo.rewards.{name}" for name in helpers}, module


@pytest.mark.parametrize(("name", "only"), [("GRPOTrainer", "iapo.trainer"), ("GRPOConfig", "iapo.config")])
def test_trl_is_reached_in_one_place(name: str, only: str):
    users = {
        module
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names})
        or (isinstance(node, ast.Attribute) and node.attr == name)
    }
    assert users == {only}


def test_light_modules_stay_light():
    """These must load in an instant, and where torch is not wanted, such as in a report; one process for all."""
    modules = ["iapo.records", "iapo.runs", "iapo.tools", "iapo.tasks.synthetic", "iapo.tasks.loading", "iapo.cli"]
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
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", FILES)
def test_files_are_short_and_run_no_python(module: str):
    text = FILES[module].read_text()
    assert text.count("\n") < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            function = node.func
            # `re.compile` and the like are methods of other things; the built-ins are called by their bare name.
            name = function.id if isinstance(function, ast.Name) else ""
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                name = function.attr if function.value.id in ("builtins", "__builtins__") else ""
            assert name not in ("exec", "eval", "compile", "__import__"), f"{module}, line {node.lineno}"
