"""The packaged recipes of TRM run: two steps of a small student, a verifier at an endpoint or the rules.

The rollouts are written by hand, of each four three with a call.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from documented import run
from endpoint_server import serve
from repositories import annotation, chartqa, tabfact
from scripted import COLUMNS, Scripted

from iapo.records import Sample
from iapo.runs import RunFolder
from iapo.training.trainer import IAPOTrainer

SMALL = (
    "--model tiny-student --prompt tiny --data_split train --bf16 false --dtype float32 --optim adamw_torch "
    "--min_pixels 3136 --per_device_train_batch_size 4 --num_generations 4 --gradient_accumulation_steps 1 "
    "--steps_per_generation 1 --max_steps 2 --max_completion_length 96 --max_turn_tokens 48 --save_strategy no "
    "--trace_every 1 --disable_tqdm true"
)
"""What is smaller than in the recipes, and the settings of a GPU."""


def calls(sample: Sample, index: int) -> tuple[str, str]:
    """One name, two names, the first again, nothing; right, wrong, wrong, right."""
    names = list(sample.column_boxes)
    chosen = ([names[0]], names[:2], [names[0]], [])[index]
    call = COLUMNS.format(names=json.dumps(chosen)) if chosen else f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    right = sample.answers[0] if index == 0 else "-"
    return call, f"FINAL ANSWER: {right}. TERMINATE"


@pytest.mark.parametrize("task", ["chart", "table"])
@pytest.mark.parametrize("verifier", ["endpoint", "rules"])
def test_two_steps(task: str, verifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IAPOTrainer, "_generate_single_turn", Scripted._generate_single_turn)
    monkeypatch.setattr(IAPOTrainer, "script", staticmethod(calls), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    if task == "chart":
        chartqa(data, {"one": annotation(), "two": annotation()}, "train")
    else:
        tabfact(data, ("train",))
    with serve(lambda request: '{"score": 0.25}') as server:
        asked = f"--verifier_url {server.url}" if verifier == "endpoint" else "--verifier rules --verifier_url none"
        run(f"iapo train --config qwen2.5-vl/{task}/trm {SMALL} --data {data} {asked} --output_dir {out}")
    done = RunFolder(out)
    assert [row["step"] for row in done.read_metrics()] == [1, 2]
    traces = done.read_traces()
    assert len(traces) == 8
    scores = [trace.scores["verifier"].value for trace in traces]
    called = [trace.result.status == "edited" for trace in traces]
    assert sum(called) == 6
    if verifier == "endpoint":
        assert scores == [0.25 * one for one in called]
        assert {request["model"] for request in server.requests} == {"gpt-4o"}
        # Of each four the first and the third call are one.
        assert 2 <= len(server.requests) <= 4
    else:
        assert not server.requests
        assert all(score in (0.0, 0.5, 1.0) for score in scores)
        assert any(scores)
        assert all(score == 0 for score, one in zip(scores, called, strict=True) if not one)
