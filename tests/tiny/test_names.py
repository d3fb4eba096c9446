"""Tool names that have to be read."""

from __future__ import annotations

import re

import numpy as np

from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.names import CANONICAL, INVENTED, NAME_PATTERN, UNSEEN, draw_tools, offer_some
from iapo.tiny.pretrain import name_ids
from iapo.tools import TOOLS


def test_names_are_distinct_and_none_is_in_two_sets() -> None:
    names = [*CANONICAL, *INVENTED, *UNSEEN]
    assert len(set(names)) == len(names) == 6 + 512 + 32
    assert all(re.fullmatch(NAME_PATTERN.removesuffix(r"(?=\()"), name) for name in (*INVENTED, *UNSEEN))


def test_each_name_is_one_token_of_its_own(tiny_encoder: PromptEncoder) -> None:
    names = [*CANONICAL, *INVENTED, *UNSEEN]
    ids = name_ids(tiny_encoder, names)
    assert len(set(ids)) == len(names)
    assert [tiny_encoder.tokenizer.decode([one]) for one in ids] == names


def test_the_canonical_set_is_the_standard_prompt() -> None:
    assert draw_tools(np.random.default_rng(0), "canonical") == dict(TOOLS)


def test_renamed_tools_are_the_six_in_random_order() -> None:
    rng = np.random.default_rng(0)
    first = set()
    canonical = 0
    for _ in range(200):
        for naming, pool in (("invented", {*INVENTED, *CANONICAL}), ("unseen", set(UNSEEN))):
            tools = draw_tools(rng, naming)
            assert len(tools) == 6
            assert set(tools) <= pool
            assert all(name == tool.name for name, tool in tools.items())
            assert {tool.function for tool in tools.values()} == {tool.function for tool in TOOLS.values()}
            first.add(next(iter(tools.values())).function)
            canonical += sum(name in CANONICAL for name in tools)
    assert len(first) == 6
    # 1,200 names at one in ten: five standard deviations.
    assert 68 <= canonical <= 172


def test_a_part_of_the_tools_covers_the_axes_in_order() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(200):
        some = offer_some(rng, TOOLS, ("columns", "rows"))
        assert list(some) == [name for name in TOOLS if name in some]
        assert {tool.axis for tool in some.values()} == {"columns", "rows"}
        sizes.add(len(some))
    assert sizes == {2, 3, 4, 5}
