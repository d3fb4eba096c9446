"""Every packaged configuration parses, and unknown settings are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from iapo.errors import InputError
from iapo.experiments.demo import METHODS, STEPS
from iapo.training.files import CONFIGS, find_config
from iapo.training.run import run_samples
from iapo.training.settings import parse

NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_packaged_configurations_parse(name: str) -> None:
    arguments, settings = parse(name)
    written = yaml.safe_load(find_config(name).read_text())
    for key, value in written.items():
        holder = arguments if hasattr(arguments, key) else settings
        found = getattr(holder, key)
        assert found == (type(found)(value) if not isinstance(value, (list, bool)) else value) or key == "report_to"


def test_demo_runs_differ_in_the_penalty_alone() -> None:
    first, second = (yaml.safe_load(find_config(f"demo-{method}").read_text()) for method in METHODS.values())
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert differing == {"output_dir", "penalty_weight", "penalty_decay", "always_measure"}
    assert first["max_steps"] == second["max_steps"] == STEPS


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    arguments, settings = parse("demo-iapo", ["--penalty_weight", "0.5", "--train_samples", "7"])
    assert (settings.attribution_form, settings.teacher_reference) == ("name_odds", "own_call")
    for more in (["--reward", "distill"], ["--token_distill_weight", "1"], ["--attribution_target", "turn"]):
        _, other = parse("demo-iapo", more)
        assert (other.attribution_form, other.teacher_reference) == ("paper", "student_call"), more
    assert (settings.penalty_weight, arguments.train_samples) == (0.5, 7)


@pytest.mark.parametrize("where", ["file", "flag"])
def test_unknown_settings_are_refused(tmp_path: Path, where: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("output_dir: x\nbf16: false\n" + ("penalty_wieght: 1\n" if where == "file" else ""))
    with pytest.raises(ValueError, match="penalty_wieght"):
        parse(str(path), ["--penalty_wieght", "1"] if where == "flag" else [])


def test_missing_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="no configuration 'nothing'"):
        parse("nothing")


def test_train_and_test_charts_differ() -> None:
    arguments, _ = parse("demo-iapo")
    train = run_samples(dataclasses.replace(arguments, train_samples=40), "train")
    test = run_samples(dataclasses.replace(arguments, eval_samples=41), "test")
    assert len(train) == 40
    assert len(test) == 41
    assert {sample.source for sample in test} == {"synthetic/vbar", "synthetic/hbar"}
    assert not {sample.image.tobytes() for sample in train} & {sample.image.tobytes() for sample in test}


def test_a_mistyped_path_beside_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    with pytest.raises(InputError, match=r"no configuration '.*/mein.yaml': there is no such file"):
        find_config(str(tmp_path / "mein.yaml"))
