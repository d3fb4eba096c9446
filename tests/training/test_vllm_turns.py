"""Rollouts of several turns and images through the engine of vLLM, whose place a stand-in takes: what it is given, and
what the trainer makes of what it says.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scripted import COLUMNS, ROWS, settings
from several import chart, with_more
from trl.generation.vllm_generation import VLLMGeneration

from iapo.errors import NumberError
from iapo.records import Sample
from iapo.rollout.template import find_prompt
from iapo.training.batches import to_dataset
from iapo.training.trainer import IAPOTrainer
from iapo.training.vllm_rollouts import RolloutEngine

LIMIT = 34
"""Tokens that a rollout may write: the last turn of the longest one is cut."""


def turns_of(sample: Sample, index: int) -> tuple[str, ...]:
    """Two turns; three, the last of which ends at once; four, the first of which fails; five, of which four fail."""
    name = next(iter(sample.column_boxes))
    columns, rows = (one.format(names=[name]).replace("'", '"') for one in (COLUMNS, ROWS))
    failed = COLUMNS.format(names='["Z"]')
    right = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    return ((columns, right), (columns, rows, ""), (failed, columns, rows, right), (*[failed] * 4, right))[index]


TURNS = [2, 3, 4, 5]


class StandIn(RolloutEngine):
    """Writes given turns, each token with the probability that a model gives it."""

    def __init__(self, trainer: IAPOTrainer, script: Sequence[Sequence[str]]) -> None:
        self.encoder, self.mode, self.tensor_parallel_size = trainer.encoder, "colocate", 1
        self.accelerator = SimpleNamespace(num_processes=1)
        self.policy, self.given = trainer.model, []
        end = self.encoder.tokenizer.eos_token_id
        self.left = [
            iter([[*self.encoder.tokenizer(text)["input_ids"], end] if text else [] for text in turns])
            for turns in script
        ]

    def write(self, prompts: list[list[int]], images: list[list[Any]], *_: Any) -> Any:
        """Stands for vLLM's own `generate`."""
        turns = [turn for turn in (next(one, None) for one in self.left) if turn is not None]
        assert len(turns) == len(prompts)
        read, log_probs = [], []
        image = self.encoder.image_token_id
        for row, shown, turn in zip(prompts, images, turns, strict=True):
            # One token an image of its own, of every turn, in order.
            assert row.count(image) == len(shown)
            counts = iter(self.encoder.image_token_counts(shown))
            whole = [token for one in row for token in ([image] * next(counts) if one == image else [one])]
            read.append(whole)
            log_probs.append([[value] for value in self.scores(whole, turn, shown)])
        self.given.append((read, images))
        return read, [list(turn) for turn in turns], log_probs, [[[token] for token in turn] for turn in turns]

    def scores(self, row: list[int], turn: list[int], images: list[Any]) -> list[float]:
        """Log-probabilities of a turn's tokens, by the model's plain pass."""
        if not turn:
            return []
        ids = torch.tensor([row + turn])
        with torch.no_grad():
            logits = self.policy(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == self.encoder.image_token_id).long(),
                **self.encoder.pixels(images),
            ).logits
        every = logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        found: list[float] = every[len(row) - 1 :].tolist()
        return found


@pytest.fixture(params=["one image", "two images"])
def sample(request: pytest.FixtureRequest) -> Sample:
    return chart() if request.param == "one image" else with_more(chart(), (84, 140))


def trainer_of(tmp_path: Path, policy: Any, sample: Sample, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """A trainer whose vLLM is the stand-in, and the numbers of rounds that it takes part in beside its own."""
    model, processor = policy
    processor = copy.copy(processor)
    processor.prompt = find_prompt("tiny-turns")
    given: dict[str, Any] = {"max_turns": 5, "max_completion_length": LIMIT, "max_turn_tokens": 40, "temperature": 1.0}
    # Of each token by itself; TRL's own choice is the product over a rollout.
    given |= {"vllm_importance_sampling_mode": "token_truncate", **more}
    trainer = IAPOTrainer(
        copy.deepcopy(model),
        args=settings(tmp_path, **given),
        train_dataset=to_dataset([sample]),
        processing_class=processor,
        keep_run=False,
    )
    engine = StandIn(trainer, [turns_of(sample, index) for index in range(4)])
    trainer.use_vllm, trainer.vllm_generation, trainer._last_loaded_step = True, engine, 0
    monkeypatch.setattr(VLLMGeneration, "generate", StandIn.write)
    trainer.model.train()
    return trainer


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def policy(request: Any, model: Any, processor: Any, qwen3_model: Any, qwen3_processor: Any) -> tuple[Any, Any]:
    return (model, processor) if request.param == "qwen2_5_vl" else (qwen3_model, qwen3_processor)


def test_every_token_that_was_sampled_is_corrected_by_its_own_probability(
    tmp_path: Path, policy: tuple[Any, Any], sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all turns, a cut one and an empty one among them; the stand-in samples as the trainer scores, so by 1."""
    trainer = trainer_of(tmp_path, policy, sample, monkeypatch)
    output = trainer._generate_and_score_completions(list(to_dataset([sample])) * 4)
    rollouts = trainer._batch.rollouts
    assert [len(one.turns) for one in rollouts] == TURNS
    end = trainer.encoder.tokenizer.eos_token_id
    assert rollouts[1].turns[-1].ids == [end]
    cut = rollouts[3].turns[-1].ids
    assert end not in cut
    assert sum(len(turn.ids) for turn in rollouts[3].turns) == LIMIT
    # Each round is given what stands before it, and the images of that.
    rounds = trainer.vllm_generation.given
    assert [len(read) for read, _ in rounds] == [4, 4, 3, 2, 1]
    shown = len(sample.images)
    assert [[len(one) for one in images] for _, images in rounds] == [
        [shown] * 4,
        [shown + 1, shown + 1, shown, shown],
        [shown + 2, shown + 1, shown],
        [shown + 2, shown],
        [shown],
    ]
    written = (output["completion_mask"] * output["tool_mask"]).bool()
    ratio, sampled = output["importance_sampling_ratio"], output["sampling_per_token_logps"]
    assert written.sum(1).tolist() == [sum(len(turn.ids) for turn in one.turns) for one in rollouts]
    torch.testing.assert_close(ratio[written], torch.ones_like(ratio[written]), rtol=1e-4, atol=1e-4)
    assert sampled.isnan().nonzero().tolist() == [[1, len(rollouts[1].completion_ids) - 1]]
    assert ratio[1, len(rollouts[1].completion_ids) - 1] == 1
    assert float(sampled[written].nan_to_num(-1).max()) < 0


def test_a_probability_that_vllm_cannot_say_stops_the_training(
    tmp_path: Path, model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL has None for its NaN, which comes of weights or activations that are none."""
    sample = chart()
    trainer = trainer_of(tmp_path, (model, processor), sample, monkeypatch)
    whole = StandIn.write

    def broken(self: StandIn, *args: Any) -> Any:
        read, turns, log_probs, tokens = whole(self, *args)
        if len(self.given) == 3:
            log_probs[1][0] = [None]
        return read, turns, log_probs, tokens

    monkeypatch.setattr(VLLMGeneration, "generate", broken)
    with pytest.raises(NumberError, match="log-probability of the sampling is not finite"):
        trainer._generate_and_score_completions(list(to_dataset([sample])) * 4)


@pytest.mark.parametrize(("turns", "times"), [(5, 0), (8, 3)])
def test_processes_take_part_in_as_many_rounds(
    tmp_path: Path, model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch, turns: int, times: int
) -> None:
    sample, told = chart(), []
    monkeypatch.setattr("iapo.training.trainer.take_part", lambda engine, count: told.append(count))
    trainer = trainer_of(tmp_path, (model, processor), sample, monkeypatch, max_turns=turns)
    trainer._generate_and_score_completions(list(to_dataset([sample])) * 4)
    assert told == [times]
