"""The data that the documents' commands name, small, under the paths that they name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from fixtures.layouts import charxiv_subset, samples_of, tablevqa, vtool_charts, write_map, write_parquet

from iapo.records import Sample
from iapo.tasks.synthetic import generate
from iapo.training import CONFIGS

SMALL = {"max_steps": 1, "per_device_train_batch_size": 8, "train_samples": 16, "eval_samples": 2, "disable_tqdm": True}


def write_own(samples: list[Sample], folder: Path, split: str) -> None:
    """A folder of pictures and a JSONL file, as docs/data.md has it."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with (folder / f"{split}.jsonl").open("w") as file:
        for index, sample in enumerate(samples):
            name = f"pictures/{split}-{index}.png"
            sample.image.save(folder / name)
            boxes = {"column_boxes": dict(sample.column_boxes), "row_boxes": dict(sample.row_boxes)}
            row = {"image": name, "question": sample.question, "answer": sample.answers[0], "axis": sample.axis}
            file.write(json.dumps(row | boxes) + "\n")


def lay_out(folder: Path) -> None:
    """Writes all of it."""
    train, test = (
        [sample for family in ("vbar", "hbar") for sample in generate(family, 8, seed=3, split=split)]
        for split in ("train", "test")
    )
    for name in ("FOLDER", "charts"):
        write_own(train, folder / name, "train")
        write_own(test, folder / name, "test")
    write_own(train, folder / "PATH", "train")
    for name in ("data/refocus", "data/tables", "refocus/data", "VTOOL/Refocus_Chart"):
        (folder / name).mkdir(parents=True)
    write_map(charxiv_subset(train[:4]), folder / "data/refocus/charxiv-subfigures.json")
    write_parquet(tablevqa(samples_of("vwtq")), folder / "data/tables/vwtq-00000-of-00001.parquet")
    write_parquet(vtool_charts(test), folder / "data/charts.parquet")
    write_parquet(vtool_charts(train), folder / "VTOOL/Refocus_Chart/train.parquet")
    write_parquet(vtool_charts(train), folder / "train_full.parquet")
    write_parquet(vtool_charts(test), folder / "test_full.parquet")
    write_parquet(tablevqa(samples_of("vwtq")), folder / "refocus/data/vwtq-00000-of-00001.parquet")
    write_parquet(vtool_charts(samples_of("hbar")), folder / "refocus/data/chartQA_h_bar_wbb.parquet")
    settings = yaml.safe_load((CONFIGS / "demo-iapo.yaml").read_text()) | SMALL
    for name in ("mine", "my-run"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings | {"output_dir": f"runs/{name}"}))
    shutil.copytree(Path(CONFIGS).parent / "checkpoints/tiny-student", folder / "runs/policies/mine")
