"""The report's images: each distinct one once, inside the page or in a folder beside it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from PIL import Image

from iapo.images import open_image

Mode = Literal["embed", "folder"]

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


class Pictures:
    """Collects images and says by which address the page shows them.

    Args:
        mode: `embed` gives data URIs, `folder` files.
        folder: Folder that the files are for; its name is the first part of their addresses.

    Attributes:
        addresses: The address of each distinct image.
        sizes: Width and height of each; None where its header cannot be read.
        missing: Number of images that could not be read.
        files: Contents of the files, to be written with the page; empty with `embed`.
    """

    def __init__(self, mode: Mode, folder: Path) -> None:
        self.mode, self.folder = mode, folder
        self.addresses: list[str] = []
        self.sizes: list[tuple[int, int] | None] = []
        self.missing = 0
        self.files: dict[Path, bytes] = {}
        self._places: dict[str, int] = {}
        self._files: dict[Path, int | None] = {}

    def add(self, data: Mapping[str, str] | None, root: Path) -> int | None:
        """Returns the place among `addresses` of an image as a trace names it.

        Args:
            data: `{"path": ...}`, relative to the run folder, or `{"png": base64}`; None where there is no image.
            root: The run folder; what lies outside of it is not shown.

        Returns:
            The place; None where there is no image, or it cannot be read.
        """
        if data is None:
            return None
        if "png" in data:
            return self._keep(base64.b64decode(data["png"]))
        try:
            path = (root / data.get("path", "")).resolve()
        except (OSError, RuntimeError, ValueError):
            # A link that leads to itself, or what no path can hold.
            return self._keep(b"")
        if path not in self._files:
            self._files[path] = self._keep(_content(path, root.resolve()))
        elif self._files[path] is None:
            self.missing += 1
        return self._files[path]

    def _keep(self, content: bytes) -> int | None:
        kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
        if kind is None:
            self.missing += 1
            return None
        digest = hashlib.sha256(content).hexdigest()[:20]
        if digest not in self._places:
            self._places[digest] = len(self.addresses)
            self.addresses.append(self._address(content, kind, digest))
            self.sizes.append(_size(content))
        return self._places[digest]

    def _address(self, content: bytes, kind: str, digest: str) -> str:
        if self.mode == "embed":
            return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
        name = f"{digest}.{kind}"
        self.files[self.folder / name] = content
        return f"{self.folder.name}/{name}"


def _content(path: Path, root: Path) -> bytes:
    """Returns a file's bytes; none where it is not below `root`, is no file, or cannot be read."""
    try:
        return path.read_bytes() if path.is_relative_to(root) and path.is_file() else b""
    except OSError:
        # A name of more letters than a file's may have, or a file of somebody else's.
        return b""


def _size(content: bytes) -> tuple[int, int] | None:
    try:
        with open_image(io.BytesIO(content)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        # Pillow's readers of headers raise any of these.
        return None
