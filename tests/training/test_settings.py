"""Settings: read from source, merged as mappings, parsed by type, refused in a sentence."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from iapo.kinds import members
from iapo.rewards.presets import PRESETS
from iapo.rollout.load_settings import LoadSettings
from iapo.tiny.recipes import RECIPES
from iapo.training.arguments import RunArguments
from iapo.training.begun import named_checkpoint
from iapo.training.config import IAPOConfig
from iapo.training.declared import keys_of, settings_of
from iapo.training.settings import check, list_settings, parse, read_flags, reward_names, run_settings, trainer_settings


@pytest.mark.parametrize(("holder", "settings"), [(IAPOConfig, trainer_settings()), (RunArguments, run_settings())])
def test_the_source_says_what_the_class_has(holder: type[Any], settings: dict[str, Any]) -> None:
    """Names, and the types that are built in."""
    fields = {field.name for field in dataclasses.fields(holder) if field.init}
    assert set(settings) == fields
    hints = get_type_hints(holder)
    known = {bool, int, float, str, type(None)}
    for name, setting in settings.items():
        found, meant = ({kind for kind in members(one) if kind in known} for one in (setting.kind, hints[name]))
        assert found == meant, name


@pytest.mark.parametrize("prefix", ["", "teacher_", "verifier_"])
def test_every_model_has_the_loading_settings(prefix: str) -> None:
    """But for its device, which is the training's, and what becomes of an adapter."""
    known = {field.name: field for field in dataclasses.fields(LoadSettings)}
    del known["device"], known["merge_adapter"]
    holder = RunArguments if prefix == "" else IAPOConfig
    hints, wanted = get_type_hints(holder), get_type_hints(LoadSettings)
    found = {field.name.removeprefix(prefix): field for field in dataclasses.fields(holder)}
    for name, field in known.items():
        assert found[name].default == field.default, name
        assert hints[prefix + name] == wanted[name], name


def test_tables_are_read_from_their_source() -> None:
    assert reward_names() == tuple(PRESETS)
    assert keys_of("iapo.tiny.recipes", "RECIPES") == tuple(RECIPES)
    for wrong in (lambda: keys_of("iapo.tiny.recipes", "NOTHING"), lambda: settings_of("iapo.runs", "Nothing")):
        with pytest.raises(LookupError):
            wrong()


def test_flags() -> None:
    words = [
        "--learning-rate",
        "1e-4",
        "--families=vbar",
        "--use_cpu",
        "--eval_data",
        "-",
        "--question_types",
        "a",
        "b",
    ]
    assert read_flags(words) == {
        "learning_rate": "1e-4",
        "families": "vbar",
        "use_cpu": True,
        "eval_data": "-",
        "question_types": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--learning-rate=1e-4", "learning_rate", 1e-4),
        ("--max_steps -1", "max_steps", -1),
        ("--families vbar,hbar", "families", ["vbar", "hbar"]),
        ("--families vbar vwtq", "families", ["vbar", "vwtq"]),
        ("--families '[\"vwtq\"]'", "families", ["vwtq"]),
        ("--reward_weights 1,0.5", "reward_weights", [1.0, 0.5]),
        ("--use_cpu", "use_cpu", True),
        ("--share-prefix no", "share_prefix", False),
        ("--teacher none", "teacher", None),
        ("--teacher_table null", "teacher_table", None),
        ("--report_to none", "report_to", "none"),
        ("--report_to tensorboard,wandb", "report_to", ["tensorboard", "wandb"]),
        ("--component_weights '{execution: 0.5}'", "component_weights", {"execution": 0.5}),
        ("--component_weights '{\"execution\":1}'", "component_weights", {"execution": 1}),
        ("--lr_scheduler_type cosine", "lr_scheduler_type", "cosine"),
        ("--run_name 5", "run_name", "5"),
        ("--reward json:mine", "reward", "json:mine"),
    ],
)
def test_values_are_parsed_by_type(words: str, name: str, value: Any) -> None:
    arguments, settings = check("demo-iapo", shlex.split(words))
    found = getattr(arguments, name) if hasattr(arguments, name) else settings[name]
    assert found == value
    assert type(found) is type(value)


def test_mappings_and_yaml_are_parsed_alike(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "learning-rate: 1e-4\nteacher: null\nfamilies: vbar\nmax_steps: 3\nsave_strategy: 'no'\nrun_name: 7\n"
        "max_grad_norm: 1_0\n"
    )
    arguments, settings = check(str(file), {"max_steps": 5, "eval-samples": 0})
    assert (arguments.families, arguments.eval_samples) == (["vbar"], 0)
    assert settings == {
        "learning_rate": 1e-4,
        "teacher": None,
        "max_steps": 5,
        "save_strategy": "no",
        "run_name": "7",
        "max_grad_norm": 10.0,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("save_strategy: no\n", "save_strategy is False; it takes .*quotes"),
        ("max_steps: 2.5\n", "max_steps is 2.5; it takes a whole number"),
        ("max_steps:\n", r"max_steps is empty \(null\); it takes a whole number"),
        ("learning_rate: .nan\n", "learning_rate is nan; it takes a number"),
        ("max_steps: true\n", "max_steps is true or without a value; it takes a whole number"),
        ("max_steps: ８０\n", "max_steps is '８０'; it takes a whole number"),
        ("max_steps: '8_0'\n", "max_steps is '8_0'; it takes a whole number"),
        ("learning_rate: １e-4\n", "learning_rate is '１e-4'; it takes a number"),
        ("learning_rate: 1_0e-4\n", "learning_rate is '1_0e-4'; it takes a number"),
        ("families: [3]\n", "unknown family '3'"),
        ("component_weights: [1]\n", "component_weights is .*; it takes a mapping"),
        ("max_steps: 1\nmax-steps: 2\n", "the setting max_steps is given twice"),
        ("", "holds no settings"),
    ],
)
def test_wrong_yaml_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence) as refused:
        check(str(file))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"save_strategy": "sometimes"}, "sometimes"),
        ({"num_generations": 7}, "divisible|multiple|num_generations"),
        ({"penalty_weight": -1.0}, "penalty_weight is -1.0"),
        ({"model_init_kwargs": {"dtype": "auto"}}, "set dtype, attn_implementation"),
        ({"reward": "elsewhere:mine"}, "reward: there is no package 'elsewhere'"),
        ({"component_weights": {"execution": "much"}}, "component_weights has 'much'"),
    ],
)
def test_what_the_trainer_refuses_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    from iapo.errors import InputError

    with pytest.raises(InputError, match=sentence) as refused:
        parse("demo-iapo", changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("word", "meaning"), [("true", True), ("false", False)])
def test_a_truth_value_of_yaml_is_the_flags_word(tmp_path: Path, word: str, meaning: bool) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"resume_from_checkpoint: {word}\n")
    (found, flags) = (check(str(path))[1], check("compare", ["--resume_from_checkpoint", word])[1])
    assert found["resume_from_checkpoint"] == flags["resume_from_checkpoint"] == word
    assert named_checkpoint(word) is meaning


def test_all_settings_are_listed() -> None:
    lines = list(list_settings())
    assert "  --learning_rate  float = 1e-06" in lines
    assert "  --penalty_weight  float = 0.1" in lines
    assert "  --families  list[str] = list(BAR_FAMILIES)" in lines
    assert sum(line.startswith("  --") for line in lines) == len(trainer_settings()) + len(run_settings())


def test_passwords_of_addresses_are_no_part_of_what_is_written() -> None:
    """Nor of what trackers are sent."""
    config = IAPOConfig("out", judge_url="http://me:secret@host/v1", use_cpu=True, bf16=False)
    assert config.judge_url == "http://me:secret@host/v1"
    assert config.to_dict()["judge_url"] == "http://host/v1"
    assert "secret" not in config.to_json_string()


def test_numbers_within_mappings_and_no_trackers(tmp_path: Path) -> None:
    """A power without a dot is a text to YAML 1.1, and a null is no list to Transformers."""
    file = tmp_path / "own.yaml"
    file.write_text(
        "component_weights: {outcome: 1e-1}\nlr_scheduler_kwargs: {min_lr: 1e-5, steps: [2E3, 1e+2], name: e5}\n"
        "report_to: null\nrun_name: 1e5\n"
    )
    given = check(str(file), ["--generation_kwargs", "{typical_p: 5e-1}"])[1]
    assert given["component_weights"] == {"outcome": 0.1}
    assert given["lr_scheduler_kwargs"] == {"min_lr": 1e-5, "steps": [2000.0, 100.0], "name": "e5"}
    assert given["generation_kwargs"] == {"typical_p": 0.5}
    assert (given["report_to"], given["run_name"]) == ("none", "1e5")
