"""The integration with VeRL, as far as it runs on a CPU; `make verl` makes an environment for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("verl", reason="verl is not installed; `make verl` makes an environment with it")

from iapo_verl.agent_loop import IAPOAgentLoop, as_output
from iapo_verl.data import to_row
from omegaconf import OmegaConf
from test_verl_parts import as_loaded
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import Budget
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import rollout


class Server:
    """Stands for VeRL's client of generation servers: a policy of this process writes the turns, greedily."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.encoder = policy, PromptEncoder(policy.processor)
        self.asked: list[dict[str, Any]] = []

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], image_data: list[Image.Image]
    ) -> TokenOutput:
        self.asked.append({"request": request_id, "images": len(image_data), **sampling_params})
        write = make_generate(self.policy, self.encoder, max_new_tokens=sampling_params["max_tokens"])
        (ids,) = write([prompt_ids], [image_data])
        steps = {"min_global_steps": 3, "max_global_steps": 2 + len(self.asked)}
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields=steps)


def make_loop(policy: Policy, server: Server, *, response: int = 200, prompt: int = 200, **settings: Any) -> Any:
    length = {"name": "vllm", "prompt_length": prompt, "response_length": response}
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": length}, "data": {}})
    return IAPOAgentLoop(
        trainer_config=DictConfigWrap(config),
        server_manager=server,
        tokenizer=policy.processor.tokenizer,
        processor=policy.processor,
        dataset_cls=RLHFDataset,
        data_config=DictConfigWrap(config.data),
        hf_model_type="qwen2_5_vl",
        tools=None,
        **settings,
    )


def run(policy: Policy, sample: Sample, **settings: Any) -> tuple[Any, Server]:
    server = Server(policy)

    async def go() -> Any:
        loop = make_loop(policy, server, **settings)
        return await loop.run({"temperature": 0.0}, **as_loaded(to_row(sample, 0)))

    return asyncio.run(go()), server


def test_a_rollout_is_ours(student: Policy, samples: list[Sample]) -> None:
    """Turn 1, edit, turn 2 by VeRL's agent loop are those of our own rollout with the same policy."""
    encoder = PromptEncoder(student.processor)
    for sample in (samples[0], samples[2]):
        output, server = run(student, sample, max_turn_tokens=24)
        generate = make_generate(student, encoder, max_new_tokens=24)
        budget = Budget(24, sequence=len(output.prompt_ids) + 200)
        (own,) = rollout([sample], encoder, generate, budget=budget)
        assert len(own.turns) == 2
        assert output.prompt_ids == own.prompt.ids
        assert output.response_ids == own.completion_ids
        assert output.response_mask == [int(written) for written in own.model_written]
        assert len(output.response_logprobs) == len(output.response_ids)
        assert [value == -0.5 for value in output.response_logprobs] == own.model_written
        images = output.multi_modal_data["images"]
        assert [one.convert("RGB").tobytes() for one in images] == [one.convert("RGB").tobytes() for one in own.images]
        assert output.extra_fields["final_text"] == own.trace.final_text
        assert (output.extra_fields["min_global_steps"], output.extra_fields["max_global_steps"]) == (3, 4)
        assert [one["images"] for one in server.asked] == [1, 2]
        assert len({one["request"] for one in server.asked}) == 1
        assert all(one["max_tokens"] == 24 and one["logit_bias"] for one in server.asked)


def test_an_observation_that_does_not_fit(student: Policy, samples: list[Sample]) -> None:
    """It is left out of the loss, since it is no fault of the model's."""
    output, server = run(student, samples[0], max_turn_tokens=24, response=26)
    assert len(server.asked) == 1
    assert output.extra_fields["observation_cut"]
    assert not any(output.response_mask)


def test_lengths_that_cannot_be(student: Policy, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="prompt_length"):
        run(student, samples[0], prompt=20)
    with pytest.raises(InputError, match="max_turn_tokens is 300"):
        run(student, samples[0], max_turn_tokens=300)


def test_without_log_probs(student: Policy, samples: list[Sample]) -> None:
    encoder = PromptEncoder(student.processor)
    (own,) = rollout([samples[0]], encoder, make_generate(student, encoder, max_new_tokens=24))
    assert as_output(own, [None] * len(own.turns), {}).response_logprobs is None


def test_the_trainer_is_known_by_its_name() -> None:
    pytest.importorskip("transfer_queue", reason="TransferQueue is not installed")
    from iapo_verl.trainer import IAPOTrainer
    from iapo_verl.worker import IAPOWorker
    from verl.single_controller.base.decorator import MAGIC_ATTR
    from verl.trainer.ppo.v1.trainer_base import get_trainer_cls

    assert get_trainer_cls("iapo") is IAPOTrainer
    dispatch = getattr(IAPOWorker.measure_alignment, MAGIC_ATTR)["dispatch_mode"]
    assert {"dispatch_fn", "collect_fn"} <= dispatch.keys()


def test_a_worker_measures_rows(student: Policy, samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come out in their order, and those that fill a batch up with 0; all parameters are there meanwhile."""
    from contextlib import contextmanager

    from iapo_verl import worker
    from verl.utils import tensordict_utils as tu

    open_now: list[str] = []

    @contextmanager
    def opened(*what: Any) -> Any:
        open_now.append("open")
        yield
        open_now.remove("open")

    def measure(model: Any, rows: list[dict[str, Any]], step: int) -> list[Any]:
        assert (model, step, len(open_now)) == ("module", 6, 2)
        return [SimpleNamespace(divergence=float(row["iapo_turns"][0][0])) for row in rows]

    monkeypatch.setattr(worker, "unsharded", opened)
    engine = SimpleNamespace(eval_mode=opened, module="module")
    one = SimpleNamespace(actor=SimpleNamespace(engine=engine), row_measure=measure)
    rows = {
        "raw_prompt": [[{"role": "user", "content": str(index)}] for index in range(3)],
        "extra_info": [{"index": index} for index in range(3)],
        "extra_fields": [{"iapo_turns": [[index + 4]]} for index in range(3)],
        "num_turns": [4, 0, 4],
    }
    data = tu.get_tensordict({"ids": torch.zeros(3, 1), **rows}, {"step": 7})
    found = worker.IAPOWorker.measure_alignment(one, data)
    assert found["divergence"].tolist() == [4.0, 0.0, 6.0]
    assert not open_now
