"""The settings of a training as a plan reads them: those given, and the defaults as their classes declare them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.training import settings

# Of another branch of settings, where these are not declared yet.
_OTHERS: dict[str, Any] = {"lora_r": 16, "lora_dropout": 0.05, "bnb_4bit_quant_type": "nf4"}


@dataclass(frozen=True, slots=True)
class Given:
    """Settings by name.

    Attributes:
        values: Values that were given.
    """

    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """Returns a setting, or its declared default; None where there is neither."""
        if self.values.get(name) is not None:
            return self.values[name]
        return declared_default(name)

    def number(self, name: str) -> int:
        """Returns a setting that counts something.

        Raises:
            InputError: If it is below 1.
        """
        value = self.get(name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; give at least 1")
        return value

    @property
    def shares_prefix(self) -> bool:
        """Whether rows that begin alike are run once, under whatever sharding."""
        return self.get("share_prefix") is not False

    @property
    def sharding(self) -> str:
        """What the settings themselves split over processes: `zero2` or `zero3` by DeepSpeed's stage, else `none`."""
        engine = self.get("deepspeed")
        stage = engine.get("zero_optimization", {}).get("stage") if isinstance(engine, Mapping) else None
        return f"zero{stage}" if stage in (2, 3) else "none"

    def replace(self, **changes: Any) -> Given:
        """Returns the settings with some changed."""
        return Given({**self.values, **changes})


def declared_default(name: str) -> Any:
    """Returns the default of a setting as its class declares it; None where it declares none that is a literal."""
    known = settings.run_settings() | settings.trainer_settings()
    if name not in known:
        return _OTHERS.get(name)
    try:
        return ast.literal_eval(known[name].default)
    except (ValueError, SyntaxError):
        return None


@checks_kinds
def read_given(config: str, changes: Sequence[str] = (), options: Sequence[str] = ()) -> Given:
    """Reads a training's settings as `iapo train` does, without TRL and torch.

    Args:
        config: A YAML file, or the name of a packaged one.
        changes: Words of a command line that win over it.
        options: Further names that a mistyped setting may have meant.

    Raises:
        InputError: If the settings cannot be.
    """
    arguments, trainer = settings.check(config, changes, options=options)
    return Given({**{one.name: getattr(arguments, one.name) for one in dataclasses.fields(arguments)}, **trainer})
