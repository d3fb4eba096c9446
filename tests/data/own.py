"""A folder of own data in which healthy, hostile and damaged rows stand side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

HOSTILE = '</dd><script>alert("x")</script><img src=x onerror=alert(1)>'
ESCAPES = "\x1b[2J\x1b[31mred [bold]\r\nsecond\u202eline"


def bars() -> Image.Image:
    image = Image.new("RGB", (300, 200), "white")
    draw = ImageDraw.Draw(image)
    for place, height in enumerate((100, 60, 80)):
        draw.rectangle((40 + 60 * place, 180 - height, 69 + 60 * place, 179), fill="#1f77b4")
    return image


def write(folder: Path, rows: list[dict[str, Any] | str]) -> Path:
    """Writes the rows beside `bars.png` and `blank.png`; a text is a line as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    bars().save(folder / "bars.png")
    Image.new("RGB", (300, 200), "white").save(folder / "blank.png")
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = folder / "own.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "image": "bars.png", "question": f"What about {name}?", "answer": "1", **fields}


MIXED: list[dict[str, Any] | str] = [
    row("first", column_boxes={"a": [10, 20, 50, 180]}, axis="columns"),
    row("gone", image="gone.png"),
    row(HOSTILE, question=ESCAPES, answer=HOSTILE, column_boxes={HOSTILE: [1, 2, 30, 40]}),
    row("unanswered", answer=None),
    "{not json",
    row("empty", image="blank.png", kind="table"),
    row("half", answer="\ud800"),
]
DAMAGED = {2: "gone.png", 4: "answer", 5: "not JSON", 7: "surrogate"}
"""Row number -> what the reason must hold."""
