"""Finds and reads the YAML files of trainings and ablations; without TRL."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from iapo.bounds import split_list
from iapo.errors import InputError
from iapo.home import with_home
from iapo.yaml_files import read_yaml

CONFIGS = Path(str(resources.files("iapo"))) / "configs"
"""Where the packaged YAML files lie."""

BASE = "base"
"""Key of a configuration that names the one that it starts from."""


def find_yaml(name: str, folder: Path, kind: str) -> Path:
    """Finds a YAML file by path, or a packaged one by name.

    Args:
        name: The path or the name.
        folder: Folder of the packaged ones.
        kind: Noun for it in the error.

    Raises:
        InputError: If there is neither.
    """
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    if Path(name).is_dir():
        raise InputError(f"the {kind} {name!r} is a folder; give a YAML file in it")
    if Path(name).exists():
        raise InputError(f"the {kind} {name!r} is a pipe or a device, which is read but once; give a YAML file")
    # Of a group of files, such as a checkpoint's recipes, those of the group that was meant.
    group = folder / name.rpartition("/")[0]
    if not group.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"no {kind} {name!r}: there is no such file")
    known = ", ".join(sorted(str(path.relative_to(folder).with_suffix("")) for path in group.glob("*.yaml")))
    raise InputError(f"no {kind} {name!r}: neither a file nor one of {known or 'the packaged ones'}")


def find_config(name: str) -> Path:
    """Finds the YAML file of a training's configuration (`find_yaml`)."""
    return find_yaml(name, CONFIGS, "configuration")


def find_configs(names: str) -> list[Path]:
    """Finds the YAML files of a configuration in layers: names with commas between, of which a later one wins.

    Raises:
        InputError: If one of them is not there, or none is named.
    """
    # A path may hold a comma itself.
    if Path(names).is_file():
        return [Path(names)]
    found = [find_config(name) for name in split_list("the configuration", names)]
    if not found:
        raise InputError("the configuration is empty; name a YAML file, or several with commas between")
    return found


def layers_of(names: str) -> list[tuple[Path, dict[str, Any]]]:
    """Reads a configuration in layers, lowest first: each file's settings, without `base`, which names those below it.

    Args:
        names: As `find_configs` takes them. A file's `base` is of the same form; a path in it starts from the file's
            folder.

    Raises:
        InputError: If a file is not there or no YAML, or files are each other's base.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    for path in find_configs(names):
        _add_layers(path, found, ())
    return found


def _add_layers(path: Path, found: list[tuple[Path, dict[str, Any]]], above: tuple[Path, ...]) -> None:
    if path.resolve() in above:
        raise InputError(f"{path} is its own base, through {above[-1]}; remove one `base`")
    settings = with_home(read_yaml(path))
    base = settings.pop(BASE, None)
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: base is {base!r}; name a configuration, or several with commas between")
    for name in split_list(f"{path}: base", base or ""):
        beside = path.parent / name
        _add_layers(beside if beside.is_file() else find_config(name), found, (*above, path.resolve()))
    found.append((path, settings))
