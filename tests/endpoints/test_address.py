"""Passwords in addresses: left out of any text, in time that grows with it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iapo.endpoints.address import holds_credentials, without_credentials

PLAIN = re.compile(r"(:/{1,2})[^\s'\"<>]*@")
"""The same in one pattern, which takes time that grows with the square of a long word."""


@settings(derandomize=True, max_examples=400, database=None)
@given(st.text("ab:/@ '<\n", max_size=24))
def test_what_stands_between_a_scheme_and_the_last_at_is_left_out(text: str) -> None:
    assert without_credentials(text) == PLAIN.sub(r"\1", text)
    assert holds_credentials(text) == (PLAIN.search(text) is not None)


@pytest.mark.parametrize(("unit", "scheme"), [(":/", ":/"), ("://", "://"), (":/a", ":/")])
def test_long_words_do_not_take_long(unit: str, scheme: str) -> None:
    text = unit * 2**20
    assert without_credentials(text) == text
    assert without_credentials(f"{text}@") == scheme
