"""Runs the fuzzers guided by coverage: inputs that reach new branches of iapo are kept, and others are made of them.

    PYTHONPATH=tests:tests/data python tests/fuzz/guided.py MINUTES

The minutes are shared equally among the fuzzers, each of which runs in a process of its own: Atheris, which is
libFuzzer, with the inputs that Hypothesis makes of its bytes. What fails ends its fuzzer, is printed, and is kept in
`.hypothesis`, where `make fuzz` tries it first and makes it smaller. Branches are those of iapo's own code in the
fuzzer's process.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from processes import run

HERE = Path(__file__).parent
CORPUS = Path(".hypothesis/guided")
FAILED = 77
"""Exit code of Atheris where a check raised."""

ELSEWHERE = ("test_fuzz_lines",)
"""Modules whose inputs run in another process, the branches of which are not seen."""


def guide(module: str, name: str, seconds: int) -> None:
    """Runs one fuzzer in this process, and ends the process."""
    import atheris

    with atheris.instrument_imports(include=["iapo"]):
        import_module(module)
    from fuzzing import FUZZERS, LARGE

    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        test = LARGE(FUZZERS[name](Path(folder)))
        options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-max_len=8192", "-len_control=0"]
        # Limits of time are the checks' own, and limits of memory would count torch.
        options += ["-timeout=300", "-rss_limit_mb=0", f"-artifact_prefix={corpus}-"]
        atheris.Setup([sys.argv[0], str(corpus), *options], test.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
        atheris.Fuzz()


def found() -> list[tuple[str, str]]:
    """Lists the fuzzers: their modules and their checks' names."""
    names = []
    for path in sorted(path for path in HERE.glob("test_fuzz_*.py") if path.stem not in ELSEWHERE):
        names += [(path.stem, name) for name in re.findall(r"^@fuzz\(.*?^def (\w+)", path.read_text(), re.M | re.S)]
    return names


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(minutes: float) -> int:
    """Runs all fuzzers, and prints what each tried and reached; returns 1 where an outcome was bad."""
    fuzzers, bad = found(), 0
    for module, name in fuzzers:
        seconds = max(1, round(60 * minutes / len(fuzzers)))
        words = [sys.executable, __file__, module, name, str(seconds)]
        done = run(words, timeout=seconds + 600)
        tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+)", done.stderr)
        bad += done.returncode != 0
        end = {0: "", FAILED: ", a bad outcome"}.get(done.returncode, f", ended with {done.returncode}")
        branches = " to ".join(reached[:1] + reached[-1:])
        _say(f"{name:<36} {int(tried[1]) if tried else 0:>9,} inputs, branches {branches}{end}")
        if done.returncode:
            _say(done.stderr[-4000:])
    return int(bad > 0)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        sys.exit(main(float(sys.argv[1])))
    guide(sys.argv[1], sys.argv[2], int(sys.argv[3]))
