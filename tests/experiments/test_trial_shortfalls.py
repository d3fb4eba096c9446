"""Empty and cut-off turns in trials: told beside the table, a row's seeds together."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from pretended import Pretended

from iapo.experiments import compare
from iapo.experiments.compare import Comparison
from iapo.experiments.processes import Job

SMALL = Comparison(methods=("grpo", "iapo"), seeds=(0, 1), samples=2)


class Short(Pretended):
    """Processes whose rollouts of GRPO have empty turns, half of those of seed 0 alone."""

    def __call__(self, jobs: Sequence[Job], together: int) -> None:
        super().__call__(jobs, together)
        for job in jobs:
            path = job.log.parent / "evaluation" / "evaluation.json"
            found = json.loads(path.read_text())
            if job.name == "grpo, seed 0":
                share = {"value": 0.5, "low": 0.1, "high": 0.9, "count": 2}
                found["sets"]["vbar"] |= {"empty_turn": share, "cut_turn": share}
            path.write_text(json.dumps(found))


@pytest.mark.filterwarnings("error")
def test_a_comparison_tells_of_empty_and_cut_off_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "run_comparison", functools.partial(compare.run_comparison, run=Short()))
    compare.compare(SMALL, tmp_path / "out", together=1, more_rows={})
    told = [line for line in capsys.readouterr().out.splitlines() if "rollouts have" in line]
    assert told == [
        "grpo, vbar: 1 of 4 rollouts have an empty turn, which is measured as what the model said; look at "
        "traces.jsonl",
        "grpo, vbar: 1 of 4 rollouts have a turn that was cut off at its longest, before the model ended it; "
        "raise max_turn_tokens, in a new folder",
    ]
