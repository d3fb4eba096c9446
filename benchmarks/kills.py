"""Kills runs at random moments and while they write, starts the same command again, and compares the end with that of a
run that nobody killed: docs/resuming.md has the table.

    python benchmarks/kills.py [--verbs train lora sft ...] [--kills 20] [--seed 0] [--json FILE]

Of three kills one is SIGTERM and two are SIGKILL; every second SIGKILL waits until a file or a checkpoint is being
written. A run that ends before its kill is compared and begun anew. All verbs with 20 kills take about an hour and a
half on two cores. It exits with 1 if a run ends otherwise than the one that was not killed, or a child outlives it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

STEPS = [
    *("train", "--config", "demo-iapo", "--max_steps", "6", "--per_device_train_batch_size", "16"),
    *("--eval_samples", "8", "--case_study_steps", "2", "--case_study_samples", "8"),
    *("--save_strategy", "steps", "--save_steps", "1", "--trace_every", "1", "--traces_per_step", "2"),
]
TRAIN = [*STEPS, "--train_samples", "64"]
VERBS: dict[str, list[str]] = {
    "train": [*TRAIN, "--output_dir", "{out}"],
    "lora": [*TRAIN, "--use_peft", "--learning_rate", "1e-3", "--output_dir", "{out}"],
    "iterations": [*TRAIN, "--num_iterations", "2", "--logging_steps", "4", "--output_dir", "{out}"],
    # Two steps an epoch.
    "epochs": [*STEPS, "--train_samples", "4", "--output_dir", "{out}"],
    "sft": [
        *("sft", "--model", "tiny-student", "--transcripts", "{inputs}/teacher", "--keep", "all", "--max_steps", "20"),
        *("--per_device_train_batch_size", "4", "--logging_steps", "1", "--save_strategy", "steps"),
        *("--save_steps", "5", "--use_cpu", "true", "--bf16", "false", "--output_dir", "{out}"),
    ],
    "evaluate": [
        *("evaluate", "--model", "tiny-student", "--sets", "vbar,hbar", "--question-types", "value", "--samples", "48"),
        *("--batch-size", "4", "--temperature", "1", "--repeats", "2", "--max-turn-tokens", "24", "--out", "{out}"),
    ],
    "compare": [
        *("compare", "--methods", "grpo,iapo", "--seeds", "0", "--max_steps", "4", "--per_device_train_batch_size"),
        *("16", "--train_samples", "64", "--save_steps", "1", "--samples", "8", "--out", "{out}"),
    ],
    "teacher": [
        *("teacher", "attribute", "--config", "demo-iapo", "--model", "tiny-teacher", "--train_samples", "192"),
        *("--attribution_batch_size", "8", "--out", "{out}/table.parquet"),
    ],
    "tiny": ["tiny", "build", "--model", "tiny-teacher", "--stage", "sight", "--scale", "0.02", "--out", "{out}"],
}
# What differs between two runs of one thing: times and places, and how long steps took.
VOLATILE = ("time/", "seconds", "output_dir", "run", "threads", "since", "commit", "train_runtime", "model")
FORMS = (".jsonl", ".json", ".safetensors", ".parquet", ".csv", ".txt")
# What a verb writes last, which refuses to begin where it is there.
DONE = ("finished.json", "table.parquet")
SKIPPED = ("log.txt", "job.json", "times.json", "manifest.json", "trainer_state.json", "comparison.json", "build.json")


@dataclass
class Tally:
    """What became of one verb's kills."""

    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    ends: int = 0
    same: int = 0
    differing: list[str] = field(default_factory=list)
    outlived: int = 0


def main() -> None:
    """Runs the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", nargs="+", choices=[*VERBS], default=[*VERBS])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name) / "inputs"
        if "sft" in asked.verbs:
            words = ["evaluate", "--model", "tiny-teacher", "--sets", "vbar", "--samples", "40", "--question-types"]
            subprocess.run(command([*words, "value", "--out", str(inputs / "teacher")]), check=True, stdout=-3)
        for verb in asked.verbs:
            tally = harass(verb, Path(name) / verb, inputs, asked.kills, random.Random(f"{asked.seed} {verb}"))
            killed = ", ".join(f"{count} {how}" for how, count in sorted(tally.kills.items()))
            print(
                f"{verb:10s} {killed}; exit codes {dict(tally.codes)}; {tally.same} of {tally.ends} ends as without "
                f"kills; {tally.outlived} children outlived theirs; differing: {tally.differing}",
                flush=True,
            )
            found[verb] = tally.__dict__
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(any(one["same"] < one["ends"] or one["outlived"] for one in found.values()))


def command(words: Sequence[str]) -> list[str]:
    """Returns the command line of a verb."""
    return [sys.executable, "-m", "iapo", *words]


def harass(verb: str, folder: Path, inputs: Path, kills: int, rng: random.Random) -> Tally:
    """Kills a verb so many times."""
    tally, whole, out = Tally(), folder / "whole", folder / "killed"
    words = lambda place: command([word.format(out=place, inputs=inputs) for word in VERBS[verb]])  # noqa: E731
    folder.mkdir(parents=True)
    begun = time.monotonic()
    with (folder / "whole.log").open("wb") as log:
        subprocess.run(words(whole), check=True, stdout=log, stderr=log)
    seconds, wanted = time.monotonic() - begun, contents(whole)
    count = 0
    while count < kills:
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(words(out), stdout=log, stderr=log, start_new_session=True)
        how = ("SIGTERM", "SIGKILL", "SIGKILL while writing")[count % 3]
        wait(process, out, rng.uniform(0.0, 0.7 * seconds), "writing" in how)
        if (code := process.poll()) is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
            code = process.wait(180)
            tally.kills[how] += 1
            count += 1
            _, alive = psutil.wait_procs(children, 90)
            tally.outlived += len(alive)
            if how == "SIGTERM":
                tally.codes[str(code)] += 1
            # In its last moments, it may have ended.
            if code != 0 and not any((out / name).exists() for name in DONE):
                continue
            code = 0
        settle(code, wanted, out, tally)
    if out.exists():
        with (folder / "log.txt").open("ab") as log:
            code = subprocess.run(words(out), stdout=log, stderr=log, check=False).returncode
        settle(code, wanted, out, tally)
    if tally.differing:
        print((folder / "log.txt").read_text()[-3000:], file=sys.stderr)
    return tally


def wait(process: subprocess.Popen[bytes], out: Path, seconds: float, writing: bool) -> None:
    """Waits for so long, and then, if asked, until something is being written."""
    end, most = time.monotonic() + seconds, time.monotonic() + seconds + 20
    before = set(out.rglob("checkpoint-*"))
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    if not writing:
        return
    while process.poll() is None and time.monotonic() < most:
        if any(out.rglob("*.part")) or set(out.rglob("checkpoint-*")) - before:
            return
        time.sleep(0.001)


def settle(code: int, wanted: dict[str, str], out: Path, tally: Tally) -> None:
    """Compares what a run that ended left, and removes it."""
    tally.ends += 1
    found = contents(out)
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    tally.same += code == 0 and not differing
    tally.differing += [f"exit code {code}"] * (code != 0) + differing
    keep = os.environ.get("KEEP")
    if keep and (differing or code):
        shutil.copytree(out, Path(keep) / f"{tally.ends}", dirs_exist_ok=True)
    shutil.rmtree(out)


def contents(folder: Path) -> dict[str, str]:
    """Returns a digest of each result in a folder; records without what no two runs share."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix not in FORMS or path.name in SKIPPED or any(part.startswith("checkpoint-") for part in parts):
            continue
        content = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            texts = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
            content = json.dumps([stable(json.loads(text)) for text in texts]).encode()
        found["/".join(parts)] = hashlib.sha256(content).hexdigest()
    return found


def stable(value: Any) -> Any:
    """Returns a record without what no two runs share."""
    if isinstance(value, dict):
        return {key: stable(one) for key, one in value.items() if not key.startswith(VOLATILE)}
    return [stable(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
