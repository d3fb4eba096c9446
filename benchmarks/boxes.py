"""Precision and recall of the box finder on synthetic pictures, whose boxes are known.

    python benchmarks/boxes.py [--count 20] [--sizes 300 500 1000] [--seed 0] [--jpeg 0] [--json FILE]

A found box is right where it overlaps a true box of its axis that no other found box has taken, by an intersection
over union of 0.7 or more. Precision is the share of found boxes that are right, recall the share of true boxes that
are found; "whole" is the share of pictures in which every box of both axes is right and none is missing. Of `charxiv`,
line and scatter panels, nothing can be found: every found box there is wrong. Names are not compared: found ones are
places.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from iapo.data.boxes import find_boxes
from iapo.data.synthetic import generate
from iapo.records import Box

FAMILIES = ("vbar", "hbar", "vwtq", "vwtq_syn", "charxiv")
OVERLAP = 0.7


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def right(found: Mapping[str, Box], true: Mapping[str, Box]) -> int:
    """How many found boxes match true ones, each one once."""
    left = list(true.values())
    count = 0
    for box in found.values():
        best = max(left, key=lambda other: overlap(box, other), default=None)
        if best is not None and overlap(box, best) >= OVERLAP:
            left.remove(best)
            count += 1
    return count


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """The picture as JPEG of that quality."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)


def measure(family: str, count: int, size: int, seed: int, jpeg: int) -> dict[str, float | int | str]:
    """Counts of one family and size."""
    row: dict[str, float | int | str] = {"family": family, "size": size, "pictures": count}
    totals = dict.fromkeys(
        ("columns_right", "columns_found", "columns_true", "rows_right", "rows_found", "rows_true"), 0
    )
    whole, none, seconds = 0, 0, 0.0
    for sample in generate(family, count, seed=seed, size=size, split="validation"):
        image = compressed(sample.image, jpeg) if jpeg else sample.image
        start = time.process_time()
        found = find_boxes(image, sample.kind)
        seconds += time.process_time() - start
        none += bool(found.reason)
        # Nothing in a line or scatter panel is a bar, though the sample has boxes of another sort.
        truth = {"columns": sample.column_boxes, "rows": sample.row_boxes}
        if family == "charxiv":
            truth = {"columns": {}, "rows": {}}
        perfect = True
        for axis, boxes in (("columns", found.column_boxes), ("rows", found.row_boxes)):
            good = right(boxes, truth[axis])
            totals[f"{axis}_right"] += good
            totals[f"{axis}_found"] += len(boxes)
            totals[f"{axis}_true"] += len(truth[axis])
            perfect &= good == len(boxes) == len(truth[axis])
        whole += perfect
    return row | totals | {"whole": whole, "none": none, "ms": 1000 * seconds / count}


def share(part: float, whole: float) -> str:
    """A ratio with two digits, or a dash."""
    return f"{part / whole:.2f}" if whole else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 500, 1000])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jpeg", type=int, default=0, help="compress the pictures with this quality first")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = Table(title=f"boxes with IoU >= {OVERLAP}")
    headings = ("family", "size", "pictures", "columns: precision", "recall", "rows: precision", "recall", "whole")
    for heading in (*headings, "none found", "CPU ms"):
        table.add_column(heading)
    rows = []
    for family in arguments.families:
        for size in arguments.sizes:
            row = measure(family, arguments.count, size, arguments.seed, arguments.jpeg)
            rows.append(row)
            cells = [
                share(row[f"{axis}_right"], row[f"{axis}_{of}"])
                for axis in ("columns", "rows")
                for of in ("found", "true")
            ]
            count = row["pictures"]
            table.add_row(
                family, str(size), str(count), *cells, share(row["whole"], count), str(row["none"]), f"{row['ms']:.0f}"
            )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
