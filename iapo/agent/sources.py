"""Which policy a name means, and what its run says of how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iapo.attribution.settings import AttributionSettings, settings_of_run
from iapo.errors import InputError
from iapo.results import MANIFEST, Manifest
from iapo.rollout.card import run_of
from iapo.rollout.export import find_policy
from iapo.rollout.load_settings import LoadSettings, load_settings
from iapo.rollout.policy import file_beside
from iapo.rollout.usage import USAGE, Usage, complete
from iapo.rollout.wording import FILE
from iapo.tools.offered import is_packaged


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy that was named, and how it is used unless something else is asked for.

    Attributes:
        model: Packaged name, folder or hub id of the checkpoint or adapter.
        usage: Tools and turns, as its run had them.
        prompt: File of its run's prompt, where the policy has none beside it; None takes the policy's own.
        loading: How it is loaded: as its run loaded it, but for what was asked for.
        attribution: How its run attributed calls.
        origin: What says so, the run or the export; empty where nothing does.
        is_run: Whether that is a run on this machine.
    """

    model: str
    usage: Usage
    prompt: str | None
    loading: LoadSettings
    attribution: AttributionSettings
    origin: str = ""
    is_run: bool = False

    @property
    def line(self) -> str:
        """How it is used, in a sentence; empty where nothing is known."""
        return self.origin and self.usage.to_line(self.origin)

    def tools(self, asked: str | None) -> str | None:
        """Returns the setting of the offered tools: what is asked for, or its own.

        Raises:
            InputError: If its own are code that an exported checkpoint names, which is not loaded at its word.
        """
        if asked is not None:
            return asked
        if not self.is_run and self.usage.tools is not None and not is_packaged(self.usage.tools):
            raise InputError(
                f"{self.model} was trained with tools of its own, {self.usage.tools!r}; name them with --tools "
                "(tools in Python), since no checkpoint has code loaded"
            )
        return self.usage.tools


def plain_source(model: str, loading: LoadSettings) -> PolicySource:
    """Returns what is known of a policy that lies in no run and is not exported, or is behind an endpoint."""
    return PolicySource(model, Usage(), None, loading, AttributionSettings())


def find_source(name: str, loading: Mapping[str, Any] | None = None) -> PolicySource:
    """Finds a policy by name, and its run where it lies in one.

    Args:
        name: Packaged name, run folder, folder of a policy, a checkpoint or an adapter, or hub id.
        loading: Loading settings by name that count before the run's.

    Raises:
        InputError: If a run folder holds no policy yet, its manifest is damaged, or a setting cannot be.
    """
    model, asked = find_policy(name), dict(loading or {})
    run = run_of(Path(model))
    if run is None:
        plain = plain_source(model, load_settings(asked))
        exported = file_beside(model, USAGE, plain.loading.model_revision)
        if exported is None:
            return plain
        return replace(plain, usage=Usage.read(exported), origin=f"its export {model}")
    config = Manifest.read(run / MANIFEST).config
    usage = Usage.of_run(config, run / MANIFEST)
    # The revision is the start's, and this is the run's own.
    own = {key: value for key, value in (config.get("run") or {}).items() if key != "model_revision"}
    beside = (Path(model) / FILE).is_file() or not (run / FILE).is_file()
    with complete(run / MANIFEST):
        attribution = settings_of_run(config["training"])
    prompt = None if beside else str(run / FILE)
    return PolicySource(model, usage, prompt, load_settings({**own, **asked}), attribution, f"its run {run}", True)
