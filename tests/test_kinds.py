"""Values of another kind than a setting has: refused in Python with the command line's sentence."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from transformers import IntervalStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from iapo.attribution.settings import AttributionSettings
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.evaluation.plan import EvaluationPlan
from iapo.experiments.compare import Comparison
from iapo.experiments.faithfulness import FaithfulnessPlan
from iapo.experiments.forms import FormsPlan
from iapo.experiments.trials import Budget
from iapo.kinds import members
from iapo.rollout.budget import Budget as Lengths
from iapo.rollout.load_settings import LoadSettings
from iapo.studies.attribute_inputs import AttributePlan
from iapo.studies.case_study import CaseStudyPlan
from iapo.supervised.arguments import SupervisedArguments
from iapo.supervised.config import SupervisedConfig
from iapo.training import settings as training
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig

CLASSES: dict[type, dict[str, Any]] = {
    IAPOConfig: {"output_dir": "runs/none"},
    SupervisedConfig: {"output_dir": "runs/none"},
    AttributionSettings: {},
    LoadSettings: {},
    EvaluationSettings: {},
    EndpointSettings: {"model": "m"},
    EvaluationPlan: {"model": "m", "sets": ("vbar",)},
    FormsPlan: {"student": "s", "teacher": "t"},
    FaithfulnessPlan: {"model": "m"},
    Budget: {},
    Lengths: {},
    AttributePlan: {},
    CaseStudyPlan: {},
    Comparison: {},
    RunArguments: {},
    SupervisedArguments: {"transcripts": "x"},
}
"""Classes of settings, with what they need."""


NO_TRUTH: list[Any] = ["no", "", 1, 0.0, []]


def fields(wanted: Any) -> list[Any]:
    """Every field of the classes whose types are `wanted`: class, name, members of the type."""
    found = []
    for cls in CLASSES:
        hints = typing.get_type_hints(cls)
        for one in dataclasses.fields(cls):
            kinds = members(hints[one.name])
            if one.init and wanted(kinds):
                found.append(pytest.param(cls, one.name, kinds, id=f"{cls.__name__}.{one.name}"))
    return found


def is_choice(kinds: list[Any]) -> bool:
    plain = {kind for kind in kinds if typing.get_origin(kind) is not Literal} <= {type(None)}
    return plain and any(typing.get_origin(kind) is Literal for kind in kinds)


def refuse(cls: type, name: str, value: Any) -> str:
    with pytest.raises(InputError, match=name) as caught:
        cls(**{**CLASSES[cls], name: value})
    return str(caught.value)


@pytest.mark.parametrize(("cls", "name", "kinds"), fields(is_choice))
def test_a_choice_that_there_is_not(cls: type, name: str, kinds: list[Any]) -> None:
    first = next(one for kind in kinds for one in typing.get_args(kind) if typing.get_origin(kind) is Literal)
    for wrong in (f"{first}s", str(first).title(), True, 1):
        sentence = refuse(cls, name, wrong)
        assert repr(wrong) in sentence
        assert str(first) in sentence, "it names what there is"


@pytest.mark.parametrize(("cls", "name", "kinds"), fields(lambda kinds: set(kinds) <= {bool, type(None)}))
def test_a_truth_value_is_no_text_and_no_number(cls: type, name: str, kinds: list[Any]) -> None:
    for wrong in [*NO_TRUTH, *([] if type(None) in kinds else [None])]:
        assert f"{name} is {wrong!r}; it takes true or false" in refuse(cls, name, wrong)


@pytest.mark.parametrize(("cls", "name", "kinds"), fields(lambda kinds: set(kinds) <= {int, float}))
def test_none_is_no_number(cls: type, name: str, kinds: list[Any]) -> None:
    number = "a whole number" if kinds == [int] else "a number"
    assert refuse(cls, name, None) == f"{name} is None; it takes {number}"
    refuse(cls, name, [1])


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        *[(IAPOConfig, "reward", 5), (IAPOConfig, "teacher", object()), (IAPOConfig, "reward_weights", 1.0)],
        *[(IAPOConfig, "reward_weights", ["1"]), (IAPOConfig, "judge_key", None), (LoadSettings, "device", 0)],
        *[(AttributionSettings, "method", print), (SupervisedConfig, "learning_rate", -1.0)],
        (SupervisedConfig, "loss_type", "nlll"),
    ],
)
def test_texts_and_lists(cls: type, name: str, value: Any) -> None:
    refuse(cls, name, value)


def test_the_command_line_says_the_same() -> None:
    for name, value in {"alignment_control": "uniform", "penalty_scope": "calls", "on_nonfinite": "Skip"}.items():
        with pytest.raises(InputError) as caught:
            training.typed({name: value})
        assert str(caught.value) == refuse(IAPOConfig, name, value)


def test_what_libraries_take_is_taken(tmp_path: Path) -> None:
    """Enumerations and their texts, paths, numbers of NumPy, and whole numbers for others."""
    numpy: Any = np
    made = IAPOConfig(
        str(tmp_path),
        use_cpu=True,
        bf16=False,
        eval_strategy=IntervalStrategy.NO,
        save_strategy="no",
        lr_scheduler_type=SchedulerType.COSINE,
        optim=OptimizerNames.ADAMW_TORCH,
        scale_rewards=False,
        report_to=[],
        learning_rate=1,
        max_steps=numpy.int64(3),
        penalty_weight=numpy.float32(0.5),
        reward_weights=(1.0,),
        judge_cache=typing.cast("str", tmp_path / "judge.sqlite"),
    )
    assert (made.max_steps, made.penalty_weight) == (3, 0.5)
    assert made.lr_scheduler_type == "cosine"


def test_numbers_of_numpy_and_paths_are_kept_as_json_takes_them(tmp_path: Path) -> None:
    args = IAPOConfig(
        tmp_path,
        max_steps=np.int64(3),
        learning_rate=np.float32(0.5),
        teacher=Path("tiny-teacher"),
        bf16=np.bool_(False),
    )
    kept = [args.max_steps, args.learning_rate, args.teacher, args.bf16]
    assert kept == [3, 0.5, "tiny-teacher", False]
    assert [type(one) for one in kept] == [int, float, str, bool]
    settings = EvaluationSettings(seed=np.int64(4), temperature=np.float32(0.5))
    assert json.dumps(dataclasses.asdict(settings))
