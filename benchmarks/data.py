"""Throughput and memory of `iapo data convert`, which must not depend on the number of rows.

    python benchmarks/data.py [--rows 1000 10000] [--size 300] [--find-boxes] [--json FILE]

For each number of rows it writes a VTool-R1 parquet and a folder of own data (JSONL beside pictures), in which every
100th row is damaged, and converts each in a process of its own. There are 100 different pictures, each under many ids:
a picture is decoded and written anew in each row. CPU is user and system seconds of the process after its imports; the
peak memory is the largest resident set of the process, imports included (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from iapo.data.pictures import encode_picture
from iapo.data.synthetic import generate
from iapo.records import Sample

SOURCES = ("vtool", "own")
PICTURES = 100
EDGES = ("x1", "y1", "x2", "y2")


def vtool_rows(samples: list[Sample], pictures: list[bytes], count: int) -> Iterator[dict[str, Any]]:
    """Rows as VTool-R1 has them, metadata as a JSON string."""
    for index in range(count):
        sample = samples[index % PICTURES]
        boxes = {name: dict(zip(EDGES, box, strict=True)) for name, box in sample.column_boxes.items()}
        metadata = {"type": "v_bar", "figure_bbox": {}, "x_values_bbox": boxes, "y_values_bbox": {}}
        yield {
            "metadata": json.dumps(metadata),
            "figure_id": str(index),
            "figure_path": f"{index}.png",
            "query": sample.question,
            "prompt": sample.question,
            "answer": "" if index % 100 == 99 else sample.answers[0],
            "images": [pictures[index % PICTURES]],
        }


def write_source(kind: str, count: int, size: int, folder: Path) -> Path:
    """Writes the data to convert."""
    samples = list(generate("vbar", PICTURES, seed=0, size=size))
    pictures = [encode_picture(sample.image) for sample in samples]
    if kind == "vtool":
        path = folder / f"vtool-{count}.parquet"
        writer = None
        group: list[dict[str, Any]] = []
        for row in vtool_rows(samples, pictures, count):
            group.append(row)
            if len(group) == 100 or row["figure_id"] == str(count - 1):
                table = pa.Table.from_pylist(group)
                writer = writer or pq.ParquetWriter(path, table.schema)
                writer.write_table(table)
                group = []
        if writer is not None:
            writer.close()
        return path
    path = folder / f"own-{count}.jsonl"
    for index, picture in enumerate(pictures):
        (folder / f"{index}.png").write_bytes(picture)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            sample = samples[index % PICTURES]
            row = {"id": str(index), "image": f"{index % PICTURES}.png", "question": sample.question}
            row["answer"] = "" if index % 100 == 99 else sample.answers[0]
            file.write(json.dumps(row) + "\n")
    return path


def peak_mib() -> float:
    """Largest resident set of this process so far; `getrusage` would count what its parent had before `exec`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def child(source: str, out: str, find_boxes: bool) -> None:
    """Converts and prints what it cost."""
    from iapo.data.convert import convert

    imported = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    done = convert(source, Path(out), find_boxes=find_boxes)
    cost = {
        "samples": done.samples,
        "damaged": done.damaged,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "imports_mib": imported,
        "peak_mib": peak_mib(),
    }
    sys.stdout.write(json.dumps(cost) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--size", type=int, default=300, help="of the pictures, in pixels")
    parser.add_argument("--find-boxes", action="store_true")
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.find_boxes)
        return
    table = Table(title=f"iapo data convert, pictures of {arguments.size} pixels")
    for heading in ("source", "rows", "written", "damaged", "rows / CPU second", "rows / second", "peak MiB"):
        table.add_column(heading)
    results = []
    for kind in arguments.sources:
        for count in arguments.rows:
            with tempfile.TemporaryDirectory() as folder:
                source = write_source(kind, count, arguments.size, Path(folder))
                command = [sys.executable, __file__, "--child", str(source), str(Path(folder, "out.parquet"))]
                command += ["--find-boxes"] if arguments.find_boxes else []
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                cost = json.loads(done.stdout)
            results.append({"source": kind, "rows": count, **cost})
            speeds = (f"{count / cost[key]:.0f}" for key in ("cpu", "wall"))
            peak = f"{cost['peak_mib']:.0f} ({cost['imports_mib']:.0f} after imports)"
            table.add_row(kind, str(count), str(cost["samples"]), str(cost["damaged"]), *speeds, peak)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
