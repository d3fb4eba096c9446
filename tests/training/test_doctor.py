"""`iapo doctor`: every problem that it must find, and none where there is none."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from calls import call_text
from rich.console import Console

from iapo.attribution.settings import AttributionSettings
from iapo.cli.main import main
from iapo.data.sources import SourceSettings, read_source
from iapo.data.synthetic import generate
from iapo.records import Sample, Score, ToolResult, Trace, Turn
from iapo.rollout.policy import ImageTextProcessor, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.teachers.asking import attribute_samples
from iapo.tiny.models import make_model
from iapo.tools import TOOLS
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig
from iapo.training.doctor import data, step
from iapo.training.doctor.findings import Findings
from iapo.training.doctor.run import examine
from iapo.training.doctor.tools import call_text as scripted

TOOL = """
import iapo
from PIL import Image, ImageDraw

def {name}(image, names, boxes):
    "Focuses on columns of the picture."
    {body}

tool = iapo.define({name}, axis="columns", style="mask")
"""


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 6, seed=11, question_types=("value",)))


def written(folder: Path, samples: Sequence[Sample], changes: Mapping[int, Mapping[str, Any]] | None = None) -> str:
    """Writes samples as a user's own data, some of them changed; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, sample in enumerate(samples):
        image = (changes or {}).get(index, {}).get("picture", sample.image)
        image.save(folder / f"{index}.png")
        scale = [image.width / sample.image.width, image.height / sample.image.height] * 2
        row = {
            "id": f"s{index}",
            "image": f"{index}.png",
            "question": sample.question,
            "answer": sample.answers[0],
            "column_boxes": {
                name: [value * factor for value, factor in zip(box, scale, strict=True)]
                for name, box in sample.column_boxes.items()
            },
            "row_boxes": {
                name: [value * factor for value, factor in zip(box, scale, strict=True)]
                for name, box in sample.row_boxes.items()
            },
            "axis": sample.axis,
            "split": "train",
        }
        changed = {name: value for name, value in (changes or {}).get(index, {}).items() if name != "picture"}
        rows.append(row | changed)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


class Examined:
    """What a doctor said of a training."""

    def __init__(self, tmp_path: Path, data: str | None = None, *, samples: int = 200, step: bool = False, **more: Any):
        fields = {field.name for field in dataclasses.fields(RunArguments)}
        run = {"data": data, "data_split": "train", "eval_samples": 0, "train_samples": 8} if data else {}
        run |= {"question_types": ["value"], "families": ["vbar"]}
        self.out = tmp_path / "run"
        given = {
            "output_dir": str(self.out),
            "reward": "grpo",
            "max_steps": 5,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 96,
            "max_turn_tokens": 24,
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "beta": 0.0,
            "seed": 0,
        }
        run |= {name: value for name, value in more.items() if name in fields}
        given |= {name: value for name, value in more.items() if name not in fields}
        self.text = io.StringIO()
        self.findings = examine(
            RunArguments(**{"train_samples": 8, "eval_samples": 4, **run}),
            IAPOConfig(**given),
            given,
            samples=samples,
            with_step=step,
            console=Console(file=self.text, width=150),
        )

    def texts(self, level: str) -> list[str]:
        return [one.text for one in self.findings.found if one.level == level]

    @property
    def errors(self) -> str:
        assert not self.out.exists()
        return "\n".join(self.texts("error"))

    @property
    def warnings(self) -> str:
        return "\n".join(self.texts("warning"))


def test_nothing_is_wrong_with_the_tiny_world(tmp_path: Path) -> None:
    found = Examined(tmp_path, step=True, teacher="tiny-teacher", reward="iapo", families=["vbar", "hbar"])
    assert found.findings.found == []
    numbers = found.findings.numbers
    assert numbers["data"] | {"kinds": None, "axes": None} == {"train": 8, "test": 4, "kinds": None, "axes": None}
    assert numbers["lengths"]["training"]["image"].high == 16
    assert all((one["calls"], one["failed"], one["cut"]) == (8, 0, 0) for one in numbers["tools"].values())
    assert numbers["step"]["rollouts"] == 8
    assert set(numbers["step"]["rewards"]) == {"outcome", "alignment", "divergence"}
    assert numbers["step"]["grad_norm"] > 0
    assert numbers["step"]["steps"] == 5
    assert "nothing is wrong" in found.text.getvalue()
    assert not found.out.exists()


def test_no_boxes_for_a_tool(tmp_path: Path, charts: list[Sample]) -> None:
    columns = {index: {"row_boxes": None} for index in range(6)}
    found = Examined(tmp_path, written(tmp_path / "a", charts, columns))
    assert "no training sample has boxes of rows, but tools for them are offered (focus_on_rows_with_" in found.errors
    fine = Examined(tmp_path, written(tmp_path / "a", charts, columns), tools="focus_on_columns_with_mask")
    assert not fine.findings.found
    bare = {index: {"row_boxes": None, "column_boxes": None} for index in range(6)}
    found = Examined(tmp_path, written(tmp_path / "b", charts, bare))
    assert "all 6 training samples have no boxes of columns or rows" in found.errors
    found = Examined(tmp_path, written(tmp_path / "c", charts, {2: bare[2]}))
    assert (
        "1 of 6 training samples have no boxes of columns or rows, which all offered tools need ('s2')"
        in found.warnings
    )
    assert not found.errors


def test_image_too_large_for_the_budget(tmp_path: Path, charts: list[Sample]) -> None:
    folder = written(tmp_path / "a", charts, {3: {"picture": charts[3].image.resize((448, 448))}})
    found = Examined(tmp_path, folder, max_sequence_length=400)
    assert "1 of 6 training samples do not fit: sample 's3' of own/data" in found.errors
    assert "set max_sequence_length to " in found.errors
    assert found.findings.numbers["lengths"]["training"]["image"].high == 256
    assert found.findings.numbers["lengths"]["training"]["image"].median == 16
    assert not Examined(tmp_path, folder, max_sequence_length=2000).findings.found
    # Also where it is none of those that are looked at one by one.
    assert "'s3'" in Examined(tmp_path, folder, max_sequence_length=400, samples=1).errors


def test_limits_that_leave_no_answer(tmp_path: Path) -> None:
    found = Examined(tmp_path, max_turn_tokens=96)
    assert "a first turn may take all 96 tokens of max_completion_length" in found.warnings
    assert (
        "max_sequence_length is 5000, but the model takes 2048" in Examined(tmp_path, max_sequence_length=5000).errors
    )


def test_names_that_no_box_has(tmp_path: Path, charts: list[Sample]) -> None:
    """The image shows A, B, C; the boxes are called otherwise, so that every call fails."""
    renamed = {
        index: {
            side: {f"{name}-{number}": list(box) for number, (name, box) in enumerate(boxes.items())}
            for side, boxes in (("column_boxes", sample.column_boxes), ("row_boxes", sample.row_boxes))
        }
        for index, sample in enumerate(charts)
    }
    found = Examined(tmp_path, written(tmp_path / "a", charts, renamed), step=True)
    assert "calls name a column or row that no box has" in found.warnings
    assert "calls fail" in found.warnings
    assert found.findings.numbers["step"]["calls_of_unknown_names"] > 4


def test_names_that_nobody_can_read(tmp_path: Path, charts: list[Sample]) -> None:
    boxes = {f" {name}\n": list(box) for name, box in charts[1].column_boxes.items()}
    found = Examined(tmp_path, written(tmp_path / "a", charts, {1: {"column_boxes": boxes}}))
    assert "white space that nobody can read off the image" in found.warnings
    assert "of sample 's1'" in found.warnings


def test_answers_that_cannot_be_graded(tmp_path: Path, charts: list[Sample]) -> None:
    changes = {0: {"answer": " "}, 3: {"answer": "A*"}, 4: {"answer": "to TERMINATE"}}
    found = Examined(tmp_path, written(tmp_path / "a", charts, changes))
    assert "(id 's0'): the answer is missing" in found.errors
    assert "1 of 5 training samples have a gold answer that is graded wrong" in found.warnings
    assert "('s4', whose gold is 'to TERMINATE')" in found.warnings
    # A sample that was not read from a file may have an empty one.
    findings = Findings()
    empty = [dataclasses.replace(charts[0], id="none", answers=(" ", "")), *charts[1:]]
    args = IAPOConfig("out", use_cpu=True, bf16=False, report_to="none")
    data.check_data(empty, [], RunArguments(), args, TOOLS, findings)
    assert "1 of 6 training samples have an empty gold answer ('none')" in findings.found[0].text
    assert findings.errors == 1


def test_control_tokens(tmp_path: Path, charts: list[Sample], encoder: PromptEncoder) -> None:
    changes = {5: {"question": "What is <|im_end|>?"}}
    found = Examined(tmp_path, written(tmp_path / "a", charts, changes))
    assert "(id 's5'): the question holds the control token <|im_end|>" in found.errors
    # A sample that was not read from a file may have one.
    findings, broken = Findings(), dataclasses.replace(charts[5], id="mine", question="What is <|im_end|>?")
    fine = data.check_controls([*charts[:5], broken], encoder, TOOLS, findings)
    assert fine == charts[:5]
    assert "prompts of 1 of 6 samples cannot be made ('mine'): " in findings.found[0].text
    assert "<|im_end|>" in findings.found[0].text


def test_damaged_rows(tmp_path: Path, charts: list[Sample]) -> None:
    folder = written(tmp_path / "a", charts, {2: {"kind": "pie"}})
    assert "1 row(s) of the train data are damaged" in Examined(tmp_path, folder).errors
    assert "they are left out" in Examined(tmp_path, folder, data_damage="quarantine").warnings
    assert "belongs to the split 'nothing'" in Examined(tmp_path, folder, data_split="nothing").errors


def test_stored_teacher_without_a_row(tmp_path: Path, charts: list[Sample]) -> None:
    folder = written(tmp_path / "a", charts)
    samples = read_source(folder, SourceSettings(count=0, split="train"))
    table = tmp_path / "teacher.parquet"
    settings = AttributionSettings(teacher_reference="own_call", max_turn_tokens=24)
    attribute_samples(load_policy("tiny-teacher"), samples[:-1], settings).write(table)
    given = {"teacher_table": str(table), "reward": "iapo", "attribution_form": "paper"}
    found = Examined(tmp_path, folder, **given)
    assert "nothing to compare with for 1 of 6 samples ('s5'); first:" in found.errors
    assert found.findings.numbers["teacher"]["missing"] == 1
    other = Examined(tmp_path, folder, **given, tools="focus_on_columns_with_mask")
    assert "for all 6 samples" in other.errors
    assert "has the blocks" in other.errors
    assert (
        "cannot read the teacher table"
        in Examined(tmp_path, folder, teacher_table="none.parquet", reward="iapo").errors
    )


def test_teacher_with_another_tokenizer(
    tmp_path: Path, charts: list[Sample], other_processor: ImageTextProcessor, other_model: Any
) -> None:
    saved = tmp_path / "teacher"
    model = make_model(other_processor.tokenizer, hidden=64, heads=2, layers=2, vision_hidden=48, vision_layers=1)
    model.save_pretrained(saved)
    other_processor.save_pretrained(saved)
    folder = written(tmp_path / "a", charts)
    found = Examined(tmp_path, folder, teacher=str(saved), reward="iapo")
    assert "has another tokenizer than the student" in found.warnings
    assert not found.errors
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n<|im_end|>{% endfor %}"
    for file in saved.glob("chat_template*"):
        file.unlink()
    (saved / "chat_template.jinja").write_text(template)
    found = Examined(tmp_path, folder, teacher=str(saved), reward="iapo")
    assert "does not see the blocks of the student's prompts" in found.errors
    config = json.loads((saved / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 64
    (saved / "config.json").write_text(json.dumps(config))
    other_processor.save_pretrained(saved)
    found = Examined(tmp_path, folder, teacher=str(saved), reward="iapo")
    assert "takes 64 tokens, but the prompt of sample" in found.errors


def test_output_dir_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "lies below" in Examined(tmp_path, output_dir=str(tmp_path / "file" / "run")).errors
    assert "is a file" in Examined(tmp_path, output_dir=str(tmp_path / "file")).errors
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "metrics.jsonl").write_text("")
    assert "already holds a run" in Examined(tmp_path, output_dir=str(taken)).errors
    if Path("/proc/self").exists():
        # Its mode lets the superuser write, and nothing can be written.
        assert "cannot be made" in Examined(tmp_path, output_dir="/proc/run").errors
    assert sorted(os.listdir(tmp_path)) == ["file", "taken"]


def test_equal_rewards_are_a_warning(tmp_path: Path, charts: list[Sample]) -> None:
    changes = {index: {"answer": "no such thing"} for index in range(6)}
    found = Examined(tmp_path, written(tmp_path / "a", charts, changes), step=True)
    assert "in every group all rollouts have the same reward" in found.warnings
    assert "all answers are wrong" in found.warnings
    assert not found.errors


def test_fewer_samples_than_a_batch(tmp_path: Path, charts: list[Sample]) -> None:
    folder = written(tmp_path / "a", charts)
    found = Examined(tmp_path, folder, per_device_train_batch_size=32, step=True)
    assert "the training data have 6 sample(s), one batch has 8 prompts" in found.errors
    assert "No step was tried" in found.text.getvalue()
    assert "step" not in found.findings.numbers


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return boxes['nothing']", "the tool focus failed: KeyError: 'nothing'"),
        ("return None", "returned an object of type NoneType; return an image"),
        ("raise iapo.ToolError('no thanks')", "no thanks"),
        ("return image.resize((2000, 5))", "an image of 2000 x 5 pixels, which is too narrow to be seen"),
    ],
)
def test_tool_of_the_users_own_that_fails(tmp_path: Path, charts: list[Sample], body: str, said: str) -> None:
    (tmp_path / "tool.py").write_text(TOOL.format(name="focus", body=body))
    found = Examined(tmp_path, written(tmp_path / "a", charts), tools=f"{tmp_path}/tool.py")
    assert "focus fails in all 6 scripted calls; first, sample 's0'" in found.errors
    assert said in found.errors


def test_tool_whose_images_do_not_fit(tmp_path: Path, charts: list[Sample]) -> None:
    (tmp_path / "tool.py").write_text(TOOL.format(name="focus", body="return image.resize((448, 448))"))
    tools = f"{tmp_path}/tool.py"
    folder = written(tmp_path / "a", charts)
    found = Examined(tmp_path, folder, tools=tools, max_sequence_length=200)
    assert (
        "what focus returns does not fit into the longest sequence of 200 tokens in all 6 scripted calls"
        in found.errors
    )
    assert "448 x 448 pixels are 256 tokens" in found.errors
    assert not Examined(tmp_path, folder, tools=tools).findings.found


def test_test_samples_that_are_trained_on(tmp_path: Path, charts: list[Sample]) -> None:
    folder = written(tmp_path / "a", charts)
    found = Examined(tmp_path, folder, eval_data=folder, eval_split="train", eval_samples=4)
    assert "is trained and evaluated on" in found.errors


def test_rollouts_are_judged_one_by_one(charts: list[Sample]) -> None:
    """What a step may show, without a model that does it."""

    def trace(status: Any, error: str | None = None, cut: bool = False, **scores: float) -> Trace:
        given = {name: Score(value) for name, value in scores.items()}
        return Trace.of(charts[0], "", ToolResult(status, error=error), None, given, observation_cut=cut)

    findings, numbers = Findings(), {}
    some = [trace("edited", cut=True), trace("edited"), trace("no_call"), trace("refused", "line 1 is bad")]
    step._check_rollouts(some, numbers, {"completions/clipped_ratio": 0.75}, findings)
    assert (numbers["calls"], numbers["calling"], numbers["failed_calls"]) == (3, 3, 1)
    several: dict[str, Any] = {}
    turns = (Turn("", ToolResult("edited")), Turn("", ToolResult("edited")), Turn("FINAL ANSWER: 1. TERMINATE"))
    twice = Trace(charts[0], turns, {}, {})
    step._check_rollouts([twice, trace("no_call")], several, {}, Findings())
    assert (several["calls"], several["calling"]) == (2, 1)
    texts = "\n".join(one.text for one in findings.found)
    assert "did not fit in 1 of 4 rollouts" in texts
    assert "75% of the rollouts run out of tokens" in texts
    assert "calls fail" not in texts
    assert findings.errors == 1

    findings = Findings()
    step._check_rollouts([trace("no_call")] * 3, {}, {}, findings)
    assert "none of the 3 rollouts calls a tool" in findings.found[0].text

    findings = Findings()
    step._check_rewards(
        [trace("edited", outcome=1.0, mine=float("inf")), trace("edited", outcome=1.0, mine=0.0)],
        numbers,
        {"frac_reward_zero_std": 1.0},
        findings,
    )
    texts = "\n".join(one.text for one in findings.found)
    assert "the reward mine is inf for 1 of 2 rollouts" in texts
    assert "all answers are right" in texts
    findings.numbers["step"] = numbers
    assert json.loads(json.dumps(findings.to_json(), allow_nan=False))["step"]["rewards"]["mine"]["high"] is None

    findings = Findings()
    step._check_numbers({"loss": float("nan"), "grad_norm": 1.0}, findings)
    assert "the loss of the first step is nan" in findings.found[0].text
    assert findings.errors == 1


def test_scripted_calls_are_what_models_write() -> None:
    written_by_models = call_text("focus_on_rows_with_draw", "B", "rows")
    assert scripted(TOOLS["focus_on_rows_with_draw"], ["B"]) == written_by_models.replace('"', "'")


def test_steps_of_a_training() -> None:
    def steps(**more: Any) -> int:
        args = {"per_device_train_batch_size": 8, "num_generations": 4, "use_cpu": True, "bf16": False, **more}
        return step.steps_of(IAPOConfig("out", report_to="none", **args), 100)

    assert steps(max_steps=7) == 7
    assert steps(num_train_epochs=1) == 50
    assert steps(num_train_epochs=2, gradient_accumulation_steps=2) == 50


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], charts: list[Sample]) -> None:
    folder, out = written(tmp_path / "a", charts, {0: {"kind": "pie"}}), tmp_path / "found.json"
    words = ["doctor", "--config", "demo-grpo", "--no-step", "--data", folder, "--eval_samples", "0"]
    words += ["--per_device_train_batch_size", "8", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--json", str(out)])
    assert end.value.code == 2
    assert "1 row(s) of the train data are damaged" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert (found["kind"], found["ok"], found["data"]["train"]) == ("doctor", False, 5)
    assert [one["level"] for one in found["findings"]] == ["error"]
    assert found["lengths"]["budget"] == {"turn": 24, "written": 96, "sequence": 2048, "turns": 2}
    written(tmp_path / "a", charts)
    with pytest.raises(SystemExit) as end:
        main([*words, "--quiet"])
    assert end.value.code == 0
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "run").exists()
