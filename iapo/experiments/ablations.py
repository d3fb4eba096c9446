"""Ablations as data: YAML files that name variants of one training in groups."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iapo.errors import InputError
from iapo.experiments.trials import START, TAKEN, TEACHER, Budget, Trial, once, refuse_taken
from iapo.home import with_home
from iapo.training.arguments import RunArguments
from iapo.training.files import CONFIGS, find_yaml
from iapo.training.settings import Changes, check, parse, typed
from iapo.yaml_files import read_yaml

if TYPE_CHECKING:
    from iapo.training.config import IAPOConfig

FOLDER = CONFIGS / "ablations"
"""Where the packaged files lie."""

_NAME = re.compile(r"[\w][\w .,=+-]*")

_FIELDS = {field.name for field in dataclasses.fields(Budget)} - {"settings"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the table.

    Attributes:
        group: Its group.
        name: Its name there.
        settings: Settings in which it differs from what all share.
    """

    group: str
    name: str
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Group and name, and the folder of its runs."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class Ablation:
    """An ablation.

    Attributes:
        budget: Budget that all variants share.
        titles: Groups by name, in order, with what stands over their rows.
        variants: The rows, in order.
        reference: Key of the variant that differences are taken to.
    """

    budget: Budget
    titles: Mapping[str, str]
    variants: tuple[Variant, ...]
    reference: str


def find_ablation(name: str) -> Path:
    """Finds the YAML file of an ablation (`iapo.training.config.find_yaml`)."""
    return find_yaml(name, FOLDER, "ablation")


def read_ablation(
    name: str, changes: Mapping[str, Any] | None = None, settings: Changes = (), groups: Sequence[str] | None = None
) -> Ablation:
    """Reads an ablation.

    Args:
        name: A YAML file, or the name of a packaged one.
        changes: Fields of `Budget` that replace the file's.
        settings: Settings for all variants, which win over the file's own.
        groups: Groups; all if None. The reference comes along.

    Raises:
        InputError: If the file is not as docs/studies.md has it.
    """
    path = find_ablation(name)
    data = with_home(read_yaml(path))
    known = {*_FIELDS, "settings", "reference", "groups"}
    if unknown := [key for key in data if key not in known]:
        raise InputError(f"{path} has an unknown key {unknown[0]!r}; use {', '.join(sorted(known))}")
    if not isinstance(data.get("groups"), dict) or "reference" not in data:
        raise InputError(f"{path} needs groups, and a reference, GROUP/VARIANT")
    variants = [one for group, content in data["groups"].items() for one in _variants(path, str(group), content)]
    titles = {str(group): str(content.get("title", group)) for group, content in data["groups"].items()}
    keys = [one.key for one in variants]
    once("variants", keys)
    reference = str(data["reference"])
    if reference not in keys:
        raise InputError(f"{path}: the reference {reference!r} is no variant; use one of {', '.join(keys)}")
    if groups is not None:
        once("groups", groups)
        if missing := [group for group in groups if group not in titles]:
            raise InputError(f"no group {missing[0]!r} in {path}; use some of {', '.join(titles)}")
        variants = [one for one in variants if one.group in groups or one.key == reference]
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in _FIELDS}
    shared = data.get("settings") or {}
    if not isinstance(shared, dict):
        raise InputError(f"{path}: settings is {shared!r}; give a mapping, name: value")
    everywhere = {**typed(shared, where=f"{path}: settings"), **typed(settings)}
    budget = Budget(**{**own, **(changes or {}), "settings": everywhere})
    check(budget.config, budget.settings)
    return Ablation(budget, titles, tuple(_typed(one) for one in variants), reference)


def _typed(variant: Variant) -> Variant:
    where = f"variant {variant.key!r}"
    refuse_taken(variant.settings, TAKEN)
    return dataclasses.replace(variant, settings=typed(variant.settings, where=where))


def _variants(path: Path, group: str, content: Any) -> list[Variant]:
    """Returns a group's variants: those that are named, and the points of its grid."""
    if group in (START, TEACHER) or not _NAME.fullmatch(group):
        raise InputError(f"{path}: a group cannot be called {group!r}; give it another name")
    if not isinstance(content, dict) or content.keys() - {"title", "variants", "grid"}:
        raise InputError(f"{path}: group {group!r} may have title, variants and grid, and nothing else")
    named = {str(name): settings or {} for name, settings in (content.get("variants") or {}).items()}
    grid = content.get("grid") or {}
    if grid:
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            named[", ".join(f"{key}={value}" for key, value in point.items())] = point
    for name, settings in named.items():
        if not _NAME.fullmatch(name) or not isinstance(settings, dict):
            raise InputError(f"{path}: variant {name!r} needs a plain name, and settings as a mapping")
    return [Variant(group, name, settings) for name, settings in named.items()]


def check_variants(ablation: Ablation) -> dict[str, Trial]:
    """Parses each variant before anything runs, and finds those that are the same training.

    Returns:
        By the variants' keys the training behind each: equal settings, written out or by default, are trained once,
        under the first key.

    Raises:
        InputError: If a setting is unknown or cannot be, or a checkpoint is missing.
    """
    trials: dict[str, Trial] = {}
    distinct: list[tuple[dict[str, Any], Trial]] = []
    checked: set[str] = set()
    from iapo.rewards.presets import local_verifier
    from iapo.rollout.load_settings import settings_in
    from iapo.rollout.policy import find_checkpoint

    start = _parse(ablation.budget, {}, "the shared settings")[0].model
    for variant in ablation.variants:
        arguments, settings = _parse(ablation.budget, variant.settings, f"variant {variant.key!r}")
        if arguments.model != start:
            raise InputError(f"variant {variant.key!r} sets model; all variants start from one, set it for all")
        wanted = {arguments.model: "", settings.teacher: "teacher", local_verifier(settings): "verifier"}
        for name, who in wanted.items():
            if name is not None and name not in checked:
                try:
                    revision = settings_in(settings, who).model_revision if who else arguments.model_revision
                    find_checkpoint(name, revision)
                except InputError as error:
                    raise InputError(f"variant {variant.key!r}: {error}") from error
                checked.add(name)
        written = dataclasses.asdict(arguments) | settings.to_dict()
        trial = next((trial for other, trial in distinct if other == written), None)
        if trial is None:
            trial = Trial(variant.key, variant.settings)
            distinct.append((written, trial))
        trials[variant.key] = trial
    return trials


def _parse(budget: Budget, settings: Mapping[str, Any], where: str) -> tuple[RunArguments, IAPOConfig]:
    try:
        return parse(budget.config, {**budget.settings, **settings})
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
