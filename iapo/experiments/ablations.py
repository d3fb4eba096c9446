"""Ablations as data: YAML files that name variants of one training in groups."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iapo.errors import InputError
from iapo.experiments.trials import COMPARISON, START, TAKEN, TEACHER, Budget, Trial, once, refuse_taken
from iapo.home import with_home
from iapo.kinds import checks_kinds
from iapo.locks import LOCK
from iapo.training.arguments import RunArguments
from iapo.training.files import CONFIGS, find_yaml
from iapo.training.settings import Changes, check, parse, typed
from iapo.training.values import parse_value
from iapo.yaml_files import read_yaml

if TYPE_CHECKING:
    from iapo.training.config import IAPOConfig

FOLDER = CONFIGS / "ablations"
"""Where the packaged files lie."""

MOST_VARIANTS = 1000
"""Most variants of an ablation: the points of a few lists soon are more than anybody trains."""

_NAME = re.compile(r"[\w][\w .,=+-]*")
_LONGEST_NAME = 200
"""Bytes; a file system takes 255."""

_FIELDS: Mapping[str, Any] = {
    "seeds": list[int],
    "config": str,
    "sets": list[str],
    "samples": int,
    "data_seed": int,
    "temperature": float,
    "repeats": int,
    "greedy": bool,
}
"""What the file may say of the budget beside its settings, with their types."""

_RESERVED = (START, TEACHER, COMPARISON, LOCK, *(f"ablation.{kind}" for kind in ("txt", "csv", "tex", "json")))
"""What lies beside the groups' folders."""


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
        where: The file, for errors.
    """

    budget: Budget
    titles: Mapping[str, str]
    variants: tuple[Variant, ...]
    reference: str
    where: str = "the ablation"


@checks_kinds
def find_ablation(name: str) -> Path:
    """Finds the YAML file of an ablation (`iapo.training.config.find_yaml`)."""
    return find_yaml(name, FOLDER, "ablation")


@checks_kinds
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
    contents = _named(data["groups"], f"{path}: groups")
    variants = [one for group, content in contents.items() for one in _variants(path, group, content)]
    if len(variants) > MOST_VARIANTS:
        raise InputError(f"{path} has {len(variants)} variants; give at most {MOST_VARIANTS}")
    titles = {group: content.get("title", group) for group, content in contents.items()}
    for group, title in titles.items():
        if isinstance(title, bool) or not isinstance(title, str | int | float) or not str(title).strip():
            raise InputError(f"{path}: the title of group {group!r} is {title!r}; give a text")
        if other := next((one for one in titles if one != group and str(titles[one]) == str(title)), None):
            raise InputError(f"{path}: groups {group!r} and {other!r} have one title, {title!r}; give each its own")
    keys = [one.key for one in variants]
    reference = data["reference"]
    if reference not in keys:
        listed = ", ".join(keys[:20]) or "none"
        raise InputError(f"{path}: the reference {reference!r} is no variant; use one of {listed}")
    if groups is not None:
        once("groups", groups)
        if missing := [group for group in groups if group not in titles]:
            raise InputError(f"no group {missing[0]!r} in {path}; use some of {', '.join(titles)}")
        variants = [one for one in variants if one.group in groups or one.key == reference]
    budget = _budget(path, data)
    # The file's own first, so that what is wrong there is said of the file.
    budget = dataclasses.replace(budget, **(changes or {}), settings={**budget.settings, **typed(settings)})
    check(budget.config, budget.settings)
    own = tuple(_typed(one, path) for one in variants)
    return Ablation(budget, {group: str(title) for group, title in titles.items()}, own, reference, str(path))


def _budget(path: Path, data: Mapping[str, Any]) -> Budget:
    """Returns what a file says of the budget, each part of its type."""
    try:
        own = {key: parse_value(key, data[key], kind) for key, kind in _FIELDS.items() if key in data}
        shared = data.get("settings") or {}
        if not isinstance(shared, dict):
            raise InputError(f"settings is {shared!r}; give a mapping, name: value")
        own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
        budget = Budget(**own, settings=_plain(typed(shared, where="settings"), "settings"))
        if "sets" in own:
            once("sets", budget.sets)
        check(budget.config, budget.settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return budget


def _typed(variant: Variant, path: Path) -> Variant:
    where = f"variant {variant.key!r}"
    try:
        refuse_taken(variant.settings, TAKEN)
        return dataclasses.replace(variant, settings=_plain(typed(variant.settings, where=where), where))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _plain(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """Refuses settings that the runs' orders, which are JSON, cannot hold: YAML also knows days and sets."""
    for name, value in settings.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{where}: {name} is no plain value ({error}); put it in quotes") from error
    return settings


def _named(found: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Returns a mapping by the texts of its keys, and refuses two that are written alike: 1 and "1"."""
    named: dict[str, Any] = {}
    for key, value in found.items():
        if str(key) in named:
            raise InputError(f"{where} has two of the name {_short(str(key))}; name each one once")
        named[str(key)] = value
    return named


def _variants(path: Path, group: str, content: Any) -> list[Variant]:
    """Returns a group's variants: those that are named, and the points of its grid."""
    if group in _RESERVED or not _is_name(group):
        raise InputError(f"{path}: a group cannot be called {group[:200]!r}; give it another name")
    where = f"{path}: group {group!r}"
    if not isinstance(content, dict) or content.keys() - {"title", "variants", "grid"}:
        raise InputError(f"{where} may have title, variants and grid, and nothing else")
    parts: dict[str, dict[Any, Any]] = {}
    for part, form in (("variants", "NAME: {SETTING: VALUE}"), ("grid", "SETTING: [VALUE, VALUE]")):
        given = content.get(part)
        if given is not None and not isinstance(given, dict):
            raise InputError(f"{where}: {part} is {_short(given)}; give a mapping, {form}")
        parts[part] = given or {}
    named = {name: {} if given is None else given for name, given in _named(parts["variants"], where).items()}
    if grid := _named(parts["grid"], f"{where}: grid"):
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise InputError(f"{where}: {key} of the grid is {_short(values)}; give a list of values, [VALUE]")
        if (count := math.prod(map(len, grid.values()))) > MOST_VARIANTS:
            raise InputError(f"{where}: the grid has {count} points; give at most {MOST_VARIANTS}")
        for chosen in itertools.product(*grid.values()):
            point = dict(zip(grid, chosen, strict=True))
            name = ", ".join(f"{key}={value}" for key, value in point.items())
            if name in named:
                raise InputError(f"{where} has two variants {name!r}; name each one once")
            named[name] = point
    for name, settings in named.items():
        if not _is_name(name) or not isinstance(settings, dict):
            raise InputError(f"{path}: variant {name[:200]!r} needs a plain name, and settings as a mapping")
    return [Variant(group, name, settings) for name, settings in named.items()]


def _is_name(name: str) -> bool:
    """Tells whether a name can be that of a folder, too."""
    return _NAME.fullmatch(name) is not None and len(name.encode(errors="replace")) <= _LONGEST_NAME


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}..."


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

    start = _parse(ablation.budget, {}, f"{ablation.where}: the shared settings")[0].model
    for variant in ablation.variants:
        where = f"{ablation.where}: variant {variant.key!r}"
        arguments, settings = _parse(ablation.budget, variant.settings, where)
        if arguments.model != start:
            raise InputError(f"{where} sets model; all variants start from one, set it for all")
        wanted = {arguments.model: "", settings.teacher: "teacher", local_verifier(settings): "verifier"}
        for name, who in wanted.items():
            if name is not None and name not in checked:
                try:
                    revision = settings_in(settings, who).model_revision if who else arguments.model_revision
                    find_checkpoint(name, revision)
                except InputError as error:
                    raise InputError(f"{where}: {error}") from error
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
