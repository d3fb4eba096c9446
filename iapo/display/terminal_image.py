"""Images in terminals that show them: the graphics protocol of kitty, and the inline images of iTerm2."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from typing import Literal, TextIO

from PIL import Image

from iapo.samples import save_png

Protocol = Literal["kitty", "iterm"]

LARGEST = 800
"""Longest side in pixels of what is drawn; a larger image is reduced."""

_PIECE = 4096
_KITTY_PROGRAMS, _ITERM_PROGRAMS = ("ghostty",), ("iTerm.app", "WezTerm", "mintty", "vscode")


def protocol_of(stream: TextIO, environment: Mapping[str, str] | None = None) -> Protocol | None:
    """Finds how images are drawn on a stream, by what its terminal says of itself; nothing is asked of it.

    Args:
        stream: Where text is written to.
        environment: Environment variables; the process's if None.

    Returns:
        The protocol; None where the stream is no terminal, one that is not known to draw, or one within another (tmux,
        screen), which would swallow it.
    """
    known = os.environ if environment is None else environment
    if not stream.isatty() or known.get("TMUX") or known.get("STY") or known.get("TERM", "dumb") == "dumb":
        return None
    program = known.get("TERM_PROGRAM", "")
    if known.get("KITTY_WINDOW_ID") or known["TERM"] == "xterm-kitty" or program in _KITTY_PROGRAMS:
        return "kitty"
    return "iterm" if program in _ITERM_PROGRAMS else None


def drawn(image: Image.Image, protocol: Protocol) -> str:
    """Returns the text that has a terminal draw an image.

    Args:
        image: The image.
        protocol: Protocol of the terminal.
    """
    small = image.copy()
    small.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    save_png(small, buffer)
    data = base64.b64encode(buffer.getvalue()).decode()
    if protocol == "iterm":
        return f"\033]1337;File=inline=1;size={len(buffer.getvalue())}:{data}\a\n"
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    text = ""
    for number, piece in enumerate(pieces, 1):
        what = "f=100,a=T," if number == 1 else ""
        text += f"\033_G{what}m={int(number < len(pieces))};{piece}\033\\"
    return f"{text}\n"
