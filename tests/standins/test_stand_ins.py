"""Stand-ins are folders as they are published, and open with Transformers and here alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import ranks
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from iapo.cli.main import main
from iapo.data.synthetic import generate
from iapo.errors import InputError, PlaceError
from iapo.models import MODEL_FAMILIES
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import find_prompt
from iapo.standins.folder import make_stand_in
from iapo.standins.shapes import SIZES, STAND_INS, Size, config_of
from iapo.standins.tokenizer import find_ranks, make_tokenizer
from iapo.tools import offered_tools

PUBLISHED = {"qwen2.5-vl-3b": 3_754_622_976, "qwen2.5-vl-7b": 8_292_166_656, "qwen3-vl-4b": 4_437_815_808}
"""Parameters of the published checkpoints, as their model cards' files have them."""


@pytest.fixture(scope="module", params=["qwen2.5-vl-3b", "qwen3-vl-4b"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stand-in") / "model"
    make_stand_in(request.param, out, ranks=ranks())
    return out


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(str(folder))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    """As Transformers loads it."""
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", STAND_INS)
@pytest.mark.parametrize("size", SIZES)
def test_configurations_are_of_known_families(name: str, size: Size, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(name, size)))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.model_type in MODEL_FAMILIES
    heads = config.text_config.hidden_size // config.text_config.num_attention_heads
    assert getattr(config.text_config, "head_dim", heads) == 128


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr("iapo.standins.folder.save_torch_state_dict", full)
    given = ranks()
    with pytest.raises(PlaceError, match=r"could not be written .*; make room there"):
        make_stand_in("qwen2.5-vl-3b", tmp_path / "deep" / "model", ranks=given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_full_shape_has_the_published_number_of_parameters(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(name, "full")))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path))
    assert model.num_parameters() == PUBLISHED[name]


@pytest.mark.slow(10)
def test_a_stand_in_is_asked_with_the_tools_prompt(policy: Policy) -> None:
    encoder = PromptEncoder(policy.processor)
    assert encoder.template == find_prompt("tools")
    (sample,) = generate("vbar", 1, seed=0, split="test", size=800)
    blocks = build_blocks(sample, template=encoder.template)
    prompt = encoder.encode(blocks)
    assert prompt.block_of == sorted(prompt.block_of)
    assert set(prompt.block_of) == set(range(len(blocks)))
    for index, block in enumerate(blocks):
        ids = [token for token, of in zip(prompt.ids, prompt.block_of, strict=True) if of == index]
        assert block.text in encoder.tokenizer.decode(ids)
    # docs/prompts.md: less than half of what is usual for prompts that say as much.
    assert len(prompt.ids) - prompt.ids.count(encoder.image_token_id) < 2050
    free = PromptEncoder(policy.processor, find_prompt("free"))
    prompt = free.encode(build_blocks(sample, tools=offered_tools("crop,calculate"), template=free.template))
    assert len(prompt.ids) - prompt.ids.count(encoder.image_token_id) < 1150
    # Qwen's marks of tool calls are tokens of their own, and are still there in a turn's text.
    turn = '<tool_call>\n{"name": "focus_on_columns_with_mask", "arguments": {"names": ["A"]}}\n</tool_call>'
    text, _ = encoder.offsets(encoder.tokenizer(turn)["input_ids"])
    assert text == turn


@pytest.mark.slow(20)
def test_a_stand_in_loads_and_its_prompts_partition(folder: Path, policy: Policy) -> None:
    encoder = PromptEncoder(policy.processor)
    prompt = encoder.encode(build_blocks(next(iter(generate("vbar", 1, seed=0, split="test", size=800)))))
    assert set(prompt.block_of) == set(range(len(prompt.block_names)))
    assert prompt.block_of == sorted(prompt.block_of)
    with safe_open(folder / "model.safetensors", "pt") as file:
        keys = set(file.keys())
    assert ("visual.blocks.0.attn.qkv.weight" in keys) == (policy.model.config.model_type == "qwen2_5_vl")


@pytest.mark.slow(15)
def test_texts_are_cut_as_qwen_cuts_them(tokenizer: Any) -> None:
    # The ids of the published tokenizer.
    assert tokenizer("Hello, world! 2024\n\n  x")["input_ids"] == [
        9707,
        11,
        1879,
        0,
        220,
        17,
        15,
        17,
        19,
        271,
        220,
        856,
    ]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == 151645
    assert tokenizer.convert_tokens_to_ids("<|image_pad|>") == 151655
    text = "Rožok \u00a0 日本語 🎉 <|im_start|>user\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.slow(2)
def test_a_system_message_is_added_where_none_is_given(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert text == f"{system}<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_wrong_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of ranks"):
        find_ranks(tmp_path / "missing")
    (tmp_path / "few").write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(InputError, match="holds 2 ranks"):
        make_tokenizer(tmp_path / "few", qwen3=False)
    (tmp_path / "none").write_text("what is this\n")
    with pytest.raises(InputError, match="holds no ranks"):
        make_tokenizer(tmp_path / "none", qwen3=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["llama", "--out", "x"], "llama"),
        (["qwen2.5-vl-3b", "--out", "."], "already exists"),
        (["qwen2.5-vl-3b", "--out", "x", "--size", "huge"], "size is 'huge'"),
        (["qwen2.5-vl-3b", "--out", "x", "--ranks", "missing"], "no file of ranks"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["tiny", "stand-in", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_paths_may_be_texts(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "model"
    assert make_stand_in("qwen2.5-vl-3b", str(out), ranks=str(ranks())) > 0
    assert (out / "config.json").is_file()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"out": None}, "out is of type NoneType; give the path of a folder"),
        ({"out": ""}, "out is empty"),
        ({"out": "file/x"}, "lies below .*file, which is a file"),
        ({"seed": -1}, "seed is -1; give a whole number from 0"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_what_a_stand_in_is_not_made_of(
    changes: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    given: dict[str, Any] = {"out": "x", "ranks": ranks(), **changes}
    with pytest.raises(InputError, match=reason):
        make_stand_in("qwen2.5-vl-3b", given.pop("out"), **given)
