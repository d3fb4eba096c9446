"""Flags of verbs that say how models are loaded reach the loading; what is not given leaves the defaults."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from iapo.cli.loading import check_revisions
from iapo.cli.main import main
from iapo.errors import InputError
from iapo.rollout.load_settings import LoadSettings


def invoke(line: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    assert end.value.code == 0


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The models that a verb loads, by name, and their types."""
    from iapo.rollout import policy

    found: dict[str, Any] = {}

    def load(name: str, settings: LoadSettings | None = None, **more: Any) -> Any:
        found[name] = policy.load_policy(name, settings, **more)
        return found[name]

    for module in ("iapo.studies.attribute", "iapo.evaluation.run"):
        monkeypatch.setattr(f"{module}.load_policy", load)
    return found


@pytest.mark.slow(2)
@pytest.mark.parametrize("spelling", ["--teacher-dtype bfloat16", "--teacher_dtype bfloat16"])
def test_student_and_teacher_are_told_apart(tmp_path: Path, loaded: dict[str, Any], spelling: str) -> None:
    words = f"attribute --teacher tiny-teacher --max-turn-tokens 24 --out {tmp_path} --max-pixels 10000 --quiet"
    invoke(f"{words} {spelling}")
    student, teacher = loaded["tiny-student"], loaded["tiny-teacher"]
    assert (student.model.dtype, teacher.model.dtype) == (torch.float32, torch.bfloat16)
    for one in (student, teacher):
        assert dict(one.processor.image_processor.size)["longest_edge"] == 10_000


def test_an_evaluation_writes_down_how_its_model_was_loaded(tmp_path: Path, loaded: dict[str, Any]) -> None:
    words = f"evaluate --model tiny-student --sets vbar --samples 1 --max-turn-tokens 4 --out {tmp_path} --quiet"
    invoke(f"{words} --dtype bfloat16 --attn-implementation eager")
    model = loaded["tiny-student"].model
    assert (model.dtype, model.config._attn_implementation) == (torch.bfloat16, "eager")
    plan = json.loads((tmp_path / "manifest.json").read_text())["config"]["evaluation"]
    assert (plan["loading"]["dtype"], plan["loading"]["load_in_4bit"]) == ("bfloat16", False)
    # In another type other answers may come out, so that it is another evaluation.
    with pytest.raises(SystemExit) as end:
        main(shlex.split(words))
    assert end.value.code == 2


def test_a_revision_of_no_model_from_the_hub() -> None:
    given = {"model_revision": "main"}
    check_revisions(["tiny-student", "owner/name"], given)
    check_revisions(["tiny-student", None], given)
    check_revisions([], given)
    check_revisions(["tiny-student"], {})
    with pytest.raises(InputError, match="'tiny-student' is none; leave it out"):
        check_revisions(["tiny-student", "tiny-teacher"], given)
