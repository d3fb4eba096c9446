"""A folder to the hub: only where the user asks for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from iapo.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_repository(name: str) -> None:
    """Refuses a name that is no repository's, or a push that cannot be: offline, or without a token.

    Raises:
        InputError: If so.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"push is {name!r}; give a repository of the hub, OWNER/NAME")
    check_hub(name, None)


def check_hub(name: str, token: str | None) -> None:
    """Refuses a push that cannot be: offline, or without a token.

    Args:
        name: What is pushed to.
        token: Token that is given; else that of the environment or of `hf auth login` is looked for.

    Raises:
        InputError: If so.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{name} cannot be pushed to: the hub is switched off (HF_HUB_OFFLINE); unset that")
    if token is None and get_token() is None:
        raise InputError(f"{name} cannot be pushed to without a token; `hf auth login`, or set HF_TOKEN")


def hub_errors() -> tuple[type[Exception], ...]:
    """Returns what is raised where the hub cannot be reached or refuses something."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    # The first is of the HTTP library, which has changed its name.
    http_error: Any = HfHubHTTPError.__bases__[0]
    return http_error, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled


def push(folder: Path, name: str, *, private: bool) -> str:
    """Uploads a folder to a repository of the hub, which is made where there is none.

    Args:
        folder: The folder.
        name: The repository, `OWNER/NAME`.
        private: Whether a new repository is private.

    Returns:
        Address of the commit.

    Raises:
        InputError: If the hub cannot be reached or refuses it; the folder stays.
    """
    from huggingface_hub import HfApi

    failures: tuple[type[Exception], ...] = (*hub_errors(), OSError)
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Policy exported by iapo")
    except failures as error:
        raise InputError(
            f"{folder} is written, but {name} could not be pushed to ({_reason(error)}); push it again with "
            f"`hf upload {name} {folder}`"
        ) from error
    return str(done.commit_url)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
