"""Two training steps with each preset: its columns in rewards, advantages, metrics and traces."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from endpoint_server import serve
from scripted import batch, scripted, settings

from iapo.data.synthetic import generate
from iapo.records import Sample, Trace
from iapo.rollout.policy import Policy
from iapo.runs import METRICS, RunFolder
from iapo.training.batches import to_dataset
from iapo.training.settings import compared_rewards, parse
from iapo.training.trainer import IAPOTrainer

TEACHERS = ("iapo", "distill", "iapo+distill")

REWARDS = {
    # Right tool and right, wrong tool and right, failed and wrong, no call and wrong: `scripted.four_ways`.
    "grpo": [1, 1, 0, 0],
    "torl": [1, 1, -0.5, 0],
    "trm": [1.25, 1.25, 0, 0],
    "deepeyes": [2, 2, 0, 0],
    "toolrl": [7, 4, 1, 0],
    "otc": [1, 1, 0, 0],
    "mt-grpo": [2, 2, 0, 0],
    "openthinkimg": [2, 2, 1, 1],
}


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def extras(reward: str, other_model: Any, processor: Any, url: str) -> dict[str, Any]:
    if reward in TEACHERS:
        return {"teacher": Policy(other_model, processor), "penalty_weight": 0.1}
    return {"verifier": "v", "verifier_url": url, "judge_retries": 0} if reward == "trm" else {}


@pytest.mark.parametrize("reward", compared_rewards())
def test_two_steps(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list[Sample], reward: str
) -> None:
    seen: list[Trace] = []
    with serve(lambda request: '{"score": 0.5}') as server:
        trainer = scripted(
            tmp_path,
            model,
            processor,
            charts,
            max_steps=2,
            reward=reward,
            on_rollouts=lambda step, traces: seen.extend(traces),
            **extras(reward, other_model, processor, server.url),
        )
        trainer.train()
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert [row["step"] for row in rows] == [1, 2]
    names = list(trainer._columns)
    assert trainer.reward_func_names == ["outcome_reward", *names]
    for number, row in enumerate(rows):
        assert math.isfinite(row["loss"])
        components = [
            name for group in ("reward", "weight") for name in (f"{group}/outcome", *(f"{group}/{n}" for n in names))
        ]
        assert {name for name in row if not name.startswith("groups/")} == {*METRICS, *components}
        # The sum of the weighted components is the reward.
        total = sum(row[f"reward/{name}"] * row[f"weight/{name}"] for name in ("outcome", *names))
        assert row["reward/total"] == pytest.approx(total, abs=1e-5)
        group = seen[4 * number : 4 * number + 4]
        assert [set(trace.scores) - {"divergence"} for trace in group] == [{"outcome", *names}] * 4
        if reward in REWARDS:
            found = [sum(trace.scores[n].value * row[f"weight/{n}"] for n in ("outcome", *names)) for trace in group]
            assert found == pytest.approx(REWARDS[reward])
    assert (rows[0]["attribution/divergence"] is not None) == ("iapo" in reward.split("+"))


def test_a_local_verifier(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, model, processor, charts, reward="trm", verifier="tiny-teacher")
    batch(trainer, charts)
    right, wrong, failed, uncalled = trainer._batch.rewards[:, 1].tolist()
    assert 0 < right < 1
    assert 0 < wrong < 1
    assert right != wrong
    assert (failed, uncalled) == (0, 0)


@pytest.mark.parametrize("reward", ["distill", "iapo+distill"])
def test_the_teachers_likelihood_enters_the_reward(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list[Sample], reward: str
) -> None:
    seen: list[Trace] = []
    trainer = scripted(
        tmp_path,
        model,
        processor,
        charts,
        reward=reward,
        teacher=Policy(other_model, processor),
        penalty_weight=0.3,
        penalty_decay=0.5,
        distill_weight=0.2,
        on_rollouts=lambda step, traces: seen.extend(traces),
    )
    trainer.state.global_step = 2
    # An untrained teacher finds most calls less likely than a guess.
    trainer.alignment.reference.log_prob_floor = -8.0
    output = batch(trainer, charts)
    likely = [trace.scores["teacher_log_prob"].value for trace in seen]
    assert likely[3] == -8
    assert len(set(likely)) == 4
    assert all(-8 < value < 0 for value in likely[:3])
    totals = [o + 0.2 * math.exp(-1) * v for o, v in zip([1.0, 1.0, 0.0, 0.0], likely, strict=True)]
    if reward == "iapo+distill":
        divergences = [trace.scores["divergence"].value for trace in seen]
        assert divergences == pytest.approx([-trace.scores["alignment"].value for trace in seen])
        totals = [total - 0.3 * math.exp(-1) * d for total, d in zip(totals, divergences, strict=True)]
    else:
        assert all("divergence" not in trace.scores for trace in seen)
    rewards = torch.tensor(totals)
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert output["advantages"].tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)


def test_grpo_by_name_is_iapo_without_its_weight(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list[Sample]
) -> None:
    """To the last bit, and whatever penalty weight stands beside it."""
    trained = []
    for more in ({"reward": "grpo", "penalty_weight": 0.5}, {"reward": "iapo", "penalty_weight": 0.0}):
        trainer = scripted(tmp_path / more["reward"], model, processor, charts, max_steps=2, **more)
        trainer.train()
        trained.append(trainer.model.state_dict())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())
    start = model.state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in trained[0].items())


def test_the_judge_has_the_last_word(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    def reply(request: dict[str, Any]) -> str:
        answer = json.loads(request["messages"][1]["content"])["answer"]
        return '{"verdict": "correct"}' if answer == "none" else '{"verdict": "wrong"}'

    with serve(reply) as server:
        more = {"judge_model": "j", "judge_url": server.url}
        trainer = scripted(tmp_path, model, processor, charts, reward="torl", **more)
        output = batch(trainer, charts)
    assert len(server.requests) == 2
    # The failed call's answer is accepted: 1, 1, 1 - 1/2, 0.
    rewards = torch.tensor([1.0, 1.0, 0.5, 0.0])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert output["advantages"].tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_own_reward_functions_stand_in_for_the_outcome(tmp_path: Path, student: Policy, charts: list[Sample]) -> None:
    def length(trace: list[Trace], **columns: Any) -> list[float]:
        return [float(len(one.turn_1)) for one in trace]

    trainer = IAPOTrainer(
        student.model,
        reward_funcs=length,
        args=settings(tmp_path, reward="torl", reward_weights=[0.25]),
        train_dataset=to_dataset(charts),
        processing_class=student.processor,
    )
    assert trainer.reward_func_names == ["length", "execution"]
    trainer.model.train()
    trainer._generate_and_score_completions(list(to_dataset(charts[:1])) * 4)
    assert trainer.reward_weights.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"reward": "distill"}, "reward is distill .* but there is no teacher"),
        ({"reward": "trm"}, "reward 'trm' needs a verifier"),
        ({"reward": "gpro"}, "no reward 'gpro'"),
        ({"reward": "distill", "teacher_reference": "own_call"}, "set teacher_reference to student_call"),
        ({"reward": "iapo+distill", "teacher_table": "t.parquet"}, "and no teacher_table"),
        ({"component_weights": {"alignment": 1}}, "component_weights names 'alignment'"),
    ],
)
def test_bad_settings_are_refused(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        scripted(tmp_path, model, processor, charts, **more)


@pytest.mark.parametrize("reward", compared_rewards())
def test_a_configuration_names_its_reward(tmp_path: Path, reward: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"output_dir: x\nbf16: false\nteacher: tiny-teacher\nverifier: tiny-teacher\nreward: {reward}\n")
    _, found = parse(str(path))
    assert found.reward == reward
    # The penalty's default weight concerns its own presets alone.
    assert (found.penalty_weight == 0.1) == ("iapo" in reward.split("+"))
    assert found.distills == ("distill" in reward.split("+"))


def test_weights_and_judge_in_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "output_dir: x\nbf16: false\nreward: torl\ncomponent_weights: {execution: 0.25}\njudge_on_error: wait\n"
    path.write_text(text)
    _, found = parse(str(path), ["--judge_model", "m", "--judge_timeout", "5"])
    assert found.component_weights == {"execution": 0.25}
    assert (found.judge_model, found.judge_timeout, found.judge_on_error) == ("m", 5.0, "wait")
    _, found = parse(str(path), ["--component_weights", '{"execution": 1}'])
    assert found.component_weights == {"execution": 1}
    with pytest.raises((ValueError, SystemExit)):
        parse(str(path), ["--reward", "gpro"])
