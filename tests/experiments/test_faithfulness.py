"""`iapo study faithfulness`: which explanations find the blocks that a call needs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from iapo.errors import InputError
from iapo.experiments.faithfulness import FaithfulnessPlan, run_faithfulness, study_faithfulness
from iapo.experiments.faithfulness_measure import explanation_of, normalised
from iapo.experiments.forms_grid import NamedForm
from iapo.rollout.load_settings import LoadSettings

FORMS = [
    NamedForm("paper", {"attribution_form": "paper"}),
    NamedForm("paper, floored", {"attribution_normalization": "floored"}),
    NamedForm("name_odds", {"attribution_form": "name_odds"}),
    NamedForm("occlusion", {"attribution_method": "occlusion", "attribution_normalization": "signed"}),
]
LOADING = (LoadSettings(), LoadSettings())


def test_explanations_are_told_apart_by_what_orders_blocks() -> None:
    paper, floored, odds, occlusion = (explanation_of(one.settings(8, 24)) for one in FORMS)
    assert paper == floored
    assert (paper.order, odds.order, occlusion.order) == ("magnitude", "signed", "signed")
    assert (odds.kind, occlusion.method) == (("name", "log_odds"), "occlusion")


def test_normalised_areas() -> None:
    found = normalised([1.0, 4.0], [4.0, 6.0])
    assert found.value == pytest.approx(0.5)
    assert found.low is not None
    assert found.high is not None
    assert 0.25 <= found.low < 0.5 < found.high <= 4 / 6 + 1e-9
    # Nothing to normalise by: on the whole, or in some draws.
    assert normalised([1.0, 4.0], [-4.0, 1.0]).value is None
    assert normalised([1.0, 4.0], [-1.0, 4.0]).value is None


@pytest.mark.slow(3)
def test_study_finds_occlusion_better_than_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The called tool's definition matters to this model (docs/tiny-world.md), so its removal must tell."""
    plan = FaithfulnessPlan("tiny-teacher", samples=8, max_turn_tokens=64, orders=3)
    state = torch.get_rng_state()
    found = study_faithfulness(plan, FORMS, tmp_path / "out", LOADING)
    assert torch.equal(torch.get_rng_state(), state)
    written = json.loads((tmp_path / "out" / "faithfulness.json").read_text())
    assert written["kind"] == "faithfulness"
    assert written["rows"] == json.loads(json.dumps(found["rows"]))
    assert [row["forms"] for row in found["rows"]] == [["paper", "paper, floored"], ["name_odds"], ["occlusion"]]
    paper, _, occlusion = found["rows"]
    assert occlusion["rank"]["value"] == pytest.approx(1, abs=0.02)
    for curve in ("deletion", "insertion"):
        one = occlusion["call"][curve]
        assert one["better_than_random"]
        assert one["gain"]["low"] > 0
        assert one["own"]["value"] == pytest.approx(one["occlusion"]["value"], abs=0.02)
        # What is explained is the yardstick itself here.
        assert occlusion["own"] == occlusion["call"]
    assert occlusion["call"]["deletion"]["own"]["high"] < occlusion["call"]["deletion"]["random"]["low"]
    assert paper["call"]["deletion"]["random"] == occlusion["call"]["deletion"]["random"]
    lines = list(csv.DictReader((tmp_path / "out" / "faithfulness.csv").open()))
    assert len(lines) == 3 * (1 + 2 * (1 + 2 * 4))
    assert lines[0]["forms"] == "paper; paper, floored"
    assert "tiny-teacher, 8 calls" in capsys.readouterr().out
    with pytest.raises(InputError, match="already exists"):
        study_faithfulness(plan, FORMS, tmp_path / "out", LOADING)


@pytest.mark.slow(1)
def test_the_calls_of_another_model() -> None:
    """With other tokens of the same text, and whatever else is measured the same seed gives the same numbers."""
    plan = FaithfulnessPlan("tiny-qwen3-vl-teacher", "tiny-student", samples=3, max_turn_tokens=64, orders=2, seed=4)
    found = run_faithfulness(plan, FORMS[:1], LOADING)
    assert found["calls"] >= 2
    again = run_faithfulness(plan, FORMS[:3], LOADING)
    for measure in ("own", "call"):
        one, other = (some["rows"][0][measure]["deletion"]["gain"]["value"] for some in (found, again))
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_too_few_calls_are_refused() -> None:
    plan = FaithfulnessPlan("tiny-teacher", samples=2, max_turn_tokens=1)
    with pytest.raises(InputError, match="tiny-teacher calls a tool on 0 of 2 samples"):
        run_faithfulness(plan, FORMS[:1], LOADING)
