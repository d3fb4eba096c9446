"""The families of synthetic images, and what is asked about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iapo.errors import InputError
from iapo.records import Axis, Kind

BARS = ("value", "largest", "difference", "count_above")
TABLES = ("value", "largest", "total")
CLAIMS = ("value", "largest")
PANELS = ("value", "largest", "difference")


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    Attributes:
        name: Name as in a sample's source.
        drawn_as: Data, images and questions it has.
        kind: `chart` or `table`.
        axis: The axis along which its images are cleanly divisible; None where both are right.
        question_types: Types of its questions. `value`, the content of a single place, comes first and every family has
            it, so that one choice of types can fit all families.
        trained: Whether it has other splits than `validation` and `test`.
    """

    name: str
    drawn_as: Literal["bars", "table", "panels"]
    kind: Kind
    axis: Axis | None
    question_types: tuple[str, ...]
    trained: bool = True


BY_NAME = {
    family.name: family
    for family in (
        Family("vbar", "bars", "chart", "columns", BARS),
        Family("hbar", "bars", "chart", "rows", BARS),
        Family("charxiv", "panels", "chart", "columns", PANELS, trained=False),
        Family("vwtq", "table", "table", None, TABLES),
        Family("vwtq_syn", "table", "table", None, TABLES),
        Family("vtabfact", "table", "table", None, CLAIMS),
    )
}

FAMILIES = tuple(BY_NAME)
"""All six."""

TRAINED_FAMILIES = tuple(name for name, family in BY_NAME.items() if family.trained)
"""The five that may be trained on."""

BAR_FAMILIES = ("vbar", "hbar")
"""The two bar charts, what the packaged models know."""


def find_family(name: str) -> Family:
    """Returns the family of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in BY_NAME:
        raise InputError(f"unknown family {name!r}; use one of {', '.join(FAMILIES)}")
    return BY_NAME[name]
