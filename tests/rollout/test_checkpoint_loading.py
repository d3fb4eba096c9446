"""Checkpoints load as asked, what is amiss with them is refused by name, and what is saved opens without iapo."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from processes import run as run_process
from safetensors.torch import load_file, save_file

from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.configuration import read_config
from iapo.rollout.export import find_policy
from iapo.rollout.files import first_line
from iapo.rollout.load_settings import LoadSettings, load_settings, prefixed_names
from iapo.rollout.loading import load_model
from iapo.rollout.names import PACKAGED, resolve
from iapo.rollout.policy import Policy, find_checkpoint, load_policy, load_processor
from iapo.rollout.weights import read_weights

EMBEDDINGS = "model.embed_tokens.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged student."""
    return Path(shutil.copytree(PACKAGED / "tiny-student", tmp_path / "copy"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def drop(weights: dict[str, torch.Tensor]) -> None:
    del weights[EMBEDDINGS]


def shorten(weights: dict[str, torch.Tensor]) -> None:
    weights[EMBEDDINGS] = weights[EMBEDDINGS][:100].clone()


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["model.unheard_of"] = torch.zeros(2)


def name_oddly(weights: dict[str, torch.Tensor]) -> None:
    weights["a\nb" + "x" * 5000] = torch.zeros(2)


def spoil(weights: dict[str, torch.Tensor]) -> None:
    weights[EMBEDDINGS][3, 4] = float("nan")
    weights["model.norm.weight" if "model.norm.weight" in weights else next(iter(weights))][..., 0] = float("inf")


def name_twice(weights: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    weights[name.replace("model.", "model.language_model.")] = torch.zeros_like(weights[name])


def untie(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"] = torch.zeros_like(weights[EMBEDDINGS])


def round_off(weights: dict[str, torch.Tensor]) -> None:
    weights.update({name: (100 * weight).to(torch.int8) for name, weight in weights.items()})


def round_to_8_bits(weights: dict[str, torch.Tensor]) -> None:
    weights[EMBEDDINGS] = weights[EMBEDDINGS].to(torch.float8_e4m3fn)


def make_complex(weights: dict[str, torch.Tensor]) -> None:
    weights[EMBEDDINGS] = weights[EMBEDDINGS].to(torch.complex64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"lacks .*embed_tokens\.weight"),
        (shorten, r"has the misshapen weight .*embed_tokens\.weight \(\[100, 128\] for \[\d+, 128\]\)"),
        (add, r"has the unknown weight .*unheard_of"),
        (name_oddly, r"has the unknown weight a\\nbx{150,200};"),
        (spoil, r"holds NaN or infinity in 2 weights: .*; it is damaged"),
        (untie, r"has an output layer of its own, but its config\.json says"),
        (round_off, r"holds no floating-point numbers in \d+ weights: .*; no quantisation in its configuration expl"),
        (name_twice, r"one weight under two names, model\.la.*\.down_proj\.weight and model\.la.*\.down_proj\.weight;"),
        (round_to_8_bits, r"holds numbers of 8 bits or fewer in the weight .*embed_tokens\.weight; no quantisation in"),
        (make_complex, r"holds no floating-point numbers in the weight .*embed_tokens\.weight;"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    change_weights(folder, change)
    with pytest.raises(InputError, match=message):
        load_policy(str(folder))


def test_shards_of_integers_are_named(folder: Path) -> None:
    change_weights(folder, round_off)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    shards = dict.fromkeys(load_file(folder / "model-00001-of-00001.safetensors"), "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="holds no floating-point numbers in"):
        load_policy(str(folder))


def shard(folder: Path, **places: str) -> dict[str, torch.Tensor]:
    """Splits a checkpoint's weights into two files with an index; `places` of it are changed."""
    weights = load_file(folder / "model.safetensors")
    names = list(weights)
    files = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, some in files.items():
        save_file({name: weights[name] for name in some}, folder / file, metadata={"format": "pt"})
    index = {name: file for file, some in files.items() for name in some} | places
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return weights


def test_shards_load_and_a_second_checkpoint_beside_them_is_refused(folder: Path) -> None:
    weights = shard(folder)
    with pytest.raises(InputError, match=r"holds two checkpoints, model\.safetensors and the shards of model\.safet"):
        load_policy(str(folder))
    (folder / "model.safetensors").unlink()
    found = load_policy(str(folder)).model.get_input_embeddings().weight
    assert torch.equal(found, weights[EMBEDDINGS])


@pytest.mark.parametrize("file", ["../out.safetensors", "/out.safetensors", "a\0b"])
def test_an_index_names_no_file_outside_of_the_folder(folder: Path, file: str) -> None:
    shard(folder, other=file)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"names the file .* which is none of its folder"):
        load_policy(str(folder))


def test_a_weight_in_two_shards_is_refused(folder: Path) -> None:
    weights = shard(folder)
    (folder / "model.safetensors").unlink()
    first = next(iter(weights))
    save_file({**load_file(folder / "b.safetensors"), first: weights[first]}, folder / "b.safetensors")
    with pytest.raises(InputError, match=rf"b\.safetensors of .* holds the weight {first}, which .* in a\."):
        load_policy(str(folder))
    held = load_file(folder / "b.safetensors")
    held["x"] = held.pop(first)
    save_file(held, folder / "b.safetensors")
    with pytest.raises(InputError, match=r"holds the weight x, which model\.safetensors\.index\.json does not name;"):
        load_policy(str(folder))


@pytest.mark.parametrize("text", [None, {"vocab_size": 10**7}])
def test_a_configuration_of_a_much_larger_model_is_refused(folder: Path, text: dict[str, Any] | None) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] = text and {**config["text_config"], **text}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"describes a model of [\d,]+ numbers, but its files"):
        load_model(str(folder), LoadSettings())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floating_point_numbers_load(folder: Path, dtype: torch.dtype) -> None:
    change_weights(folder, lambda weights: weights.update({name: one.to(dtype) for name, one in weights.items()}))
    assert load_policy(str(folder)).model.dtype == torch.float32


def test_integers_of_a_quantisation_are_its_own(folder: Path) -> None:
    change_weights(folder, round_off)
    change_file(folder / "config.json", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}})
    read_weights(str(folder), None)
    held = json.loads((folder / "config.json").read_text())
    for told in (None, {}):
        (folder / "config.json").write_text(json.dumps({**held, "quantization_config": told}))
        with pytest.raises(InputError, match="holds no floating-point numbers in"):
            read_weights(str(folder), None)
    # Transformers looks for none there.
    vision = {**held["vision_config"], "quantization_config": {"quant_method": "fp8"}}
    change_file(folder / "config.json", {"quantization_config": None, "vision_config": vision})
    with pytest.raises(InputError, match="holds no floating-point numbers in"):
        read_weights(str(folder), None)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"quant_method": "quark2"}, "of the method 'quark2', which Transformers does not know and would pass over"),
        ({"bits": 4}, "of the method None, which Transformers does not know"),
        (["fp8"], "of the method None, which Transformers does not know"),
        ({"quant_method": "fp8"}, "of the method 'fp8', but its files hold no such numbers; leave it out"),
    ],
)
def test_a_quantisation_that_would_not_be_heeded_is_refused(folder: Path, told: Any, message: str) -> None:
    change_file(folder / "config.json", {"quantization_config": told})
    with pytest.raises(InputError, match=message):
        read_weights(str(folder), None)


def test_a_quantisation_of_another_type_than_asked_for_names_it(folder: Path) -> None:
    scales = {}

    def halve(weights: dict[str, torch.Tensor]) -> None:
        for name in [one for one in weights if ".layers." in one and one.endswith("_proj.weight")]:
            scales[f"{name}_scale_inv"] = torch.ones([-(-side // 128) for side in weights[name].shape])
            weights[name] = weights[name].to(torch.float8_e4m3fn)
        weights.update(scales)

    change_weights(folder, halve)
    told = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["visual", "lm_head"]}
    change_file(folder / "config.json", {"quantization_config": told})
    with pytest.raises(InputError, match="become bfloat16 on this device, and the others are float32; set dtype to bf"):
        load_policy(str(folder))
    assert load_policy(str(folder), LoadSettings(dtype="bfloat16")).model.dtype == torch.bfloat16


@pytest.mark.parametrize(("named", "found"), [("bfloat16", torch.bfloat16), (None, torch.float32)])
def test_the_type_auto_is_the_configurations_and_else_the_files(
    folder: Path, caplog: pytest.LogCaptureFixture, named: str | None, found: torch.dtype
) -> None:
    change_weights(folder, lambda weights: weights.update({name: one.float() for name, one in weights.items()}))
    change_file(folder / "config.json", {"dtype": named, "torch_dtype": None, "text_config": None})
    parts = json.loads((PACKAGED / "tiny-student" / "config.json").read_text())
    text, vision = ({**parts[one], "dtype": named} for one in ("text_config", "vision_config"))
    change_file(folder / "config.json", {"text_config": text, "vision_config": vision})
    assert load_model(str(folder), LoadSettings(dtype="auto")).dtype == found
    assert ("which is bfloat16 by the config.json" in caplog.text) == (named is not None)


@pytest.mark.parametrize(("there", "lacking"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_half_a_vocabulary_is_named(folder: Path, there: str, lacking: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / there).write_text("{}")
    with pytest.raises(InputError, match=f"has {there} but no {lacking}, and a tokenizer is made of both"):
        load_processor(str(folder))


def change_file(file: Path, changes: dict[str, Any]) -> None:
    """Sets keys of a JSON file; those that are None are left out."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


QWEN3 = PACKAGED / "tiny-qwen3-vl-teacher"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("merge_size", 1, "its merge size is 1, the model's 2; take preprocessor_config.json"),
        ("patch_size", 16, "its patch size is 16, the model's 14"),
        ("temporal_patch_size", 1, "its number of frames in a patch is 1, the model's 2"),
    ],
)
def test_a_processor_of_another_model_is_refused_before_weights_are_read(
    folder: Path, key: str, value: int, message: str
) -> None:
    (folder / "model.safetensors").unlink()
    for name in PROCESSOR_FILES:
        content = json.loads((folder / name).read_text())
        content.get("image_processor", content)[key] = value
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"processor of .* is of another model: {message}"):
        load_policy(str(folder))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *[("image_std", value, "three numbers") for value in ([1, 0, 1], [-1, 1, 1], [float("nan"), 1, 1], [1], 5)],
        *[("image_mean", value, "three numbers") for value in ([float("nan"), 0, 0], [0], ["a", 0, 0])],
        *[("rescale_factor", value, "a number above 0, up to 1") for value in (0, -1, float("nan"), 1e9, "x")],
        *[(key, False, "true") for key in ("do_resize", "do_rescale", "do_normalize")],
        *[("resample", value, "a number from 0 to 5") for value in ("x", 77)],
        *[("merge_size", value, "a whole number above 0") for value in ("2", 2.0, 0)],
        *[
            ("size", value, "a whole number above 0")
            for value in ({"shortest_edge": "9", "longest_edge": 99}, {"height": 9, "width": 9})
        ],
        ("image_processor_type", "CLIPImageProcessor", "Qwen2VLImageProcessor is known"),
    ],
)
def test_settings_of_images_that_cannot_be(folder: Path, key: str, value: Any, message: str) -> None:
    set_pictures(folder, key, value)
    with pytest.raises(InputError, match=message):
        load_processor(str(folder))


def set_pictures(folder: Path, key: str, value: Any) -> None:
    for name in PROCESSOR_FILES:
        content = json.loads((folder / name).read_text())
        images = content.get("image_processor", content)
        images[key] = value
        if key == "size":
            images.update(min_pixels=None, max_pixels=None)
        (folder / name).write_text(json.dumps(content))


def test_early_names_and_places_are_known(folder: Path) -> None:
    """An image processor of Qwen2.5-VL's own, and a chat template in the tokenizer's file alone."""
    set_pictures(folder, "image_processor_type", "Qwen2_5_VLImageProcessor")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    change_file(folder / "tokenizer_config.json", {"chat_template": text})
    template.unlink()
    found = load_processor(str(folder))
    assert found.chat_template == text
    assert type(found.image_processor) is type(load_processor("tiny-student").image_processor)


@pytest.mark.parametrize("indexes", [[99, 98], [0, 0], [-1, 0]])
def test_deepstack_layers_that_are_none_of_the_tower(tmp_path: Path, indexes: list[int]) -> None:
    config = json.loads((QWEN3 / "config.json").read_text())
    config["vision_config"]["deepstack_visual_indexes"] = indexes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="give different layers of its vision tower, from 0 to 1"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer_class": "Qwen2Tokenizer"}, "the same text gets other tokens .*'Qwen2Tokenizer'"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "the same text gets other tokens"),
        ({"pad_token": None}, "has no pad_token; set it"),
        ({"model_max_length": "x"}, "has the model_max_length 'x'; give a number"),
        ({"split_special_tokens": True}, "has split_special_tokens"),
    ],
)
def test_a_tokenizer_that_reads_otherwise_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    change_file(folder / "tokenizer_config.json", change)
    with pytest.raises(InputError, match=message):
        load_processor(str(folder))


def test_a_tokenizer_of_chance_is_refused(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    change_file(folder / "tokenizer.json", {"model": {**model, "dropout": 0.5}})
    with pytest.raises(InputError, match=r"has the dropout 0\.5, by which"):
        load_processor(str(folder))


def test_files_of_another_familys_processor_are_refused(folder: Path, adapter: Path) -> None:
    for name in PROCESSOR_FILES:
        shutil.copy(QWEN3 / name, folder / name)
    with pytest.raises(InputError, match="is of another model: its patch size is 16, the model's 14"):
        load_policy(str(folder))
    load_processor(str(QWEN3)).save_pretrained(adapter)
    with pytest.raises(InputError, match=f"processor of {adapter} is of another model"):
        load_policy(str(adapter))


@pytest.mark.parametrize("section", [[1, 1, 1], [16], [8, 4, "4"], "16", [20, 4, -8]])
@pytest.mark.parametrize("name", ["tiny-student", "tiny-qwen3-vl-teacher"])
def test_positions_that_do_not_fit_a_head_are_refused(tmp_path: Path, name: str, section: Any) -> None:
    config = json.loads((PACKAGED / name / "config.json").read_text())
    config["text_config"]["rope_parameters"]["mrope_section"] = section
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"three whole numbers that sum to 16, half of|is no checkpoint"):
        find_checkpoint(str(tmp_path))


TEXT, VISION = "text_config", "vision_config"


@pytest.mark.parametrize(
    ("name", "part", "key"),
    [
        *[
            (name, TEXT, key)
            for name in ("tiny-student", QWEN3.name)
            for key in ("rms_norm_eps", "num_attention_heads")
        ],
        *[(name, TEXT, "num_key_value_heads") for name in ("tiny-student", QWEN3.name)],
        *[("tiny-student", VISION, key) for key in ("num_heads", "window_size", "fullatt_block_indexes")],
        *[(QWEN3.name, VISION, key) for key in ("num_heads", "deepstack_visual_indexes")],
    ],
)
def test_a_number_that_no_weight_shows_is_told(tmp_path: Path, name: str, part: str, key: str) -> None:
    config = read_json(PACKAGED / name / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(config))
    find_checkpoint(str(tmp_path))
    del config[part][key]
    (tmp_path / "config.json").write_text(json.dumps({**config, "initializer_range": 1}))
    with pytest.raises(InputError, match=rf"has no {key} in its {part}, and no weight shows it"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize(("version", "reads"), [("4.49.0", True), ("4.50.0.dev0", True), ("4.51.3", False)])
def test_what_a_version_leaves_out_of_the_vision_tower_is_as_published(tmp_path: Path, version: str, reads: bool):
    config = read_json(PACKAGED / "tiny-student" / "config.json")
    for key in ("num_heads", "window_size", "fullatt_block_indexes"):
        del config[VISION][key]
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_version": version}))
    if reads:
        find_checkpoint(str(tmp_path))
        found = read_config(str(tmp_path), None).vision_config
        assert (found.num_heads, found.window_size) == (16, 112)
        assert list(found.fullatt_block_indexes) == [7, 15, 23, 31]
    else:
        with pytest.raises(InputError, match="has no num_heads in its vision_config"):
            find_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["tiny-student", QWEN3.name])
@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("place", ["inner", "outer", "none"])
def test_the_base_of_positions_is_told(tmp_path: Path, name: str, spelling: str, place: str) -> None:
    config = read_json(PACKAGED / name / "config.json")
    rope = config[TEXT].pop("rope_parameters")
    base = rope.pop("rope_theta")
    config[TEXT][spelling] = rope | ({"rope_theta": base} if place == "inner" else {})
    if place == "outer":
        config[TEXT]["rope_theta"] = base
    (tmp_path / "config.json").write_text(json.dumps(config))
    if place == "none":
        with pytest.raises(InputError, match="has no rope_theta in its text_config, and no weight shows it"):
            find_checkpoint(str(tmp_path))
    else:
        find_checkpoint(str(tmp_path))


def test_early_files_have_the_base_of_positions_at_the_top(tmp_path: Path) -> None:
    config = read_json(PACKAGED / "tiny-student" / "config.json")
    config |= config.pop(TEXT) | {"model_type": "qwen2_5_vl"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    find_checkpoint(str(tmp_path))
    del config["rope_parameters"]["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has no rope_theta, and no weight shows it"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize("key", ["tokenizer_class", "eos_token"])
def test_a_tokenizer_that_is_not_told_is_refused(folder: Path, key: str) -> None:
    change_file(folder / "tokenizer_config.json", {key: None})
    with pytest.raises(InputError, match=rf"the tokenizer_config\.json of .* has no {key}; take it"):
        load_policy(str(folder))


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match=r"of 5000 characters, which no file may have; give"):
        find_policy("x" * 5000)


def test_cut_off_weights_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"weights of .* cannot be read"):
        load_policy(str(folder))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("tokenizer.json",), "no processor that can be loaded|tokenizer of"),
        (("tokenizer_config.json",), r"has no tokenizer_config\.json, without which its tokenizer would be another"),
        (("tokenizer.json", "tokenizer_config.json"), "no processor that can be loaded|tokenizer of"),
        (("processor_config.json", "preprocessor_config.json"), "no processor that can be loaded"),
        (("chat_template.jinja",), "has no chat template"),
        (("model.safetensors",), "weights of .* cannot be read"),
        (("config.json",), "is no checkpoint"),
    ],
)
def test_missing_files_are_refused(folder: Path, files: tuple[str, ...], message: str) -> None:
    for name in files:
        (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        load_policy(str(folder))


JUNK = ("", "[]", "null", "5", '"a"', "{", "[" * 100_000, "\xff")


FILES = ["config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
FILES += ["prompt.yaml", "adapter_config.json", "model.safetensors"]


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", FILES)
def test_files_with_something_else_in_them_are_refused(folder: Path, name: str) -> None:
    """Or passed over, where the model does not need them; never is there an exception of another kind."""
    for junk in JUNK:
        (folder / name).write_bytes(junk.encode("latin-1"))
        try:
            load_policy(str(folder))
        except InputError:
            continue
        assert name in ("generation_config.json", "tokenizer_config.json", "processor_config.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("dtype", "x"), ("dtype", []), ("image_token_id", None), ("image_token_id", "x"), ("model_type", [])],
        *[("attn_implementation", "somebody/code"), ("attn_implementation", "flash_attention_9")],
        *[("quantization_config", {"quant_method": kind}) for kind in ("gptq", "hqq", "higgs")],
        *[("text_config", {"hidden_size": number}) for number in (-1, 10**9)],
    ],
)
def test_values_of_a_configuration_that_cannot_be(folder: Path, field: str, value: Any) -> None:
    """Among them what would fetch code, needs a package, or more memory than there is."""
    config = json.loads((folder / "config.json").read_text())
    if field == "text_config":
        value = {**config[field], **value}
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(InputError) as refused:
        load_policy(str(folder))
    assert "\n" not in str(refused.value)
    if value == "somebody/code":
        assert "code that would be fetched" in str(refused.value)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (None, {"return_dict": False}, "has return_dict false; leave it out"),
        (None, {"is_encoder_decoder": True}, "has is_encoder_decoder true"),
        ("text_config", {"num_attention_heads": 0}, "has the num_attention_heads 0; give|is no checkpoint"),
        (
            "text_config",
            {"rope_parameters": {"rope_theta": 1e4}},
            "has the mrope_section None; give three whole numbers",
        ),
        ("text_config", {"num_hidden_layers": 10**9}, "has the num_hidden_layers 1000000000; give 0 to 1000, or take"),
        ("vision_config", {"depth": 10**9}, "has the depth 1000000000; give 0 to 1000"),
        (None, {"num_labels": 10**9}, "has the num_labels 1000000000; give 0 to 1000"),
        ("text_config", {"pad_token_id": 99999}, "cannot be loaded as its config.json says: Padding_idx"),
        ("vision_config", {"window_size": 0}, "cannot be run as its config.json says|cannot be loaded as"),
        ("vision_config", {"window_size": 7}, "cannot be run as its config.json says|cannot be loaded as"),
    ],
)
def test_a_configuration_that_cannot_be_run(
    folder: Path, part: str | None, change: dict[str, Any], message: str
) -> None:
    held = json.loads((folder / "config.json").read_text())
    change_file(folder / "config.json", change if part is None else {part: {**held[part], **change}})
    with pytest.raises(InputError, match=message):
        load_policy(str(folder))


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": []}', "names"])
def test_an_index_of_shards_that_cannot_be(folder: Path, index: str) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    if index == "names":
        names = load_file(folder / "a.safetensors")
        index = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "a\0b")})
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError):
        load_policy(str(folder))


def test_an_adapter_on_an_adapter_is_refused(tmp_path: Path) -> None:
    """Also where they stand in a circle."""
    for name, base in (("a", "b"), ("b", "a"), ("c", "c"), ("d", "e"), ("e", "none")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(tmp_path / base)})
        )
    for name in "acd":
        with pytest.raises(InputError, match="which is an adapter itself, and an adapter on an adapter is not loaded"):
            load_policy(str(tmp_path / name))


@pytest.mark.parametrize("value", ["2", [2, [3]], float("nan"), {}, ["a"], 2.0])
def test_tokens_that_end_a_turn_are_tokens(folder: Path, value: Any) -> None:
    change_file(folder / "generation_config.json", {"eos_token_id": value})
    with pytest.raises(InputError, match=r"generation_config\.json of .* has the eos_token_id"):
        load_policy(str(folder))


@pytest.mark.parametrize("change", [{"num_return_sequences": 4}, {"max_new_tokens": "x"}, {"pad_token_id": [0]}])
def test_what_is_not_heard_of_generation_stops_nothing(folder: Path, change: dict[str, Any]) -> None:
    change_file(folder / "generation_config.json", change)
    assert load_policy(str(folder)).model.generation_config.eos_token_id == 2


def test_settings_of_generation_stay_a_checkpoints(folder: Path) -> None:
    change_file(folder / "generation_config.json", {"repetition_penalty": 1.05, "eos_token_id": [2, 0]})
    kept = load_policy(str(folder)).model.generation_config
    assert (kept.repetition_penalty, kept.eos_token_id) == (1.05, [2, 0])


def test_code_that_a_checkpoint_brings_along_is_never_run(folder: Path, tmp_path: Path) -> None:
    """Nor is anybody asked whether it may: there is no input, which would end a question with an error."""
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass C: pass\n")
    for name in ("config.json", "tokenizer_config.json", "processor_config.json"):
        held = json.loads((folder / name).read_text())
        kinds = ("AutoConfig", "AutoModelForImageTextToText", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")
        (folder / name).write_text(json.dumps({**held, "auto_map": dict.fromkeys(kinds, "evil.C")}))
    load_policy(str(folder))
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_opened(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights of .* cannot be read"):
        load_policy(str(folder))


def test_a_tokenizer_of_another_model_is_refused(folder: Path, processor: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_token_id": 5}))
    with pytest.raises(InputError, match=r"<\|image_pad\|> is 6 for the tokenizer"):
        load_policy(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[
            ({"config.json": {f"{name}_token_id": 9}}, rf"<\|{name.removesuffix('_token')}\|> is \d+ for the tokenizer")
            for name in ("vision_start", "vision_end")
        ],
        ({"config.json": {"video_token_id": 9}}, r"<\|video_pad\|> is 7 for the tokenizer of .* and 9 in its config"),
        # What is left where the added tokens of a tokenizer are lost.
        ({"generation_config.json": {"eos_token_id": [1, 2]}}, r"<\|im_start\|> is 1 for .* and ends a turn by its"),
        ({"config.json": {"eos_token_id": 3}}, r"<\|vision_start\|> is 3 for .*, and ends a turn by its config.json"),
        (
            {"generation_config.json": {"eos_token_id": 0}, "config.json": {"text_config": {"eos_token_id": None}}},
            r"<\|im_end\|> is 2 for the tokenizer of .* end a turn by 0 \(eos_token_id\)",
        ),
        (
            {"tokenizer_config.json": {"added_tokens_decoder": {"5": {"content": "<|im_end|>", "special": True}}}},
            r"is (2|5) for the tokenizer of .* and (2|5) in|makes another tokenizer than its tokenizer\.json",
        ),
    ],
)
def test_ids_of_another_model_are_refused(folder: Path, changes: dict[str, dict[str, Any]], message: str) -> None:
    for file, values in changes.items():
        held = read_json(folder / file)
        for key, value in values.items():
            held[key] = {**held[key], **value} if isinstance(held.get(key), dict) else value
        (folder / file).write_text(json.dumps(held))
    with pytest.raises(InputError, match=message):
        load_policy(str(folder))


def test_several_tokens_may_end_a_turn(folder: Path) -> None:
    """Also one that no tokenizer has, as Transformers writes where none was set."""
    change_file(folder / "generation_config.json", {"eos_token_id": [2, 0]})
    change_file(folder / "config.json", {"eos_token_id": [151645, 2], "bos_token_id": 0})
    load_policy(str(folder))


def test_added_tokens_without_ids_are_refused(folder: Path) -> None:
    """A tokenizer of two files that says nowhere which ids its added tokens have."""
    told = read_json(folder / "tokenizer.json")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(told["model"]["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in told["model"].get("merges", [])]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    change_file(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"})
    with pytest.raises(InputError, match=r"nor a file that tells the ids of its added tokens|tokenizer of .* does not"):
        load_processor(str(folder))


def test_control_tokens_of_a_template_are_the_tokenizers(folder: Path) -> None:
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# no <|unheard_of|>,\n here #}")
    load_processor(str(folder))
    template.write_text(template.read_text() + "{{ '<|unheard_of|>' }}")
    with pytest.raises(InputError, match=r"writes <\|unheard_of\|>, which its tokenizer reads as \d+ tokens"):
        load_processor(str(folder))


def test_several_templates_need_a_default(folder: Path) -> None:
    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    for name, message in (("tool_use", "none of the name default"), ("default", None)):
        change_file(folder / "tokenizer_config.json", {"chat_template": [{"name": name, "template": text}]})
        if message is None:
            load_processor(str(folder))
        else:
            with pytest.raises(InputError, match=message):
                load_processor(str(folder))


def test_the_folder_of_a_run_names_its_policy(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder.rename(run / "policy")
    with pytest.raises(InputError, match=r"is the folder of a run; name its policy, '.*/run/policy'"):
        load_policy(str(run))


def test_an_attention_of_another_way_to_generate_is_refused(folder: Path) -> None:
    change_file(folder / "config.json", {"attn_implementation": "paged|sdpa"})
    with pytest.raises(InputError, match=r"has the attn_implementation 'paged\|sdpa'|is no checkpoint"):
        load_policy(str(folder))


def test_settings_are_heeded(samples: list[Sample]) -> None:
    policy = load_policy(
        "tiny-student",
        LoadSettings(dtype="bfloat16", attn_implementation="eager", min_pixels=60 * 60, max_pixels=90 * 90),
    )
    assert policy.model.dtype == torch.bfloat16
    assert policy.model.config._attn_implementation == "eager"
    height, width = samples[0].image.size
    counted = policy.processor.image_processor.get_number_of_image_patches(height, width, {})
    read = policy.processor.image_processor(images=[samples[0].image.convert("RGB")], return_tensors="pt")
    assert int(read["image_grid_thw"].prod()) == counted == 6 * 6


def test_defaults_leave_a_policy_as_it_was() -> None:
    policy = load_policy("tiny-student")
    assert policy.model.dtype == torch.float32
    assert str(policy.model.device) == "cpu"
    assert dict(policy.processor.image_processor.size)["longest_edge"] == 448 * 448


@pytest.mark.parametrize(
    ("device", "device_map", "dtype"),
    [
        (None, None, "float32"),
        ("cpu", None, "float32"),
        ("cpu:0", None, "float32"),
        (None, "cpu", "float32"),
        ("cuda:1", None, "bfloat16"),
    ],
)
def test_the_device_decides_on_the_type(device: str | None, device_map: str | None, dtype: str) -> None:
    assert LoadSettings(device=device, device_map=device_map).torch_dtype == getattr(torch, dtype)
    assert LoadSettings(dtype="float16", device=device).torch_dtype == torch.float16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float8"}, "dtype is 'float8'; it takes auto or bfloat16 or float16 or float32"),
        ({"bnb_4bit_quant_type": "nf5"}, "it takes fp4 or nf4"),
        ({"device": "gpu"}, "use a name such as cpu or cuda:0"),
        ({"device": "cpu", "device_map": "auto"}, "give one of them"),
        ({"min_pixels": 0}, "min_pixels is 0; give at least 1"),
        ({"min_pixels": 900, "max_pixels": 800}, "min_pixels 900 is more than max_pixels 800"),
        ({"load_in_4bit": True, "load_in_8bit": True}, "exclude each other"),
        ({"attn_implementation": "paged|sdpa"}, r"is 'paged\|sdpa', a form for another way to generate"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoadSettings(**settings)


def test_quantisation_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iapo.rollout.load_settings.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        LoadSettings(load_in_4bit=True).check_packages()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attn_implementation": "nonsense"}, "attn_implementation 'nonsense'"),
        ({"max_pixels": 100}, "one token of this model takes 784 pixels|more than max_pixels 100"),
        ({"min_pixels": 10**9}, "is more than max_pixels 200704"),
        ({"device": "xpu:7"}, "there is no device 'xpu:7'"),
    ],
)
def test_settings_that_the_checkpoint_cannot_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_policy("tiny-student", LoadSettings(**settings))


def test_prefixed_settings() -> None:
    given = {"dtype": "float32", "teacher_dtype": "bfloat16", "teacher_max_pixels": 10_000, "teacher": "tiny-teacher"}
    assert load_settings(given, "teacher") == LoadSettings(dtype="bfloat16", max_pixels=10_000)
    assert load_settings(given) == LoadSettings(dtype="float32")
    assert load_settings({"verifier_dtype": None}, "verifier", LoadSettings(dtype="float16")).dtype == "float16"
    assert prefixed_names("teacher")["teacher_attn_implementation"] == "attn_implementation"
    with pytest.raises(InputError, match="teacher model: dtype is 'no'"):
        load_settings({"teacher_dtype": "no"}, "teacher")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A saved adapter of the packaged student that changes what it does, without a processor beside it."""
    torch.manual_seed(3)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(load_policy("tiny-student").model, config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def logits(policy: Policy, sample: Sample) -> torch.Tensor:
    inputs = policy.processor(
        text=["<|vision_start|><|image_pad|><|vision_end|>What?"],
        images=[sample.image.convert("RGB")],
        return_tensors="pt",
    )
    with torch.no_grad():
        found: torch.Tensor = policy.model.eval()(**inputs).logits
    return found


def test_an_adapter_loads_with_its_base(adapter: Path, samples: list[Sample]) -> None:
    base = logits(load_policy("tiny-student"), samples[0])
    merged = load_policy(str(adapter))
    assert not isinstance(merged.model, PeftModel)
    kept = load_policy(str(adapter), LoadSettings(merge_adapter=False))
    assert isinstance(kept.model, PeftModel)
    assert sum(weight.numel() for weight in kept.model.parameters() if weight.requires_grad) > 0
    assert (logits(merged, samples[0]) - base).abs().max() > 1e-2
    assert torch.allclose(logits(merged, samples[0]), logits(kept, samples[0]), atol=1e-4)


def test_an_adapter_with_names_of_earlier_releases(adapter: Path, samples: list[Sample]) -> None:
    expected = logits(load_policy(str(adapter)), samples[0])
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    old = {name.replace("model.language_model.", "model."): weight for name, weight in weights.items()}
    assert old.keys() != weights.keys()
    save_file(old, file, metadata={"format": "pt"})
    assert torch.equal(logits(load_policy(str(adapter)), samples[0]), expected)


def write_adapter(folder: Path, **settings: Any) -> PeftModel:
    """Saves an adapter of the packaged student that changes what it does; returns PEFT's own model of it."""
    torch.manual_seed(3)
    model = get_peft_model(load_policy("tiny-student").model, LoraConfig(r=2, **settings))
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            weight.data += 0.05 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return model


TIED = [
    *[({"target_modules": names}, False) for names in (["embed_tokens"], ["lm_head"], ["lm_head", "embed_tokens"])],
    ({"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}, False),
    ({"target_modules": ["embed_tokens"], "use_dora": True}, False),
    ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
    ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, True),
    ({"target_modules": ["q_proj"]}, True),
]


@pytest.mark.slow(1)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("settings", "tied"), TIED)
def test_an_adapter_of_tied_embeddings_is_added_to_what_it_adapts(
    tmp_path: Path, samples: list[Sample], settings: dict[str, Any], tied: bool
) -> None:
    """The embeddings are the output layer: added to the one weight, it would change both layers."""
    processor = load_processor("tiny-student")
    expected = logits(Policy(write_adapter(tmp_path / "adapter", **settings), processor), samples[0])
    assert (expected - logits(load_policy("tiny-student"), samples[0])).abs().max() > 1e-2
    merged = load_policy(str(tmp_path / "adapter"))
    assert torch.allclose(logits(merged, samples[0]), expected, atol=1e-4)
    merged.model.tie_weights()
    for part in (merged.model.config, merged.model.config.get_text_config()):
        assert bool(getattr(part, "tie_word_embeddings", tied)) == tied
    merged.model.save_pretrained(tmp_path / "whole")
    merged.processor.save_pretrained(tmp_path / "whole")
    assert torch.allclose(logits(load_policy(str(tmp_path / "whole")), samples[0]), expected, atol=1e-4)


def test_an_adapter_of_one_layer_in_two_ways_is_refused(tmp_path: Path) -> None:
    settings = {"target_modules": ["lm_head"], "trainable_token_indices": {"embed_tokens": [5]}}
    model = get_peft_model(load_policy("tiny-student").model, LoraConfig(r=2, **settings))
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"adapts lm_head.* in two ways at once, which PEFT cannot add to its base"):
        load_policy(str(tmp_path))


def old_name(name: str) -> str:
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


@pytest.mark.slow(1)
@pytest.mark.parametrize(
    ("new", "old"),
    [
        (
            {"target_modules": ["model.language_model.layers.0.self_attn.q_proj", "model.visual.blocks.0.attn.qkv"]},
            {"target_modules": ["model.layers.0.self_attn.q_proj", "visual.blocks.0.attn.qkv"]},
        ),
        (
            {"target_modules": r"model\.language_model\..*\.(q_proj|gate_proj)"},
            # By the new names it would be the vision tower's as well.
            {"target_modules": r"^model\..*\.(q_proj|gate_proj)$"},
        ),
        (
            {"target_modules": r"model\.language_model\.layers\.0\..*\.q_proj"},
            {"target_modules": ["q_proj"], "exclude_modules": r"^model\.layers\.[^0]\..*"},
        ),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"model.language_model.layers.0.self_attn.q_proj": 4}},
            {"rank_pattern": {"model.layers.0.self_attn.q_proj": 4}},
        ),
        (
            {"target_modules": ["q_proj"], "alpha_pattern": {"model.language_model.layers.0.self_attn.q_proj": 64}},
            {"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 64}},
        ),
        (
            {"target_modules": ["q_proj"], "modules_to_save": ["model.language_model.norm"]},
            {"modules_to_save": ["model.norm"]},
        ),
        *[
            (
                {"target_modules": ["q_proj"], "target_parameters": [f"{new}mlp.gate_proj.weight"]},
                {"target_parameters": [f"{old}mlp.gate_proj.weight"]},
            )
            for new, old in (
                ("model.language_model.layers.0.", "model.layers.0."),
                ("model.visual.blocks.0.", "visual.blocks.0."),
                ("layers.0.", "layers.0."),
            )
        ],
    ],
)
def test_an_adapter_whose_modules_have_names_of_earlier_releases(
    tmp_path: Path, samples: list[Sample], new: dict[str, Any], old: dict[str, Any]
) -> None:
    folder = tmp_path / "adapter"
    expected = logits(Policy(write_adapter(folder, **new), load_processor("tiny-student")), samples[0])
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({old_name(name): weight for name, weight in weights.items()}, folder / "adapter_model.safetensors")
    change_file(folder / "adapter_config.json", old)
    assert torch.allclose(logits(load_policy(str(folder)), samples[0]), expected, atol=1e-4)


def test_an_adapter_with_a_weight_under_two_names(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    weights[name.replace("model.language_model.", "model.")] = torch.zeros_like(weights[name])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="holds weights twice, under their names and those of earlier releases"):
        load_policy(str(adapter))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("start", ["gaussian", "eva", "olora", "pissa", "orthogonal", "mica"])
def test_an_adapter_is_what_was_saved_whatever_it_began_with(tmp_path: Path, samples: list[Sample], start: str) -> None:
    settings = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": start}
    expected = logits(Policy(write_adapter(tmp_path, **settings), load_processor("tiny-student")), samples[0])
    for _ in range(2):
        assert torch.allclose(logits(load_policy(str(tmp_path)), samples[0]), expected, atol=1e-4)


def change_adapter(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def test_an_adapter_with_its_name_in_those_of_its_weights(adapter: Path, samples: list[Sample]) -> None:
    expected = logits(load_policy(str(adapter)), samples[0])
    change_adapter(adapter, lambda weights: {k.replace(".weight", ".default.weight"): v for k, v in weights.items()})
    assert torch.equal(logits(load_policy(str(adapter)), samples[0]), expected)


def test_an_adapter_that_peft_reads_otherwise_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path, target_modules=["q_proj"], use_dora=True)
    change_adapter(tmp_path, lambda one: {k.replace("_vector", "_vector.default"): v for k, v in one.items()})
    with pytest.raises(InputError, match=r"has \d+ weights: .*; PEFT reads other numbers than its file holds"):
        load_policy(str(tmp_path))


OUTER = ("base_model.model.model.language_model.embed_tokens.weight", "base_model.model.lm_head.weight")


@pytest.mark.slow(1)
def test_embeddings_beside_an_adapter(adapter: Path, samples: list[Sample]) -> None:
    """PEFT saves them where it is told to; unchanged they are the base's, and others become a whole checkpoint's."""
    expected = logits(load_policy(str(adapter)), samples[0])
    own = load_file(PACKAGED / "tiny-student" / "model.safetensors")[EMBEDDINGS]
    change_adapter(adapter, lambda weights: {**weights, **{name: own.clone() for name in OUTER}})
    assert torch.equal(logits(load_policy(str(adapter)), samples[0]), expected)
    load_policy(str(adapter), LoadSettings(merge_adapter=False))
    change_adapter(adapter, lambda weights: {**weights, **{name: own.mul(2) for name in OUTER}})
    with torch.no_grad():
        base = load_policy("tiny-student").model
        base.get_input_embeddings().weight.mul_(2)
    known = Policy(PeftModel.from_pretrained(base, adapter), load_processor("tiny-student"))
    assert torch.allclose(logits(load_policy(str(adapter)), samples[0]), logits(known, samples[0]), atol=1e-4)
    with pytest.raises(InputError, match=r"holds another .*; trained on, it would be lost, so `iapo export` it first"):
        load_policy(str(adapter), LoadSettings(merge_adapter=False))
    # Of tied embeddings one alone can be taken.
    change_adapter(adapter, lambda weights: {**weights, OUTER[0]: 3 * own})
    with pytest.raises(InputError, match=r"in neither modules_to_save nor bias; PEFT does not take it"):
        load_policy(str(adapter))


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_that_an_adapters_settings_do_not_name(tmp_path: Path, samples: list[Sample], bias: str) -> None:
    model = write_adapter(tmp_path, target_modules=["q_proj"], bias=bias)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and name.endswith(".bias"):
                weight += 0.1
    model.save_pretrained(tmp_path)
    expected = logits(Policy(model, load_processor("tiny-student")), samples[0])
    change_file(tmp_path / "adapter_config.json", {"bias": "none"})
    assert torch.allclose(logits(load_policy(str(tmp_path)), samples[0]), expected, atol=1e-4)


def test_a_bias_for_a_layer_without_one(tmp_path: Path) -> None:
    write_adapter(tmp_path, target_modules=["o_proj"], lora_bias=True)
    with pytest.raises(InputError, match=r"cannot be added to its base \(Impossible to merge .*merge_adapter=False"):
        load_policy(str(tmp_path))
    assert isinstance(load_policy(str(tmp_path), LoadSettings(merge_adapter=False)).model, PeftModel)


def test_an_adapter_that_lacks_a_weight_is_told_by_its_own_file(adapter: Path) -> None:
    change_file(adapter / "adapter_config.json", {"target_modules": ["q_proj"]})
    with pytest.raises(
        InputError, match=r"unknown weight.*; its adapter_model\.safetensors does not fit its adapter_con"
    ):
        load_policy(str(adapter))


def test_an_adapter_with_its_own_processor(adapter: Path) -> None:
    load_processor("tiny-student", LoadSettings(max_pixels=100 * 100)).save_pretrained(adapter)
    assert dict(load_policy(str(adapter)).processor.image_processor.size)["longest_edge"] == 100 * 100


def test_an_adapter_with_a_tokenizer_alone_has_its_bases_images(adapter: Path) -> None:
    processor = load_processor("tiny-student")
    processor.tokenizer.save_pretrained(adapter)
    found = load_policy(str(adapter)).processor
    assert found.image_processor.to_dict() == processor.image_processor.to_dict()
    processor.tokenizer.chat_template = "another"
    processor.tokenizer.save_pretrained(adapter)
    with pytest.raises(InputError, match=r"with another chat template than its base's, and no image processor beside"):
        load_policy(str(adapter))
    processor.tokenizer.add_tokens(["<another>"])
    processor.tokenizer.save_pretrained(adapter)
    with pytest.raises(InputError, match=r"that reads otherwise than its base's, and no image processor beside it"):
        load_policy(str(adapter))
    (adapter / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="has a tokenizer beside it that cannot be loaded"):
        load_policy(str(adapter))


def test_an_adapter_without_pefts_names_is_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({name.removeprefix("base_model.model."): one for name, one in load_file(file).items()}, file)
    with pytest.raises(
        InputError, match=r"unknown weights: model\..*; PEFT writes base_model\.model\. before each name"
    ):
        load_policy(str(adapter))


def test_adapters_that_do_not_fit_are_refused(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())

    def rewrite(**changes: Any) -> None:
        (adapter / "adapter_config.json").write_text(json.dumps({**config, **changes}))

    rewrite(base_model_name_or_path=resolve("tiny-teacher"))
    with pytest.raises(InputError, match="does not fit its base: size mismatch"):
        load_policy(str(adapter))
    rewrite(base_model_name_or_path="/no/where")
    with pytest.raises(InputError, match="set base_model_name_or_path"):
        find_checkpoint(str(adapter))
    rewrite(base_model_name_or_path=None)
    with pytest.raises(InputError, match="names no base"):
        find_checkpoint(str(adapter))
    rewrite()
    weights = load_file(adapter / "adapter_model.safetensors")
    lost = sorted(weights)[0]
    save_file({key: value for key, value in weights.items() if key != lost}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=f"lacks the weight {lost}"):
        load_policy(str(adapter))
    save_file({**weights, lost: weights[lost].to(torch.int32)}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=f"holds no floating-point numbers in the weight {lost}"):
        load_policy(str(adapter))


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize(
    ("name", "processor_class", "video_class"),
    [
        ("tiny-student", "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
        ("tiny-teacher", "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
        ("tiny-qwen3-vl-teacher", "Qwen3VLProcessor", "Qwen3VLVideoProcessor"),
    ],
)
def test_saved_files_bear_published_names(tmp_path: Path, name: str, processor_class: str, video_class: str) -> None:
    load_processor(name).save_pretrained(tmp_path)
    for folder in (tmp_path, PACKAGED / name):
        whole = read_json(folder / "processor_config.json")
        assert whole["processor_class"] == processor_class
        assert whole["video_processor"]["video_processor_type"] == video_class
        images = read_json(folder / "preprocessor_config.json")
        assert images["processor_class"] == read_json(folder / "tokenizer_config.json")["processor_class"]
        assert images["processor_class"] == processor_class
        assert images["image_processor_type"] == "Qwen2VLImageProcessor"
        assert (
            images["max_pixels"] == images["size"]["longest_edge"] == whole["image_processor"]["size"]["longest_edge"]
        )
        assert read_json(folder / "video_preprocessor_config.json")["video_processor_type"] == video_class
        assert (folder / "chat_template.jinja").read_text() == (PACKAGED / name / "chat_template.jinja").read_text()


def test_settings_of_videos_survive(tmp_path: Path, qwen3_processor: Any) -> None:
    qwen3_processor.save_pretrained(tmp_path / "first")
    file = tmp_path / "first/processor_config.json"
    content = read_json(file)
    content["video_processor"]["size"] = {"longest_edge": 25165824, "shortest_edge": 4096}
    file.write_text(json.dumps(content))
    load_processor(str(tmp_path / "first")).save_pretrained(tmp_path / "second")
    assert read_json(tmp_path / "second/processor_config.json")["video_processor"]["size"]["longest_edge"] == 25165824


def test_folders_of_earlier_versions_load(folder: Path) -> None:
    """They name a class of iapo's and have no image processor's file of its own."""
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).unlink()
    content = read_json(folder / "processor_config.json")
    del content["video_processor"]
    (folder / "processor_config.json").write_text(json.dumps({**content, "processor_class": "ImageTextProcessor"}))
    tokenizer = read_json(folder / "tokenizer_config.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "processor_class": "ImageTextProcessor"}))
    old, new = load_policy(str(folder)).processor, load_policy("tiny-student").processor
    assert json.loads(old.to_json_string()) == json.loads(new.to_json_string())


STOCK = """
import json, sys
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils import is_torchvision_available
folder = sys.argv[1]
if is_torchvision_available():
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "Qwen2_5_VLProcessor", type(processor)
else:
    # The published class itself cannot do without.
    try:
        AutoProcessor.from_pretrained(folder)
    except ImportError as error:
        assert "Torchvision" in str(error)
model = AutoModelForImageTextToText.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
images = AutoImageProcessor.from_pretrained(folder)
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is 12?"}]}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
assert "iapo" not in sys.modules
print(json.dumps({
    "ids": tokenizer(text)["input_ids"],
    "patches": images.get_number_of_image_patches(300, 200, {}),
    "eos": model.generation_config.eos_token_id,
    "weights": float(sum(weight.double().abs().sum() for weight in model.parameters())),
}))
"""


@pytest.mark.slow(6)
def test_stock_classes_open_what_is_saved(tmp_path: Path, student: Policy) -> None:
    student.model.save_pretrained(tmp_path)
    student.processor.save_pretrained(tmp_path)
    code = STOCK
    done = run_process([sys.executable, "-I", "-c", code, str(tmp_path)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is 12?"}]}]
    text = student.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert found["ids"] == student.processor.tokenizer(text)["input_ids"]
    assert found["patches"] == student.processor.image_processor.get_number_of_image_patches(300, 200, {})
    assert found["eos"] == student.model.generation_config.eos_token_id
    own = float(sum(weight.detach().double().abs().sum() for weight in student.model.parameters()))
    assert found["weights"] == pytest.approx(own, rel=1e-9)
    assert set(load_file(tmp_path / "model.safetensors")) == set(load_file(PACKAGED / "tiny-student/model.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "an adapter of the type 'PROMPT_TUNING'"),
        ({"peft_type": 5}, "an adapter of the type '5'"),
        ({"megatron_config": {"x": 1}, "megatron_core": "megatron.core"}, "would import modules"),
        ({"lora_alpha": float("nan")}, "lora_alpha in .* is nan"),
        ({"lora_alpha": "8"}, "lora_alpha in .* is '8'"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern in .* has 'nan' for q_proj; give 0 to 1e"),
        ({"alpha_pattern": {"q_proj": -3}}, "alpha_pattern in .* has '-3' for q_proj"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern in .* has '0' for q_proj; give 1 to 8192"),
        ({"alora_invocation_tokens": [3]}, "is an activated LoRA"),
        ({"target_modules": 5}, "target_modules in .* is 5; it takes a list of texts or a text"),
        ({"rank_pattern": 5}, "rank_pattern in .* is 5; give a table of numbers by module"),
        ({"alpha_pattern": None}, "alpha_pattern in .* is None; give a table"),
        *[
            ({name: "false"}, f"{name} in .* is 'false'; it takes true or false")
            for name in ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias", "ensure_weight_tying")
        ],
        ({"bias": "everything"}, "bias in .* is 'everything'; it takes none or all or lora_only"),
        ({"modules_to_save": "norm"}, "modules_to_save in .* is 'norm'; it takes a list of texts"),
        *[
            (
                {"init_lora_weights": kind},
                f"of the init_lora_weights '{kind}', which changes its base by what no second",
            )
            for kind in ("pissa_niter_4", "corda", "lora_ga", "loftq")
        ],
        (
            {"modules_to_save": ["lm_head"]},
            r"it lacks the weight base_model\.model\.lm_head\.weight, which its adapter_c",
        ),
        ({"r": "8"}, "r in .* is '8'; give 1 to 8192"),
        ({"r": None}, "r in .* is None; give 1 to 8192"),
        ({"arrow_config": {}}, "has an arrow_config, which is for several adapters at once"),
    ],
)
def test_an_adapter_that_is_something_else(adapter: Path, change: dict[str, Any], message: str) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        load_policy(str(adapter))


def test_pickled_adapters_are_not_opened(adapter: Path) -> None:
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no adapter_model\.safetensors; weights are read from safetensors alone"):
        load_policy(str(adapter))


def test_an_adapter_with_a_number_that_is_none(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="holds NaN or infinity in the weight"):
        load_policy(str(adapter))


def test_what_pydantic_refuses_is_said_and_not_counted() -> None:
    pydantic = pytest.importorskip("pydantic")

    def refuse(value: int) -> int:
        raise ValueError(f"{value} is more than\n  the model has")

    model = pydantic.create_model("ModelConfig", length=(Annotated[int, pydantic.AfterValidator(refuse)], ...))
    with pytest.raises(pydantic.ValidationError) as caught:
        model(length=9)
    assert str(caught.value).startswith("1 validation error for ModelConfig\n")
    assert first_line(caught.value) == "length: 9 is more than   the model has"
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
