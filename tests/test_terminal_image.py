"""Images drawn in a terminal: what is written is what the protocols have, and nothing where none is known."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from iapo.display.terminal_image import LARGEST, drawn, protocol_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "screen-256color", "TMUX": "/tmp/tmux", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "screen", "STY": "1.pts", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "dumb", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM_PROGRAM": "iTerm.app"}, None),
    ],
)
def test_which_terminals_draw(environment: dict[str, str], protocol: str | None) -> None:
    assert protocol_of(Terminal(), environment) == protocol
    assert protocol_of(io.StringIO(), environment) is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "I;16"])
def test_what_is_drawn_is_the_image(mode: str) -> None:
    image = Image.effect_noise((300, 200), 80).convert("RGB").convert("L" if mode == "I;16" else mode)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image
    text = drawn(image, "kitty")
    pieces = re.findall(r"\033_G([^;]*);([^\033]*)\033\\", text)
    assert "".join(f"\033_G{head};{data}\033\\" for head, data in pieces) + "\n" == text
    assert pieces[0][0] == f"f=100,a=T,m={int(len(pieces) > 1)}"
    assert all(head == f"m={int(place < len(pieces) - 1)}" for place, (head, _) in enumerate(pieces) if place)
    assert max(len(data) for _, data in pieces) <= 4096
    whole = base64.b64decode("".join(data for _, data in pieces))
    assert Image.open(io.BytesIO(whole)).size == image.size
    other = re.fullmatch(r"\033\]1337;File=inline=1;size=(\d+):([^\a]*)\a\n", drawn(image, "iterm"))
    assert other is not None
    assert base64.b64decode(other[2]) == whole
    assert int(other[1]) == len(whole)


def test_large_images_are_reduced() -> None:
    image = Image.new("RGB", (4000, 1000))
    found = re.search(":([^\a]*)\a", drawn(image, "iterm"))
    assert found is not None
    assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (LARGEST, LARGEST // 4)
    assert image.size == (4000, 1000)
