"""The forms that `iapo study forms` compares, read from a YAML file: names, and settings of `iapo train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iapo.attribution.forms import Form, check_form
from iapo.errors import InputError, unknown
from iapo.kinds import checks_kinds
from iapo.training.files import CONFIGS
from iapo.training.settings import trainer_settings, typed
from iapo.yaml_files import read_yaml

if TYPE_CHECKING:
    from iapo.attribution.settings import AttributionSettings

FOLDER = CONFIGS / "forms"
"""Where the packaged files lie."""

TAKEN = (
    *("attribution_form", *(field.name for field in dataclasses.fields(Form))),
    *("attribution_eps", "attribution_method", "attribution_steps"),
)
"""Settings that a form may have."""


@dataclass(frozen=True, slots=True)
class NamedForm:
    """A row of the table.

    Attributes:
        name: Its name.
        given: Settings of `iapo train` in which it differs from the paper's form.
    """

    name: str
    given: Mapping[str, Any]

    def settings(self, batch_size: int, max_turn_tokens: int) -> AttributionSettings:
        """Returns the settings of its attributions."""
        # Torch is not needed to read and check a file.
        from iapo.attribution.settings import settings_of_run

        shared = {"attribution_eps": 0.01, "attribution_steps": 1, "no_call_divergence": None}
        shared |= {"attribution_batch_size": batch_size, "max_turn_tokens": max_turn_tokens}
        return settings_of_run(shared | dict(self.given))


@checks_kinds
def read_forms(name: str) -> list[NamedForm]:
    """Reads forms.

    Args:
        name: A YAML file, or `default` for the packaged one.

    Raises:
        InputError: If there is no such file, or it holds no forms that can be.
    """
    path = FOLDER / f"{name}.yaml" if (FOLDER / f"{name}.yaml").is_file() else Path(name)
    if not path.is_file():
        raise InputError(f"there is no file {name} of forms; give a YAML file, or default")
    found = read_yaml(path)
    for key in found:
        if key != "forms":
            raise unknown("key", str(key), ["forms"], f" in {path}")
    rows = found.get("forms")
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{path} holds no forms; give a mapping forms, a line `name: {{setting: value}}` for each")
    return [_form(str(key), {} if given is None else given, path) for key, given in rows.items()]


def _form(name: str, given: object, path: Path) -> NamedForm:
    where = f"{path}, form {name!r}"
    if not isinstance(given, dict):
        raise InputError(f"{where}: {given!r} is no mapping; give {{setting: value}}")
    known = trainer_settings()
    values = typed(
        given, where=where, known={one: known[one] for one in TAKEN}, listed=f"a form has {', '.join(TAKEN)}"
    )
    try:
        check_form(values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return NamedForm(name, values)
