"""Files of results with their format and kind, and typed readers of manifests and evaluations; no torch here.

A file without `format` is of a version before there were formats, and is read; one of a later format is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from iapo.bounds import ENDPOINT_HEAT
from iapo.errors import InputError, brief
from iapo.estimates import Estimate
from iapo.storage import create_json, read_json, write_json

FORMAT = 1
"""Number of the format that is written; readers know it and all before it."""

MANIFEST, EVALUATION = "manifest.json", "evaluation.json"


def stamp(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a result with its format and kind in front, as its file holds it."""
    return {"format": FORMAT, "kind": kind} | {key: value for key, value in data.items() if key not in _STAMP}


_STAMP = ("format", "kind")

_PARTS = ("versions", "seeds", "data", "defaults")
"""What a manifest holds beside kind, configuration and commit."""


def defaults_left(settings: Any) -> dict[str, Any]:
    """Returns the defaults of a settings object's fields that are not as their default, by name.

    Args:
        settings: A dataclass instance. A field that has a record of fields itself is compared as a whole; one without
            a default, which must be given, is left out.
    """
    found: dict[str, Any] = {}
    for one in dataclasses.fields(settings):
        factory = one.default_factory
        default = factory() if factory is not dataclasses.MISSING else one.default
        if default is dataclasses.MISSING or not hasattr(settings, one.name):
            continue
        if getattr(settings, one.name) != default:
            is_record = dataclasses.is_dataclass(default) and not isinstance(default, type)
            plain = dataclasses.asdict(default) if is_record else default
            found[one.name] = getattr(plain, "value", plain)
    return found


def first_difference(found: Any, wanted: Any, where: str = "") -> str | None:
    """Names the first place in which what a folder holds and what is asked for differ, with both values.

    Args:
        found: What is there: JSON data.
        wanted: What is asked for.
        where: Name of the place of both.

    Returns:
        The place and the values; None where all is the same.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            if inner := first_difference(found.get(key), wanted.get(key), f"{where}.{key}".lstrip(".")):
                return inner
        return None
    return None if found == wanted else f"{where}: {brief(found)} there, {brief(wanted)} now"


def write_result(path: Path, kind: str, data: Mapping[str, Any]) -> None:
    """Writes a JSON file with `format` and `kind`, whole or not at all."""
    write_json(path, stamp(kind, data))


def create_result(path: Path, kind: str, data: Mapping[str, Any]) -> None:
    """Writes a JSON file with `format` and `kind` where there is none.

    Raises:
        InputError: If there is one.
    """
    try:
        create_json(path, stamp(kind, data))
    except FileExistsError:
        raise InputError(f"{path} was just written by another process; choose another folder for this one") from None


def read_result(path: Path, *kinds: str) -> dict[str, Any]:
    """Reads a JSON file of one of some kinds; one without a format may be of any.

    Raises:
        InputError: If the file cannot be read, is of a later format, or of another kind.
    """
    found = read_json(path)
    written, kind = found.get("format", 0), found.get("kind")
    if not isinstance(written, int) or written > FORMAT:
        raise InputError(
            f"{path} has the format {brief(written)}, but this iapo reads up to {FORMAT}; install a newer one"
        )
    if written and kind not in kinds:
        raise InputError(f"{path} is of the kind {brief(kind)}, not {' or '.join(kinds)}; give another folder")
    return found


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run folder's `manifest.json` holds.

    Attributes:
        kind: `training` of `iapo train`, or `evaluation` of `iapo evaluate`.
        config: Resolved configuration: of a training `run` and `training`, of an evaluation `evaluation` (its plan) and
            `checkpoint` and `files` (its small files' digests); of both `prompt`, the prompt template, and `code`,
            digests of the user's own files that settings name.
        versions: Versions of Python and of packages.
        seeds: Seeds by what they are of.
        data: Hashes of the data by what they are for.
        commit: Commit of the source tree; None where it is unknown.
        defaults: Defaults of the settings that were given otherwise, by the part of `config` and their name there;
            empty in a file of an earlier version, which does not say.
        id: What tells the run from all others, and stays where the file is written again; None in a file of an earlier
            version.
    """

    kind: Literal["training", "evaluation"]
    config: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    id: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a `manifest.json`.

        Raises:
            InputError: If the file cannot be read, or is no manifest of a run.
        """
        found = read_result(path, "training", "evaluation")
        config = found.get("config")
        kinds: tuple[Literal["training", "evaluation"], ...] = ("training", "evaluation")
        kind = next((kind for kind in kinds if isinstance(config, dict) and isinstance(config.get(kind), dict)), None)
        if kind is None or found.get("kind", kind) != kind:
            raise InputError(f"{path} is not the manifest of a run; give the folder of a run")
        versions, seeds, data, defaults = (found.get(name) or {} for name in _PARTS)
        if not all(isinstance(part, dict) for part in (versions, seeds, data, defaults)):
            raise InputError(f"{path} is damaged: {', '.join(_PARTS)} are records; give another folder")
        if not all(isinstance(part, dict) for part in defaults.values()):
            raise InputError(f"{path} is damaged: defaults holds records of settings; give another folder")
        # A training on data of one's own also counts images and rows there.
        if not all(value is None or isinstance(value, str | dict) for value in data.values()):
            raise InputError(f"{path} is damaged: data holds digests and counts; give another folder")
        return cls(kind, found["config"], versions, seeds, data, found.get("commit"), defaults, found.get("id"))

    def create(self, path: Path) -> None:
        """Writes a `manifest.json` where there is none.

        Raises:
            InputError: If there is one, that another process wrote meanwhile.
        """
        create_result(path, self.kind, dataclasses.asdict(self))

    def write(self, path: Path) -> None:
        """Writes a `manifest.json` in the place of one that is there."""
        write_result(path, self.kind, dataclasses.asdict(self))


@dataclass(frozen=True, slots=True)
class TrainingEvaluation:
    """What a training's `evaluation.json` holds: one set of held-out samples, before and after.

    Attributes:
        settings: Settings of the generation.
        samples: Number of samples.
        before: Measures before training, by name.
        after: Measures after training.
        differences: Paired differences, after less before, by the measure's name; of the accuracy as `outcome`.
        attribution: Attribution by `before` and `after`, then by whose it is: the mean share of each block.
        outcomes: Outcomes by `before` and `after`: each sample's outcome.
        greedy: Greedy measures by `before` and `after`, then by name; empty where only the settings' were asked for.
        greedy_differences: Their paired differences.
    """

    settings: Mapping[str, Any]
    samples: int
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    attribution: Mapping[str, Mapping[str, Mapping[str, float]]]
    outcomes: Mapping[str, Sequence[float]]
    greedy: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    greedy_differences: Mapping[str, Estimate] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Takes up what the file holds; earlier versions left parts out."""
        greedy = {
            when: {name: Estimate.from_json(value) for name, value in some.items()}
            for when, some in found.get("greedy", {}).items()
        }
        before, after, differences, greedy_differences = (
            {name: Estimate.from_json(value) for name, value in found.get(part, {}).items()}
            for part in ("before", "after", "after_minus_before", "greedy_after_minus_before")
        )
        outcomes = {when: _numbers(some) for when, some in found.get("outcomes", {}).items()}
        samples = found.get("samples", max(map(len, outcomes.values()), default=0))
        attribution = found.get("attribution", {})
        settings = found.get("settings", {})
        return cls(settings, samples, before, after, differences, attribution, outcomes, greedy, greedy_differences)


@dataclass(frozen=True, slots=True)
class SetMeasures:
    """One test set's part of an evaluation.

    Attributes:
        samples: Number of samples.
        data: SHA-256 of the set.
        measures: Measures by name.
        outcomes: Outcomes for each repeat each sample's outcome.
        rows: Rows that the set has, by what became of them (`iapo.data.intake.Intake`); empty where all are samples as
            they should be.
    """

    samples: int
    data: str
    measures: Mapping[str, Estimate]
    outcomes: Sequence[Sequence[float]]
    rows: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, Sequence[Sequence[bool | None]]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Takes up what the file holds."""
        own = ("samples", "data", "outcomes", "rows", "verdicts")
        measures = {name: Estimate.from_json(value) for name, value in found.items() if name not in own}
        outcomes = [_numbers(some) for some in found["outcomes"]]
        rows, verdicts = found.get("rows", {}), found.get("verdicts", {})
        return cls(found.get("samples", len(outcomes[0])), found["data"], measures, outcomes, rows, verdicts)

    def to_json(self) -> dict[str, Any]:
        measures = {name: dataclasses.asdict(estimate) for name, estimate in self.measures.items()}
        rows = {"rows": dict(self.rows)} if self.rows else {}
        verdicts = {"verdicts": dict(self.verdicts)} if self.verdicts else {}
        return {"samples": self.samples, "data": self.data, **rows, **measures, "outcomes": self.outcomes, **verdicts}


@dataclass(frozen=True, slots=True)
class SetsEvaluation:
    """What the `evaluation.json` of an `iapo evaluate` holds: one policy on test sets.

    Attributes:
        model: The evaluated model.
        settings: The plan (`iapo.evaluation.plan.EvaluationPlan`).
        sets: The test sets by name.
        average: Unweighted mean of the sets' accuracies; None in a file that has none.
    """

    model: str
    settings: Mapping[str, Any]
    sets: Mapping[str, SetMeasures]
    average: Estimate | None

    @property
    def temperature(self) -> float | None:
        """Temperature at which it sampled, 0 where it was greedy; None in a file that does not say."""
        settings = self.settings if isinstance(self.settings, Mapping) else {}
        generation = settings.get("endpoint") or settings.get("generation")
        found = generation.get("temperature") if isinstance(generation, Mapping) else None
        return float(found) if isinstance(found, int | float) and ENDPOINT_HEAT.allows(found) else None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Takes up what the file holds."""
        sets = {name: SetMeasures.of(one) for name, one in found["sets"].items()}
        average = Estimate.from_json(found["average"]) if "average" in found else None
        return cls(str(found.get("model", "")), found.get("settings", {}), sets, average)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "settings": self.settings,
            "sets": {name: one.to_json() for name, one in self.sets.items()},
            "average": None if self.average is None else dataclasses.asdict(self.average),
        }


Evaluation = TrainingEvaluation | SetsEvaluation


def evaluation_kind(evaluation: Mapping[str, Any]) -> Literal["test_sets", "before_after"]:
    """Returns the kind of an evaluation as its file holds it."""
    return "test_sets" if "sets" in evaluation else "before_after"


def read_evaluation(path: Path) -> Evaluation:
    """Reads an `evaluation.json` of either kind.

    Raises:
        InputError: If the file cannot be read, or is no evaluation.
    """
    found = read_result(path, "before_after", "test_sets")
    with _damage(path):
        return SetsEvaluation.of(found) if evaluation_kind(found) == "test_sets" else TrainingEvaluation.of(found)


def _numbers(found: Any) -> list[float]:
    if not isinstance(found, list) or not all(isinstance(one, int | float) for one in found):
        raise TypeError("outcomes are no list of numbers")
    for one in found:
        float(one)
    return found


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise InputError(f"{path} is damaged ({brief(error)}); restore it or give another folder") from error
