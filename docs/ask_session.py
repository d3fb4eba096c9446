"""Records the session with `iapo ask` that docs/using.md shows: python docs/ask_session.py

Writes docs/images/ask-session.svg: the commands, run here with the packaged models, and all that they print.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from iapo.data.synthetic import generate

TARGET = Path(__file__).parent / "images" / "ask-session.svg"
COMMANDS = (
    'iapo ask chart.png "value of H?" --model tiny-student --boxes boxes.json --attribution',
    'iapo ask chart.png "value of H?" --model tiny-teacher --boxes boxes.json',
)
WIDTH = 92
# Without the fonts that it would fetch: where it is shown as an image, none is.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def record(folder: Path) -> list[tuple[str, str]]:
    """Runs the commands in a folder with the chart that docs/using.md makes; returns each with what it prints."""
    sample = next(iter(generate("hbar", 1, seed=0, question_types=("value",), split="test")))
    sample.image.save(folder / "chart.png")
    boxes = {"column_boxes": dict(sample.column_boxes), "row_boxes": dict(sample.row_boxes)}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    found = []
    for command in COMMANDS:
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(words, cwd=folder, env={**os.environ, "COLUMNS": str(WIDTH)}, capture_output=True)
        if done.returncode:
            raise SystemExit(f"{command} ends with {done.returncode}: {done.stderr.decode()}")
        found.append((command, done.stdout.decode()))
    return found


def draw(session: list[tuple[str, str]]) -> str:
    """Draws a session as a terminal shows it, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    for place, (command, printed) in enumerate(session):
        if place:
            console.print()
        console.print(Text(f"$ {command}", style="bold green"))
        console.print(Text(printed.rstrip("\n")))
    return console.export_svg(title="iapo ask", code_format=FORMAT, unique_id="ask")


def main() -> None:
    """Writes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(record(Path(folder)))
    TARGET.write_text(drawn)
    print(f"{TARGET} {len(drawn.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
