"""Folders as in the repositories that data sets come from, with images and tables of our own making."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

SECRET = "LEAK"
"""Stands in what must never reach a prompt."""


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def write_chart(path: Path, size: tuple[int, int] = (200, 120)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for index in range(3):
        draw.rectangle((30 + 50 * index, 90 - 20 * index, 50 + 50 * index, 99), fill="blue")
    image.save(path)
    return path


def annotation(kind: str = "v_bar", **more: Any) -> dict[str, Any]:
    """Three categories, at 40, 90 and 140 across the image, or down it."""
    upright = kind != "h_bar"
    names, middles = ["A", "B, C", "D"], (40, 90, 140) if upright else (20, 50, 80)

    def box(middle: int, wide: int, start: int, deep: int) -> dict[str, float]:
        x, y, w, h = middle - wide / 2, start, wide, deep
        return {"x": x, "y": y, "w": w, "h": h} if upright else {"x": y, "y": x, "w": h, "h": w}

    labels = [box(middle, 12, 102 if upright else 4, 10) for middle in middles]
    bars = [box(middle, 20, 40 if upright else 30, 60) for middle in middles]
    return {
        "type": kind,
        "general_figure_info": {
            "figure_info": {"bbox": {"x": 20, "y": 5, "w": 150, "h": 95}},
            "x_axis": {"major_labels": {"values": names, "bboxes": labels}},
            "title": SECRET,
        },
        "models": [{"name": SECRET, "x": names, "y": [1, 2, 3], "bboxes": bars}],
        **more,
    }


def chartqa(root: Path, annotations: Mapping[str, Any] | None = None, split: str = "test") -> Path:
    """A split of ChartQA's release: two questions by people, one by a machine, about two charts."""
    folder = root / "ChartQA Dataset" / split
    for name in ("one.png", "two.png"):
        write_chart(folder / "png" / name)
        (folder / "tables").mkdir(exist_ok=True)
        (folder / "tables" / name.replace("png", "csv")).write_text(f"Year,{SECRET}\n2001,7\n")
    for stem, value in (annotations or {}).items():
        write_json(folder / "annotations" / f"{stem}.json", value)
    asked = [{"imgname": f"{name}.png", "query": f"What is A in {name}?", "label": "7"} for name in ("one", "two")]
    write_json(folder / f"{split}_human.json", asked)
    write_json(folder / f"{split}_augmented.json", [{"imgname": "one.png", "query": "How many?", "label": "3"}])
    return root


def charxiv(root: Path) -> Path:
    """CharXiv's repository: two figures, two reasoning questions and five descriptive ones."""
    for number in (0, 7):
        write_chart(root / "images" / f"{number}.jpg")
    more = {"inst_category": 1, "qa_source": 1}
    reasoning = {str(n): {"figure_id": n, "query": f"Which is larger in {n}?", "answer": "A", **more} for n in (0, 7)}
    write_json(root / "data" / "reasoning_val.json", reasoning)
    described = {
        "0": {"figure_id": 0, "num_subplots": 2, "subplot_loc": [1, 2], "qids": [7, 19], "answers": ["60", "2"]},
        "7": {
            "figure_id": 7,
            "num_subplots": 1,
            "subplot_loc": "the bottom plot",
            "qids": [1, 2, 3],
            "answers": ["Not Applicable", "x", "y"],
        },
    }
    write_json(root / "data" / "descriptive_val.json", described)
    write_json(root / "data" / "image_metadata_val.json", {"0": {"title": SECRET, "year": 2001}})
    return root


TABLE = [
    ["Year", "Team", "Team"],
    ["1999", "Ajax", "PSV"],
    ["2001", "", "a long, long name of a team"],
    ["2001", "", ""],
]


def wtq(root: Path) -> Path:
    """WikiTableQuestions' repository: two training questions about one table, one of a random split."""
    text = "\n".join(",".join('"' + cell.replace('"', '\\"') + '"' for cell in line) for line in TABLE)
    (root / "csv" / "200-csv").mkdir(parents=True)
    (root / "csv" / "200-csv" / "0.csv").write_text(text + "\n")
    (root / "csv" / "200-csv" / "0.tsv").write_text("Year\tTeam\n1999\tAjax\n")
    (root / "data").mkdir()
    head = "id\tutterance\tcontext\ttargetValue"
    lines = [
        "nt-0\twhich team won in 1999?\tcsv/200-csv/0.csv\tAjax|PSV",
        "nt-1\twhat is a\\pb?\tcsv/200-csv/0.csv\tx\\py",
    ]
    (root / "data" / "training.tsv").write_text("\n".join([head, *lines]) + "\n")
    (root / "data" / "random-split-1-train.tsv").write_text("\n".join([head, lines[0]]) + "\n")
    (root / "data" / "training.examples").write_text(f"(example (id {SECRET}))")
    return root


def tabfact(root: Path, splits: Sequence[str] = ("val",)) -> Path:
    """TabFact's repository: three statements about a table of each split."""
    (root / "data" / "all_csv").mkdir(parents=True)
    statements = ["ajax won in #1999;1,0#", "psv won in 2001", "the year be 2001"]
    for number, split in enumerate(splits, start=1):
        table = f"1-{number}.html.csv"
        (root / "data" / "all_csv" / table).write_text("\n".join("#".join(line) for line in TABLE) + "\n")
        write_json(root / "tokenized_data" / f"{split}_examples.json", {table: [statements, [1, 0, 1], "winners"]})
        write_json(root / "data" / f"{split}_id.json", [table])
    write_json(root / "tokenized_data" / "full_cleaned.json", {"1-1.html.csv": [statements, [1, 0, 1], [SECRET], "x"]})
    return root


def refocus(root: Path, boxes: Sequence[Sequence[float]]) -> Path:
    """A folder of ReFocus: one upright and one lying bar chart with the same boxes, beside ChartQA's own files."""
    chartqa(root / "ChartQA")
    image = "ChartQA/ChartQA Dataset/test/png/one.png"
    rows = []
    for kind, axis in (("v_bar", "x"), ("h_bar", "y")):
        row: dict[str, Any] = {"id": kind, "question": "What is A?", "answer": "7", "image": image}
        row |= {"source": f"chartqa_{kind}", "split": "test", "thoughts": [SECRET], "edited_image": SECRET}
        for side in "xy":
            named = [dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) for box in boxes] if side == axis else []
            row |= {f"{side}_values_bbox": named, f"{side}_values": [f"bar {n}" for n in range(len(named))]}
        rows.append(row)
    path = root / "chartqa_vcot" / "test.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, rows)))
    return root


def cells(root: Path) -> Path:
    """A drawn table with the boxes of its cells: a title, a header, two rows."""
    write_chart(root / "t.png", (300, 200))
    grid = [[0, 0, 1, 2, 10, 10, 210, 30, "Results"]]
    for line, texts in enumerate((["Year", "Won"], ["1999", "7"], ["2001", "8"]), start=1):
        grid += [[line, c, 1, 1, 10 + 100 * c, 10 + 20 * line, 110 + 100 * c, 30 + 20 * line, texts[c]] for c in (0, 1)]
    write_json(root / "t.cells.json", {"cells": grid})
    write_json(root / "questions.json", [{"qa_id": "q", "question": "who?", "gt": 1, "picture": "t.png"}])
    return root
