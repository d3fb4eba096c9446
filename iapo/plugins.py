"""The user's own parts by name: `package.module:NAME` and `FILE.py:NAME` -> the object."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from iapo.errors import InputError, unknown

T = TypeVar("T")

_NAME = r"[A-Za-z_]\w*"
_REFERENCE = re.compile(rf"(?P<place>.+\.py|{_NAME}(\.{_NAME})*):(?P<name>{_NAME})")

_FILES: dict[tuple[Path, int], ModuleType] = {}
"""What was read, by path and time of its last change: one file is one module, so that its objects are the same."""


def is_reference(text: str) -> bool:
    """Tells whether a text has the form `package.module:NAME` or `FILE.py:NAME`."""
    return _REFERENCE.fullmatch(text) is not None


def name_in(text: str) -> str:
    """Returns the NAME of a reference, which is what a table calls the part."""
    return text.rpartition(":")[2]


def resolve(text: str, what: str, fits: Callable[[Any], bool], form: str) -> Any:
    """Imports the object that a reference names. The code is the user's own, and runs as such.

    Args:
        text: The reference; a file's path starts at the working directory, from where modules are imported as well.
        what: Noun for it, in messages.
        fits: Whether an object is of the wanted kind.
        form: Form that is wanted, in messages.

    Raises:
        InputError: If the file, the module or the name is missing, the module cannot be imported, or the object is of
            another kind.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise InputError(f"{what} {text!r} is no reference; write FILE.py:NAME or package.module:NAME")
    module, name = load_module(found["place"], what), found["name"]
    if name not in vars(module):
        names = [one for one, value in vars(module).items() if not one.startswith("_") and fits(value)]
        if found["place"].endswith(".py"):
            # What a file imports can be named, too, but it is rarely meant; a package has little else.
            made = _made_in(_parsed(Path(found["place"]), what))
            names = [one for one in names if one in made] or names
        raise unknown(what, name, names, where=f" in {found['place']}")
    value = vars(module)[name]
    if not fits(value):
        raise InputError(f"{what} {text!r} is of type {type(value).__name__}; give {form}")
    return value


def load_module(place: str, what: str) -> ModuleType:
    """Imports a module, or a file that need not be importable by a name.

    Args:
        place: `package.module`, or a path that ends in `.py`.
        what: Noun for it, in messages.

    Raises:
        InputError: If there is none, or it cannot be imported, for whatever its code raises.
    """
    check_file(place, what)
    try:
        return _load_file(Path(place).resolve()) if place.endswith(".py") else _load_name(place)
    # The code is the user's own and may raise anything, an end of the process among it; none of it is a fault of iapo.
    except (Exception, SystemExit) as error:
        raise InputError(f"{what}: {place} cannot be imported ({raised_in(error, f'{place}:')})") from error


def check_file(place: str, what: str) -> None:
    """Refuses the place of a reference that is a file which is not there; imports nothing.

    Raises:
        InputError: If so.
    """
    if place.endswith(".py") and not Path(place).is_file():
        raise InputError(f"{what}: there is no file {place!r} (looked for from {Path.cwd()})")


def check_reference(text: str, what: str) -> None:
    """Refuses a reference to a file or a package that is not there, or to a name that a file does not bind.

    Imports nothing; other texts are not looked at.

    Args:
        text: The text.
        what: Noun for it, in messages.

    Raises:
        InputError: If so, or the file is no Python.
    """
    if not is_reference(text):
        return
    place, _, name = text.rpartition(":")
    check_file(place, what)
    if place.endswith(".py"):
        tree = _parsed(Path(place), what)
        names = _bound_in(tree)
        if names is not None and name not in names:
            raise unknown(what, name, _made_in(tree), where=f" in {place}")
        return
    root = place.partition(".")[0]
    if not _is_importable(root):
        raise InputError(f"{what}: there is no package {root!r}, neither installed nor in {Path.cwd()}")


def _is_importable(root: str) -> bool:
    if root in sys.modules or any((Path.cwd() / name).exists() for name in (root, f"{root}.py")):
        return True
    try:
        return importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def _parsed(path: Path, what: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except OSError as error:
        raise InputError(f"{what}: {path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        line = "" if error.lineno is None else f", line {error.lineno}"
        raise InputError(f"{what}: {path} is not Python ({error.msg}{line})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{what}: {path} is not Python ({type(error).__name__})") from error


def _made_in(tree: ast.Module) -> list[str]:
    """Returns the public names that a file makes at its top and that may be parts: functions, and what is called,
    looked up or put together; neither imports nor classes, numbers and texts.
    """
    names: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names[node.name] = None
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, _PARTS):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {one.id: None for one in targets if isinstance(one, ast.Name)}
    return [name for name in names if not name.startswith("_")]


_PARTS = (ast.Call, ast.Name, ast.Attribute, ast.Subscript, ast.Lambda, ast.Dict, ast.DictComp, ast.BinOp)


def _bound_in(tree: ast.Module) -> list[str] | None:
    """Returns the names that a file's code may bind; None where only running it would tell."""
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.Name):
            if node.id in ("globals", "vars", "exec", "setattr"):
                return None
            if isinstance(node.ctx, ast.Store):
                names[node.id] = None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    return None
                names[alias.asname or alias.name.partition(".")[0]] = None
    return list(names)


def raised_in(error: BaseException, reference: str) -> str:
    """Names what the user's code raised, and the line of their file that raised it, as `KeyError: 'a', line 3`.

    Args:
        error: What was raised.
        reference: Reference to the part, as `resolve` takes it.
    """
    place = reference.rpartition(":")[0]
    file = place if place.endswith(".py") else getattr(sys.modules.get(place), "__file__", None)
    text, line = _said(error), None if isinstance(error, SyntaxError) else _line_in(error, file)
    return text if line is None else f"{text}, line {line}"


@contextmanager
def users_code(what: str, function: Any) -> Iterator[None]:
    """Says what a function of the user's own raises in one sentence, with the file and the line.

    What it asks of iapo and what that says (an endpoint that fails, numbers that are not finite), and that memory ran
    out, stay what they are.

    Args:
        what: Noun for it with its name, as the sentence begins.
        function: The function, or an object that is called.

    Raises:
        InputError: If it raises anything else.
    """
    try:
        yield
    # The code is the user's own and may raise anything, an end of the process among it; none of it is a fault of iapo.
    except (Exception, SystemExit) as error:
        if _iapos(error) or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise
        file = _file_of(function)
        line = _line_in(error, file)
        # A reference has named the file already.
        where = "" if file is None or Path(file).name in what else f", {file}"
        where += "" if line is None else f", line {line}"
        raise InputError(f"{what} failed ({_said(error)}{where}); mend it") from error


def function_name(function: Any) -> str:
    """Returns what a function is called: of a partial one the function's name, of another object its class's."""
    name = getattr(function, "__name__", None)
    if isinstance(name, str):
        return name
    return function_name(function.func) if isinstance(function, functools.partial) else type(function).__name__


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _iapos(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == __name__.partition(".")[0]


def _file_of(function: Any) -> str | None:
    """Returns the file of a function's code; None where it has none, as what is built in."""
    while isinstance(function, functools.partial):
        function = function.func
    for one in (function, getattr(type(function), "__call__", None)):  # noqa: B004
        code = getattr(getattr(one, "__func__", one), "__code__", None)
        if code is not None:
            return str(code.co_filename)
    return None


def _line_in(error: BaseException, file: str | None) -> int | None:
    """Returns the innermost line of a file that an error passed; None where it passed none."""
    frames = [] if file is None else traceback.extract_tb(error.__traceback__)
    lines = [one.lineno for one in frames if file and Path(one.filename).resolve() == Path(file).resolve()]
    return lines[-1] if lines else None


def look_up(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns the entry of a table.

    Raises:
        InputError: If it has none of that name.
    """
    if name not in table:
        raise unknown(what, name, table)
    return table[name]


def _load_name(name: str) -> ModuleType:
    # The console script, unlike `python -m`, does not look into the working directory.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    key = (path, path.stat().st_mtime_ns)
    if key in _FILES:
        return _FILES[key]
    # A name that no package bears, so that a file `json.py` shadows nothing.
    name = f"iapo_file_{len(_FILES)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # What stands beside the file can be imported by it, after all else.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Dataclasses and pickle look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _FILES[key] = module
    return module
