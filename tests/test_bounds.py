"""Numbers that cannot be: every numeric setting of every verb, of every YAML file and of the classes of the library."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from iapo.attribution.settings import AttributionSettings
from iapo.bounds import SETTINGS, check_numbers, read_seeds
from iapo.cli.main import app, main
from iapo.data.sources import SourceSettings
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.evaluation.plan import EvaluationPlan
from iapo.experiments.faithfulness import FaithfulnessPlan
from iapo.experiments.forms import FormsPlan
from iapo.experiments.trials import Budget
from iapo.rollout.load_settings import LoadSettings
from iapo.supervised import settings as supervised
from iapo.supervised.arguments import SupervisedArguments
from iapo.training import settings as training
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig

NEVER = (math.nan, math.inf, -math.inf, 1e30, 10**30, -(10**30), "many", True)
"""What no number may be."""

NEGATIVE = {"max_steps", "local_rank"}
"""Settings that may be -1."""

ZERO = {
    *("adam_beta1", "adam_beta2", "alignment_control_seed", "attribution_floor", "beta", "case_study_steps"),
    *("charts_seed", "data_samples", "data_seed", "dataloader_num_workers", "distill_weight", "entropy_coef"),
    *("entropy_coef_delta", "entropy_coef_max", "entropy_coef_min", "entropy_target", "epsilon", "epsilon_high"),
    *(
        "eval_delay",
        "eval_samples",
        "eval_seed",
        "dynamic_sampling",
        "eval_temperature",
        "eval_traces",
        "held_out",
        "judge_retries",
    ),
    *("label_smoothing_factor", "learning_rate", "local_rank", "lora_dropout", "max_grad_norm", "min_p"),
    *("neftune_noise_alpha", "no_call_divergence", "num_completions_to_print", "penalty_decay", "penalty_weight"),
    *("ref_model_mixup_alpha", "report_traces", "router_aux_loss_coef", "seed", "threads", "top_k", "trace_every"),
    *("token_distill_weight", "traces_per_step", "vespo_k_neg", "vespo_k_pos", "vespo_lambda_neg", "vespo_lambda_pos"),
    *("vllm_importance_sampling_clip_min", "vllm_server_timeout", "warmup_steps", "weight_decay"),
}
"""Settings that may be 0."""

ZERO_OPTIONS = {
    *("demo seed", "doctor samples", "evaluate samples", "evaluate data_seed", "evaluate temperature", "evaluate seed"),
    *("compare temperature", "study misuse temperature", "study faithfulness seed", "study faithfulness temperature"),
    *("report max_traces", "attribute index", "attribute seed", "data make seed", "tiny build seed"),
    *("ask seed", "ask temperature", "serve temperature", "serve port", "serve waiting"),
    *("tiny evaluate seed", "tiny evaluate temperature", "tiny causes seed", "tiny stand-in seed"),
}
"""Options of verbs that may be 0; none may be below."""

CLASSES: dict[type, tuple[dict[str, Any], set[str]]] = {
    EvaluationSettings: ({}, {"temperature", "seed"}),
    EndpointSettings: ({"model": "m"}, {"temperature", "retries"}),
    SourceSettings: ({}, {"count", "seed"}),
    EvaluationPlan: ({"model": "m", "sets": ("vbar",)}, set()),
    FormsPlan: ({"student": "s", "teacher": "t"}, set()),
    FaithfulnessPlan: ({"model": "m"}, {"seed", "temperature"}),
    AttributionSettings: ({}, {"floor", "no_call", "control_seed"}),
    Budget: ({}, {"data_seed", "temperature"}),
    LoadSettings: ({}, set()),
    RunArguments: ({}, ZERO),
    SupervisedArguments: ({"transcripts": "x"}, ZERO),
}
"""Classes of settings: what they need, and their numbers that may be 0; none but those of the table may be below."""


def all_settings() -> dict[str, Any]:
    groups = (training.run_settings, training.trainer_settings, supervised.run_settings, supervised.trainer_settings)
    return {name: one for group in groups for name, one in group().items()}


def is_number(kind: Any) -> bool:
    return kind in (int, float) or any(one in (int, float) for one in typing.get_args(kind))


NUMERIC = sorted(name for name, one in all_settings().items() if is_number(one.kind))


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if not inner:
        yield " ".join(path), command
    for name in inner or ():
        yield from verbs(inner[name], (*path, name))


def test_the_table_has_every_setting() -> None:
    assert set(NUMERIC) == set(SETTINGS)
    assert len(NUMERIC) > 100


@pytest.mark.parametrize("name", NUMERIC)
def test_a_setting_that_cannot_be(name: str) -> None:
    refused = [*NEVER, *([] if name in NEGATIVE else [-1, -0.5]), *([] if name in ZERO else [0])]
    for value in refused:
        with pytest.raises(InputError, match=name):
            check_numbers({name: value})
        # As YAML and as a command line have it.
        for written in (value, str(value)):
            with pytest.raises(InputError, match=name):
                training.typed({name: written}, known=all_settings())
    allowed = [*([-1] if name in NEGATIVE else []), *([0] if name in ZERO else [])]
    for value in allowed:
        check_numbers({name: value})
        assert training.typed({name: str(value)}, known=all_settings()) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("top_p", 7), ("top_p", 1.01), ("min_p", 1.5), ("seed", 2**32), ("vllm_server_port", 65536)],
        *[("lora_dropout", 1), ("adam_beta2", 1.0), ("attribution_eps", 1), ("picture_size", 1001)],
        *[("max_steps", -2), ("judge_timeout", 1e9), ("num_generations", 1), ("vllm_gpu_memory_utilization", 1.1)],
        *[("train_samples", 1.5), ("reward_weights", [1.0, math.nan]), ("component_weights", {"outcome": math.inf})],
        *[("generation_kwargs", {"top_p": 7}), ("generation_kwargs", {"temperature": -1})],
        *[("temperature", 1e-300), ("eval_temperature", 1e-300), ("generation_kwargs", {"temperature": 1e-30})],
        ("repetition_penalty", 1e-300),
        ("lr_scheduler_kwargs", {"min_lr": [math.nan]}),
    ],
)
def test_outside_of_its_own_range(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        training.typed({name: value})
    with pytest.raises(InputError, match=name):
        (RunArguments if name in training.run_settings() else IAPOConfig)(**{name: value})


def test_lists_within_themselves_end() -> None:
    looped: list[Any] = [1.0]
    looped.append(looped)
    check_numbers({"lr_scheduler_kwargs": {"a": looped}})


def test_every_option_of_every_verb() -> None:
    zero, seen = set(), 0
    for path, command in verbs(typer.main.get_command(app)):
        for option in command.params:
            if option.type_descriptor.annotation not in (int, float, int | None, float | None):
                continue
            seen += 1
            for value in (math.nan, math.inf, -math.inf, -1, 10**30):
                with pytest.raises(InputError, match=option.name):
                    option.callback(None, option, value)
            with contextlib.suppress(InputError):
                option.callback(None, option, 0)
                zero.add(f"{path} {option.name}")
    assert zero == ZERO_OPTIONS
    assert seen > 50


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_of_settings(kind: type) -> None:
    needed, zero = CLASSES[kind]
    hints = typing.get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind) if one.init and is_number(hints[one.name])]
    assert names
    for name in names:
        for value in (*NEVER, -1, *([] if name in zero else [0])):
            with pytest.raises(InputError):
                kind(**needed, **{name: value})
        if name in zero and name != "lora_dropout":
            kind(**needed, **{name: 0})


@pytest.mark.parametrize("name", NUMERIC)
def test_the_trainer_of_a_python_program(name: str) -> None:
    if name not in training.trainer_settings():
        return
    with pytest.raises(InputError, match=name):
        IAPOConfig(**{name: math.nan})


@pytest.mark.parametrize("texts", [["²"], ["1" * 5000], ["-1"], ["1.5"], ["1", "1"], [], [str(2**32)], [""]])
def test_seeds_that_are_none(texts: list[str]) -> None:
    with pytest.raises(InputError, match="seed"):
        read_seeds(texts)
    assert read_seeds(["0", "7"]) == (0, 7)


@pytest.mark.parametrize(
    "text",
    ["seeds: 3", "seeds: [a]", "seeds: [1.5]", "samples: many", "samples: .nan", "temperature: hot", "repeats: 0"],
)
def test_an_ablation_with_numbers_that_cannot_be(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(f"{text}\nreference: a/b\ngroups:\n  a:\n    variants:\n      b: {{}}\n")
    with pytest.raises(SystemExit) as end:
        main(shlex.split("study ablate --file own.yaml --out out"))
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert text.partition(":")[0].rstrip("s") in err
    assert err.count("\n") == 1
    assert out == ""
