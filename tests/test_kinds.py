"""Values of another kind than a setting has: refused in Python with the command line's sentence."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import inspect
import json
import pkgutil
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from transformers import IntervalStrategy, SchedulerType
from transformers.training_args import OptimizerNames

import iapo
from iapo import Agent, execute, summarize
from iapo.attribution.settings import AttributionSettings
from iapo.data.boxes.find import find_boxes
from iapo.data.damage import strict
from iapo.data.loading import detect, load
from iapo.data.sources import SourceSettings
from iapo.data.synthetic import generate
from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.evaluation.plan import EvaluationPlan
from iapo.experiments.compare import Comparison
from iapo.experiments.faithfulness import FaithfulnessPlan
from iapo.experiments.forms import FormsPlan
from iapo.experiments.table_one import read_row, table_one
from iapo.experiments.trials import Budget
from iapo.grading.outcome import grade, grade_sample, outcome_reward
from iapo.kinds import check_kind, checks_kinds, members
from iapo.records import Score
from iapo.rollout.budget import Budget as Lengths
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.runs import RunFolder
from iapo.serving.limits import Limits
from iapo.studies.attribute_inputs import AttributePlan
from iapo.studies.case_study import CaseStudyPlan
from iapo.supervised.arguments import SupervisedArguments
from iapo.supervised.config import SupervisedConfig
from iapo.tools import offered_tools
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
    SourceSettings: {},
    Limits: {},
}
"""Classes of settings, with what they need."""


SAMPLE = next(iter(generate("vbar", 1, seed=0)))

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


@pytest.mark.parametrize(("cls", "name", "kinds"), fields(lambda kinds: str not in kinds and Any not in kinds))
def test_a_text_is_nothing_else(cls: type, name: str, kinds: list[Any]) -> None:
    """Least of all a list of its letters, or what settings of one's own describe."""
    if cls.__module__.startswith("iapo.") and name in inspect.get_annotations(cls):
        refuse(cls, name, "vbar")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("sets", "vbar", "sets is 'vbar'; it takes a list of texts"),
        ("sets", {"vbar"}, "sets is {'vbar'}; it takes a list of texts"),
        ("sets", ("vbar", 5), r"sets is \('vbar', 5\); it takes a list of texts"),
        ("source", {"count": 3}, "source is .*; it takes iapo.data.sources.SourceSettings"),
        ("generation", None, "generation is None; it takes iapo.evaluation.local.EvaluationSettings"),
        ("loading", None, "loading is None; it takes iapo.rollout.load_settings.LoadSettings"),
        ("endpoint", "http://x", "endpoint is 'http://x'; it takes iapo.endpoints.chat.EndpointSettings or none"),
        ("endpoint", "http://me:secret@x", "endpoint is an address with a user; it takes"),
        ("model", "", "model is empty; give a checkpoint's name"),
    ],
)
def test_plans_of_an_evaluation(name: str, value: Any, sentence: str) -> None:
    assert "secret" not in refuse(EvaluationPlan, name, value)
    with pytest.raises(InputError, match=sentence):
        EvaluationPlan(**{"model": "m", "sets": ("vbar",), name: value})


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


def test_numbers_of_numpy_and_paths_within_lists_and_mappings() -> None:
    numpy: Any = np
    args = IAPOConfig(
        "x",
        use_cpu=True,
        bf16=False,
        reward=Path("iapo"),
        attribution_method=Path("gradient"),
        reward_weights=numpy.array([1.0], dtype=np.float32),
        component_weights={"outcome": numpy.float32(0.5)},
        generation_kwargs={"typical_p": numpy.float32(0.5), "begin_suppress_tokens": numpy.array([3, 4])},
    )
    assert (args.reward, args.attribution_method, args.reward_weights) == ("iapo", "gradient", [1.0])
    assert json.loads(json.dumps(args.to_dict()))["generation_kwargs"]["begin_suppress_tokens"] == [3, 4]
    assert type(args.component_weights["outcome"]) is float
    assert IAPOConfig("x", use_cpu=True, bf16=False, reward_weights=[np.float32(1)]).reward_weights == [1.0]
    budget = Budget(seeds=numpy.array([0, 1]), sets=[Path("vbar")], settings={"learning_rate": [numpy.float64(1)]})
    assert json.dumps(dataclasses.asdict(budget))
    assert (budget.seeds, budget.sets) == ((0, 1), ("vbar",))
    with pytest.raises(InputError, match="reward_weights holds nan"):
        IAPOConfig("x", use_cpu=True, bf16=False, reward_weights=numpy.array([1.0, np.nan]))


@checks_kinds
def asked(text: str, count: int = 1, *, out: Path | None = None, rows: Sequence[Score] = (), **more: Any) -> Any:
    """Gives back what it is given."""
    return text, count, out, rows, more


def test_arguments_of_functions() -> None:
    rows = [Score(1.0)]
    assert asked("a", np.int64(2), out="x", rows=rows, other=print) == ("a", 2, Path("x"), rows, {"other": print})
    for given, sentence in (
        ({"text": None}, "asked: text is None; it takes a text"),
        ({"count": True}, "asked: count is True; it takes a whole number"),
        # An empty text would be the working directory.
        ({"out": ""}, "asked: out is ''; it takes none or a path|a path or none"),
        ({"rows": "ab"}, "asked: rows is 'ab'; it takes a list of iapo.records.Score"),
        ({"rows": [1.0]}, r"asked: rows is \[1.0\]; it takes a list of iapo.records.Score"),
        ({"rows": {}}, "asked: rows is {}; it takes a list"),
    ):
        with pytest.raises(InputError, match=sentence):
            asked(**{"text": "a", **given})
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        asked()  # type: ignore[call-arg]


def checked_functions() -> dict[str, Any]:
    """Every function and method of the package that `checks_kinds` checks, by its name."""
    found = {}
    for module in pkgutil.walk_packages(iapo.__path__, "iapo."):
        if module.name.endswith("__main__"):
            continue
        parts = list(vars(importlib.import_module(module.name)).values())
        for part in (*parts, *(one for kind in parts if inspect.isclass(kind) for one in vars(kind).values())):
            function = getattr(part, "__func__", part)
            code = getattr(function, "__code__", None)
            if code is not None and code.co_qualname == "checks_kinds.<locals>.call":
                found[f"{function.__module__}.{function.__qualname__}"] = function
    return found


def test_every_checked_function_knows_its_types() -> None:
    found = checked_functions()
    assert {"iapo.evaluation.measures.summarize", "iapo.data.loading.load", "iapo.training.run.run"} <= found.keys()
    for name, function in found.items():
        hints = typing.get_type_hints(function.__wrapped__)
        assert len(hints) > 1, name
        # What stands where nothing is given must be allowed where it is given.
        for one in inspect.signature(function).parameters.values():
            if one.default is not one.empty:
                check_kind(f"{name}: {one.name}", one.default, members(hints[one.name]))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: summarize(None), "summarize: traces is None; it takes a list of iapo.records.Trace"),
        (lambda: summarize([5]), r"summarize: traces is \[5\]; it takes a list of iapo.records.Trace"),
        (lambda: summarize(iter([{}])), r"summarize: traces: item 1 is {}; it takes iapo.records.Trace"),
        (
            lambda: list(strict(one for one in [SAMPLE, 5])),
            "strict: items: item 2 is 5; it takes iapo.samples.Sample",
        ),
        (lambda: grade("FINAL ANSWER: 12", "12"), "grade: answers is '12'; it takes a list of texts"),
        (lambda: grade(12, ["12"]), "grade: text is 12; it takes a text"),
        (lambda: grade_sample("12", {}), "grade_sample: sample is {}; it takes iapo.samples.Sample"),
        (lambda: outcome_reward(["12"]), r"outcome_reward: trace is \['12'\]; it takes a list of iapo.records.Trace"),
        (lambda: load(None), "load: source is None; it takes a path or a text"),
        (lambda: load(""), "the data are ''; give a file, a folder"),
        (lambda: detect(None), "detect: source is None"),
        (lambda: detect(" "), "the data are ' '; give a file"),
        (lambda: generate("vbar", 1, seed=None), "generate: seed is None; it takes a whole number"),
        (lambda: generate("vbar", None, seed=0), "generate: count is None"),
        (lambda: list(strict(None)), "strict: items is None"),
        (lambda: execute(None, SAMPLE), "the text is None; it takes a text"),
        (lambda: execute("", 5), "the sample is 5; it takes iapo.samples.Sample"),
        (lambda: find_boxes(None, "chart"), "find_boxes: image is None; it takes PIL.Image.Image"),
        (lambda: Agent.from_endpoint("http://x/v1"), "Agent.from_endpoint: endpoint is 'http://x/v1'; it takes"),
        (lambda: PromptEncoder(None), "the processor is of type NoneType"),
        (lambda: build_blocks(None), "the sample is None"),
        (lambda: offered_tools(5), "offered_tools: setting is 5"),
        (lambda: RunFolder(None), "RunFolder: path is None; it takes a path"),
        (lambda: read_row("a", [], (0,)), "row 'a' has 0 folders for 1 seeds; give one folder a seed"),
        (lambda: table_one([], "grpo"), r"the reference 'grpo' is none of the rows \(none\); name one"),
    ],
)
def test_public_functions(call: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_types_that_cannot_be_resolved_are_not_looked_at() -> None:
    """Those of a user's own subclass: imported for type checkers alone, or known to a function."""

    class Known:
        pass

    @dataclasses.dataclass
    class Mine(IAPOConfig):
        cache: Nowhere | None = None  # type: ignore[name-defined]  # noqa: F821
        other: Known | None = None

    assert Mine("out", use_cpu=True, bf16=False, cache=5).cache == 5
    with pytest.raises(InputError, match="penalty_weight is 'much'; it takes a number"):
        Mine("out", use_cpu=True, bf16=False, penalty_weight="much")


def test_numbers_in_any_mapping_become_plain() -> None:
    weights = collections.OrderedDict(outcome=np.float32(1))
    config = IAPOConfig("out", use_cpu=True, bf16=False, component_weights=weights)
    assert json.dumps(config.component_weights) == '{"outcome": 1.0}'
