"""Runs command lines, one after the other, as far as to their heavy imports: those count as having been accepted.

Reads one JSON list of words a line; answers with the exit code (or what happened in its place) and what was said.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import io
import json
import resource
import signal
import sys
import traceback
from typing import Any, NoReturn

from iapo.cli.main import main

SECONDS = 3
HEAVY = ("torch", "transformers", "trl", "vllm", "datasets", "matplotlib", "uvicorn")


class Accepted(BaseException):
    """The line was not refused, and work begins."""


class Refuses(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in HEAVY:
            raise Accepted


def stop(number: int, frame: Any) -> NoReturn:
    raise Accepted


def outcome(words: list[str]) -> tuple[int | str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            main(words)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else repr(end.code), err.getvalue()
        except Accepted:
            return "accepted", ""
        except BaseException:  # noqa: BLE001 - told to the one who asked
            return "raised", traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return "returned", ""


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**26,) * 2)
    sys.meta_path.insert(0, Refuses())
    signal.signal(signal.SIGALRM, stop)
    answers = sys.stdout
    print(json.dumps([]), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(outcome(json.loads(line))), file=answers, flush=True)
