"""One prompt for student and teacher, in memory, on disk and in a table; what is trained keeps it."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import iapo_here
from scripted import scripted
from transformers import PreTrainedModel

from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.results import MANIFEST
from iapo.rewards.alignment import Alignment
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy, prompt_of
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import PromptTemplate, find_prompt
from iapo.runs import RunFolder
from iapo.studies.attribute_inputs import plan_of as attribute_plan
from iapo.studies.case_study import CaseStudyFile
from iapo.studies.folders import find_runs, run_prompt
from iapo.studies.misuse import plan_of, run_misuse
from iapo.teachers.asking import attribute_samples
from iapo.teachers.references import OwnCall, StoredCalls, make_reference
from iapo.teachers.table import TeacherTable
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig
from iapo.training.run import run

SHORT = {
    "base": "tiny",
    "name": "short",
    "instructions": "You answer questions about charts. End with FINAL ANSWER.",
    "order": ["tools", "examples", "image", "question"],
    "names_listed": "always",
    "names_style": "literal",
    "examples": [{"name": "one", "tools": [], "text": "EXAMPLE\nFINAL ANSWER: 3. TERMINATE\n"}],
    "programs": "lenient",
}
SETTINGS = AttributionSettings(max_turn_tokens=16)


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 8, seed=11, question_types=("value",)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompt") / "short.yaml"
    path.write_text(yaml.safe_dump(SHORT))
    return str(path)


@pytest.fixture(scope="module")
def short(file: str) -> PromptTemplate:
    return find_prompt(file)


def lenient_call(sample: Sample, index: int) -> tuple[str, str]:
    """What only a lenient template takes: no boxes, one name, `print`."""
    name = next(iter(sample.column_boxes))
    turn = f'```python\nprint(focus_on_columns_with_mask(image_1, "{name}"))\n```'
    return turn, f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"


@pytest.mark.slow(1)
@pytest.mark.parametrize("reference", ["student_call", "own_call"])
def test_a_training_with_a_template_of_ones_own(
    tmp_path: Path,
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    charts: list[Sample],
    short: PromptTemplate,
    reference: str,
) -> None:
    """The teacher's processor brings another template along; it is asked with the student's."""
    mine, theirs = copy.copy(processor), copy.copy(processor)
    mine.prompt = short
    trainer = scripted(
        tmp_path,
        model,
        mine,
        charts,
        lenient_call,
        teacher=Policy(copy.deepcopy(other_model), theirs),
        teacher_reference=reference,
        penalty_weight=0.1,
        trace_every=1,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "policy"))
    folder = RunFolder(tmp_path / "run")
    (row,) = folder.read_metrics()
    assert (row["tools/call_ratio"], row["tools/success_rate"], row["reward/outcome"]) == (1, 1, 1)
    traces = folder.read_traces()
    blocks = {tuple(trace.attribution["student"]) for trace in traces if trace.attribution}
    if reference == "student_call":
        assert {names[-3:] for names in blocks} == {("example:one", "image_1", "query")}
        assert all(trace.attribution["student"].keys() == trace.attribution["teacher"].keys() for trace in traces)
    assert json.loads((tmp_path / "run" / MANIFEST).read_text())["config"]["prompt"] == short.to_json()
    for place in ("run", "policy"):
        assert find_prompt(str(tmp_path / place)) == short
    assert load_policy(str(tmp_path / "policy")).template == short
    assert theirs.prompt == find_prompt("tiny"), "the teacher's own stays as it is"


def test_a_template_that_is_given_stays_with_the_processor(
    tmp_path: Path, model: PreTrainedModel, processor: ImageTextProcessor, charts: list[Sample], file: str
) -> None:
    from iapo.training.batches import to_dataset
    from iapo.training.trainer import IAPOTrainer

    args = IAPOConfig(
        str(tmp_path / "run"),
        penalty_weight=0.0,
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    mine = copy.copy(processor)
    trainer = IAPOTrainer(
        copy.deepcopy(model), args=args, train_dataset=to_dataset(charts), processing_class=mine, template=file
    )
    assert trainer.encoder.template == find_prompt(file) == PromptEncoder(mine).template
    with pytest.raises(InputError, match="no prompt 'nothing'"):
        IAPOTrainer(
            copy.deepcopy(model), args=args, train_dataset=to_dataset(charts), processing_class=mine, template="nothing"
        )


def test_a_table_of_another_prompt_is_refused(
    tmp_path: Path, student: Policy, charts: list[Sample], short: PromptTemplate
) -> None:
    table = attribute_samples(student, charts[:2], SETTINGS, template=short)
    table.write(tmp_path / "t.parquet")
    stored = TeacherTable.read(tmp_path / "t.parquet")
    assert {row.block_names[-3:] for row in stored.rows.values()} == {("example:one", "image_1", "query")}
    assert StoredCalls(stored, SETTINGS, template=short).find(charts[:2])
    with pytest.raises(InputError, match=r"made with the prompt 'short', but the run has 'tiny'.*set prompt"):
        StoredCalls(stored, SETTINGS)
    reworded = dataclasses.replace(short, question="{names}Q: {question}")
    with pytest.raises(InputError, match="made with another wording of the prompt 'short'"):
        StoredCalls(stored, SETTINGS, template=reworded)
    settings = dataclasses.replace(SETTINGS, teacher_table=str(tmp_path / "t.parquet"))
    with pytest.raises(InputError, match="the run has 'tiny'"):
        make_reference(settings, None, PromptEncoder(student.processor))
    assert make_reference(settings, None, PromptEncoder(student.processor, short))
    # One of an earlier version does not say; its rows do.
    unsaid = {name: value for name, value in stored.settings.items() if name != "prompt"}
    with pytest.raises(InputError, match="offer the same tools in the same order and set the same prompt"):
        StoredCalls(dataclasses.replace(stored, settings=unsaid), SETTINGS).find(charts[:1])


def test_student_and_teacher_must_be_asked_alike(student: Policy, short: PromptTemplate) -> None:
    with pytest.raises(InputError, match="teacher is asked with the prompt 'short' and the student with 'tiny'"):
        Alignment(OwnCall(student, SETTINGS, template=short), PromptEncoder(student.processor))


@pytest.mark.slow(2)
def test_a_run_keeps_its_prompt_for_all_verbs(tmp_path: Path, file: str, short: PromptTemplate) -> None:
    folder = tmp_path / "run"
    arguments = RunArguments(
        prompt=file, train_samples=8, eval_samples=2, eval_traces=0, case_study_samples=2, case_study_steps=1
    )
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "teacher": "tiny-teacher",
        "max_steps": 1,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_turn_tokens": 16,
        "max_completion_length": 80,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    run(arguments, IAPOConfig(**settings), quiet=True)
    (found,) = find_runs([str(folder)])
    assert (
        run_prompt(found.path) == prompt_of(str(folder / "policy")) == prompt_of(str(folder / "checkpoint-1")) == short
    )
    # Studies ask all its policies with it, the start and the teacher too.
    plan = plan_of(found, {})
    assert plan.prompt == attribute_plan(folder, {}).prompt == short
    study = json.loads((folder / "case-study.json").read_text())
    assert study["settings"]["prompt"] == short.to_json()
    again = run_misuse([found], {"samples": 2})
    assert [point["step"] for point in next(iter(again.values()))["points"]] == [0, 1]
    with pytest.raises(InputError, match="was made with prompt"):
        CaseStudyFile(folder / "case-study.json", plan_of(found, {"prompt": "tools"}).to_json(plan.read_samples()))
    # An evaluation takes the policy's own, and says which.
    out = tmp_path / "evaluation"
    words = [
        "evaluate",
        "--model",
        folder / "policy",
        "--sets",
        "vbar",
        "--samples",
        2,
        "--max-turn-tokens",
        8,
        "--out",
        out,
    ]
    for more in ([], ["--prompt", file]):
        done = iapo_here(*words, *more)
        assert done.returncode == 0, done.stderr
    assert json.loads((out / MANIFEST).read_text())["config"]["prompt"] == short.to_json()
    other = iapo_here(*words, "--prompt", "tiny")
    assert other.returncode == 2
    assert "holds an evaluation with other settings (config.prompt" in other.stderr
    # Going on with another prompt is no going on.
    resumed = IAPOConfig(**{**settings, "max_steps": 2, "resume_from_checkpoint": str(folder / "checkpoint-1")})
    with pytest.raises(InputError, match=r"holds a run with prompt .*short\.yaml', now it is None"):
        run(dataclasses.replace(arguments, prompt=None), resumed, quiet=True)


def test_runs_of_earlier_versions_have_the_tiny_prompt(tmp_path: Path) -> None:
    assert run_prompt(tmp_path) == find_prompt("tiny")


def test_settings_name_a_prompt_that_is_there() -> None:
    with pytest.raises(InputError, match=r"no prompt 'tool'; did you mean tools\?"):
        RunArguments(prompt="tool")
