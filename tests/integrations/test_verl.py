"""The integration with VeRL, as far as it runs on a CPU; `make verl` makes an environment for it."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("verl", reason="verl is not installed; `make verl` makes an environment with it")

from iapo_verl.agent_loop import IAPOAgentLoop, as_output
from iapo_verl.data import to_row
from iapo_verl.rollouts import fields_of
from omegaconf import OmegaConf
from processes import run as run_process
from test_verl_parts import as_loaded
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rewards.alignment import Alignment
from iapo.rollout.budget import Budget
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import rollout

ROOT = Path(__file__).parents[2]
ENGINE = Path(__file__).parent / "verl_engine.py"


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


@pytest.mark.slow(90)
def test_attribution_on_the_engine(student: Policy, samples: list[Sample], tmp_path: Path) -> None:
    """Two processes with VeRL's FSDP2 engine find what one with the whole student does, before and after a step."""
    encoder = PromptEncoder(student.processor)
    budget = Budget(24, sequence=400)
    torch.manual_seed(0)
    generate = make_generate(student, encoder, max_new_tokens=24, temperature=1.0)
    rollouts = rollout([one for one in samples for _ in range(2)], encoder, generate, budget=budget)
    rows = [{**as_loaded(to_row(one.trace.sample, 0)), **fields_of(one, budget)} for one in rollouts]
    (tmp_path / "rows.pickle").write_bytes(pickle.dumps(rows))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(ENGINE)]
    paths = os.pathsep.join(map(str, (ROOT / "integrations" / "verl", ROOT)))
    done = run_process([*command, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert [first["whole"], second["whole"]] == [True, True], "all parameters were there"
    assert first["sharded"] == first["after"] == len(list(student.model.parameters())), "and in shards before and after"
    settings = AttributionSettings(normalization="softmax")
    alignment = Alignment(load_policy("tiny-teacher"), encoder, settings)
    found = []
    for step in range(2):
        expected = [one.divergence for one in alignment.measure(student.model, rollouts)]
        found.append([*first["divergences"][step], *second["divergences"][step]])
        assert found[step] == pytest.approx(expected, abs=2e-5)
        # The step that the engine took: SGD at 0.05 on the parameters' sum of squares, its gradient clipped to 1.
        with torch.no_grad():
            norm = 2 * torch.stack([one.square().sum() for one in student.model.parameters()]).sum().sqrt()
            for one in student.model.parameters():
                one.mul_(1 - 2 * 0.05 / max(1.0, norm.item()))
    assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-4
