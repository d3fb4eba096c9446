"""How long the command line takes to answer: help and refusals, as ratios to an empty process of Python.

    python benchmarks/cli.py [--repeats 15] [--json FILE]

Wall-clock seconds of whole processes, started in turn, so that other work on the machine meets all alike; medians.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

EMPTY = "python empty.py"

LINES = {
    "--help": 0,
    "train --help": 0,
    "evaluate --help": 0,
    "study ablate --help": 0,
    "trian": 2,
    "train --config demo-iapo --learning_rat 1": 2,
    "evaluate --model tiny-student --out x --sets pie": 2,
    "compare --out x --methods grpo,ipo": 2,
    "train --config demo-iapo --save_strategy sometimes": 2,
}
"""Words after `iapo`, and their exit code."""


def seconds(command: list[str], folder: str, code: int) -> float:
    """Runs a process to its end."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    taken = time.perf_counter() - started
    if done.returncode != code:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr}")
    return taken


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    script = Path(sys.executable).with_name("iapo")
    commands: dict[str, tuple[list[str], int]] = {}
    starts = {"python -m iapo": [sys.executable, "-m", "iapo"]}
    if script.exists() or shutil.which("iapo"):
        starts["iapo"] = [str(script) if script.exists() else "iapo"]
    for line, code in LINES.items():
        for name, start in starts.items():
            # The console script adds nothing but its own start, which one line shows.
            if name == "python -m iapo" or line == "--help":
                commands[f"{name} {line}"] = ([*start, *line.split()], code)
    taken: dict[str, list[float]] = {name: [] for name in (EMPTY, *commands)}
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder, "empty.py")
        nothing.touch()
        commands[EMPTY] = ([sys.executable, str(nothing)], 0)
        for _ in range(arguments.repeats + 1):
            for name, (command, code) in commands.items():
                taken[name].append(seconds(command, folder, code))
    # The first round fills the caches of the file system.
    medians = {name: statistics.median(some[1:]) for name, some in taken.items()}
    table = Table(title=f"medians of {arguments.repeats}")
    for heading in ("", "seconds", "/ empty"):
        table.add_column(heading)
    empty = medians[EMPTY]
    for name, value in medians.items():
        table.add_row(name, f"{value:.3f}", f"{value / empty:.1f}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=1) + "\n")


if __name__ == "__main__":
    main()
