"""`iapo demo --controls`: the runs that it adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from iapo.experiments import demo
from iapo.experiments.processes import Job
from iapo.training.settings import parse


class StoppedError(Exception):
    """Ends the demo where its processes would start."""


@pytest.mark.parametrize(("controls", "count"), [(False, 2), (True, 6)])
def test_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controls: bool, count: int) -> None:
    seen: list[Job] = []

    def stop(jobs: Sequence[Job], together: int) -> None:
        seen.extend(jobs)
        raise StoppedError

    monkeypatch.setattr(demo, "run_jobs", stop)
    with pytest.raises(StoppedError):
        demo.run_demo(tmp_path / "runs", steps=None, seed=0, controls=controls)
    assert len(seen) == count
    assert len({str(job.log.parent) for job in seen}) == count
    assert [job.name for job in seen[:2]] == ["GRPO", "IAPO"]


def test_each_control_is_another_training() -> None:
    base = {"output_dir": "unused", "seed": 0}
    _, iapo = parse("demo-iapo", base)
    told = ("reward", "alignment_control", "attribution_form", "attribution_target", "teacher_reference")
    found = {name: parse("demo-iapo", {**base, **one.settings})[1] for name, one in demo.CONTROLS.items()}
    values = {name: tuple(getattr(one, key) for key in told) for name, one in found.items()}
    assert len({*values.values(), tuple(getattr(iapo, key) for key in told)}) == 5
    assert (iapo.attribution_target, iapo.teacher_reference) == ("name", "own_call")
    assert (found["softmax"].attribution_target, found["softmax"].teacher_reference) == ("call", "student_call")
    shared = ("max_steps", "learning_rate", "penalty_weight", "penalty_decay", "per_device_train_batch_size")
    for one in (found["softmax"], found["IAPO, student shuffled"]):
        assert [getattr(one, key) for key in shared] == [getattr(iapo, key) for key in shared]


def test_a_folder_that_holds_a_control_is_taken(tmp_path: Path) -> None:
    (tmp_path / "distill").mkdir()
    with pytest.raises(ValueError, match="distill already exists"):
        demo.run_demo(tmp_path, steps=1, seed=0, controls=True)
