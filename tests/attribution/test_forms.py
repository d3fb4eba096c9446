"""Scores of tokens, names of tools, blocks and forms: what is explained and compared, in all ways to compute it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from calls import call_text, make_call
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from iapo.attribution import prefix, tangent
from iapo.attribution.calls import Attributor
from iapo.attribution.divergence import block_distribution, divergence, entropy, worst_divergence
from iapo.attribution.forms import FORMS, check_form, compared_blocks, form_values, usual_form
from iapo.attribution.gradient import (
    CallInput,
    Pictures,
    _Batch,
    _path,
    block_scores,
    call_log_probs,
    run_language_model,
)
from iapo.attribution.names import NameFinder
from iapo.attribution.occlusion import occlusion_scores, without_block
from iapo.attribution.prefix import prefix_block_scores
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.turns import encode_prompts
from iapo.tools import TOOLS

SCORES = ("log_prob", "logit", "log_odds", "contrast")


@pytest.fixture(scope="module")
def pictures(encoder: PromptEncoder, samples: list[Sample]) -> Pictures:
    pixels = encoder.pixels([sample.image for sample in samples[:2]])
    return Pictures(pixels["pixel_values"], pixels["image_grid_thw"])


@pytest.fixture(scope="module")
def calls(encoder: PromptEncoder, samples: list[Sample]) -> list[CallInput]:
    """Three calls to each of two prompts; every other scored token is set against some others by `contrast`."""
    found = []
    for picture, sample in enumerate(samples[:2]):
        for index, tool in enumerate(list(TOOLS)[:3]):
            call = make_call(encoder, build_blocks(sample), call_text(tool, "B", "columns"), "Hm. " * index, picture)
            places = [place for place, scored in enumerate(call.target) if scored][::2]
            others = tuple((place, tuple(range(30, 31 + place % 3))) for place in places)
            found.append(dataclasses.replace(call, others=others))
    return found


def explained_as(calls: list[CallInput], score: Any) -> list[CallInput]:
    return [dataclasses.replace(one, score=score, others=one.others if score == "contrast" else ()) for one in calls]


def by_hand(
    model: PreTrainedModel, call: CallInput, pictures: Pictures, score: str, fraction: float = 1.0
) -> tuple[float, Tensor]:
    """`s` and the block scores of one call at a point of the path, from the definitions by probabilities."""
    batch = _Batch.build(model, [call], pictures)
    inputs = batch.inputs
    point = torch.where(batch.is_prompt[..., None], inputs * fraction, inputs).requires_grad_(True)
    hidden = run_language_model(model, point, batch.is_image, batch.position_ids)[0]
    total = torch.zeros(())
    others = dict(call.others)
    for place, scored in enumerate(call.target):
        if not scored:
            continue
        logits = model.lm_head(hidden[len(call.prompt_ids) + place - 1]).double()
        p, token = logits.softmax(-1), call.turn_ids[place]
        if score == "log_prob":
            value = p[token].log()
        elif score == "logit":
            value = logits[token] - logits.mean()
        elif score == "log_odds" or place not in others:
            value = p[token].log() - (1 - p[token]).log()
        else:
            value = p[token].log() - p[list(others[place])].sum().log()
        total = total + value
    gradient = torch.autograd.grad(total, point)[0]
    products = (gradient * inputs).sum(-1).sum(0)[0]
    scores = torch.zeros(call.blocks, dtype=products.dtype)
    for place, block in enumerate(call.block_of):
        scores[block] += products[place]
    return total.item(), scores


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_what_their_definitions_say(
    model: PreTrainedModel, calls: list[CallInput], pictures: Pictures, score: str
) -> None:
    (call,) = explained_as(calls[1:2], score)
    _, expected = by_hand(model, call, pictures, score)
    found = block_scores(model, [call], pictures)[0]
    torch.testing.assert_close(found / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-5)
    log_prob, _ = by_hand(model, call, pictures, "log_prob")
    assert call_log_probs(model, [call], pictures).item() == pytest.approx(log_prob, abs=1e-4)


@pytest.mark.parametrize("tangents", [True, False])
@pytest.mark.parametrize("score", SCORES)
def test_fast_paths_equal_the_reference(
    model: PreTrainedModel,
    calls: list[CallInput],
    pictures: Pictures,
    score: str,
    tangents: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefix, "LEAST_SAVED", -1)
    monkeypatch.setattr(tangent, "BLOCK_PRICE", 0)
    monkeypatch.setattr(tangent, "LEAST_SAVED", 1 if tangents else 10**9)
    monkeypatch.setattr(tangent, "TANGENT_COST", 0.01)
    given = explained_as(calls, score)
    expected = block_scores(model, given, pictures)
    found, log_probs = prefix_block_scores(model, given, pictures, with_log_probs=True)
    scale = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)
    # Whatever is explained, log-probabilities are told.
    _, told = prefix_block_scores(model, explained_as(calls, "log_prob"), pictures, with_log_probs=True)
    for one, other in zip(log_probs, told, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("score", SCORES)
def test_the_path_and_occlusion_explain_the_score(
    model: PreTrainedModel, calls: list[CallInput], pictures: Pictures, score: str
) -> None:
    (call,) = explained_as(calls[1:2], score)
    expected = torch.stack(
        [weight * by_hand(model, call, pictures, score, fraction)[1] for fraction, weight in _path(3)]
    ).sum(0)
    found = block_scores(model, [call], pictures, steps=3)[0]
    torch.testing.assert_close(found / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=3e-5)
    whole, _ = by_hand(model, call, pictures, score)
    rest, _ = by_hand(model, without_block(call, 3, model.config.image_token_id), pictures, score)
    assert occlusion_scores(model, [call], pictures)[0, 3].item() == pytest.approx(whole - rest, abs=1e-3)


def test_calls_of_two_scores_are_no_batch(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    mixed = [*explained_as(calls[:1], "logit"), *explained_as(calls[1:2], "log_odds")]
    for function in (block_scores, prefix_block_scores, occlusion_scores):
        with pytest.raises(ValueError, match="the same score"):
            function(model, mixed, pictures)


def spelled(*words: str) -> PreTrainedTokenizerFast:
    """A tokenizer that writes these words whole and everything else letter by letter."""
    letters = sorted(set(pre_tokenizers.ByteLevel.alphabet()))
    vocabulary = {token: index for index, token in enumerate([*letters, *dict.fromkeys(words)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    pattern = "|".join(sorted(words, key=len, reverse=True))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.model = models.BPE(vocab=vocabulary, merges=[], ignore_merges=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


PIECES = ("focus", "_on", "_rows", "_columns", "_with", "_mask", "_draw", "_highlight", "display")


def found_in(text: str, tools: list[str], *words: str) -> tuple[list[str], list[tuple[str, set[str]]]]:
    """The tokens of names, and those at which names part with their alternatives, as texts."""
    tokenizer = spelled(*(words or PIECES))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = NameFinder(tokenizer).find(ids, [True] * len(ids), tools)
    names = [tokenizer.decode([token]) for token, named in zip(ids, found.names, strict=True) if named]
    parted = [
        (tokenizer.decode([ids[at]]), {tokenizer.decode([one]) for one in others}) for at, others in found.choices
    ]
    return names, parted


def test_names_part_where_their_tokens_do() -> None:
    names, parted = found_in(f"display({next(iter(TOOLS))}(image_1))", list(TOOLS))
    assert names == ["focus", "_on", "_columns", "_with", "_highlight"]
    assert parted == [("_columns", {"_rows"})]
    # Where only the style is left open, names part at the style.
    columns = [name for name in TOOLS if "columns" in name]
    assert found_in(f"display({columns[1]}(x))", columns)[1] == [("_mask", {"_draw", "_highlight"})]


def test_several_calls_comments_texts_and_json() -> None:
    tools = list(TOOLS)
    text = f'# {tools[3]}(x)\nx = {tools[1]}(image_1, ["{tools[4]}("])\ndisplay({tools[5]}(x))'
    names, parted = found_in(text, tools)
    assert names == ["focus", "_on", "_columns", "_with", "_mask", "focus", "_on", "_rows", "_with", "_draw"]
    assert parted == [("_columns", {"_rows"}), ("_rows", {"_columns"})]
    assert found_in(json.dumps({"name": tools[0], "arguments": {}}), tools)[1] == [("_columns", {"_rows"})]


def test_a_name_that_begins_another_one_and_a_name_alone() -> None:
    words = ("mask", "masks", "display")
    assert found_in("display(mask(x))", ["mask", "masks"], *words) == (["mask"], [("mask", {"masks"})])
    assert found_in("display(masks(x))", ["mask", "masks"], *words) == (["masks"], [("masks", {"mask"})])
    assert found_in("display(mask(x))", ["mask"], *words) == (["mask"], [])
    assert found_in("display(image_1)", ["mask"], *words) == ([], [])


def test_an_attributor_explains_names(model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]) -> None:
    (prompt,) = encode_prompts(samples[:1], encoder)
    text = call_text("focus_on_rows_with_mask", "B", "rows")
    ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    program = [True] * len(ids)
    found = NameFinder(encoder.tokenizer).find(ids, program, list(TOOLS))
    assert any(found.names)
    settings = AttributionSettings(target="name", score="log_odds")
    attributor = Attributor(model, encoder.pixels, settings, tokenizer=encoder.tokenizer)
    (call,), pictures = attributor.prepare([prompt], [(ids, program)])
    assert list(call.target) == list(found.names[: call.length])
    assert attributor.scores([prompt], [(ids, program)]).tolist() == block_scores(model, [call], pictures).tolist()
    # The mean log-probability is that of the program, whatever is explained of it.
    means = [
        Attributor(
            model, encoder.pixels, dataclasses.replace(one, log_probs=True), tokenizer=encoder.tokenizer
        ).log_probs([prompt], [(ids, program)])
        for one in (AttributionSettings(), settings)
    ]
    torch.testing.assert_close(*means, rtol=0, atol=1e-5)
    # A program without a name is explained whole.
    other = encoder.tokenizer("display(image_1)", add_special_tokens=False)["input_ids"]
    (call,), _ = attributor.prepare([prompt], [(other, [True] * len(other))])
    assert all(call.target)
    with pytest.raises(ValueError, match="without a tokenizer"):
        Attributor(model, encoder.pixels, settings)


def test_contrast_explains_the_token_at_which_names_part(
    model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]
) -> None:
    settings = AttributionSettings(target="name", score="contrast")
    attributor = Attributor(model, encoder.pixels, settings, tokenizer=encoder.tokenizer)
    ids = encoder.tokenizer(call_text("focus_on_rows_with_mask", "B", "rows"), add_special_tokens=False)["input_ids"]
    (prompt,) = encode_prompts(samples[:1], encoder)
    (call,), _ = attributor.prepare([prompt], [(ids, [True] * len(ids))])
    ((place, others),) = call.others
    assert sum(call.target) == 1
    assert call.target[place]
    assert others
    assert ids[place] not in others
    # A tool alone has nothing to part from: its name's tokens against all others.
    (prompt,) = encode_prompts(samples[:1], encoder, {"focus_on_rows_with_mask": TOOLS["focus_on_rows_with_mask"]})
    (call,), _ = attributor.prepare([prompt], [(ids, [True] * len(ids))])
    assert call.others == ()
    assert list(call.target) == list(
        NameFinder(encoder.tokenizer).find(ids, [True] * len(ids), ["focus_on_rows_with_mask"]).names[: call.length]
    )


def test_shares_of_each_normalisation() -> None:
    scores = torch.tensor([1.0, -3.0, 0.0])
    floored = block_distribution(scores, "floored", eps=0.1, floor=0.5)
    torch.testing.assert_close(floored, 0.9 * torch.tensor([1.5, 3.5, 0.5]) / 5.5 + 0.1 / 3)
    softened = block_distribution(scores, "softmax", eps=0.1, temperature=2.0)
    torch.testing.assert_close(softened, 0.9 * (scores / 2).softmax(-1) + 0.1 / 3)
    signed = block_distribution(scores, "signed")
    torch.testing.assert_close(signed, torch.tensor([0.25, -0.75, 0.0]))
    assert block_distribution(torch.zeros(3), "signed").tolist() == [0, 0, 0]
    assert divergence(signed, -signed, "signed").item() == 1 == worst_divergence(3, "signed")
    assert divergence(signed, signed, "signed").item() == 0
    torch.testing.assert_close(entropy(torch.tensor([0.5, -0.5, 0.0])), torch.tensor(2.0).log())


def test_blocks_are_left_out_before_shares_are_made(
    model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]
) -> None:
    (prompt,) = encode_prompts(samples[:1], encoder)
    turn = (encoder.tokenizer(call_text("focus_on_rows_with_mask", "B", "rows"))["input_ids"],)
    turn = (turn[0], [True] * len(turn[0]))
    counts = {"all": 9, "tools": 6, "tools+image": 7, "tools+image+question": 8}
    for blocks, count in counts.items():
        settings = AttributionSettings(blocks=blocks, normalization="floored")  # type: ignore[arg-type]
        attributor = Attributor(model, encoder.pixels, settings)
        names = settings.compared(prompt.block_names)
        assert len(names) == count
        scores = attributor.scores([prompt], [turn])[:, settings.places(prompt.block_names)]
        expected = block_distribution(scores, "floored")
        torch.testing.assert_close(attributor.distributions([prompt], [turn]), expected)
    assert compared_blocks(["context", "image_1", "tool:a", "query"], "tools+image") == [1, 2]
    with pytest.raises(InputError, match="at least two"):
        compared_blocks(["context", "image_1", "tool:a", "query"], "tools")


def test_the_form_of_a_training_that_names_none() -> None:
    assert usual_form({"attribution_steps": 1, "other": 3}, explains_student=False) == "name_odds"
    assert usual_form({}, explains_student=True) == "paper"
    others = [{name: 1} for name in dataclasses.asdict(FORMS["paper"])]
    others += [{"attribution_method": "occlusion"}, {"attribution_steps": 8}, {"alignment_control": "teacher_random"}]
    for given in others:
        assert usual_form(given, explains_student=False) == "paper", given


def test_a_single_setting_wins_over_its_form() -> None:
    assert form_values({}) == dataclasses.asdict(FORMS["paper"]) == dataclasses.asdict(type(FORMS["paper"])())
    found = form_values({"attribution_form": "name_odds", "attribution_normalization": "magnitude", "other": 1})
    assert found["attribution_normalization"] == "magnitude"
    assert (found["attribution_score"], found["teacher_reference"]) == ("log_odds", "own_call")
    for form in FORMS:
        check_form({"attribution_form": form})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"attribution_form": "nome_odds"}, "did you mean name_odds"),
        ({"attribution_temperature": 0.0}, "above 0"),
        ({"attribution_floor": -1.0}, "give 0 or a number above it"),
        ({"attribution_eps": 1.0}, "between 0 and 1"),
        ({"attribution_score": "contrast"}, "set attribution_target to name"),
        ({"teacher_reference": "both", "teacher_table": "t.parquet"}, "needs a live teacher"),
        ({"alignment_control": "teacher_random", "teacher_table": "t.parquet"}, "leave teacher_table out"),
        ({"alignment_control": "teacher_random", "attribution_form": "name_odds"}, "writes no call of its own"),
    ],
)
def test_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_form(given)
