"""`iapo attribute` as a user runs it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from processes import iapo_here

from iapo.attribution.methods import METHODS
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.rewards.alignment import Alignment
from iapo.rollout.generation import make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import encode_prompts, read_turn, rollout
from iapo.studies import attribute
from iapo.studies.attribute import run_attribute
from iapo.studies.attribute_given import read_call, read_sample
from iapo.studies.attribute_inputs import AttributePlan, chart_sample, plan_of
from iapo.studies.explanations import Explanation, explain

ROWS = '```python\ndisplay(focus_on_rows_with_draw(image_1, ["{name}"], rows_bbox))\n```'


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    out = tmp_path_factory.mktemp("attribute") / "new"
    words = ("attribute", "--teacher", "tiny-teacher", "--family", "hbar", "--index", "1", "--out", out)
    done = iapo_here(*words, columns=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "attribution.json").read_text()), done.stdout, out


def test_prints_rollout_and_table(written: tuple[dict[str, Any], str, Path]) -> None:
    numbers, printed, out = written
    for part in (numbers["sample"]["question"], numbers["program"], numbers["status"], "student's score"):
        assert part in printed
    rows = [line for line in printed.splitlines() if "│" in line]
    assert len(rows) == len(numbers["blocks"]) == 9
    for row, block in zip(rows, numbers["blocks"], strict=True):
        assert f"{block['name']}{' *' if block['called'] else ''} " in row
        for text in (f"{block['student']['score']:+.4f}", f"{block['student']['share']:.3f}"):
            assert text in row
        assert f"{block['teacher']['share']:.3f}" in row
    assert f"KL(student || teacher): {numbers['divergence']:.4f} nats" in printed
    assert str(out / "attribution.png") in printed
    assert [block["name"] for block in numbers["blocks"] if block["called"]] == [
        f"tool:{call['name']}" for call in numbers["calls"]
    ]


def test_numbers_sum(written: tuple[dict[str, Any], str, Path]) -> None:
    numbers, _, _ = written
    for who in ("student", "teacher"):
        assert sum(block[who]["share"] for block in numbers["blocks"]) == pytest.approx(1, abs=1e-5)
        tokens = numbers["models"][who]["tokens"]
        largest = max(abs(block[who]["score"]) for block in numbers["blocks"])
        for block in numbers["blocks"]:
            of_block = sum(token["score"] for token in tokens if token["block"] == block["name"])
            assert of_block == pytest.approx(block[who]["score"], rel=1e-3, abs=1e-4 * largest)
        whole = sum(abs(token["score"]) for token in tokens)
        in_picture = sum(token["score"] for token in tokens if token["text"] == "<|image_pad|>")
        patches = numbers["models"][who]["patches"]
        assert [len(row) for row in patches] == [4] * 4
        assert sum(map(sum, patches)) == pytest.approx(in_picture / whole, rel=1e-3, abs=1e-5)
    assert 0 < numbers["divergence"] <= numbers["worst_divergence"]


def test_plot_is_a_picture(written: tuple[dict[str, Any], str, Path]) -> None:
    with Image.open(written[2] / "attribution.png") as plot:
        assert plot.width > 600
        assert plot.height > 600
        assert len(plot.convert("RGB").getcolors(1 << 20) or []) > 50


def test_agrees_with_training(written: tuple[dict[str, Any], str, Path], student: Policy) -> None:
    """The shares and the divergence are those that the reward is made of."""
    from iapo.rollout.policy import load_policy

    numbers = written[0]
    encoder = PromptEncoder(student.processor)
    sample = chart_sample("hbar", 1, seed=0, size=112)
    (one,) = rollout([sample], encoder, make_generate(student, encoder, max_new_tokens=64))
    (measured,) = Alignment(load_policy("tiny-teacher"), encoder).measure(student.model, [one])
    assert one.trace.turn_1 == numbers["turn_1"]
    assert numbers["divergence"] == pytest.approx(measured.divergence, rel=1e-3)
    for who, shares in (("student", measured.student), ("teacher", measured.teacher)):
        for block in numbers["blocks"]:
            assert block[who]["share"] == pytest.approx(shares[block["name"]], rel=1e-3, abs=1e-5)


def test_refuses_a_taken_folder(written: tuple[dict[str, Any], str, Path]) -> None:
    sample = chart_sample("vbar", 0, seed=0, size=112)
    with pytest.raises(ValueError, match="already exists"):
        run_attribute(AttributePlan(), written[2], sample=sample)


def test_stopped_between_its_files_it_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        assert (tmp_path / "out" / "attribution.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(attribute, "_plot", stop)
    with pytest.raises(KeyboardInterrupt):
        run_attribute(AttributePlan(), tmp_path / "out", sample=chart_sample("vbar", 0, seed=0, size=112))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("method", METHODS)
def test_given_sample_and_call(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sample file beside its picture, the call from a file, and no teacher."""
    sample = chart_sample("vbar", 3, seed=1, size=140)
    sample.image.save(tmp_path / "chart.png")
    (tmp_path / "sample.json").write_text(json.dumps(sample.to_json(image_path="chart.png")))
    (tmp_path / "turn.txt").write_text(ROWS.format(name=next(iter(sample.row_boxes))))
    read = read_sample(tmp_path / "sample.json")
    assert read.image.tobytes() == sample.image.tobytes()
    call = read_call(f"@{tmp_path / 'turn.txt'}")
    steps = 2 if METHODS[method].takes_steps else None
    plan = plan_of(None, {"method": method, "steps": steps, "max_turn_tokens": 8})
    run_attribute(plan, tmp_path / "out", sample=read, call=call)
    numbers = json.loads((tmp_path / "out" / "attribution.json").read_text())
    assert numbers["turn_1"] == call
    assert (numbers["method"], numbers["steps"]) == (method, 2 if method == "integrated" else 1)
    assert numbers["misused"]
    assert numbers["divergence"] is None
    assert list(numbers["models"]) == ["student"]
    assert len(numbers["models"]["student"]["patches"]) == 5
    assert (tmp_path / "out" / "attribution.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "teacher" not in printed
    assert "tool of the wrong axis" in printed


def explained(policy: Policy, method: str) -> Explanation:
    encoder = PromptEncoder(policy.processor)
    sample = chart_sample("vbar", 0, seed=0, size=112)
    (prompt,) = encode_prompts([sample], encoder)
    ids = encoder.tokenizer(ROWS.format(name="A"))["input_ids"]
    first = read_turn(ids, sample, encoder)
    return explain("it", policy, encoder, prompt, (first.ids, first.target), AttributionSettings(method=method))


def test_methods_differ(student: Policy) -> None:
    gradient, occlusion = (explained(student, method) for method in ("gradient", "occlusion"))
    assert not torch.allclose(gradient.scores, occlusion.scores, atol=1e-2)
    # The heat map shows single tokens, which occlusion does not score.
    assert (gradient.patches == occlusion.patches).all()
    assert gradient.log_prob == occlusion.log_prob


def test_teacher_with_other_tokens(tmp_path: Path, foreign: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher explains the same program, cut into its own tokens."""
    from iapo.rollout.policy import load_policy

    foreign.model.eval()
    monkeypatch.setattr(
        "iapo.studies.attribute.load_policy", lambda name, *_, **__: foreign if name == "it" else load_policy(name)
    )
    sample = chart_sample("vbar", 0, seed=0, size=112)
    call = "I look at it.\n" + ROWS.format(name=next(iter(sample.row_boxes)))
    run_attribute(plan_of(None, {"teacher": "it", "max_turn_tokens": 8}), tmp_path, sample=sample, call=call)
    numbers = json.loads((tmp_path / "attribution.json").read_text())
    # An untrained model gives every token about the same probability, so its log-probability counts them.
    encoder = PromptEncoder(foreign.processor)
    first = read_turn(encoder.tokenizer(call)["input_ids"], sample, encoder)
    per_token = torch.tensor(float(len(encoder.tokenizer))).log().item()
    assert numbers["models"]["teacher"]["log_prob"] == pytest.approx(-sum(first.target) * per_token, rel=0.1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("FINAL ANSWER: 3. TERMINATE", "the first turn calls no tool"),
        ("```python\nimport os\n```", "has a program that is refused"),
    ],
)
def test_a_turn_without_a_call(call: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        run_attribute(AttributePlan(), tmp_path, sample=chart_sample("vbar", 0, seed=0, size=112), call=call)
    assert not list(tmp_path.iterdir())


def test_what_is_longer_than_the_model_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is computed of it."""
    monkeypatch.setattr("iapo.rollout.policy.check_runs", lambda *_: None)
    monkeypatch.setattr("torch.nn.Module.__call__", None)
    sample = chart_sample("vbar", 0, seed=0, size=112)
    call = ROWS.format(name="A") + " x" * 3000
    with pytest.raises(InputError, match=r"and the turn 6\d\d\d, together \d+, but tiny-student takes 2048"):
        run_attribute(AttributePlan(), tmp_path, sample=sample, call=call)
    long = dataclasses.replace(AttributePlan().settings, max_turn_tokens=2000)
    with pytest.raises(InputError, match=r"may need .* of the turns, .* but a sequence has 2048"):
        run_attribute(AttributePlan(settings=long), tmp_path, sample=sample)
    question = dataclasses.replace(sample, question="value of " + "A " * 3000)
    with pytest.raises(InputError, match=r"may need .* of the turns, .* but a sequence has 2048"):
        run_attribute(AttributePlan(), tmp_path, sample=question)
    assert not list(tmp_path.iterdir())


def test_steps_are_of_a_method_with_a_path() -> None:
    with pytest.raises(InputError, match="steps is 5, but the method occlusion has no path"):
        plan_of(None, {"method": "occlusion", "steps": 5})
    assert plan_of(None, {"method": "integrated", "steps": 5}).settings.steps == 5
    assert plan_of(None, {"method": "integrated"}).settings.steps == 32


def test_no_call_is_one_sentence(tmp_path: Path) -> None:
    done = iapo_here("attribute", "--call", "FINAL ANSWER: 3. TERMINATE", "--out", tmp_path)
    assert done.returncode == 2
    assert "calls no tool" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no attribution method 'magic'"):
        plan_of(None, {"method": "magic"})
    with pytest.raises(ValueError, match="steps is 0"):
        plan_of(None, {"method": "integrated", "steps": 0})
    with pytest.raises(ValueError, match="index is -1"):
        chart_sample("vbar", -1, seed=0, size=112)
    with pytest.raises(ValueError, match="unknown family"):
        chart_sample("pie", 0, seed=0, size=112)
    with pytest.raises(ValueError, match=r"cannot read the first turn from .*none\.txt: No such file or directory$"):
        read_call(f"@{tmp_path / 'none.txt'}")
    with pytest.raises(ValueError, match=r"cannot read the sample .*none\.json: No such file or directory$"):
        read_sample(tmp_path / "none.json")
    for text, sentence in (("{", "is not a sample"), ("{}", "is missing"), ("[]", "not a s")):
        (tmp_path / "sample.json").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_sample(tmp_path / "sample.json")


def test_a_line_of_own_data_is_a_sample(tmp_path: Path) -> None:
    """As a file of data has it, with the image beside the file; what gives the solution away is not read."""
    chart_sample("vbar", 0, seed=0, size=112).image.save(tmp_path / "chart.png")
    line = {
        "image": "chart.png",
        "question": "how?",
        "answer": 7,
        "column_boxes": {"A": [1, 2, 30, 40]},
        "turns": ["x"],
    }
    path = tmp_path / "line.json"
    path.write_text("\ufeff" + json.dumps(line), "utf-8")
    sample = read_sample(path)
    assert (sample.id, sample.question, sample.answers) == ("line-1", "how?", ("7",))
    assert (sample.image.size, dict(sample.column_boxes)) == ((112, 112), {"A": (1, 2, 30, 40)})
    path.write_text(json.dumps({"images": ["chart.png", "chart.png"], "question": "how?", "answer": "7"}))
    assert len(read_sample(path).images) == 2
    for changes, sentence in (
        ({"image": "gone.png"}, r"line\.json is not a sample: there is no picture 'gone\.png'"),
        ({"answer": None}, "is not a sample: the field 'answer' is missing"),
        ({"imege": "chart.png"}, "is not a sample: the field 'imege' is unknown"),
    ):
        path.write_text(json.dumps({**line, **changes}))
        with pytest.raises(ValueError, match=sentence):
            read_sample(path)


@pytest.mark.slow(1)
def test_a_later_turns_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explained on all before it, by both models, with the heat map over the image that it worked on."""
    sample = chart_sample("vbar", 0, seed=0, size=112)
    name = next(iter(sample.column_boxes))
    columns = ROWS.replace("rows", "columns").format(name=name)
    left = iter([ROWS.format(name=name), "FINAL ANSWER: 1. TERMINATE"])

    def fake(policy: Policy, encoder: PromptEncoder, **_: Any) -> Any:
        return lambda rows, images: [encoder.tokenizer(next(left))["input_ids"] for _ in rows]

    monkeypatch.setattr("iapo.studies.attribute.make_generate", fake)
    changes = {"teacher": "tiny-teacher", "prompt": "tiny-turns", "max_turns": 3, "turn": 2}
    numbers = run_attribute(plan_of(None, changes), tmp_path / "out", sample=sample, call=columns)
    assert (numbers["turn"], numbers["turn_1"]) == (2, ROWS.format(name=name))
    assert [one["name"] for one in numbers["blocks"]][-3:] == ["turn_1", "observation_1", "image_2"]
    assert numbers["worst_divergence"] == pytest.approx(math.log(12))
    assert 0 < numbers["divergence"] <= numbers["worst_divergence"]
    for who in ("student", "teacher"):
        tokens = numbers["models"][who]["tokens"]
        whole = sum(abs(token["score"]) for token in tokens)
        shown = [token for token in tokens if token["block"] == "image_2" and token["text"] == "<|image_pad|>"]
        assert len(shown) == 16
        patches = numbers["models"][who]["patches"]
        assert sum(map(sum, patches)) == pytest.approx(sum(one["score"] for one in shown) / whole, rel=1e-3, abs=1e-5)
        # The second turn looks at the question's image, too.
        assert list(numbers["models"][who]["images"]) == ["image_1", "image_2"]
    drawn = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert drawn == ["attribution.image_1.png", "attribution.png"]
    with pytest.raises(ValueError, match="turn is 3, but of 3 turns those from 1 to 2 may call a tool"):
        plan_of(None, {"max_turns": 3, "turn": 3})
