"""What an evaluation is: all that its rollouts depend on, by which one that was stopped is told from another one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from iapo.endpoints.address import hide_credentials
from iapo.errors import InputError
from iapo.evaluation.checkpoint_files import small_files_of, weights_of
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.progress import TRACES, has_rollouts
from iapo.own_files import PART, by_contents, changed_file, code_digests
from iapo.results import MANIFEST, Manifest, first_difference
from iapo.rollout.policy import prompt_of
from iapo.rollout.template import DEFAULT, TINY, PromptTemplate, check_wording, find_prompt
from iapo.storage import take
from iapo.tools.offered import STANDARD

_ANSWERING = ("model", "url", "temperature", "top_p", "max_turn_tokens", "length_parameter", "kind", "served_as")

_UNSENT = ("seed", "max_sequence_length")
"""Settings of the generation that an endpoint is not told."""

FILES = "files"
"""Name of the digests of a checkpoint's small files in the configuration."""


def template_of(plan: EvaluationPlan) -> PromptTemplate:
    """Returns the prompt template that a plan means."""
    if plan.endpoint is not None:
        return find_prompt(plan.prompt or DEFAULT)
    return prompt_of(plan.model, plan.prompt, plan.loading.model_revision)


def check_folder(plan: EvaluationPlan, hashes: Mapping[str, str], out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Refuses a folder that holds something else than this evaluation.

    Args:
        plan: Plan of the evaluation.
        hashes: SHA-256 of the test sets by name.
        out: The run folder.

    Returns:
        What the manifest of this evaluation says of it, and what its rollouts depend on; of an evaluation that goes on
        as it was begun. One that has no rollout yet (`iapo.evaluation.progress.has_rollouts`) begins anew, whatever its
        settings were.

    Raises:
        InputError: If it holds something else; the sentence names what differs.
    """
    path = out / MANIFEST
    template = template_of(plan)
    check_wording(template, plan.generation.max_turns)
    told = dataclasses.asdict(plan)
    place = None if plan.endpoint is not None else (plan.model, plan.loading.model_revision)
    weights, small = (None, {}) if place is None else (weights_of(*place), small_files_of(*place))
    config = {"evaluation": told, "checkpoint": weights, "prompt": template.to_json()}
    # An evaluation with neither is written as earlier versions wrote it.
    more: dict[str, Any] = {PART: code_digests(told), FILES: small}
    config = {**config, **{name: value for name, value in more.items() if value}}
    # As JSON gives it back.
    wanted = json.loads(json.dumps({"config": hide_credentials(config), "data": dict(hashes)}))
    if path.exists() and has_rollouts(out):
        return config, _check_manifest(path, wanted)
    if path.exists():
        # Nothing is there to go on with, nor to be lost.
        _read_manifest(path)
    elif (out / TRACES).exists():
        raise InputError(f"{out} holds traces but no manifest; choose another --out")
    return config, _answering(wanted)


def _check_manifest(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Refuses another evaluation than a manifest's; returns what its rollouts depend on."""
    out, manifest = path.parent, _read_manifest(path)
    try:
        before = {name: take(manifest.config, name, dict, default={}) for name in (PART, FILES)}
        now = {name: wanted["config"].get(name, {}) for name in before}
        found = _answering({"config": manifest.config, "data": manifest.data})
        plan = _as_begun(manifest.config["evaluation"], wanted["config"]["evaluation"], before[PART], now[PART])
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}; choose another --out") from error
    changed = changed_file(before[PART], now[PART])
    if changed is None and manifest.config["evaluation"].get("model") == plan["model"]:
        changed = _changed_small(plan["model"], before[FILES], now[FILES])
    if changed:
        raise InputError(
            f"{out} holds an evaluation that was begun with other contents of {changed}; give the file back as it was, "
            "or choose another --out"
        )
    rest = {name: value for name, value in wanted["config"].items() if name not in before}
    # What an evaluation of an earlier version does not know cannot differ.
    same = {name: digests for name, digests in before.items() if digests}
    settings = _answering({**wanted, "config": {**rest, "evaluation": plan, **same}})
    if difference := first_difference(found, settings):
        raise InputError(f"{out} holds an evaluation with other settings ({difference}); choose another --out")
    return settings


def _read_manifest(path: Path) -> Manifest:
    manifest = Manifest.read(path)
    if manifest.kind != "evaluation":
        raise InputError(f"{path.parent} holds another kind of run; choose another --out")
    return manifest


def _as_begun(before: Mapping[str, Any], plan: dict[str, Any], then: object, now: object) -> dict[str, Any]:
    """Returns a plan in which what means the same as in the one before is written as it is there.

    Args:
        before: The plan of the manifest.
        plan: The plan now.
        then: Digests of own code in the manifest.
        now: Digests of own code now.

    Raises:
        InputError: If the manifest's is something else.
    """
    tools = take(before, "tools", str, NoneType, default=None)
    named, wanted = (STANDARD if one is None else one for one in (tools, plan["tools"]))
    # A file of tools is the same wherever it lies.
    if by_contents("tools", named, then) == by_contents("tools", wanted, now):
        plan = {**plan, "tools": tools}
    known, asked = take(before, "endpoint", dict, NoneType, default=None), plan["endpoint"]
    if known is None or asked is None:
        return plan
    if _place(take(known, "url", str, NoneType, default=None)) == _place(asked["url"]):
        asked = {**asked, "url": known.get("url")}
    if known.get("served_as") in (None, asked["model"]) and asked["served_as"] in (None, asked["model"]):
        asked = {**asked, "served_as": known.get("served_as")}
    generation = take(before, "generation", dict)
    unsent = {name: generation[name] for name in _UNSENT if name in generation}
    return {**plan, "endpoint": asked, "generation": {**plan["generation"], **unsent}}


def _place(url: str | None) -> str | None:
    return url and url.removesuffix("/")


def _changed_small(model: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Names a small file of the checkpoint that differs, is new or is gone."""
    # A folder that is gone, or was none, is told by its weights.
    names = [*now, *before] if before and now else []
    name = next((name for name in names if before.get(name) != now.get(name)), None)
    return None if name is None else f"{name} in {model}"


def _answering(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a manifest's part that the rollouts depend on: not how often an endpoint is asked again, or with which
    key, and of the prompt its wording and not where it was found.

    Raises:
        InputError: If it is something else.
    """
    # Earlier versions knew one prompt, and two turns.
    config, plan = {"prompt": find_prompt(TINY).to_json(), **found["config"]}, found["config"]["evaluation"]
    plan = {**plan, "generation": {"max_turns": 2, **take(plan, "generation", dict)}}
    asked = take(plan, "endpoint", dict, NoneType, default=None)
    endpoint = asked and {name: asked.get(name) for name in _ANSWERING}
    # How damage was treated shows in the data's hashes.
    told = {"endpoint": endpoint, "vllm_memory": plan.get("vllm_memory") is not None}
    plan = {name: value for name, value in plan.items() if name not in ("concurrency", "prompt", "data_damage")}
    return {**found, "config": {**config, "evaluation": {**plan, **told}}}
