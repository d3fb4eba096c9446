"""`iapo study forms`: rollouts once, every form on the same calls, as training measures them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings
from iapo.experiments.forms import FormsPlan, _auc, forms_csv, read_divisible, run_forms, study_forms, summarize
from iapo.experiments.forms_grid import FOLDER, NamedForm, read_forms
from iapo.experiments.forms_measure import Cell, FormsMeter, Pairs, Sampling, _Explained, _pairs, _won
from iapo.rewards.alignment import Alignment
from iapo.rollout.load_settings import LoadSettings
from iapo.rollout.policy import load_policy
from iapo.rollout.turns import first_turns
from iapo.teachers.references import make_reference
from iapo.tools import TOOLS

FORMS = [
    NamedForm("softmax", {"attribution_form": "softmax"}),
    NamedForm("odds", {"attribution_form": "name_odds"}),
    NamedForm("both, signed, tools", {
        "teacher_reference": "both", "attribution_normalization": "signed", "attribution_blocks": "tools"
    }),
]  # fmt: skip
PLAN = FormsPlan("tiny-student", "tiny-teacher", prompts=4, rollouts=6, question_types=("value",), max_turn_tokens=24)


@pytest.mark.slow(1)
def test_forms_are_measured_as_training_measures_them() -> None:
    student, teacher = load_policy("tiny-student"), load_policy("tiny-teacher")
    settings = {one.name: one.settings(64, 24) for one in FORMS}
    meter = FormsMeter(student, teacher, settings, Sampling(6, EvaluationSettings(24, 1.0)))
    samples = read_divisible(PLAN, 0)
    torch.manual_seed(0)
    rollouts = first_turns([one for one in samples for _ in range(6)], meter.encoder, meter._generate, TOOLS)
    called = [index for index, one in enumerate(rollouts) if one.trace.result.status in ("edited", "failed")]
    chosen = [rollouts[index] for index in called]
    own = first_turns(samples, meter.other, meter._greedy, TOOLS)
    explained = _Explained(meter, chosen, own, [index // 6 for index in called], TOOLS)
    for form in settings.values():
        p, q, seconds = explained.shares(form)
        assert seconds > 0
        alignment = Alignment(make_reference(form, teacher, meter.encoder), meter.encoder, form)
        expected = [one.divergence for one in alignment.measure(student.model, chosen)]
        torch.testing.assert_close(FormsMeter._compare(p, q, form), torch.tensor(expected), rtol=1e-3, atol=1e-4)
    assert (explained.surprise >= 0).all()


def test_pairs_and_what_is_won() -> None:
    pairs = _pairs([0, 0, 0, 1, 1, 2], [True, False, None, True, True, False], 3)
    assert pairs == [[(0, 1)], [], []]
    values = torch.tensor([1.0, 0.5, 2.0])
    assert _won(values, [(0, 1)]) == 2
    assert _won(values, [(1, 0)]) == 0
    assert _won(values, [(0, 0)]) == 1
    cell = Cell(Pairs([4, 0, 2], {("a", "own"): [3, 0, 2]}))
    found = _auc([cell, cell], "a", "own")
    assert (found.value, found.count) == (pytest.approx(5 / 6), 6)
    assert found.low is not None
    assert found.low < 5 / 6


@pytest.mark.slow(4)
def test_study_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = FormsPlan(
        "tiny-student", "tiny-teacher", prompts=4, rollouts=8, question_types=("value",), max_turn_tokens=24,
        namings=("canonical", "unseen"), seeds=(0, 1), temperature=1.5,
    )  # fmt: skip
    loading = (LoadSettings(), LoadSettings())
    state = torch.get_rng_state()
    found = study_forms(plan, FORMS, tmp_path / "out", loading)
    assert torch.equal(torch.get_rng_state(), state)
    written = json.loads((tmp_path / "out" / "forms.json").read_text())
    assert written["forms"]["odds"] == {"attribution_form": "name_odds"}
    assert written["rows"] == json.loads(json.dumps(found["rows"]))
    assert [(row["naming"], row["form"]) for row in found["rows"]] == [
        (naming, form.name) for naming in plan.namings for form in FORMS
    ]
    for row in found["rows"]:
        for one in row["auc"].values():
            assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
        assert row["seconds"] > 0
    # The teacher's own call is one for all calls of a group: without the student nothing is told.
    odds = [row for row in found["rows"] if row["form"] == "odds"]
    assert [row["auc"]["uniform"]["value"] for row in odds] == [0.5, 0.5]
    assert odds[0]["auc"]["named"]["value"] < 0.5
    assert odds[0]["auc"]["own"]["value"] > max(0.9, odds[0]["auc"]["same_tools"]["value"])
    lines = list(csv.DictReader((tmp_path / "out" / "forms.csv").open()))
    assert len(lines) == 2 * len(FORMS) * 7
    assert "shuffled" in capsys.readouterr().out
    with pytest.raises(InputError, match="already exists"):
        study_forms(plan, FORMS, tmp_path / "out", loading)
    # The same seed gives the same numbers, whatever else is measured.
    again = summarize(plan, FORMS[1:2], run_forms(plan, FORMS[1:2], loading))
    assert [row["auc"] for row in again["rows"]] == [row["auc"] for row in odds]
    assert forms_csv(again).count("\n") == 15


def test_nothing_to_tell_apart_is_refused() -> None:
    cells = {("canonical", 0): Cell(Pairs([0, 0]))}
    with pytest.raises(InputError, match="no prompt has both a misused and a right call"):
        summarize(PLAN, FORMS, cells)


def test_packaged_grid_is_sound() -> None:
    names = [path.stem for path in FOLDER.glob("*.yaml")]
    assert "default" in names
    for name in names:
        forms = read_forms(name)
        assert len({form.settings(8, 24) for form in forms}) == len(forms)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("forms: {}", "holds no forms"),
        ("other: 1", "no key 'other'"),
        ("forms: {a: 1}", "form 'a': 1 is no mapping"),
        ("forms: {a: {attribution_scor: logit}}", "did you mean attribution_score"),
        ("forms: {a: {attribution_score: logits}}", "form 'a': attribution_score is 'logits'"),
        ("forms: {a: {learning_rate: 1}}", "no setting 'learning_rate'"),
        ("forms: {a: {attribution_score: contrast}}", "set attribution_target to name"),
    ],
)
def test_refused_files(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "forms.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_forms(str(path))
    with pytest.raises(InputError, match="there is no file"):
        read_forms("nothing.yaml")
