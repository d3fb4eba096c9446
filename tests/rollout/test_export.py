"""What `iapo export` writes beside the weights: the model card, of the run's own numbers; and what is pushed."""

from __future__ import annotations

import copy
import errno
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from doc_data import write_finished
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from iapo.display.tables import estimate_text
from iapo.errors import InputError, PlaceError
from iapo.results import TrainingEvaluation, read_evaluation
from iapo.rollout import push as pushing
from iapo.rollout.export import export
from iapo.rollout.names import PACKAGED
from iapo.rollout.policy import ImageTextProcessor, load_policy
from iapo.storage import read_records


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, the packaged student as its policy, a rollout of the last step among those that it kept."""
    folder = tmp_path_factory.mktemp("run") / "mine"
    write_finished(folder, "iapo", 5)
    records = read_records(folder / "held-out.jsonl")
    for index, one in enumerate(records):
        one["step"] = 20 if index else 0
    records[1]["turn_1"] = "# not a heading\n" + records[1]["turn_1"]
    (folder / "held-out.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


def test_the_card_has_the_runs_numbers(run: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = export(str(run), tmp_path / "out", "bfloat16")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert done["run"] == str(run)
    assert done["pushed"] is None
    card = (tmp_path / "out/README.md").read_text()
    front = card.split("---")[1]
    assert "pipeline_tag: image-text-to-text" in front
    assert "license" not in front
    assert "base_model" not in front, "a packaged name means nothing on the hub"
    evaluation = read_evaluation(run / "evaluation.json")
    assert isinstance(evaluation, TrainingEvaluation)
    for name, heading in (("accuracy", "accuracy"), ("misuse", "misuse")):
        row = f"| {heading} | {estimate_text(evaluation.before[name])} | {estimate_text(evaluation.after[name])} |"
        assert row in card
    # Every number of the tables of measures is one of the run's.
    known = {
        number
        for part in (evaluation.before, evaluation.after)
        for one in part.values()
        for number in re.findall(r"[\d.]+", estimate_text(one))
    }
    table = card[card.index("## Measures") : card.index("## An example")]
    assert set(re.findall(r"\d\.\d{3}", table)) <= known
    assert "| reward | iapo |" in card
    assert "| seed | 5 |" in card
    assert f"{done['parameters']:,} parameters in bfloat16" in card
    assert str(tmp_path) not in card
    assert str(run.parent) not in card
    with Image.open(tmp_path / "out/example.png") as example:
        assert example.size == (96 + 12 + 96, 72)
    # The first of the last step, and nothing that was written by a model is Markdown.
    second = read_records(run / "held-out.jsonl")[1]
    assert f"    question: {second['sample']['question']}\n    # not a heading\n" in card
    assert "It was graded wrong." in card


def test_the_card_says_what_is_not_known(run: Path, tmp_path: Path) -> None:
    export("tiny-student", tmp_path / "plain")
    card = (tmp_path / "plain/README.md").read_text()
    assert "nothing is known here of its training" in card
    assert "## Measures" not in card
    assert not (tmp_path / "plain/example.png").exists()
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    shutil.copytree(PACKAGED / "tiny-student", tmp_path / "run/checkpoint-5")
    export(str(tmp_path / "run/checkpoint-5"), tmp_path / "early")
    card = (tmp_path / "early/README.md").read_text()
    assert "It is a checkpoint of that run" in card
    assert "| reward | iapo |" in card
    assert "## Measures" not in card
    for name in ("evaluation.json", "held-out.jsonl"):
        (tmp_path / "run" / name).unlink()
    export(str(tmp_path / "run"), tmp_path / "bare")
    assert "The run was not evaluated." in (tmp_path / "bare/README.md").read_text()
    (tmp_path / "run/held-out.jsonl").write_text('{"step": 20}\n')
    with pytest.raises(InputError, match=r"held-out\.jsonl is damaged"):
        export(str(tmp_path / "run"), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_push_that_cannot_be_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, reason in (("me/it", "the hub is switched off"), ("it", "give a repository"), ("a/b/c", "give a rep")):
        with pytest.raises(InputError, match=reason):
            export("tiny-student", tmp_path / "out", push_to=name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="without a token"):
        export("tiny-student", tmp_path / "out", push_to="me/it")
    assert not (tmp_path / "out").exists()


def test_a_push_uploads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a hub that stands in; where it cannot be reached, the folder stays and the sentence says how to go on."""
    made: list[Any] = []

    class Hub:
        def create_repo(self, name: str, **more: Any) -> None:
            made.append((name, more))

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
            assert (Path(folder_path) / "model.safetensors").is_file()
            made.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
            return SimpleNamespace(commit_url="https://hub/commit/1")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "x")
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    done = export("tiny-student", tmp_path / "out", push_to="me/it", private=True)
    assert done["pushed"] == "https://hub/commit/1"
    assert made[0] == ("me/it", {"private": True, "exist_ok": True})
    assert "README.md" in made[1][1]

    class Gone(Hub):
        def create_repo(self, name: str, **more: Any) -> None:
            raise ConnectionError("no way there")

    monkeypatch.setattr("huggingface_hub.HfApi", Gone)
    with pytest.raises(InputError, match=r"again is written, but me/it could not be pushed to \(no way there\)"):
        pushing.push(tmp_path / "again", "me/it", private=False)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the library that writes says so in words of its own."""

    def full(self: Any, folder: Path, **_: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise errors.pop()

    errors: list[Exception] = [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file"),
        OSError(errno.ENOSPC, "No space left on device"),
        Exception("No space left on device (os error 28)"),
    ]
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    for _ in range(len(errors)):
        with pytest.raises(PlaceError, match=r"out\.part could not be written .*; make room there and start the same"):
            export("tiny-student", tmp_path / "deep" / "out")
        assert not list(tmp_path.iterdir())
    errors.append(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        export("tiny-student", tmp_path / "deep" / "out")
    assert not list(tmp_path.iterdir())


def test_an_adapter_is_exported_in_its_bases_own_type(
    qwen3_model: PreTrainedModel, qwen3_processor: ImageTextProcessor, tmp_path: Path
) -> None:
    """Also where the configuration has it for the language model alone, as published Qwen3-VL checkpoints do."""
    base = tmp_path / "base"
    model = copy.deepcopy(qwen3_model).to(torch.bfloat16)
    model.save_pretrained(base)
    qwen3_processor.save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    config["text_config"]["dtype"] = config.pop("dtype")
    (base / "config.json").write_text(json.dumps(config))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model\..*q_proj"))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(tmp_path / "adapter")
    done = export(str(tmp_path / "adapter"), tmp_path / "out")
    assert done["dtype"] == "bfloat16"
    assert {str(one.dtype) for one in load_file(tmp_path / "out/model.safetensors").values()} == {"torch.bfloat16"}


def test_paths_may_be_texts(tmp_path: Path) -> None:
    done = export(Path("tiny-student"), str(tmp_path / "out"), "bfloat16")
    assert (done["dtype"], done["source"]) == ("bfloat16", "tiny-student")
    assert load_policy(tmp_path / "out").model.num_parameters() == done["parameters"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": "fp7"}, "dtype is 'fp7'; use one of bfloat16, float16, float32"),
        ({"dtype": torch.float16}, "dtype is torch.float16; use one of"),
        ({"source": None}, "model is of type NoneType; give the name of a policy"),
        ({"source": ""}, "model is empty"),
        ({"output": None}, "output is of type NoneType; give the path of a folder"),
        ({"output": " "}, "output is empty"),
        ({"output": "file/out"}, "file/out lies below .*file, which is a file"),
    ],
)
def test_what_export_does_not_take(
    changes: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    with pytest.raises(InputError, match=reason):
        export(**{"source": "tiny-student", "output": "out", **changes})
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
