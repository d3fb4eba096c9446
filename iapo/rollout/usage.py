"""How a policy is used, `usage.json` beside an exported one: it is asked as its run asked it, wherever it lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from iapo.bounds import COUNT, SECONDS, TURNS, check_number
from iapo.errors import InputError
from iapo.results import read_result, write_result

USAGE, KIND = "usage.json", "usage"

LONGEST_TURN = 512
"""Tokens of the longest turn where nothing says another."""


@contextmanager
def complete(manifest: Path) -> Iterator[None]:
    """Refuses a run whose manifest lacks a setting that is asked for in the block.

    Raises:
        InputError: If one is missing.
    """
    try:
        yield
    except KeyError as error:
        raise InputError(f"{manifest} lacks the setting {error}; give the policy's folder outside of it") from error


@dataclass(frozen=True, slots=True)
class Usage:
    """How rollouts of a policy are made, unless something else is asked for.

    Attributes:
        tools: Setting of the offered tools; None is the six.
        tool_timeout: Longest call of a tool in seconds; None: no limit.
        max_turns: Most turns of a rollout.
        max_turn_tokens: Longest turn in tokens; None where nothing says.
    """

    tools: str | None = None
    tool_timeout: float | None = None
    max_turns: int = 2
    max_turn_tokens: int | None = None

    @property
    def longest_turn(self) -> int:
        """Tokens of the longest turn, in any case."""
        return self.max_turn_tokens or LONGEST_TURN

    @classmethod
    def of_run(cls, config: Mapping[str, Any], where: Path) -> Self:
        """Returns that of a training.

        Args:
            config: Configuration of its manifest.
            where: The manifest, for messages.

        Raises:
            InputError: If a setting is missing.
        """
        # A training from Python writes no part `run`.
        arguments, training = config.get("run") or {}, config["training"]
        with complete(where):
            longest = training["max_turn_tokens"] or training["max_completion_length"]
        # Runs of earlier versions have two turns.
        turns = training.get("max_turns", 2)
        return cls(arguments.get("tools"), arguments.get("tool_timeout"), turns, longest)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the file of an exported policy.

        Raises:
            InputError: If it cannot be read, or is damaged.
        """
        found = read_result(path, KIND)
        values = {field.name: found.get(field.name) for field in dataclasses.fields(cls)}
        tools = values["tools"]
        if tools is not None and not isinstance(tools, str):
            raise InputError(f"{path} is damaged: tools is {tools!r}, which is no text; remove the file")
        try:
            for name, bound in (("tool_timeout", SECONDS), ("max_turns", TURNS), ("max_turn_tokens", COUNT)):
                check_number(name, values[name], bound)
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        return cls(**values | {"max_turns": values["max_turns"] or 2})

    def write(self, folder: Path) -> None:
        """Writes it beside an exported policy; of files with tools the names, not where they lie."""
        named = self.tools and ",".join(Path(part.strip()).name for part in self.tools.split(","))
        write_result(folder / USAGE, KIND, dataclasses.asdict(self) | {"tools": named})

    def to_line(self, origin: str) -> str:
        """Returns it in a sentence."""
        limit = "" if self.tool_timeout is None else f", {self.tool_timeout:g} s a call"
        turns = f"{self.max_turns} turns" + (f" of {self.max_turn_tokens} tokens" if self.max_turn_tokens else "")
        return f"as in {origin}: tools {self.tools or 'standard'}{limit}; {turns}"
