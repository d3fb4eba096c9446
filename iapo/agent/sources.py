"""Which policy a name means, and what its run says of how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.attribution.settings import AttributionSettings, settings_of_run
from iapo.errors import InputError
from iapo.results import MANIFEST, Manifest
from iapo.rollout.card import run_of
from iapo.rollout.export import find_policy
from iapo.rollout.load_settings import LoadSettings, load_settings
from iapo.rollout.wording import FILE


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy that was named, and how it is used unless something else is asked for.

    Attributes:
        model: Packaged name, folder or hub id of the checkpoint or adapter.
        tools: Setting of the offered tools, as its run had it; None is the six.
        tool_timeout: Longest call of a tool in seconds, as its run had it; None: no limit.
        prompt: File of its run's prompt, where the policy has none beside it; None takes the policy's own.
        loading: How it is loaded: as its run loaded it, but for what was asked for.
        max_turn_tokens: Longest turn of its run; None where there is no run.
        max_turns: Most turns of its run's rollouts; 2 where there is no run.
        attribution: How its run attributed calls.
        run: The run that it lies in; None where it lies in none.
    """

    model: str
    tools: str | None
    tool_timeout: float | None
    prompt: str | None
    loading: LoadSettings
    max_turn_tokens: int | None
    max_turns: int
    attribution: AttributionSettings
    run: Path | None = None

    def to_line(self) -> str:
        """Returns in a sentence how its run used it; empty where it lies in none."""
        if self.run is None:
            return ""
        limit = "" if self.tool_timeout is None else f", {self.tool_timeout:g} s a call"
        tools = self.tools or "standard"
        return (
            f"as in its run {self.run}: tools {tools}{limit}; {self.max_turns} turns of {self.max_turn_tokens} tokens"
        )


def plain_source(model: str, loading: LoadSettings) -> PolicySource:
    """Returns what is known of a policy that lies in no run, or is behind an endpoint."""
    return PolicySource(model, None, None, None, loading, None, 2, AttributionSettings())


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
        return plain_source(model, load_settings(asked))
    config = Manifest.read(run / MANIFEST).config
    # A training from Python writes no part `run`.
    arguments, training = config.get("run") or {}, config["training"]
    # The revision is the start's, and this is the run's own.
    own = {key: value for key, value in arguments.items() if key != "model_revision"}
    beside = (Path(model) / FILE).is_file() or not (run / FILE).is_file()
    try:
        longest, attribution = (
            training["max_turn_tokens"] or training["max_completion_length"],
            settings_of_run(training),
        )
    except KeyError as error:
        raise InputError(
            f"{run / MANIFEST} lacks the setting {error}; give the policy's folder outside of it"
        ) from error
    return PolicySource(
        model,
        arguments.get("tools"),
        arguments.get("tool_timeout"),
        None if beside else str(run / FILE),
        load_settings({**own, **asked}),
        longest,
        # Runs of earlier versions have two.
        training.get("max_turns", 2),
        attribution,
        run,
    )
