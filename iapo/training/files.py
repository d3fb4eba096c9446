"""Finds the YAML files of trainings and ablations; without TRL."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from iapo.errors import InputError

CONFIGS = Path(str(resources.files("iapo"))) / "configs"
"""Where the packaged YAML files lie."""


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
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise InputError(f"no {kind} {name!r}: neither a file nor one of {known}")


def find_config(name: str) -> Path:
    """Finds the YAML file of a training's configuration (`find_yaml`)."""
    return find_yaml(name, CONFIGS, "configuration")
