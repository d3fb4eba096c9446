"""In training, too, no setting of a checkpoint's `generation_config.json` is heard, and each of the run's own is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scripted import settings
from several import mixed

from iapo.rollout.policy import ImageTextProcessor
from iapo.training.batches import to_dataset
from iapo.training.trainer import IAPOTrainer

FILE = {
    "repetition_penalty": 50.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 20,
    "typical_p": 0.01,
    "begin_suppress_tokens": list(range(600)),
    "sequence_bias": [[[20], 50.0]],
    "max_time": 1e-9,
    "stop_strings": ["a"],
    "num_beams": 4,
    "top_k": 1,
    "top_p": 0.001,
    "temperature": 1e-6,
}


def turns(folder: Path, model: Any, processor: ImageTextProcessor, **changes: Any) -> list[list[int]]:
    """What a model writes of its own, from one seed."""
    trainer = IAPOTrainer(
        model, args=settings(folder, **changes), train_dataset=to_dataset(mixed()), processing_class=processor,
        keep_run=False,
    )  # fmt: skip
    torch.manual_seed(4)
    trainer._generate_and_score_completions([row for row in to_dataset(mixed()[:1]) for _ in range(4)])
    return [one.completion_ids for one in trainer._batch.rollouts]


@pytest.mark.parametrize("lora", [False, True])
def test_the_file_is_not_heard(tmp_path: Path, model: Any, processor: ImageTextProcessor, lora: bool) -> None:
    found = []
    for spoilt in (False, True):
        one = copy.deepcopy(model)
        one.generation_config.update(**(FILE if spoilt else {}))
        whole = get_peft_model(one, LoraConfig(r=2, target_modules=["q_proj"])) if lora else one
        found.append(turns(tmp_path / str(spoilt), whole, processor))
    assert found[0] == found[1]
    assert len(set(map(tuple, found[0]))) > 1
    # It is saved as it was.
    assert {name: getattr(one.generation_config, name) for name in FILE} == FILE


def test_the_runs_own_settings_are_heard(tmp_path: Path, model: Any, processor: ImageTextProcessor) -> None:
    one = copy.deepcopy(model)
    one.generation_config.update(no_repeat_ngram_size=9)
    written = turns(tmp_path, one, processor, temperature=3.0, top_k=2, generation_kwargs={"no_repeat_ngram_size": 1})
    assert any(len(row) > 4 for row in written)
    for row in written:
        first = row[: row.index(processor.tokenizer.eos_token_id)] if processor.tokenizer.eos_token_id in row else row
        assert len(set(first)) == len(first)
