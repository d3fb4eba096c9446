"""What is found in an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iapo.records import Axis, Box


@dataclass(frozen=True, slots=True)
class FoundBoxes:
    """What was found in an image.

    Attributes:
        column_boxes: Column boxes by name, in pixels; empty where nothing was found.
        row_boxes: Row boxes by name, in pixels; empty where nothing was found.
        axis: The axis along which a chart is cleanly divisible; None for tables and where nothing was found.
        reason: Why nothing was found, one sentence; empty where something was.
    """

    column_boxes: Mapping[str, Box] = field(default_factory=dict)
    row_boxes: Mapping[str, Box] = field(default_factory=dict)
    axis: Axis | None = None
    reason: str = ""
