"""Changes one place of the code at a time, and says which changes the tests of its module notice.

    python benchmarks/mutants.py [--count 60] [--seed 0] [--only grading]

A change is one of a comparison, a connective, an operator, a negation, a number or a truth value. The changed
module is in the memory of a process of its own; no file is written. A change that no test notices is a gap in the
tests, or makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TESTS = {
    "grading": (
        sorted(path for path in (ROOT / "iapo/grading").glob("*.py") if path.name not in ("__init__.py", "judge.py")),
        ["tests/grading/test_outcome.py", "tests/grading/test_rules.py", "tests/grading/test_long_answers.py"],
        40,
    ),
    "divergence": ([ROOT / "iapo/attribution/divergence.py"], ["tests/attribution/test_divergence.py"], 10),
    "storage": ([ROOT / "iapo/storage.py"], ["tests/test_storage.py"], 10),
}
"""The files that are changed, their tests, and the share of the changes in 60."""

SECONDS = 60
"""CPU seconds that the tests of one change may take; one that has them run longer is noticed."""

_OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, Any]]:
    """Yields what can be changed: the node, the field of it and the field's new value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _OTHER:
            yield node, "ops", [_OTHER[type(node.ops[0])](), *node.ops[1:]]
        elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in _OTHER:
            yield node, "op", _OTHER[type(node.op)]()
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, "op", ast.Not()
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, "value", not node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, "value", node.value + 1


def mutant(source: str, number: int) -> tuple[ast.Module, str]:
    """Returns the tree with that place changed, and what was changed."""
    tree = ast.parse(source)
    node, field, value = list(places(tree))[number]
    before = ast.unparse(node)
    line: int = node.lineno  # type: ignore[attr-defined]
    if isinstance(node, ast.UnaryOp):
        changed = copy.deepcopy(node.operand)
        node.operand = ast.UnaryOp(ast.Not(), changed)
        ast.fix_missing_locations(tree)
        return tree, f"{line}: {before} -> {ast.unparse(changed)}"
    setattr(node, field, value)
    ast.fix_missing_locations(tree)
    return tree, f"{line}: {before} -> {ast.unparse(node)}"


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module as a changed tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.name else None

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(self.path)
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)  # noqa: S102 - our own code, changed


def noticed(path: Path, tree: ast.Module | None, tests: list[str]) -> bool:
    """Tells whether a test fails with the module changed; None leaves it as it is."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            if tree is not None:
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                sys.meta_path.insert(0, _Changed(name, path, tree))
            options = ["-n0", "-x", "--noconftest", "-p", "no:cacheprovider", "-k", "not linear_time and not crashes"]
            code = int(pytest.main([*options, *tests]))
        os._exit(code)
    return os.waitpid(child, 0)[1] != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TESTS)
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # What every test loads is loaded once; nothing of the package itself.
    for library in ("hypothesis", "numpy", "PIL.Image", "torch", "transformers"):
        importlib.import_module(library)
    chance = random.Random(given.seed)
    total = missed = 0
    for name, (files, tests, share) in TESTS.items():
        if given.only not in (None, name):
            continue
        if noticed(files[0], None, tests):
            raise SystemExit(f"the tests of {name} fail as they are")
        sources = {path: path.read_text() for path in files}
        found = [(path, number) for path in files for number, _ in enumerate(places(ast.parse(sources[path])))]
        start, count, survivors = time.monotonic(), min(len(found), round(share * given.count / 60)), []
        for path, number in chance.sample(found, count):
            tree, said = mutant(sources[path], number)
            if not noticed(path, tree, tests):
                survivors.append(f"{path.relative_to(ROOT)}:{said}")
        total, missed = total + count, missed + len(survivors)
        seconds = time.monotonic() - start
        print(f"{name}: {count} of {len(found)} changes, {count - len(survivors)} noticed, {seconds:.0f} s", flush=True)
        print("".join(f"  {one}\n" for one in survivors), end="", flush=True)
    print(f"{total - missed} of {total} changes are noticed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
