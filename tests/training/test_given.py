"""What `IAPOTrainer` is given in Python: other kinds are refused before anything is loaded or written."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import IterableDataset
from PIL import Image
from scripted import batch, scripted, settings
from trl import GRPOConfig

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.grading.outcome import Outcome, outcome_reward
from iapo.records import Sample
from iapo.rollout.policy import Policy, load_processor
from iapo.tools import TOOLS
from iapo.training.batches import to_dataset
from iapo.training.config import IAPOConfig
from iapo.training.given import reward_functions
from iapo.training.trainer import IAPOTrainer


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def plain(trace: Any, **columns: Any) -> list[float]:
    return [0.0] * len(trace)


def outcome(trace: Any, **columns: Any) -> list[float]:
    return [0.0] * len(trace)


def divergence_reward(trace: Any, **columns: Any) -> list[float]:
    return [0.0] * len(trace)


def execution(trace: Any, **columns: Any) -> list[float]:
    return [0.0] * len(trace)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model": 5}, "model is 5; give a checkpoint's name"),
        ({"args": {"max_steps": 1}}, "args is a dict; give an IAPOConfig"),
        ({"args": "grpo"}, "args is a GRPOConfig; give an IAPOConfig"),
        ({"processing_class": "tiny-student"}, "processing_class is 'tiny-student'; give a processor"),
        ({"teacher": "tiny-teacher"}, "teacher is 'tiny-teacher'; give a loaded policy"),
        ({"teacher": torch.nn.Linear(1, 1)}, "teacher is a Linear"),
        ({"tools": {}}, "tools are none; a training needs one"),
        ({"tools": None}, "tools are no mapping of names to tools, but NoneType"),
        ({"tools": list(TOOLS.values())}, "tools are no mapping of names to tools, but list"),
        ({"tools": {"invert": Image.Image.copy}}, "'invert' has an object of type function"),
        ({"on_rollouts": "x"}, "on_rollouts is 'x'; give a function"),
        ({"on_rollouts": lambda step: None}, r"on_rollouts is a function; give a function \(step, traces\)"),
        ({"keep_run": "no"}, "keep_run is 'no'; give True or False"),
        ({"train_dataset": [1]}, "the data set is a list; make it with iapo.to_dataset"),
        ({"train_dataset": IterableDataset.from_generator(range)}, "the data set is a IterableDataset"),
        ({"eval_dataset": {"a": 1}}, "the data set is a dict"),
        ({"reward_funcs": []}, "reward_funcs is empty"),
        ({"reward_funcs": "grpo"}, "reward_funcs has 'grpo'; give a function"),
        ({"reward_funcs": [plain, None]}, "reward_funcs has None"),
        ({"reward_funcs": outcome}, "a reward function is called 'outcome', which is the rules' verdict"),
        (
            {"reward_funcs": divergence_reward},
            "a reward function is called 'divergence_reward', and so is the teacher's",
        ),
        ({"reward_funcs": execution, "reward": "torl"}, "are both 'execution'; rename the function"),
        ({"reward_funcs": [plain, functools.partial(plain)]}, "two reward functions are called 'plain'"),
        ({"rollout_func": plain}, "rollout_func is GRPOTrainer's own tool protocol"),
    ],
)
def test_another_kind_is_refused(
    tmp_path: Path, charts: list[Sample], given: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("iapo.training.trainer.with_processor", load)
    args = settings(tmp_path, reward=given.pop("reward", "grpo"))
    if given.get("args") == "grpo":
        given["args"] = GRPOConfig(str(tmp_path / "run"), use_cpu=True, bf16=False)
    with pytest.raises(InputError, match=sentence):
        IAPOTrainer(**{"model": "tiny-student", "args": args, "train_dataset": to_dataset(charts), **given})
    assert not (tmp_path / "run").exists()


def test_a_processor_of_another_model(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    other = load_processor("tiny-qwen3-vl-teacher")
    with pytest.raises(InputError, match=r"the processing_class is of another model: its .* iapo.load_processor"):
        IAPOTrainer(student.model, args=settings(tmp_path), train_dataset=to_dataset(charts), processing_class=other)
    with pytest.raises(InputError, match="model is a loaded policy; give its `model`"):
        IAPOTrainer(student, args=settings(tmp_path), train_dataset=to_dataset(charts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"num_generations": 3}, "generation_batch_size .* num_generations"),
        ({"optim": "zzz"}, "zzz"),
        ({"eval_strategy": "sometimes"}, "sometimes"),
    ],
)
def test_what_libraries_say_of_settings_is_a_sentence(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        IAPOConfig(str(tmp_path), use_cpu=True, bf16=False, **more)


def test_functions_beside_a_reward_in_the_outcomes_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def own(trace):\n    return 1\n\ndef divergence(trace):\n    return 1\n")
    args = settings(tmp_path, reward=f"{path}:own")
    assert reward_functions(None, args) == []
    with pytest.raises(InputError, match=r"takes the outcome's place, and so do reward_funcs, .* weight 0"):
        reward_functions(plain, args)
    for more in ({"reward_weights": [0.5]}, {"component_weights": {"outcome": 1.0}}):
        assert len(reward_functions(plain, settings(tmp_path, reward=f"{path}:own", **more))) == 1
    for name in ("divergence", "total"):
        path.write_text(f"def {name}(trace):\n    return 1\n")
        with pytest.raises(InputError, match=rf"has a component '{name}', and so is .* called; take another name"):
            reward_functions(None, settings(tmp_path, reward=f"{path}:{name}"))
    for given in (Outcome(), outcome_reward):
        assert reward_functions((given,), settings(tmp_path)) == [given], "the outcome itself may be given, too"


def test_names_in_logs(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    """Partial functions and objects are logged by their own names."""

    class Kind:
        def __call__(self, trace: Any, **columns: Any) -> list[float]:
            return [1.0] * len(trace)

    functions = [functools.partial(plain), Kind()]
    trainer = scripted(tmp_path, student.model, student.processor, charts, reward_funcs=functions)
    assert trainer.reward_func_names == ["plain", "Kind"]
    batch(trainer, charts)
    assert {name for name in trainer._metrics["train"] if name.endswith("/weight")} == {
        "rewards/plain/weight",
        "rewards/Kind/weight",
    }


def test_an_attribution_method_that_fails(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "def scores(model, calls, pictures, settings):\n    return calls[7]\n\n"
        "from iapo.attribution.methods import METHODS\nimport dataclasses\n"
        "whole = dataclasses.replace(METHODS['gradient'], name='whole', scores=scores, scores_with_log_probs=None)\n"
    )
    for name in ("scores", "whole"):
        teacher = Policy(student.model, student.processor)
        more = {"teacher": teacher, "penalty_weight": 0.1, "attribution_method": f"{path}:{name}"}
        trainer = scripted(tmp_path / name, student.model, student.processor, charts, **more)
        with pytest.raises(
            InputError, match=rf"attribution method .*mine\.py:{name}' failed \(IndexError: .*, line 2\); mend it"
        ):
            batch(trainer, charts)


@dataclasses.dataclass
class Teacher:
    """Says that all blocks count alike, times a factor."""

    factor: float
    per_sample: bool = False

    def distributions(self, rollouts: Any) -> torch.Tensor:
        blocks = len(rollouts[0].prompt.block_names)
        return torch.full((len(rollouts), blocks), self.factor / blocks)


def test_a_teacher_of_ones_own(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    for factor in (1.0, 5.0):
        teacher = Teacher(factor)
        more = {"teacher": teacher, "penalty_weight": 0.1}
        trainer = scripted(tmp_path / str(factor), student.model, student.processor, charts, **more)
        if factor == 1:
            batch(trainer, charts)
            assert trainer._metrics["train"]["attribution/divergence"][0] > 0
            continue
        with pytest.raises(InputError, match=r"the teacher Teacher gives .* which is no distribution"):
            batch(trainer, charts)
