"""What a run folder holds beside its own course: nothing of the user's is removed, nothing foreign is gone on with."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from iapo.checkpoint_names import numbered
from iapo.errors import InputError
from iapo.results import MANIFEST
from iapo.training.aside import (
    drop_lines,
    is_foreign,
    make_room,
    make_room_for_policy,
    newest,
    remove_checkpoints,
    rotate,
    set_aside,
)
from iapo.training.begun import BEGUN, begun_from, begun_part
from iapo.training.best import Best, find_best, place_in, take_best
from iapo.training.checkpoints import STATE, last_whole
from iapo.training.contents import INCOMPLETE, Contents
from iapo.training.resume import Start, check_free, find_start


def checkpoint(folder: Path, step: int, **state: Any) -> Path:
    """A checkpoint by its state alone."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / STATE).write_text(json.dumps({"global_step": step, **state}))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_a_checkpoints_own_name_counts(tmp_path: Path) -> None:
    mine = checkpoint(tmp_path, 3)
    for name in ("best-3", "copy-3", "3-good", "03", "0", "٣"):
        shutil.copytree(mine, tmp_path / f"checkpoint-{name}")
    assert numbered(tmp_path) == {3: mine}
    assert last_whole(tmp_path) is None
    set_aside(tmp_path, Start())
    assert "superseded-checkpoint-3" in names(tmp_path)
    assert sum(name.startswith("superseded") for name in names(tmp_path)) == 1


def test_rotation_spares_what_is_no_checkpoint_and_what_is_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        checkpoint(tmp_path, step)
    for name in ("checkpoint-1", "checkpoint-3-good", "checkpoint-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("")
    rotate(tmp_path, None, [])
    assert len(names(tmp_path)) == 7
    rotate(tmp_path, 2, [tmp_path / "checkpoint-2", *newest(tmp_path)])
    assert names(tmp_path) == ["checkpoint-0", "checkpoint-1", "checkpoint-2", "checkpoint-3-good", "checkpoint-8"]


def test_a_run_that_ended_loses_its_checkpoints_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path, 2)
    for name in ("checkpoint-1", "checkpoint-good"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-9").symlink_to(checkpoint(tmp_path / "elsewhere", 9))
    remove_checkpoints(tmp_path)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-9", "checkpoint-good", "elsewhere"]
    assert names(tmp_path / "elsewhere") == ["checkpoint-9"]


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    for _ in range(3):
        checkpoint(tmp_path, 5)
        set_aside(tmp_path, Start())
    assert names(tmp_path) == [f"superseded-checkpoint-5{more}" for more in ("", ".2", ".3")]
    half = checkpoint(tmp_path, 5)
    (half / INCOMPLETE).touch()
    set_aside(tmp_path, Start())
    assert len(names(tmp_path)) == 3


def test_room_is_made_for_a_checkpoint(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, 1)
    make_room(place)
    assert not names(tmp_path)
    place.mkdir()
    (place / "mine.txt").write_text("")
    make_room(place)
    make_room(place)
    assert names(tmp_path) == ["superseded-checkpoint-1"]


def test_what_is_no_policy_stays(tmp_path: Path) -> None:
    place = tmp_path / "policy"
    for name in ("model.safetensors", "mine.txt"):
        make_room_for_policy(place)
        place.mkdir()
        (place / name).write_text("")
    make_room_for_policy(place)
    place.write_text("a file")
    make_room_for_policy(place)
    assert names(tmp_path) == ["superseded-policy", "superseded-policy.2"]
    part = tmp_path / "policy.part"
    part.mkdir()
    (part / "README.md").write_text("")
    make_room_for_policy(part)
    assert len(names(tmp_path)) == 2


def test_a_start_from_elsewhere_sets_all_aside(tmp_path: Path) -> None:
    other, out = checkpoint(tmp_path / "other", 4), tmp_path / "out"
    own = [checkpoint(out, step) for step in (2, 3, 6)]
    (out / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (2, 3, 6)))
    (tmp_path / "linked").symlink_to(own[1])
    start = Start(tmp_path / "linked", 3)
    assert not is_foreign(start, out)
    set_aside(out, start)
    drop_lines(out, start, 3)
    assert names(out) == ["checkpoint-2", "checkpoint-3", "metrics.jsonl", "superseded-checkpoint-6"]
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    own[0].rename(tmp_path / "another disk")
    own[0].symlink_to(tmp_path / "another disk")
    assert not is_foreign(Start(own[0], 2), out)
    assert is_foreign(Start(out / "superseded-checkpoint-6", 6), out)
    set_aside(out, Start(other, 4))
    drop_lines(out, Start(other, 4), 4)
    assert names(out) == [f"superseded-checkpoint-{step}" for step in (2, 3, 6)]


def test_the_best_checkpoint_is_not_set_aside(tmp_path: Path) -> None:
    best = checkpoint(tmp_path / "out", 1)
    checkpoint(tmp_path / "out", 2)
    other = checkpoint(tmp_path / "other", 5, best_model_checkpoint=str(best))
    set_aside(tmp_path / "out", Start(other, 5))
    assert names(tmp_path / "out") == ["checkpoint-1", "superseded-checkpoint-2"]


def written(path: Path, best: str | None, run: str | None = None) -> None:
    Contents(1, "", {}, run, best).write(path)


def test_the_best_checkpoint_is_found_where_it_is_now(tmp_path: Path) -> None:
    was = tmp_path / "was"
    best, last = checkpoint(was, 1), checkpoint(was, 3, best_model_checkpoint=str(was / "checkpoint-1"))
    assert place_in(was, str(best)) == "checkpoint-1"
    assert place_in(was, os.path.relpath(best)) == "checkpoint-1"
    assert place_in(was, str(tmp_path / "other" / "checkpoint-1")) == str(tmp_path / "other" / "checkpoint-1")
    assert place_in(was, None) is None
    assert find_best(best) == Best()
    for told in (None, "checkpoint-1"):
        written(last, told)
        assert find_best(last).place == best
    moved = was.rename(tmp_path / "moved")
    # Where it was there is another run by now.
    checkpoint(was, 1)
    for told in (None, "checkpoint-1"):
        written(moved / "checkpoint-3", told)
        assert find_best(moved / "checkpoint-3").place == moved / "checkpoint-1"
    written(moved / "checkpoint-3", str(was / "checkpoint-1"))
    assert find_best(moved / "checkpoint-3").place == was / "checkpoint-1"


def test_a_checkpoint_of_the_bests_name_is_not_another_runs(tmp_path: Path) -> None:
    best = checkpoint(tmp_path / "run", 1)
    last = checkpoint(tmp_path / "archive", 3, best_model_checkpoint=str(best))
    namesake = checkpoint(tmp_path / "archive", 1)
    for path, run in ((best, "of this run"), (last, "of this run"), (namesake, "of another")):
        written(path, "checkpoint-1" if path == last else None, run)
    assert find_best(last).place == best
    shutil.rmtree(best)
    assert find_best(last) == Best(str(best), None)
    for text in ("[]", '{"files"', ""):
        (namesake / "contents.json").write_text(text)
        assert find_best(last).place == namesake
    (namesake / "contents.json").unlink()
    assert find_best(last).place == namesake


@pytest.mark.parametrize("needed", [False, True])
def test_a_best_checkpoint_that_is_gone_is_said(needed: bool, caplog: pytest.LogCaptureFixture) -> None:
    state = TrainerState(best_metric=2.0, best_global_step=1, best_model_checkpoint="was/checkpoint-1")
    take_best(state, Best("was/checkpoint-1", None), needed=needed)
    assert state.best_model_checkpoint is None
    assert ("is gone; the best of the steps from here on is taken" in caplog.text) is needed
    assert (state.best_metric, state.best_global_step) == ((None, None) if needed else (2.0, 1))
    # One that was never saved is not gone.
    state = TrainerState(best_metric=2.0, best_global_step=3)
    take_best(state, Best(), needed=True)
    assert state.best_global_step == 3


def test_a_named_checkpoint_is_known_where_its_run_was_moved(tmp_path: Path) -> None:
    named = checkpoint(tmp_path / "was", 2)
    written(named, None, "of that run")
    begun = begun_from(tmp_path / "out", begun_part(tmp_path / "out", named, 2))
    assert begun is not None
    assert begun.is_of(named)
    (tmp_path / "was").rename(tmp_path / "moved")
    there = tmp_path / "moved" / "checkpoint-2"
    assert begun.is_of(there)
    # Of the same run and step, but of another course.
    written(there, "checkpoint-1", "of that run")
    assert not begun.is_of(there)
    (there / "contents.json").unlink()
    assert not begun.is_of(there)
    assert begun_from(tmp_path, {BEGUN: {"checkpoint": "checkpoint-1", "step": 1}}).contents is None  # type: ignore[union-attr]


@pytest.mark.parametrize("named", [None, "true", "elsewhere/checkpoint-2"])
def test_a_folder_that_is_no_run_or_never_gone_on_with(tmp_path: Path, named: str | None) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match="already holds a run"):
        check_free(tmp_path, "auto", named)
    (tmp_path / MANIFEST).write_text("{}")
    check_free(tmp_path, "auto", named)
    (tmp_path / "metrics.jsonl").unlink()
    check_free(tmp_path, "never", named)
    checkpoint(tmp_path, 1)
    with pytest.raises(InputError, match="already holds a run"):
        check_free(tmp_path, "never", named)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"max_steps": -1, "num_train_epochs": 1}, "is of epoch 1.66667, and num_train_epochs is 1; give more epochs"),
        ({"max_steps": 4, "num_train_epochs": 9}, "is of step 5, and max_steps is 4; give more steps"),
        ({"max_steps": -1, "num_train_epochs": 2}, None),
        # The last step ends the epoch in the middle of which the training does.
        ({"max_steps": -1, "num_train_epochs": 1.5}, None),
        ({"max_steps": 5, "num_train_epochs": 1}, None),
    ],
)
def test_less_than_a_checkpoint_has_is_refused(tmp_path: Path, training: dict[str, Any], message: str | None) -> None:
    named = checkpoint(tmp_path / "was", 5, epoch=5 / 3)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (named / name).touch()
    written(named, None)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (named / name).unlink()
        shutil.make_archive(str(named / name), "zip", tmp_path / "was" / "checkpoint-5", ".")
        (named / f"{name}.zip").rename(named / name)
    (named / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    if message is None:
        assert find_start(tmp_path / "out", {"training": training}, "training", named=str(named)).step == 5
        return
    with pytest.raises(InputError, match=message):
        find_start(tmp_path / "out", {"training": training}, "training", named=str(named))
