"""The packaged tool `crop` with a judge: a crop that leaves out a part of the panel asked for is misuse."""

from __future__ import annotations

import re

from iapo.records import Sample, ToolCall
from iapo.tools import define
from iapo.tools.packaged.crop import crop


def misses(sample: Sample, call: ToolCall) -> bool | None:
    """Tells whether a crop leaves out a part of the panel that the question names.

    Args:
        sample: A page and its question, `number in column B, row 3?`.
        call: A call of `crop`.

    Returns:
        None where that cannot be told: the question names no panel, or what is cropped is not the page.
    """
    asked = re.search(r"column (\w+), row (\w+)\?", sample.question)
    column = sample.column_boxes.get(asked[1]) if asked else None
    row = sample.row_boxes.get(asked[2]) if asked else None
    if column is None or row is None or call.given["image"] != "image_1":
        return None
    panel = column[0], row[1], column[2], row[3]
    box, margin = call.given["box"], call.given.get("margin", 0)
    held = all(low - margin <= edge for low, edge in zip(box[:2], panel[:2], strict=True))
    return not (held and all(high + margin >= edge for high, edge in zip(box[2:], panel[2:], strict=True)))


CROP = define(crop, misuse=misses)
"""What the demo's student is offered."""
