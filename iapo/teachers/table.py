"""The stored teacher: a table of its block distributions, one row a sample (docs/method.md, section 4)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from iapo.attribution.settings import AttributionSettings
from iapo.bounds import COUNT, check_number
from iapo.errors import InputError, why
from iapo.kinds import checks_kinds
from iapo.own_files import code_digests
from iapo.storage import make_folder, take, whole_file

if TYPE_CHECKING:
    from transformers import ProcessorMixin

COMPARED = (
    *("target", "score", "normalization", "temperature", "floor", "blocks", "image_cells", "eps", "steps", "method"),
)
"""Attribution settings that a table's distributions depend on; those of a run that reads it must be the same."""

_CODE = "method_code"
"""Name of the digests of a method of the user's own, among the settings."""

_COUNTS = {"temperature": "softmax", "floor": "floored"}
"""Settings that count under one normalisation alone."""

SCHEMA = pa.schema(
    [
        ("sample", pa.string()),
        ("block_names", pa.list_(pa.string())),
        ("distribution", pa.list_(pa.float32())),
        ("call", pa.string()),
        ("fingerprint", pa.string()),
        ("prompt", pa.string()),
    ]
)
"""Columns of the file; the attribution settings are JSON in the schema's metadata."""

_METADATA = b"iapo_teacher"
_PARTS: Mapping[str, Mapping[str, type]] = {
    "prompt": {"name": str, "digest": str},
    "view": {"patch": int, "min_pixels": int, "max_pixels": int},
}
"""Records among the settings, with their fields."""
_AGAIN = "make the table again with `iapo teacher attribute`"


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """The teacher's explanation of its own call to one sample.

    Attributes:
        sample: Source and id of the sample.
        block_names: Names of the compared blocks, length m.
        distribution: Their probabilities, length m; None where the teacher made no call that has an attribution.
        call: The teacher's first turn; None where `distribution` is.
        prompt: Digest of the prompt's blocks, texts and image.
    """

    sample: str
    block_names: tuple[str, ...]
    distribution: tuple[float, ...] | None
    call: str | None
    prompt: str


@dataclass(frozen=True, slots=True)
class TeacherTable:
    """Rows by sample, with what they were made by.

    Attributes:
        rows: The rows by `TeacherRow.sample`.
        fingerprint: Fingerprint of the teacher; see `fingerprint`.
        settings: The attribution settings named in `COMPARED`; with `prompt`, name and digest of the prompt template;
            with `view`, how images were seen (`view_of`).
        name: Name of the table in errors: its path.
    """

    rows: Mapping[str, TeacherRow]
    fingerprint: str
    settings: Mapping[str, Any]
    name: str = "the teacher table"

    @classmethod
    def of(
        cls,
        rows: Sequence[TeacherRow],
        fingerprint: str,
        settings: AttributionSettings,
        prompt: Mapping[str, str] | None = None,
        view: Mapping[str, int] | None = None,
    ) -> Self:
        """Collects rows; a row that comes twice is taken once.

        Args:
            rows: The rows.
            fingerprint: Fingerprint of the teacher.
            settings: Settings of the attribution.
            prompt: Prompt template's `name` and `digest`.
            view: How the teacher saw images (`view_of`).

        Raises:
            InputError: If two different rows are of one sample.
        """
        by_sample: dict[str, TeacherRow] = {}
        for row in rows:
            if by_sample.setdefault(row.sample, row).prompt != row.prompt:
                raise InputError(f"two samples are called {row.sample!r}; sources and ids must tell samples apart")
        more = {name: dict(one) for name, one in (("prompt", prompt), ("view", view)) if one is not None}
        code = _code_of(settings)
        return cls(by_sample, fingerprint, _compared(settings) | ({_CODE: code} if code else {}) | more)

    def write(self, path: Path) -> None:
        """Writes the table as parquet; a stopped run leaves no half a file under this name."""
        rows = [
            {
                "sample": row.sample,
                "block_names": list(row.block_names),
                "distribution": None if row.distribution is None else list(row.distribution),
                "call": row.call,
                "fingerprint": self.fingerprint,
                "prompt": row.prompt,
            }
            for row in self.rows.values()
        ]
        schema = SCHEMA.with_metadata({_METADATA: json.dumps(dict(self.settings)).encode()})
        make_folder(path.parent)
        with whole_file(path) as part:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), part)

    @classmethod
    @checks_kinds
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote.

        Raises:
            InputError: If there is no such file, it is damaged or not such a table, or a row is not a distribution;
                the message names the file, and the sample where one is at fault.
        """
        try:
            # A path alone would also be taken for a folder of parts.
            with path.open("rb") as file:
                table = pq.read_table(file)
        except OSError as error:
            raise InputError(f"cannot read the teacher table {path} ({why(error)}); {_AGAIN}") from error
        except pa.ArrowException as error:
            raise InputError(f"{path} is damaged or not a parquet file ({error}); {_AGAIN}") from error
        metadata = (table.schema.metadata or {}).get(_METADATA)
        if metadata is None or not table.schema.remove_metadata().equals(SCHEMA):
            raise InputError(f"{path} is not a teacher table of this version; {_AGAIN}")
        settings = _read_settings(metadata, path)
        try:
            records = table.to_pylist()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is damaged: a text in it is not UTF-8; {_AGAIN}") from error
        rows: dict[str, TeacherRow] = {}
        for record in records:
            row = _checked(record, path, signed=settings.get("normalization") == "signed")
            if row.sample in rows:
                raise InputError(f"{path} has two rows for sample {row.sample!r}; {_AGAIN}")
            rows[row.sample] = row
        teachers = set(table.column("fingerprint").to_pylist())
        if len(teachers) > 1:
            raise InputError(f"{path} holds rows of {len(teachers)} different teachers; {_AGAIN}")
        return cls(rows, str(next(iter(teachers), "")), settings, str(path))

    def check_settings(self, settings: AttributionSettings) -> None:
        """Compares the table's attribution settings with a run's.

        Raises:
            InputError: If one differs; the message names it.
        """
        code = _code_of(settings)
        if code and self.settings.get(_CODE, code) != code:
            raise InputError(
                f"{self.name} was made with other contents of {settings.method}; give back the file as it was, or "
                f"{_AGAIN}"
            )
        for name, wanted in _compared(settings).items():
            # What an earlier version did not know of, it did by default.
            stored = self.settings.get(name, getattr(AttributionSettings(), name))
            if name == "method" and stored is None:
                stored = AttributionSettings(steps=self.settings.get("steps", 1)).method_name
            if _COUNTS.get(name, settings.normalization) == settings.normalization and stored != wanted:
                raise InputError(
                    f"{self.name} was made with attribution_{name} {stored!r}, but the run has {wanted!r}; set "
                    f"attribution_{name} to {stored!r}, or {_AGAIN} and the run's configuration"
                )

    def check_prompt(self, name: str, digest: str) -> None:
        """Compares the prompt template that the teacher was asked with to a run's.

        Args:
            name: Name of the run's.
            digest: Digest of the run's.

        Raises:
            InputError: If they differ; what earlier versions wrote does not say, and is found out row by row.
        """
        stored = self.settings.get("prompt", {"name": name, "digest": digest})
        if stored["digest"] != digest:
            other = f"with the prompt {stored['name']!r}, but the run has {name!r}"
            if stored["name"] == name:
                other = f"with another wording of the prompt {name!r}"
            raise InputError(
                f"{self.name} was made {other}; student and teacher must be asked alike: set prompt to the one that "
                f"the table was made with, or {_AGAIN} and the run's configuration"
            )

    def check_view(self, processor: ProcessorMixin, sizes: Iterable[tuple[int, int]]) -> None:
        """Compares how the teacher saw images with how a student sees them, where both have patches of one size.

        Args:
            processor: The student's processor.
            sizes: Widths and heights of the images in pixels.

        Raises:
            InputError: If an image of one of these sizes has another number of tokens for the student.
        """
        stored, own, images = self.settings.get("view"), view_of(processor), processor.image_processor
        if stored is None or stored == own or stored["patch"] != own["patch"]:
            return
        limits = {name: stored[name] for name in ("min_pixels", "max_pixels")}
        for width, height in sorted(set(sizes)):
            counts = [images.get_number_of_image_patches(height, width, given) for given in ({}, limits)]
            if counts[0] != counts[1]:
                raise InputError(
                    f"{self.name} was made with {_limits(stored)}, but the student has {_limits(own)}, so that it sees "
                    f"an image of {width} x {height} pixels otherwise; set min_pixels and max_pixels to the table's, "
                    f"or {_AGAIN} and the run's configuration"
                )

    def find(self, sample: str, block_names: Sequence[str], prompt: str) -> TeacherRow:
        """Returns the row of a sample.

        Args:
            sample: Source and id.
            block_names: The blocks of the run's prompt.
            prompt: The digest of the run's prompt.

        Raises:
            InputError: If the sample has no row, or the row is of another prompt.
        """
        row = self.rows.get(sample)
        if row is None:
            raise InputError(
                f"{self.name} has no row for sample {sample!r}; {_AGAIN}, the run's configuration and the sample's "
                "split (--split train, test or both)"
            )
        if row.block_names != tuple(block_names):
            raise InputError(
                f"{self.name}: the row of sample {sample!r} has the blocks {', '.join(row.block_names)}, but the run's "
                f"prompt has {', '.join(block_names)}; offer the same tools in the same order and set "
                f"the same prompt, or {_AGAIN}"
            )
        if row.prompt != prompt:
            raise InputError(
                f"{self.name}: the row of sample {sample!r} was made for another picture, question or wording of the "
                f"prompt; use the configuration that the table was made with, or {_AGAIN}"
            )
        return row


def view_of(processor: ProcessorMixin) -> dict[str, int]:
    """Returns what decides how many tokens a processor makes of an image: a token's side, and the limits, in pixels."""
    images = processor.image_processor
    low, high = images.size["shortest_edge"], images.size["longest_edge"]
    return {"patch": images.patch_size * images.merge_size, "min_pixels": low, "max_pixels": high}


def _limits(view: Mapping[str, int]) -> str:
    return f"min_pixels {view['min_pixels']} and max_pixels {view['max_pixels']}"


def _compared(settings: AttributionSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in COMPARED} | {"method": settings.method_name}


def _code_of(settings: AttributionSettings) -> list[str]:
    """Returns the digest of the file of a method of the user's own; none of the packaged ones'."""
    return [
        digest for files in code_digests({"attribution_method": settings.method}).values() for digest in files.values()
    ]


def _read_settings(metadata: bytes, path: Path) -> dict[str, Any]:
    """Reads the attribution settings, with what `prompt` and `view` say where they are there."""
    try:
        found = json.loads(metadata)
        if not isinstance(found, dict):
            raise InputError("they are no record")
        for name, limits in _PARTS.items():
            part = take(found, name, dict, NoneType, default=None)
            for key, kind in limits.items() if part is not None else ():
                value = take(part, key, kind)
                if kind is int:
                    check_number(f"{key} of {name}", value, COUNT)
        for name in COMPARED:
            take(found, name, str, int, float, bool, NoneType, default=None)
        if found.get("method") is None:
            # An earlier version's, which a number of steps told.
            AttributionSettings(steps=take(found, "steps", int, default=1))
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, InputError) else "they are not JSON"
        raise InputError(f"{path} is damaged in the settings that it was made with: {what}; {_AGAIN}") from error
    return {name: value for name, value in found.items() if name not in _PARTS or value is not None}


def _checked(record: Mapping[str, Any], path: Path, *, signed: bool) -> TeacherRow:
    name, blocks, values = record["sample"], record["block_names"], record["distribution"]
    sound = bool(name) and bool(blocks) and all(blocks) and None not in (record["prompt"], record["fingerprint"])
    if values is None:
        sound = sound and record["call"] is None
    else:
        sound = sound and record["call"] is not None and len(values) == len(blocks or ())
        sound = sound and None not in values and is_distribution(values, signed=signed)
    if not sound:
        raise InputError(f"{path}: the row of sample {name!r} is damaged; {_AGAIN}")
    return TeacherRow(name, tuple(blocks), None if values is None else tuple(values), record["call"], record["prompt"])


def is_distribution(values: Sequence[float], *, signed: bool) -> bool:
    """Tells whether numbers are shares of blocks that a teacher can have.

    Args:
        values: The numbers, length m.
        signed: Whether they are those of the normalisation `signed`: of magnitudes that sum to 1.
    """
    # A probability of 0 would make divergences infinite; there is none, since the uniform part is mixed in.
    if not all((-1 if signed else 0) <= value <= 1 for value in values) or not (signed or all(values)):
        return False
    # Signed shares of a call without any score are all 0.
    return math.isclose(sum(map(abs, values)), 1, abs_tol=1e-4) or (signed and not any(values))
