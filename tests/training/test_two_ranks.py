"""What two processes must do together: stop where one of them finds NaN, draw groups anew, go on from a checkpoint.

The processes are started once for all of it. `make engine` has the same under FSDP2, killed in the middle.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import run as run_process
from two_ranks import check_drawn, check_gradient, check_skipped

HERE = Path(__file__).parent
LAUNCHED = HERE.parent / "launched.py"
SETTINGS = {"optim": "sgd", "learning_rate": 0.05}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    trainings = [
        "stop",
        "skip",
        "skipped",
        "gradient_stops",
        "drawn_anew",
        "shared_groups",
        "gone_on",
        "sharded_teacher",
        "stopped_late",
        "begun_again",
    ]
    options = {"settings": {**SETTINGS, "per_device_train_batch_size": 8}, "trainings": trainings}
    words = [str(LAUNCHED), "2", str(HERE / "two_ranks.py"), str(folder), json.dumps(options)]
    done = run_process([sys.executable, *words], timeout=280, fork=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return folder


@pytest.fixture(scope="module")
def told(out: Path) -> list[dict[str, Any]]:
    return [json.loads((out / f"told-{rank}.json").read_text()) for rank in range(2)]


pytestmark = [pytest.mark.slow(3), pytest.mark.timeout(300)]


def test_all_stop_where_one_finds_nan(out: Path, told: list[dict[str, Any]]) -> None:
    first, second = (one["stop"] for one in told)
    assert second["sentence"].startswith("step 2: the reward reward is not finite; the step was not taken")
    assert first["sentence"] == f"process 1 found: {second['sentence']}"
    assert (first["step"], second["step"]) == (1, 1)
    assert first["sum"] == second["sum"]
    (evidence,) = (out / "stop" / "run" / "nonfinite").iterdir()
    assert evidence.name == "step-2-the-reward-reward-rank-1.json"
    assert json.loads(evidence.read_text())["rollouts"][-1]["values"] == ["nan"]
    # Nothing of the step that was not taken stays.
    rows = (out / "stop" / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1]


def test_all_skip_where_one_finds_nan(told: list[dict[str, Any]]) -> None:
    first, second = (one["skip"] for one in told)
    assert (first["step"], second["step"]) == (3, 3)
    assert first["sum"] == second["sum"]
    assert first["sentence"] == ""


def test_a_skipped_step_touches_nothing(told: list[dict[str, Any]]) -> None:
    check_skipped(told)


def test_a_gradient_stops_all(told: list[dict[str, Any]]) -> None:
    check_gradient(told)


def test_groups_are_drawn_anew_as_in_one_process(told: list[dict[str, Any]], tmp_path: Path) -> None:
    check_drawn(told, tmp_path)


def test_a_group_of_two_processes_is_drawn_anew_by_both(told: list[dict[str, Any]]) -> None:
    both = [two["shared"] for two in told]
    assert [two["flat"] for two in both] == [[0.0, 0.0]] * 2
    assert both[0]["redrawn"] == both[1]["redrawn"]
    assert both[0]["sum"] == both[1]["sum"]
    for step in (1, 2):
        samples = [row[1] for two in both for row in two["seen"] if row[0] == step]
        # Three groups of four, the second of which has half of its rollouts on each.
        assert [len(set(samples[at : at + 4])) for at in (0, 4, 8)] == [1, 1, 1]
        assert not any(int(sample.rpartition("-")[2]) % 2 == 0 for sample in samples)


def test_two_processes_go_on(told: list[dict[str, Any]]) -> None:
    for one in told:
        whole, again = one["gone"]["sums"]
        assert again == pytest.approx(whole, rel=1e-9)
        assert one["gone"]["losses"][1][-2:] == pytest.approx(one["gone"]["losses"][0][-2:], abs=1e-6)
    assert told[0]["gone"]["sums"] == told[1]["gone"]["sums"]


def test_all_stop_where_one_is_asked_behind_the_last_step(told: list[dict[str, Any]]) -> None:
    """Both save, which neither can alone."""
    sentences = [one["late"]["sentence"] for one in told]
    assert sentences[1].startswith("stopped by SIGTERM after step 2, which is saved")
    assert sentences[0].startswith("stopped by the signal of another process after step 2, which is saved")
    assert [one["late"]["saved"] for one in told] == [2, 2]


def test_a_run_without_a_checkpoint_begins_again(told: list[dict[str, Any]]) -> None:
    assert {"finished.json", "policy", "metrics.jsonl"} <= set(told[0]["again"])


def test_a_teacher_in_shards_teaches_the_same(told: list[dict[str, Any]]) -> None:
    """Each rank holds half of it between two attributions, and all of it once training is over."""
    for one in told:
        whole, sharded = one["teacher_whole"], one["teacher_sharded"]
        assert whole["held"] == [whole["all"]] * 2
        assert max(sharded["held"]) < 0.52 * whole["all"]
        for name in ("traces", "losses", "sum", "after"):
            assert sharded[name] == whole[name]
        assert any(value != 0 for _, value, _ in whole["traces"])
    assert sum(one["teacher_sharded"]["held"][0] for one in told) >= told[0]["teacher_whole"]["all"]
