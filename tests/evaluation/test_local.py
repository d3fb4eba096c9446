"""Generation and evaluation: greedy is greedy, sums are what they are called."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from iapo.bounds import LEAST_HEAT
from iapo.errors import InputError
from iapo.estimates import Estimate, proportion
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.evaluation.measures import mean_attribution, paired_difference, summarize
from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
from iapo.rewards.alignment import Alignment
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import Block, PromptEncoder, build_blocks

COLUMNS = ToolCall("focus_on_columns_with_mask", ("A",), "columns_bbox", "columns")
ROWS = ToolCall("focus_on_rows_with_draw", ("A",), "rows_bbox", "rows")


def trace(
    name: str,
    outcome: float,
    status: Any = "edited",
    call: ToolCall = COLUMNS,
    axis: Any = "columns",
    divergence: float | None = None,
    attribution: dict[str, dict[str, float]] | None = None,
) -> Trace:
    scores = {"outcome": Score(outcome)}
    if divergence is not None:
        scores["divergence"] = Score(divergence)
    sample = Sample(name, Image.new("RGB", (4, 4)), "?", ("1",), axis=axis)
    calls = (call,) if status in ("edited", "failed") else ()
    return Trace.of(sample, "a call", ToolResult(status, calls), scores=scores, attribution=attribution or {})


def test_summary_by_hand():
    traces = [
        trace("a", 1, "edited", COLUMNS, divergence=0.5, attribution={"student": {"x": 0.5, "y": 0.5}}),
        trace("b", 0, "edited", ROWS, divergence=1.0),
        # No tool is wrong here.
        trace("c", 1, "edited", ROWS, axis=None, divergence=0.0),
        trace("d", 0, "failed", ROWS, divergence=0.5),
        trace("e", 0, "refused", divergence=2.0),
        trace("f", 1, "no_call", divergence=2.0),
        # A score that is not a right answer is none.
        trace("g", 0.5, "no_call"),
    ]
    found = summarize(traces)
    values = {name: (estimate.value, estimate.count) for name, estimate in found.items()}
    assert values == {
        "accuracy": (3 / 7, 7),
        "call_ratio": (5 / 7, 7),
        "call_success": (3 / 5, 5),
        "misuse": (1 / 2, 2),
        "divergence": (1.0, 6),
        "divergence_right": (0.5, 1),
        "divergence_misused": (1.0, 1),
        "student_entropy": (pytest.approx(math.log(2)), 1),
        "teacher_entropy": (None, 0),
    }
    assert found["accuracy"] == proportion([True] * 3 + [False] * 4)
    assert found["divergence"].low < 1.0 < found["divergence"].high


def test_summary_of_little():
    found = summarize([trace("a", 1, "no_call")])
    assert found["call_success"] == found["misuse"] == found["divergence"] == Estimate(None, None, None, 0)
    assert found["call_ratio"].value == 0


def test_paired_difference():
    before = [trace(name, value, divergence=0.1) for name, value in zip("abcd", (0, 0, 1, 1), strict=True)]
    after = [trace(name, value, divergence=0.3) for name, value in zip("abcd", (1, 1, 1, 0), strict=True)]
    found = paired_difference(after, before)
    assert (found.value, found.count) == (0.25, 4)
    assert -1 <= found.low < 0.25 < found.high <= 1
    # None of four pairs differs, however much the values themselves vary: more of them might.
    same, none = paired_difference(before, before), proportion([False] * 4).high
    assert (same.value, same.low, same.high) == (0, pytest.approx(-none), none)
    # A score without bounds has none to go to.
    assert paired_difference(before, before, "divergence") == Estimate(0, 0, 0, 4)
    assert paired_difference(after, before, "divergence").value == pytest.approx(0.2)
    assert paired_difference(after, before, "divergence").low == pytest.approx(0.2)


@pytest.mark.parametrize("names", ["abdc", "abc", "abcde"])
def test_unpaired_evaluations_are_refused(names: str):
    with pytest.raises(ValueError, match="the same samples in the same order"):
        paired_difference([trace(name, 1) for name in names], [trace(name, 1) for name in "abcd"])


def test_mean_attribution():
    traces = [
        trace("a", 1, attribution={"student": {"x": 0.2, "y": 0.8}, "teacher": {"x": 1.0, "y": 0.0}}),
        trace("b", 1, attribution={"student": {"x": 0.6, "y": 0.4}, "teacher": {"x": 0.5, "y": 0.5}}),
        trace("c", 0, "no_call"),
    ]
    found = mean_attribution(traces)
    assert found == {"student": pytest.approx({"x": 0.4, "y": 0.6}), "teacher": {"x": 0.75, "y": 0.25}}
    assert mean_attribution(traces[2:]) == {"student": {}, "teacher": {}}


@pytest.fixture
def policy(family: str, model: PreTrainedModel, qwen3_model: PreTrainedModel, encoder: PromptEncoder) -> Policy:
    return Policy(qwen3_model if family == "qwen3_vl" else model, encoder.processor)


@pytest.fixture(scope="module")
def encoder(family: str, encoder: PromptEncoder, qwen3_encoder: PromptEncoder) -> PromptEncoder:
    return qwen3_encoder if family == "qwen3_vl" else encoder


Rows = tuple[list[list[int]], list[list[Image.Image]]]


@pytest.fixture
def rows(encoder: PromptEncoder, samples: list[Sample]) -> Rows:
    """Rows of other lengths, with one picture and with two, of several sizes."""
    small = samples[1].image.resize((56, 84))
    layouts = [
        build_blocks(samples[0]),
        (Block("image", "i", image=small), Block("query", "q", "QUESTION: A?")),
        (Block("image", "i", image=small), Block("image", "j", image=samples[2].image), Block("query", "q", "both?")),
        build_blocks(samples[3]),
    ]
    prompts = [encoder.encode(blocks) for blocks in layouts]
    assert len({len(prompt.ids) for prompt in prompts}) > 2
    return [prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts]


def test_greedy_is_deterministic_and_each_row_stands_alone(policy: Policy, encoder: PromptEncoder, rows: Rows):
    """What a row gets depends neither on its padding nor on the rows beside it."""
    generate = make_generate(policy, encoder, max_new_tokens=12)
    together = generate(*rows)
    assert generate(*rows) == together
    assert [generate([ids], [images])[0] for ids, images in zip(*rows, strict=True)] == together
    assert generate(rows[0][::-1], rows[1][::-1]) == together[::-1]
    assert len({tuple(new) for new in together}) > 1


def test_greedy_is_the_most_likely_token(policy: Policy, encoder: PromptEncoder, rows: Rows):
    """Each new token is the best but the image token, by a plain forward pass over the whole sequence."""
    for ids, images, new in zip(*rows, make_generate(policy, encoder, max_new_tokens=6)(*rows), strict=True):
        whole = torch.tensor([[*ids, *new]])
        with torch.no_grad():
            logits = policy.model(
                input_ids=whole,
                mm_token_type_ids=(whole == encoder.image_token_id).int(),
                **encoder.pixels(images),
            ).logits[0, len(ids) - 1 : -1]
        logits[:, encoder.image_token_id] = -torch.inf
        assert logits.argmax(-1).tolist() == new


@pytest.mark.parametrize(
    "file",
    [
        # As published Qwen2.5-VL checkpoints have it.
        {"do_sample": True, "temperature": 1e-6, "top_k": 1, "top_p": 0.001, "repetition_penalty": 1.05},
        {"do_sample": True, "temperature": 5.0, "top_k": 3, "top_p": 0.5, "repetition_penalty": 9.0},
        {"min_new_tokens": 8, "min_length": 400, "eos_token_id": list(range(600))},
        {"no_repeat_ngram_size": 1, "encoder_repetition_penalty": 9.0, "encoder_no_repeat_ngram_size": 1},
        {"bad_words_ids": [[token] for token in range(10, 600)], "sequence_bias": [[[20], 50.0]]},
        {"begin_suppress_tokens": list(range(10, 600)), "exponential_decay_length_penalty": [0, 5.0]},
        {"watermarking_config": {"bias": 20.0}, "renormalize_logits": True, "remove_invalid_values": True},
        {"typical_p": 0.01, "min_p": 0.9, "epsilon_cutoff": 0.9, "eta_cutoff": 0.9, "top_h": 0.1},
        {"forced_eos_token_id": 5, "forced_bos_token_id": 5, "max_time": 1e-9, "max_length": 5},
        {"num_beams": 4, "num_return_sequences": 2, "stop_strings": ["a"], "guidance_scale": 5.0},
        {"token_healing": True, "assistant_early_exit": 1, "prompt_lookup_num_tokens": 3, "constraints": [1]},
        {"cache_implementation": "static", "use_cache": False, "unheard_of": 1},
    ],
    ids=lambda file: next(iter(file)) + str(len(file)),
)
def test_the_checkpoints_own_settings_do_not_count(
    policy: Policy, encoder: PromptEncoder, rows: Rows, file: dict[str, Any]
):
    """Published checkpoints carry sampling settings, among them a repetition penalty; what ends a turn is theirs."""
    policy, model = Policy(copy.deepcopy(policy.model), policy.processor), copy.deepcopy(policy.model)
    for one in (policy.model, model):
        one.generation_config.eos_token_id = file.get("eos_token_id", one.generation_config.eos_token_id)
    for name, value in file.items():
        setattr(model.generation_config, name, value)
    before = model.generation_config.to_dict()
    spoilt = Policy(model, policy.processor)
    greedy = [make_generate(one, encoder, max_new_tokens=8)(*rows) for one in (policy, spoilt)]
    assert greedy[0] == greedy[1]
    sampled = []
    for one in (policy, spoilt):
        torch.manual_seed(5)
        sampled.append(make_generate(one, encoder, max_new_tokens=8, temperature=1.0)(*rows))
    assert sampled[0] == sampled[1]
    assert sampled[0] != greedy[0] or "eos_token_id" in file
    assert model.generation_config.to_dict() == before


def test_sampling_reaches_every_token(policy: Policy, encoder: PromptEncoder, rows: Rows):
    """At a temperature so high that all are equally likely, 600 draws give many more than 50 tokens, but no image."""
    generate = make_generate(policy, encoder, max_new_tokens=1, temperature=1e4)
    torch.manual_seed(0)
    drawn = [new[0] for new in generate([rows[0][1]] * 600, [rows[1][1]] * 600)]
    assert len(set(drawn)) > 200
    assert encoder.image_token_id not in drawn
    torch.manual_seed(0)
    narrow = make_generate(policy, encoder, max_new_tokens=1, temperature=1.0, top_p=1e-6)
    assert narrow([rows[0][1]] * 20, [rows[1][1]] * 20) == [narrow([rows[0][1]], [rows[1][1]])[0]] * 20


def test_the_lowest_temperature_is_greedy(policy: Policy, encoder: PromptEncoder, rows: Rows):
    """No score overflows there, and of what lies below none is asked for."""
    least = EvaluationSettings(temperature=LEAST_HEAT).temperature
    assert least > 0
    cold = make_generate(policy, encoder, max_new_tokens=4, temperature=least)(*rows)
    assert cold == make_generate(policy, encoder, max_new_tokens=4)(*rows)
    for temperature in (LEAST_HEAT / 2, 1e-300):
        with pytest.raises(InputError, match=r"temperature is .*; give 0\.0001 to 1000, or 0"):
            EvaluationSettings(temperature=temperature)


def test_rows_end_with_their_end_token(policy: Policy, encoder: PromptEncoder, rows: Rows):
    """What follows in the batch's tensor is padding, and no part of the turn."""
    whole = make_generate(policy, encoder, max_new_tokens=12)(*rows)
    ended = copy.deepcopy(policy.model)
    stop = whole[0][4]
    ended.generation_config.eos_token_id = [stop]
    cut = make_generate(Policy(ended, policy.processor), encoder, max_new_tokens=12)(*rows)
    for short, long in zip(cut, whole, strict=True):
        place = long.index(stop) + 1 if stop in long else len(long)
        assert short == long[:place]
    assert len(cut[0]) <= 5


@pytest.mark.parametrize("training", [True, False])
def test_generation_leaves_the_model_as_it_was(policy: Policy, encoder: PromptEncoder, rows: Rows, training: bool):
    model = copy.deepcopy(policy.model).train(training)
    make_generate(Policy(model, policy.processor), encoder, max_new_tokens=2)(*rows)
    assert model.training is training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_evaluation(policy: Policy, samples: list[Sample]):
    done: list[int] = []
    settings = EvaluationSettings(max_turn_tokens=6, batch_size=3)
    traces = evaluate(policy, samples, settings, progress=done.append)
    assert done == [3, 1]
    assert [one.sample for one in traces] == samples
    assert all(set(one.scores) == {"outcome"} and not one.attribution for one in traces)
    # Neither the batches nor the random numbers matter to greedy turns.
    again = evaluate(policy, samples, EvaluationSettings(max_turn_tokens=6, seed=9))
    assert [one.turn_1 for one in again] == [one.turn_1 for one in traces]
    assert summarize(traces)["accuracy"].count == 4


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        *(({"progress": value}, "progress is .*; it takes a function") for value in (None, 5, "x")),
        *(({"patches": value}, "patches is .*; it takes a whole number") for value in ("2", 1.5, True, None)),
        ({"patches": -1}, "patches is -1; give "),
    ],
)
def test_what_an_evaluation_takes(policy: Policy, more: Any, sentence: str):
    """Said before anything is sampled."""
    never: Any = iter(lambda: pytest.fail("a sample was taken"), None)
    with pytest.raises(InputError, match=sentence):
        evaluate(policy, never, EvaluationSettings(), **more)


def test_sampled_evaluation_repeats_with_its_seed(policy: Policy, samples: list[Sample]):
    turns = [
        [one.turn_1 for one in evaluate(policy, samples, EvaluationSettings(6, temperature=1.0, seed=seed))]
        for seed in (1, 1, 2)
    ]
    assert turns[0] == turns[1] != turns[2]


def test_evaluation_measures_divergence(
    policy: Policy, encoder: PromptEncoder, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
):
    """The first sample's turns are put into the model's mouth: a call, and the right answer."""
    call = '```python\ndisplay(focus_on_columns_with_mask(image_1, ["{}"], columns_bbox))\n```'
    turns = [call.format(next(iter(samples[0].column_boxes))), "FINAL ANSWER: nothing. TERMINATE"]
    answer = f"FINAL ANSWER: {samples[0].answers[0]}. TERMINATE"

    def fake(*_: Any, **__: Any) -> Any:
        def generate(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
            texts = turns if len(images[0]) == 1 else [answer]
            return [[*encoder.tokenizer(text)["input_ids"], encoder.tokenizer.eos_token_id] for text in texts]

        return generate

    monkeypatch.setattr("iapo.evaluation.local.make_generate", fake)
    alignment = Alignment(Policy(copy.deepcopy(policy.model), policy.processor), encoder)
    called, uncalled = evaluate(policy, samples[:2], EvaluationSettings(), alignment=alignment)
    assert called.result.status == "edited"
    assert called.turn_2 == answer
    assert {name: score.value for name, score in called.scores.items()} == {"outcome": 1.0, "divergence": 0.0}
    assert set(called.attribution) == {"student", "teacher"}
    assert uncalled.turn_2 is None
    assert {name: score.value for name, score in uncalled.scores.items()} == {
        "outcome": 0.0,
        "divergence": pytest.approx(math.log(9)),
    }
    assert uncalled.attribution == {}
