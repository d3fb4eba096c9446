"""Configurations in layers: commas, `base`, and the recipes for real checkpoints, which differ where they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from iapo.errors import InputError
from iapo.training.files import CONFIGS, layers_of
from iapo.training.settings import check


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_later_file_wins_and_flags_win_over_all(tmp_path: Path) -> None:
    first = write(tmp_path, "first.yaml", "train_samples: 3\nlearning_rate: 0.5\noutput_dir: out\n")
    second = write(tmp_path, "second.yaml", "learning_rate: 0.25\nseed: 4\n")
    arguments, settings = check(f"{first}, {second}", ["--seed", "5"])
    assert arguments.train_samples == 3
    assert (settings["learning_rate"], settings["seed"], settings["output_dir"]) == (0.25, 5, "out")


def test_a_base_is_read_first_from_beside_the_file_or_packaged(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "base: demo-iapo\nseed: 1\nlearning_rate: 0.5\n")
    top = write(tmp_path, "top.yaml", "base: low.yaml\nseed: 2\n")
    _, settings = check(top)
    assert (settings["seed"], settings["learning_rate"], settings["penalty_weight"]) == (2, 0.5, 0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: nothing", "no configuration 'nothing'"),
        ("base: [a, b]", "base is"),
        ("base: self.yaml", "its own base"),
        ("base: other.yaml", "its own base"),
    ],
)
def test_wrong_bases_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, "self.yaml", f"{text}\n")
    write(tmp_path, "other.yaml", "base: self.yaml\n")
    with pytest.raises(InputError, match=words):
        layers_of(path)


def test_an_unknown_setting_names_its_own_file(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a.yaml", "seed: 1\n"), write(tmp_path, "b.yaml", "lerning_rate: 1\n")
    with pytest.raises(InputError, match=r"b\.yaml: no setting 'lerning_rate'; did you mean"):
        check(f"{first},{second}")


def test_no_configuration_is_refused() -> None:
    with pytest.raises(InputError, match="the configuration is empty"):
        layers_of(" ")
    with pytest.raises(InputError, match="nothing stands before or behind a comma"):
        layers_of(" , ")


def test_packaged_files_of_a_group_are_named() -> None:
    with pytest.raises(InputError, match=r"qwen2\.5-vl/chart/iapo-live"):
        layers_of("qwen2.5-vl/chart/nothing")


@pytest.fixture(autouse=True)
def _quantisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of recipes are checked without the package that only loading needs."""
    monkeypatch.setattr("iapo.rollout.load_settings.find_spec", lambda name: True)


RECIPES = CONFIGS / "qwen2.5-vl"
GPUS = {path.stem: int(path.stem.partition("x")[0]) for path in RECIPES.glob("*x*.yaml")}
METHODS = sorted(path.stem for path in (RECIPES / "chart").glob("*.yaml") if path.stem != "sft")


def settings_of(task: str, method: str, hardware: str) -> tuple[object, dict[str, object]]:
    return check(f"qwen2.5-vl/{task}/{method},qwen2.5-vl/{hardware}")


@pytest.mark.parametrize("hardware", sorted(GPUS))
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_updates_on_the_papers_batch(method: str, hardware: str) -> None:
    size = "7b" if method == "teacher" else "3b"
    if not hardware.endswith(size):
        pytest.skip("the hardware's file is for the other model")
    for task in ("chart", "table"):
        _, settings = settings_of(task, method, hardware)
        rollouts = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"] * GPUS[hardware]  # type: ignore[operator]
        assert rollouts == 256 * settings["num_generations"]  # type: ignore[operator]
        assert settings["gradient_accumulation_steps"] % settings["steps_per_generation"] == 0  # type: ignore[operator]


@pytest.mark.parametrize("method", METHODS)
def test_charts_and_tables_differ_in_their_data_alone(method: str) -> None:
    (first, one), (second, other) = (settings_of(task, method, "1x80-3b") for task in ("chart", "table"))
    places = {"output_dir", "teacher", "teacher_table"}
    assert {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)} <= places
    names = {name for name in vars(first) if getattr(first, name) != getattr(second, name)}
    assert names <= {"data", "model"}
    assert "data" in names


def test_baselines_differ_from_iapo_in_the_reward_alone() -> None:
    runs = {method: settings_of("chart", method, "1x80-3b") for method in ("grpo", "torl", "trm", "iapo-live")}
    own = {"reward", "output_dir", "teacher", "teacher_reference", "penalty_weight", "penalty_decay"}
    own |= {"verifier", "verifier_url"}
    first, settings = runs["iapo-live"]
    for arguments, others in runs.values():
        assert vars(arguments) == vars(first)
        assert {key for key in settings.keys() | others.keys() if settings.get(key) != others.get(key)} <= own
