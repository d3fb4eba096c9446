"""The data that the documents' commands name, small, under the paths that they name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from documented import DOCUMENTS, blocks
from fixtures.layouts import charxiv_subset, samples_of, tablevqa, vtool_charts, write_map, write_parquet
from report_runs import make_run, make_trace
from repositories import annotation, chartqa, tabfact, wtq

from iapo.data.synthetic import generate
from iapo.records import Sample
from iapo.training.files import CONFIGS
from iapo.training.settings import parse

CHECKPOINTS = CONFIGS.parent / "checkpoints"
SMALL = {
    "max_steps": 1,
    "per_device_train_batch_size": 8,
    "train_samples": 16,
    "eval_samples": 0,
    "case_study_steps": 0,
    "disable_tqdm": True,
}
RUNS = {
    "runs/demo": {"grpo": ("grpo", 0), "iapo": ("iapo", 0)},
    "runs/full": {"grpo/seed-0": ("grpo", 0), "grpo/seed-1": ("grpo", 1), "iapo/seed-0": ("iapo", 0)},
    "runs/mine": {".": ("iapo", 0)},
    "runs/other": {".": ("iapo", 1)},
    "runs/grpo": {".": ("grpo", 0)},
    "runs/iapo": {".": ("iapo", 0)},
}
"""Folders that the documents take as given: the runs in each, with their reward and seed."""


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


def named_files() -> Iterator[tuple[str, str]]:
    """Yields the documents' YAML examples whose first line is a name, `# NAME.yaml`, with their names."""
    for path in DOCUMENTS.values():
        for block in blocks(path):
            first = block.text.partition("\n")[0]
            if block.language == "yaml" and first.startswith("# ") and first.endswith(".yaml"):
                yield first.removeprefix("# "), block.text


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
    train[0].image.save(folder / "chart.png")
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
    wtq(folder / "WikiTableQuestions")
    for split in ("train", "test"):
        chartqa(folder / "ChartQA", {"one": annotation("v_bar"), "two": annotation("h_bar")}, split)
    (folder / "TabFact").mkdir()
    tabfact(folder / "TabFact", ("train", "test"))
    small = {
        config: yaml.safe_load((CONFIGS / f"{config}.yaml").read_text()) | SMALL
        for config in ("demo-iapo", "tiny-teacher")
    }
    (folder / "small-tiny-teacher.yaml").write_text(yaml.safe_dump(small["tiny-teacher"]))
    for name in ("mine", "my-run"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(small["demo-iapo"] | {"output_dir": f"runs/{name}"}))
    (ablation,) = (one.text for one in blocks(DOCUMENTS["docs/studies.md"]) if one.language == "yaml")
    (folder / "my-ablation.yaml").write_text(ablation)
    (prompt,) = (one.text for one in blocks(DOCUMENTS["docs/prompts.md"]) if one.language == "yaml")
    (folder / "my-prompt.yaml").write_text(prompt)
    for name, text in named_files():
        (folder / name).write_text(text)
    (folder / "none.json").write_text("{}")
    shutil.copytree(CHECKPOINTS / "tiny-student", folder / "runs/policies/mine")
    for teacher in ("tiny-teacher", "tiny-qwen3-vl-teacher"):
        shutil.copytree(CHECKPOINTS / teacher, folder / f"runs/tiny/{teacher}-protocol")


def give_runs(words: Iterable[str]) -> None:
    """Writes the runs of those words that are keys of `RUNS`, where no command before has made them."""
    for word in words:
        if word in RUNS and not Path(word).exists():
            for name, (reward, seed) in RUNS[word].items():
                write_finished(Path(word) / name, reward, seed)


def write_finished(path: Path, reward: str, seed: int) -> None:
    """A finished run of 20 steps: invented numbers, a real configuration, and the packaged student as its policies."""
    traces = [make_trace(number, step=10) for number in range(6)]
    make_run(path, traces, seed=seed, held_out=[make_trace(number, step=None) for number in range(4)])
    run, training = parse(f"demo-{reward}", ["--output_dir", str(path), "--seed", str(seed)])
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["config"] = {"run": dataclasses.asdict(run), "training": training.to_dict()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(CHECKPOINTS / "tiny-student", path / "checkpoint-10")
    (path / "checkpoint-10/trainer_state.json").touch()
    (path / "policy").symlink_to("checkpoint-10")
