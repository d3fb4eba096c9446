"""Wrong command lines: one sentence, exit code 2, nothing written, and before seconds of imports."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image
from processes import run as run_process

from iapo.cli.main import main

REFUSED = {
    # Wrong words.
    "trian": "no such command 'trian'; did you mean 'train'",
    "nothing": "no such command 'nothing'",
    "--versio": "has no option --versio; did you mean --version?",
    "data chek x": "no such command 'chek'; did you mean 'check'?",
    "study curvs x": "did you mean 'curves'?",
    "teacher atribute": "did you mean 'attribute'?",
    "tiny biuld": "did you mean 'build'?",
    # Words that are empty, as those of a variable of the shell that is not set.
    "report ''": "RUN is empty; give it a value, or leave it out",
    "report run --out ''": "--out is empty; give it a value, or leave it out",
    "export '' --out out": "RUN_OR_ADAPTER is empty",
    "report run ''": "RUN is empty",
    "export tiny-student --out=": "--output is empty",
    "evaluate --model '' --out out": "--model is empty",
    "data show rows --out ''": "--out is empty",
    "report run --out /": "/ is a folder; give the name of the page",
    "plan --config octal.yaml": "the number 010 in line 1 is to the base of 8 or 60 in YAML",
    "train --config octal.yaml --output_dir out": "octal.yaml: the number 010 in line 1",
    # demo
    "demo --steps 0": "steps is 0; give at least 1",
    "demo --steps x": "invalid value for '--steps'",
    "demo --stepz 3": "iapo demo has no option --stepz; did you mean --steps?",
    "demo --seed -1": "seed is -1; give at least 0",
    "demo --steps": "option '--steps' requires an argument",
    "demo --out taken": "taken/grpo already exists",
    "demo --out file.txt": "file.txt is a file; choose another --out",
    "demo --json file.txt": "file.txt already exists; choose another --json",
    "demo extra": "extra",
    "demo --world crp": "world is 'crp'; did you mean crop? use bars or crop",
    "demo --world pie": "world is 'pie'; use bars or crop",
    "demo --world crop --controls": "--controls are runs of the world bars",
    "demo --world crop --out taken": "taken/grpo already exists; choose another --out",
    "demo --world crop --steps 0": "steps is 0; give at least 1",
    "demo --out file.txt/below": "lies below",
    "demo --json file.txt/below.json": "lies below",
    "train --config demo-iapo --output_dir file.txt/below": "lies below",
    "train --config taken": "'taken' is a folder",
    "train --config key.yaml": "the key in line 1 is a list or a mapping",
    "train --config demo-iapo --reward gone.py:f": "there is no file 'gone.py'",
    "evaluate --model tiny-student --out out --tools raises.py": "cannot be imported (RuntimeError: boom, line 2)",
    "evaluate --model tiny-student --out out --tools ends.py": "cannot be imported (SystemExit: 0, line 2)",
    "evaluate --model tiny-student --out out --prompt tols": "no prompt 'tols'; did you mean tools?",
    "evaluate --model tiny-student --out out --prompt key.yaml": "the key in line 1 is a list or a mapping",
    "evaluate --model tiny-student --out out --prompt unknown.yaml": "unknown.yaml: there is no key 'penalty_wieght'",
    "train --config demo-iapo --output_dir out --prompt taken": "no prompt.yaml",
    "train --config demo-iapo --output_dir out --prompt gone.yaml": "no prompt 'gone.yaml'",
    "attribute --out out --prompt tols": "no prompt 'tols'",
    "study misuse x --prompt tols": "no prompt 'tols'",
    "compare --out out --prompt tols": "no prompt 'tols'",
    "sft --transcripts x --output_dir out --prompt tols": "no prompt 'tols'",
    "teacher attribute --config demo-iapo --out t.parquet --prompt tols": "no prompt 'tols'",
    "attribute --out out --method gone.py:f": "there is no file 'gone.py'",
    "data make vbar 3 file.txt/below.parquet": "lies below",
    "data convert file.txt ''": "OUT is empty; give it a value",
    f"study misuse {'x' * 300}": "is too long for the name of a file or folder",
    # doctor
    "doctor": "iapo doctor needs --config",
    "doctor --config no-such": "no configuration 'no-such'",
    "doctor --config demo-iapo --samples -1": "samples is -1; give at least 0",
    "doctor --config demo-iapo --no-stp": "no setting 'no_stp'; did you mean no_step?",
    "doctor --config demo-iapo --model nowhere": "no checkpoint 'nowhere'",
    "doctor --config demo-iapo --max_sequence_length many": "max_sequence_length is 'many'; it takes a whole number",
    "evaluate --model tiny-student --out out --max-sequence-length 0": "max_sequence_length is 0; give at least 1",
    "evaluate --model tiny-student --out out --max_turns 1": "max_turns is 1; give 2 to 8",
    "evaluate --model tiny-student --out out --prompt tiny --max_turns 3": "the prompt 'tiny' is worded for two turns",
    "evaluate --model tiny-student --out out --max_turns 3": "the prompt 'tiny' is worded for two turns",
    "attribute --out out --max_turns 9": "max_turns is 9; give 2 to 8",
    "attribute --out out --turn 2": "turn is 2, but of 2 turns those from 1 to 1 may call a tool",
    # new
    "new": "missing argument 'KIND'",
    "new tol sharpen": "did you mean tool?",
    "new tool": "missing argument 'NAME'",
    "new tool 2nd": "name is '2nd'; use letters",
    "new tool crop": "name is 'crop', which is taken",
    "new reward json": "name is 'json', which is taken",
    "new data mine --out file.txt": "file.txt",
    "new data mine --out file.txt/below": "lies below",
    "new tool raises": "raises.py already exists",
    "evaluate --model tiny-student --out out --tool-timeout 0": "tool_timeout is 0.0; give a number above 0",
    "evaluate --model tiny-student --out out --tools crp": "no tool 'crp'; did you mean crop?",
    "train --config demo-iapo --tool_timeout -1": "tool_timeout is -1.0; give a number above 0",
    # train
    "train": "needs --config",
    "train --config demo-iapo --output_dir null": "output_dir is empty; name the folder",
    "train --config demo-iapo --output_dir /dev/null": "/dev/null is a file; choose another output_dir",
    "train --config demo-iapo --output_dir nowhere": "nowhere is a link to nothing",
    "train --config demo-iapo --output_dir /proc/iapo": "/proc/iapo cannot be made: ",
    "train --config demo-iapo --model start/policy --output_dir start": "among the checkpoint start/policy; choose",
    "train --config demo-iapo --teacher start/policy --output_dir start/policy": "among the checkpoint start/policy",
    "train --config demo-iapo --data_samples 3": "data_samples is 3, which counts rows of `data`, and none is given",
    "train --config demo-iapo --threads 100000": "threads is 100000; give 0 to 1024",
    "train --config demo-iapo --tools none": "tools are none; a training needs one at least",
    "train --config demo-iapo --families vbar,vbar --output_dir out": "the source 'vbar' is named twice",
    "train --config demo-iapo --data rows,rows/ --output_dir out": "the source 'rows' is named twice",
    "teacher attribute --config demo-iapo --prompt tools --max_turns 3 --out t.parquet": "max_turns above 2 needs",
    "teacher attribute --config demo-iapo --reward distill --out t.parquet": "reward 'distill' needs the teacher's",
    "train --config demo-iapo --max_turns 9": "max_turns is 9; give 2 to 8",
    "train --config demo-iapo --max_turns 3": "the prompt 'tiny' is worded for two turns, and max_turns is 3",
    "train --config demo-iapo --warmup_steps 5": "warmup_steps is 5.0, which does nothing without an lr_scheduler_type",
    "doctor --config demo-iapo --warmup_steps 5": "warmup_steps is 5.0, which does nothing without an lr_scheduler",
    "train --config demo-iapo --save_steps 5": "save_steps is 5.0, which does nothing without save_strategy steps",
    "train --config demo-iapo --model_revision zz": "model_revision is 'zz', which does nothing without a model from",
    "train --config demo-iapo --teacher_model_revision zz": "does nothing without a teacher from the hub",
    "train --config demo-iapo --judge_url http://x/v1": "judge_url is 'http://x/v1', which does nothing without judge",
    "train --config demo-iapo --verifier rules": "verifier is 'rules', which does nothing without a reward that asks a",
    "train --config demo-iapo --data_split test": "data_split is 'test', which does nothing without data; set that",
    "train --config demo-iapo --attribution_floor 1": "does nothing without attribution_normalization floored",
    "train --config demo-iapo --importance_sampling_level nosuch": "no importance_sampling_level 'nosuch'; use one of",
    "train --config demo-iapo --generation_kwargs '{guidance_scale: 2}'": "no key 'guidance_scale' for generation_kw",
    "train --config demo-iapo --activation_checkpointing_kwargs '{offload: true}'": "no key 'offload' for activation_",
    "train --config idle.yaml": "entropy_target is 0.5, which does nothing without use_adaptive_entropy",
    "evaluate --model tiny-student --out out --top-p 0.5": "--top-p does nothing in greedy sampling; set --temperature",
    "evaluate --model tiny-student --out out --concurrency 3": "--concurrency is of an endpoint, and none is asked",
    "evaluate --model tiny-student --out out --key-variable K": "--key-variable is of an endpoint, and none is asked",
    "evaluate --model tiny-student --out out --endpoint-kind vllm": "--endpoint-kind is of an endpoint, and none is",
    "evaluate --model tiny-student --out out --timeout 9": "--timeout is of an endpoint, and none is asked",
    "evaluate --model tiny-student --out out --vllm-memory 0.5": "--vllm-memory is of vLLM, which does not generate",
    "evaluate --model m --endpoint http://x/v1 --out out --batch-size 3": "--batch-size is of a local model, and 'm'",
    "attribute start --out out --seed 9": "--seed is of a drawn chart, and a run's own is explained; give --family",
    "attribute start --out out --size 500": "--size is of a drawn chart, and a run's own is explained; give --family",
    "attribute --out out --index 99999999": "index is 99999999; give 0 to 100000",
    "train --config demo-iapo --use_peft true --lora_r 100000": "lora_r is 100000; give",
    "attribute --sample file.txt --out out --index 1": "--index is of a chart, and --sample is explained; give one",
    "export tiny-student --out out --model-revision zz": "--model-revision is a branch, tag or commit of a hub id",
    "study misuse start --teacher tiny-teacher --teacher-model-revision zz": "and 'tiny-teacher' is none; leave it out",
    "train --config": "option '--config' requires an argument",
    "train --config no-such": "no configuration 'no-such'",
    "train --config list.yaml": "list.yaml holds no settings; give a mapping",
    "train --config broken.yaml": "broken.yaml is not YAML",
    "train --config twice.yaml": "twice.yaml: 'seed' is given twice, the second time in line 3",
    "train --config unknown.yaml": "unknown.yaml: no setting 'penalty_wieght'; did you mean penalty_weight?",
    "train --config wrong.yaml": "wrong.yaml: max_steps is 'many'; it takes a whole number",
    "train --config demo-iapo --learning_rat 1": "no setting 'learning_rat'; did you mean learning_rate?",
    "train --config demo-iapo --confg x": "no setting 'confg'; did you mean config?",
    "train --config demo-iapo --learning-rate fast": "learning_rate is 'fast'; it takes a number",
    "train --config demo-iapo --max_steps 1.5": "max_steps is '1.5'; it takes a whole number",
    "train --config demo-iapo --seed 1 --seed=2": "the setting seed is given twice",
    "train --config demo-iapo --eval-samples 1 --eval_samples 1": "the setting eval_samples is given twice",
    "train --config demo-iapo --use_cpu maybe": "use_cpu is 'maybe'; it takes true or false",
    "train --config demo-iapo --max_steps": "max_steps is true or without a value; it takes a whole number",
    "train --config demo-iapo --max_steps 1 2": "max_steps is ['1', '2']; it takes a whole number",
    "train --config demo-iapo stray": "'stray' belongs to no setting",
    "train --config demo-iapo --judge_on_error panic": "judge_on_error is 'panic'; it takes wait or stop or rules",
    "train --config demo-iapo --generation_kwargs [1": "generation_kwargs is '[1'; it takes a mapping",
    "train --config demo-iapo --component_weights execution": "component_weights is 'execution'; it takes a mapping",
    "train --config demo-iapo --reward gpro": "no reward 'gpro'; did you mean grpo?",
    "train --config demo-iapo --families pie": "unknown family 'pie'",
    "train --config demo-iapo --question-types colour": "question_types has 'colour'",
    "train --config demo-iapo --picture_size 5": "picture_size is 5; give 112 to 1000",
    "train --config demo-iapo --train_samples 0": "train_samples is 0; give at least 1",
    "train --config demo-iapo --eval_samples -3": "eval_samples is -3; give at least 0",
    "train --config demo-iapo --model nobody": "no checkpoint 'nobody'",
    "train --config demo-iapo --output_dir run": "run already holds a run",
    "train --config demo-iapo --output_dir file.txt": "file.txt is a file",
    "train --config demo-iapo --dtype float8": "dtype is 'float8'; it takes auto or bfloat16",
    "train --config demo-iapo --dtype float16": "float16 weights cannot be trained; set dtype to bfloat16 or float32",
    "train --config demo-iapo --lora_r 8": "lora_r is 8 without an adapter; set use_peft",
    "train --config demo-iapo --use_dora": "use_dora is True without an adapter",
    "train --config demo-iapo --use_peft --lora_r 0": "lora_r is 0; give 1 to 8192",
    "train --config demo-iapo --use_peft --lora_dropout 1": "lora_dropout is 1.0; give a number from 0 and below 1",
    "train --config demo-iapo --use_peft --lora_task_type SEQ_CLS": "lora_task_type is 'SEQ_CLS'; it takes",
    "train --config demo-iapo --load_in_4bit --load_in_8bit": "load_in_4bit and load_in_8bit exclude each other",
    "train --config demo-iapo --bnb_4bit_quant_type fp4": "bnb_4bit_quant_type is fp4 without load_in_4bit",
    "train --config demo-iapo --teacher_use_bnb_nested_quant": "teacher model: use_bnb_nested_quant is True without",
    "train --config demo-iapo --min_pixels 9 --max_pixels 8": "min_pixels 9 is more than max_pixels 8",
    "train --config demo-iapo --max_pixels 9000 --teacher_max_pixels 8000": "leave teacher_max_pixels out",
    "train --config demo-iapo --device_map gpu": "device_map is 'gpu'; use one of auto",
    "train --config demo-iapo --verifier_dtyp auto": "no setting 'verifier_dtyp'; did you mean verifier_dtype?",
    "train --config demo-iapo --model_init_kwargs '{dtype: bfloat16}'": "which IAPO does not take; set dtype",
    "train --config demo-iapo --eval_strategy steps": "eval_strategy is set, but a run has no data for an evaluation",
    "train --config demo-iapo --trust_remote_code": "trust_remote_code is True, but code in a checkpoint is never run",
    "train --config demo-iapo --data_seed 3": "data_seed is 3, but TRL's GRPO orders prompts by seed",
    "train --config demo-iapo --generation_kwargs '{top_p: 0.9}'": "generation_kwargs has 'top_p'; leave it out",
    "train --config demo-iapo --long_prompts cut": "long_prompts is 'cut'; it takes refuse or drop",
    "train --config demo-iapo --dynamic_sampling_by luck": "dynamic_sampling_by is 'luck'; it takes reward or outcome",
    "train --config demo-iapo --dynamic_sampling many": "dynamic_sampling is 'many'; it takes a whole number",
    "compare --out out --lora_r 8": "lora_r is 8 without an adapter",
    "compare --out out --label_smoothing_factor 0.1": "label_smoothing_factor is 0.1, which speaks of labels",
    # plan
    "plan": "needs --config",
    "plan --config no-such": "no configuration 'no-such'",
    "plan --config demo-iapo --learning_rat 1": "did you mean learning_rate?",
    "plan --config demo-iapo --memry 1": "no setting 'memry'; did you mean memory?",
    "plan --config demo-iapo --memory 0": "memory is 0.0; give at least 0.1",
    "plan --config demo-iapo --gpus 0": "gpus is 0; give at least 1",
    "plan --config demo-iapo --sharding some": "sharding is 'some'; use none, zero2 or zero3",
    "plan --config demo-iapo --sharding zero3": "give --gpus 2 or more",
    "plan --config demo-iapo --image big": "image is 'big'; give width and height in pixels",
    "plan --config demo-iapo --model nobody": "no checkpoint 'nobody'",
    "plan --config demo-iapo --json file.txt": "file.txt already exists",
    # evaluate
    "evaluate --model tiny-student --out out --data-damage ignore": "data_damage is 'ignore'",
    "study misuse run --data-damage ignore": "data_damage is 'ignore'",
    "evaluate --model tiny-student --out out --dtype float8": "dtype is 'float8'; it takes auto",
    "evaluate --model tiny-student --out out --device gpu": "device is 'gpu'; use a name such as cpu",
    "evaluate --model tiny-student --out out --device cpu --device-map auto": "give one of them",
    "evaluate --model tiny-student --out out --max-pixels 0": "max_pixels is 0; give at least 1",
    "evaluate --model m --out out --endpoint http://x --dtype auto": "dtype is of a local model",
    "attribute --out out --teacher-dtype no": "teacher model: dtype is 'no'",
    "attribute --out out --min-pixels 5000 --teacher-min-pixels 6000": "leave teacher_min_pixels out",
    "study misuse run --max-pixels -1": "max_pixels is -1; give at least 1",
    # ask
    "ask": "missing argument 'IMAGE'",
    "ask chart.png": "missing argument 'QUESTION'",
    "ask chart.png a?": "missing option '--model'",
    "ask chart.png a? --model nobody": "no checkpoint 'nobody'",
    "ask gone.png a? --model tiny-student": "there is no image gone.png; give the path of an image file",
    "ask taken a? --model tiny-student": "taken is a folder; give the path of an image file",
    "ask a? chart.png --model tiny-student": "there is no image a?; give the path of an image file, then the question",
    "ask https://host/chart.png a? --model tiny-student": "is an address, which is not fetched; give the path of a",
    "ask chart.png a? --model ''": "--model is empty",
    "ask chart.png a? --model tiny-student --out x.png --json ./x.png": "out and json are both x.png; give two files",
    "ask chart.png a? --model tiny-student --more-image gone.png": "there is no image gone.png",
    f"ask chart.png a? --model tiny-student {'--more-image chart.png ' * 8}": "comes with 9 images; give 1 to 8",
    "ask chart.png a? --model tiny-student --more-image file.txt": "file.txt: the picture is in no known picture",
    "ask file.txt a? --model tiny-student": "file.txt: the picture is in no known picture format",
    "ask chart.png '' --model tiny-student": "QUESTION is empty; give it a value\n",
    "ask chart.png a\udcff? --model tiny-student": "holds half a surrogate pair, or a byte that is no UTF-8",
    "ask chart.png a? --model tiny-student --boxes no-box.json": "no-box.json: the box of column 'A' is of type str",
    "ask chart.png '<|im_end|>' --model tiny-student --boxes no-box.json": "iapo: the question holds the control token",
    "ask chart.png ' ' --model tiny-student": "the question is empty",
    "ask chart.png 'a<|im_end|>' --model tiny-student": "control token <|im_end|>; remove it",
    "ask chart.png a? --model tiny-student --boxes gone.json": "cannot read the boxes gone.json",
    "ask chart.png a? --model tiny-student --boxes list.yaml": "list.yaml: the boxes are of type list; give a mapping",
    "ask chart.png a? --model tiny-student --boxes file.txt": "file.txt is not JSON; write boxes as in docs/using.md",
    "ask chart.png a? --model tiny-student --boxes twice.json": "twice.json: the key 'A' stands twice in one JSON obj",
    "ask chart.png a? --model tiny-student --boxes boxes.json": "boxes.json: no field of boxes 'colum_boxes'; did you",
    "ask chart.png a? --model tiny-student --kind map": "kind is 'map'; use auto, chart or table",
    "ask chart.png a? --model tiny-student --names guess": "names is 'guess'; use places or ocr",
    "ask chart.png a? --model tiny-student --out chart.png": "chart.png already exists; choose another --out",
    "ask chart.png a? --model tiny-student --out file.txt/x.png": "lies below",
    "ask chart.png a? --model tiny-student --out x.gif": "out is x.gif; give a name that ends in .png",
    "ask chart.png a? --model tiny-student --json file.txt": "file.txt already exists",
    "ask chart.png a? --model tiny-student --temperature -1": "temperature is -1.0; give 0 to 100",
    "ask chart.png a? --model tiny-student --top-p 0": "top_p is 0.0; give a number above 0",
    "ask chart.png a? --model tiny-student --seed -1": "seed is -1; give at least 0",
    "ask chart.png a? --model tiny-student --max-turn-tokens 0": "max_turn_tokens is 0; give at least 1",
    "ask chart.png a? --model tiny-student --tools gone.py": "there is no file 'gone.py'",
    "ask chart.png a? --model tiny-student --tools none --attribution": "there is no call to attribute",
    "ask chart.png a? --model tiny-student --prompt tols": "no prompt 'tols'; did you mean tools?",
    "ask chart.png a? --model tiny-student --dtype float8": "dtype is 'float8'; it takes auto",
    "ask chart.png a? --model tiny-student --modle x": "no option --modle; did you mean --model?",
    "ask chart.png a? --model run": "run holds no trained policy",
    # serve
    "serve": "missing option '--model'",
    "serve --model nobody": "no checkpoint 'nobody'",
    "serve --model tiny-student --port 70000": "port is 70000; give 0 to 65535",
    "serve --model tiny-student --port x": "invalid value for '--port'",
    "serve --model tiny-student --host nowhere.invalid": "cannot listen at nowhere.invalid, port 8080",
    "serve --model tiny-student --waiting -1": "waiting is -1; give 0 to",
    "serve --model tiny-student --max-body 0": "max_body is 0; give 1 to 500",
    "serve --model m --upstream localhost:8000": "upstream is 'localhost:8000'; give its base address",
    "serve --model m --upstream http://x --dtype auto": "dtype is of a local model",
    "serve --model m --upstream http://x --device cpu": "device is of a local model",
    "serve --model m --upstream http://x --timeout 0": "timeout is 0.0; give a number above 0",
    "serve --model m --upstream http://x --endpoint-kind other": "endpoint_kind is 'other'",
    "serve --model m --upstream 'http://me:a/secret@host/v1'": "upstream is no address of a host and a port",
    "serve --model m --upstream me:secret@host": "upstream is an address without http:// or https://",
    "serve --model m --upstream http://x/v1?key=secret": "upstream goes on behind its path",
    "evaluate --model x --out out --endpoint ftp://me:secret@host": "endpoint is an address without http://",
    "train --config demo-iapo --judge_model m --judge_url me:secret@host": "judge_url is an address without http://",
    "train --config demo-iapo --data http://me:secret@host": "a test set is given as an address",
    "compare --out out --judge_url http://me:secret@host/v1": "judge_url holds a user or a password",
    "evaluate --model a:b/c --out out": "no checkpoint 'a:b/c'",
    "evaluate --model a/b--c --out out": "no checkpoint 'a/b--c'",
    f"evaluate --model {'x' * 5000} --out out": "no checkpoint 'xxx",
    "serve --model tiny-student --host 'a\nb'": "cannot listen at a\\nb, port 8080",
    f"serve --model tiny-student --host {'x' * 100}": "cannot listen at xxx",
    "serve --model tiny-student --prompt tols": "no prompt 'tols'",
    "serve --model tiny-student --json x": "no option --json",
    "export tiny-student --output out --push it": "push is 'it'; give a repository of the hub, OWNER/NAME",
    "export tiny-student --output out --private": "give --push OWNER/NAME as well",
    "export nobody --output out": "no checkpoint 'nobody'",
    "export tiny-student": "missing option '--output'",
    "export tiny-student --output taken": "taken already exists",
    "export tiny-student --output out --dtype int8": "dtype is 'int8'",
    "export run --output out": "run holds no trained policy; give a run folder, or the folder of a policy",
    "evaluate --out out": "missing option '--model'",
    "evaluate --model tiny-student": "missing option '--out'",
    "evaluate --model nobody --out out": "no checkpoint 'nobody'",
    "evaluate --model tiny-student --out out --sets pie": "test set 'pie' is no family",
    "evaluate --model tiny-student --out out --sets vbar,vbar": "name each one once",
    "evaluate --model tiny-student --out out --sets vtwq@hub": "no test set or format 'vtwq'; did you mean vwtq?",
    "evaluate --model tiny-student --out out --sets vwtq@gone": "there is no file or folder 'gone'",
    "evaluate --model tiny-student --out out --question_types colour": "no question type 'colour'",
    "evaluate --model tiny-student --out out --samples -1": "samples is -1; give at least 0",
    "evaluate --model tiny-student --out out --size 50": "size is 50; give 112 to 1000",
    "evaluate --model tiny-student --out out --temperature -1": "temperature is -1.0; give 0 to 1000",
    "evaluate --model tiny-student --out out --top-p 2": "top_p is 2.0; give a number above 0, up to 1",
    "evaluate --model tiny-student --out out --repeats 3": "3 greedy repeats are all the same",
    "evaluate --model tiny-student --out out --batch_size 0": "batch_size is 0; give at least 1",
    "evaluate --model x --out out --endpoint localhost": "begins with http:// or https://",
    "evaluate --model x --out out --endpoint http://x --timeout 0": "timeout is 0.0",
    "evaluate --model x --out out --length_parameter tokens": "length_parameter is 'tokens'",
    "evaluate --model tiny-student --out file.txt": "file.txt is a file",
    "evaluate --model tiny-student --out out --json file.txt": "file.txt already exists",
    "evaluate --model tiny-student --model tiny-teacher --out out": "the option --model is given twice",
    "evaluate --model tiny-student --out out --quiet --quiet": "the option --quiet is given twice",
    "evaluate --model tiny-student --out out --batch-size 8 --batch_size=8": "the option --batch-size is given twice",
    "evaluate --model tiny-student --out out --top-p 0": "top_p is 0.0; give a number above 0, up to 1",
    "evaluate --model tiny-student --out out --split tst": "split is 'tst'; synthetic images of vbar have train",
    "evaluate --model tiny-student --out out --sets charxiv --split train": "of charxiv have validation, test",
    "evaluate --model tiny-student --out out --sets rows --split dev": "the folder rows has no split 'dev'",
    "evaluate --model tiny-student --out out --sets own.py:nope@rows": "no data format 'nope' in own.py",
    "evaluate --model tiny-student --out out --endpoint-served-as x": "answers of an --endpoint; give both",
    "evaluate --model x --out out --endpoint http://x --timeout inf": "timeout is inf; give a number above 0",
    "evaluate --model tiny-student --out out --samples nan": "invalid value for '--samples'",
    "evaluate --model tiny-student --out loop": "loop cannot be written: Too many levels of symbolic links",
    "train --config demo-iapo --top_p 7": "top_p is 7.0; give a number above 0, up to 1",
    "train --config demo-iapo --max_steps 0": "max_steps is 0; give at least 1, or -1",
    "train --config demo-iapo --learning_rate inf": "learning_rate is inf; give 0 to 100",
    "train --config numbers.yaml": "numbers.yaml: vllm_server_port is 99999; give 1 to 65535",
    "train --config demo-iapo --config demo-grpo": "the option --config is given twice",
    "train --config demo-iapo --reward own.py:nope": "no reward 'nope' in own.py",
    "train --config demo-iapo --reward broken.py:f": "reward: broken.py is not Python (invalid syntax, line 1)",
    "train --config demo-iapo --reward no_such_package.x:f": "reward: there is no package 'no_such_package'",
    "train --config demo-iapo --attribution_method gradeint": "did you mean gradient?",
    "train --config demo-iapo --attribution_method own.py:nope": "no attribution method 'nope' in own.py",
    "train --config demo-iapo --judge_cache taken": "judge_cache is taken, a folder",
    "train --config demo-iapo --judge_cache file.txt/x": "lies below",
    "train --config demo-iapo --output_dir out --data gone": "test set 'gone' is no family",
    "train --config demo-iapo --output_dir out --data rows --data_split dev": "the folder rows has no split 'dev'",
    "train --config demo-iapo --output_dir out --data rows": "the folder rows has no split 'test'",
    "train --config bomb.yaml": "bomb.yaml: it holds more than 20000 values",
    "train --config merge.yaml": "merge.yaml: it holds more than 20000 values",
    "train --config itself.yaml": "itself.yaml: the value in line 1 holds itself",
    "train --config day.yaml": "day.yaml holds a number or a date that cannot be read",
    "train --config digits.yaml": "digits.yaml holds a number or a date that cannot be read",
    "train --config tag.yaml": "tag.yaml is not YAML in line 1",
    "train --config long.yaml": "long.yaml has more than 128 kB",
    "doctor --config demo-iapo --data gone": "test set 'gone' is no family",
    "sft --transcripts rows --output_dir out --max_steps 0": "max_steps is 0; give at least 1, or -1",
    "study forms --out forms": "forms/forms.json already exists",
    "study forms --out out --split tst": "split is 'tst'",
    "study forms --out out --seeds 1,1": "name each one once",
    "study faithfulness --out out --split tst": "split is 'tst'",
    "study misuse run --families vbar --split tst": "split is 'tst'",
    "study misuse run --data gone": "test set 'gone' is no family",
    "compare --out out --seeds ²": "give whole numbers from 0",
    "compare --out out --temperature nan": "temperature is nan; give 0 to 1000",
    "report run --out file.txt/x.html": "lies below",
    "demo --out loop": "loop cannot be written: Too many levels of symbolic links",
    "plan --config demo-iapo --memory inf": "memory is inf; give at most",
    # compare
    "compare": "missing option '--out'",
    "compare --out out --preset huge": "preset is 'huge'; use smoke or full",
    "compare --out out --methods grpo,ipo": "no method 'ipo'; did you mean iapo?",
    "compare --out out --methods iapo": "the reference 'grpo' is none of the methods",
    "compare --out out --seeds 1,1": "name each one once",
    "compare --out out --seeds a": "give whole numbers from 0",
    "compare --out out --samples 0": "samples is 0; give at least 1",
    "compare --out out --together 3": "together is 3; give 1 to 2",
    "compare --out out --row big": "a row is NAME=FOLDER, not 'big'",
    "compare --out out --row big=gone": "gone holds no finished iapo evaluate",
    "compare --out out --sets pie": "test set 'pie' is no family",
    "compare --out out --reward iapo": "the setting reward is set by the comparison itself",
    "compare --out out --learning_rat 1": "did you mean learning_rate?",
    "compare --out out --config no-such": "no configuration 'no-such'",
    "compare --out taken": "taken is not empty and holds no comparison",
    # study
    "study misuse gone": "gone holds no run",
    "study misuse run --families pie": "unknown family 'pie'",
    "study misuse run --families vbar --data x": "data and families are both given",
    "study misuse": "missing argument 'RUN...'",
    "study curves gone": "gone holds no run",
    "study curves run --smooth 2": "smooth is 2; give an odd number",
    "study ablate --out out --preset huge": "preset is 'huge'",
    "study ablate --out out --file no-such": "no ablation 'no-such'",
    "study ablate --out out --groups nothing": "no group 'nothing'",
    "study ablate --out out --seed 1": "the setting seed is set by the comparison itself",
    "study ablate --out out --penalty_wieght 1": "did you mean penalty_weight?",
    "study ablate --out out --file ablation.yaml": "test set 'pie' is no family",
    "study ablate --out taken": "taken is not empty and holds no comparison",
    "study faithfulness": "missing option '--out'",
    "study faithfulness --out out --model nobody": "no checkpoint 'nobody'",
    "study faithfulness --out out --calls-of nobody": "no checkpoint 'nobody'",
    "study faithfulness --out out --forms gone.yaml": "there is no file gone.yaml of forms",
    "study faithfulness --out out --families pie": "test set 'pie' is no family",
    "study faithfulness --out out --families vbar --data x": "data and families are both given",
    "study faithfulness --out out --samples 1": "samples is 1; give at least 2",
    "study faithfulness --out out --orders 0": "orders is 0; give at least 1",
    # report
    "report": "missing argument 'RUN...'",
    "report gone": "gone",
    "report run --pictures inline": "pictures is 'inline'; use embed or folder",
    "report run --max_traces -1": "max_traces is -1; give at least 0",
    # attribute
    "attribute": "missing option '--out'",
    "attribute --out out --method gradeint": "no attribution method 'gradeint'; did you mean gradient?",
    "attribute --out out --family pie": "unknown family 'pie'",
    "attribute --out out --teacher nobody": "no checkpoint 'nobody'",
    "attribute --out out --sample gone.json": "cannot read the sample gone.json",
    "attribute --out out --call @gone": "cannot read the turn gone",
    "attribute --out out --call hello": "the first turn calls no tool (a call stands in a ```python block)",
    "attribute --out out --call '```python\nimport os\n```'": "has a program that is refused",
    "attribute --out out --call @bytes.txt": "the first turn from bytes.txt: it is not UTF-8 text; save it as such",
    "attribute --out out --sample list.yaml": "list.yaml is not a sample",
    "attribute --out out --sample numbers.yaml --family vbar": "--sample and --family are two ways",
    "attribute --out out --tools none": "tools are none; there is no call to attribute without a tool",
    "attribute --out out --method gradient --steps 5": "steps is 5, but the method gradient has no path; leave it out",
    "attribute --out out --steps 5": "steps is 5, but the method gradient has no path",
    "attribute --out out --model tiny-student --model-revision abc": "--model-revision is a branch, tag or commit of a",
    "attribute --out out --teacher tiny-teacher --teacher-model-revision a": "--teacher-model-revision is a branch",
    "evaluate --model tiny-student --out out --model-revision abc": "and 'tiny-student' is none; leave it out",
    "evaluate --model tiny-student --out out --tools standard --no-tools": "--no-tools offers none, and --tools is",
    "evaluate --model tiny-student --out out --sets rows/train.jsonl --size 200": "--size is of synthetic images, and",
    "evaluate --model tiny-student --out out --sets rows/train.jsonl --data-seed 0": "--data-seed is of synthetic",
    "evaluate --model tiny-student --out out --sets rows/train.jsonl --question-types value": "--question-types is of",
    "study forms --out out --data rows/train.jsonl --question-types value": "--question-types is of synthetic images",
    "study forms --out out --student tiny-student --model-revision abc": "--model-revision is a branch",
    "study faithfulness --out out --model-revision abc": "--model-revision is a branch",
    "ask chart.png a? --model tiny-student --model-revision abc": "--model-revision is a branch",
    "serve --model tiny-student --model-revision abc": "--model-revision is a branch",
    "evaluate --model tiny-student --out out --tools late.py": "tool late is async or yields",
    "evaluate --model tiny-student --out out --tools default.py": "parameter 'n' of tool f has the default 'x'; give",
    "attribute --out out --steps 0": "steps is 0; give at least 1",
    # teacher
    "teacher attribute --config demo-iapo": "missing option '--out'",
    "teacher attribute --config demo-iapo --out t.parquet --split some": "split is 'some'; use train, test or both",
    "teacher attribute --config demo-iapo --out file.txt": "file.txt already exists",
    "teacher attribute --config demo-iapo --out t.csv": "--out is t.csv, but the table is a parquet file",
    "teacher attribute --config demo-iapo --out t.parquet --model tiny-student": "the teacher is the student's own",
    "train --config demo-iapo --teacher tiny-student": "the teacher is the student's own checkpoint",
    "train --config demo-iapo --model tiny-teacher": "the teacher is the student's own checkpoint",
    **{
        f'evaluate --model m --out out --endpoint "http://user:pa{mark}ss@host/v1"': "endpoint is no address of a host"
        for mark in "'<>"
    },
    "teacher attribute --config tiny-teacher --out t.parquet --model_name x": "no setting 'model_name'",
    # data
    "data check gone": "gone",
    "data convert file.txt out.parquet --format pdf": "unknown format 'pdf'",
    "data convert file.txt out.csv": "give it a name that ends in .parquet",
    "data show file.txt --count 0": "count is 0; give at least 1",
    "data make pie 3 out.parquet": "unknown family 'pie'",
    "data make vbar 0 out.parquet": "count is 0; give at least 1",
    "data make vbar 3 out.parquet --size 5": "size is 5; give 112 to 1000",
    "data make vbar 3 out.parquet --split dev": "split is 'dev'; use train, validation or test",
    # tiny
    "tiny build --model huge": "no tiny model 'huge'",
    "tiny build --stage last": "stage is 'last'; use sight, protocol or teacher",
    "tiny build --scale 0": "scale is 0.0; give a number above 0, up to 1000",
    "tiny evaluate --families pie": "unknown family 'pie'",
    "tiny evaluate --samples 0": "samples is 0; give at least 1",
    "tiny evaluate --models nobody": "no checkpoint 'nobody'",
}
"""A part of the sentence by the command line."""

LIGHT = (
    "trian",
    "train --config demo-iapo --learning_rat 1",
    "train --config demo-iapo --lora_r 8",
    "train --config demo-iapo --save_steps 5",
    "train --config demo-iapo --importance_sampling_level nosuch",
    "train --config demo-iapo --model_init_kwargs '{dtype: bfloat16}'",
    "attribute --out out --teacher-dtype no",
    "attribute --out out --call hello",
    "attribute --out out --call @bytes.txt",
    "attribute --out out --sample list.yaml",
    "attribute --out out --tools none",
    "attribute --out out --model tiny-student --model-revision abc",
    "evaluate --model tiny-student --out out --sets rows/train.jsonl --size 200",
    "evaluate --model tiny-student --out out --sets pie",
    "compare --out out --methods grpo,ipo",
    "tiny evaluate --models nobody",
    "train --config demo-iapo --top_p 7",
    "study forms --out forms",
    "ask chart.png a? --model tiny-student --boxes boxes.json",
    "serve --model m --upstream http://x --dtype auto",
)
"""Also run in a process of their own."""


def _bomb(form: str) -> str:
    """Ten lines of YAML that stand for a thousand million values."""
    lines = ["a: &a {x: 1}"]
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        lines.append(f"{name}: &{name} " + form.format(", ".join([f"*{before}"] * 9)))
    return "\n".join(lines)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command lines name, in the working directory."""
    files = {
        "file.txt": "",
        "list.yaml": "[1, 2]",
        "key.yaml": "? [a, b]\n: 1\n",
        "raises.py": "import sys\nraise RuntimeError('boom')\n",
        "ends.py": "import sys\nsys.exit(0)\n",
        "broken.yaml": "a: [",
        "octal.yaml": "max_steps: 010\n",
        "twice.yaml": "seed: 1\nmax_steps: 2\nseed: 3\n",
        "unknown.yaml": "penalty_wieght: 1\n",
        "idle.yaml": "base: demo-iapo\nentropy_target: 0.5\n",
        "wrong.yaml": "max_steps: many\n",
        "boxes.json": '{"colum_boxes": {}}',
        "no-box.json": '{"column_boxes": {"A": "wide"}}',
        "twice.json": '{"column_boxes": {"A": [0, 0, 9, 9], "A": [1, 1, 9, 9]}}',
        "taken/grpo/x": "",
        "rows/train.jsonl": '{"image": "a.png", "question": "q", "answer": "1"}',
        "forms/forms.json": "{}",
        "own.py": "def real(x):\n    return x\n",
        "broken.py": "def f(:\n",
        "ablation.yaml": "sets: [pie]\nreference: g/a\ngroups: {g: {variants: {a: {}}}}\n",
        "late.py": 'async def late(n: int) -> str:\n    """Waits."""\n    return ""\n',
        "default.py": 'def f(n: int = "x") -> str:\n    """Counts."""\n    return ""\n',
        "numbers.yaml": "vllm_server_port: 99999\n",
        "bomb.yaml": _bomb("[{}]"),
        "merge.yaml": _bomb("{{<<: [{}]}}"),
        "itself.yaml": "lr_scheduler_kwargs: &a {x: *a}\n",
        "day.yaml": "run_name: 2020-13-45\n",
        "digits.yaml": f"max_steps: {'9' * 5000}\n",
        "tag.yaml": "run_name: !!python/object/apply:os.system [exit]\n",
        "long.yaml": f"run_name: {'x' * 200_000}\n",
        "start/policy/config.json": "{}",
        "run/metrics.jsonl": '{"step": 1}\n',
        "run/manifest.json": json.dumps({"config": {"training": {}, "run": {}}, "seeds": {"training": 0}}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    Image.new("RGB", (60, 60), "white").save(tmp_path / "chart.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    # Python keeps what it compiled of a user's file beside it, unless it is told not to.
    found = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in found}


def test_there_are_many() -> None:
    verbs = {line.split()[0] for line in REFUSED}
    assert {
        "demo",
        "train",
        "doctor",
        "evaluate",
        "compare",
        "study",
        "report",
        "attribute",
        "ask",
        "serve",
        "teacher",
        "data",
        "tiny",
    } <= verbs
    assert set(LIGHT) <= REFUSED.keys()
    assert len(REFUSED) >= 60


@pytest.mark.parametrize("line", REFUSED)
def test_a_wrong_line_is_one_sentence(line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(here)
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert err.startswith("iapo: ")
    assert err.count("\n") == 1
    assert REFUSED[line] in err
    assert "secret" not in err
    assert out == ""
    assert contents(here) == before


def test_wrong_lines_need_no_torch(here: Path) -> None:
    """Seconds are in benchmarks/cli.py; what takes them is not loaded. One after the other, in one process."""
    before = contents(here)
    code = (
        "import shlex, sys\nfrom iapo.cli.main import main\n"
        "for line in sys.argv[1:]:\n"
        "    try: main(shlex.split(line))\n"
        "    except SystemExit as end: assert end.code == 2, line\n"
        "    assert not {'torch', 'transformers', 'trl'} & sys.modules.keys(), line\n"
    )
    done = run_process([sys.executable, "-c", code, *LIGHT])
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for line, said in zip(LIGHT, done.stderr.splitlines(), strict=True):
        assert said.startswith("iapo: ")
        assert REFUSED[line] in said
    assert contents(here) == before


def test_a_wrong_line_ends_its_process(here: Path) -> None:
    before = contents(here)
    done = run_process([sys.executable, "-m", "iapo", *shlex.split(LIGHT[-1])])
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("iapo: ")
    assert done.stderr.count("\n") == 1
    assert contents(here) == before
