"""Control tokens: what a tokenizer or a chat template reads as a sign of its own, and texts must not write.

Texts of data are refused where they hold one (`iapo.data.fields`, `iapo.rollout.budget.check_texts`); in what a model
wrote they are taken apart, since a bad rollout is data.
"""

from __future__ import annotations

import re
from typing import Any

_LIKE = re.compile(
    r"<(?=[|\uff5c]|/?[\w.:-]+[|\uff5c]?>|\[[^\[\]<>\n]{1,40}\]>)"
    r"|\[(?=\||/?(?:[A-Z_]{2,}\d*|[a-z][A-Z]{2,}|unused\d+|[A-Za-z]+(?:_[A-Za-z\d]+)+)\]|!?[a-z]{1,3}~\[)"
    r"|\](?=~!?[a-z]{1,3}[\[\]]|!?[a-z]{1,3}~\[|<\][\w .-]{1,40}\[>\[)|>(?=>[A-Z_]+<<)|\|(?=\|\|[A-Z_]+\|\|\|)"
)
"""How the control tokens of known families begin: `<|im_end|>`, `<start_of_turn>`, `</s>`, `<seed:bos>`, `[INST]`,
`[gMASK]`, `[control_8]`, `[|endofturn|]`, `]~b]`, `[e~[`, `>>ANSWER<<`.
"""

_MARKUP = re.compile(r"[<\[].*[>\]]", re.DOTALL)


def spaced(text: str) -> str:
    """Returns a text with a space in what may be a control token, for a model whose tokenizer is not known."""
    return _LIKE.sub(lambda found: f"{found[0]} ", text)


def escaped(json_text: str) -> str:
    """Returns JSON that says the same and holds nothing that may be one: their first character by its code point."""
    # Outside of texts JSON has no "<", ">", "|" and "~", and no "[" before a word but true, false and null.
    return _LIKE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


class ControlTokens:
    """The control tokens of one tokenizer.

    Args:
        tokenizer: A tokenizer of Transformers.

    Attributes:
        reserved: Those that only the chat template may write.
        markup: Further added tokens of the form of a tag, such as `<tool_call>`: prompts and models may write them,
            data may not.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = [one for one in tokenizer.added_tokens_decoder.values() if one.content.strip()]
        reserved = [one.content for one in added if one.special or one.content.startswith("<|")]
        self.reserved = tuple(dict.fromkeys([*reserved, *(one for one in tokenizer.all_special_tokens if one.strip())]))
        others = (one.content for one in added if _MARKUP.fullmatch(one.content))
        self.markup = tuple(one for one in others if one not in self.reserved)

    def find(self, text: str, *, markup: bool = False) -> str | None:
        """Returns a control token that a text holds; None where it holds none.

        Args:
            text: The text.
            markup: Whether those of `markup` count, too.
        """
        tokens = (*self.reserved, *self.markup) if markup else self.reserved
        return next((one for one in tokens if one in text), None)

    def neutral(self, text: str) -> str:
        """Returns a text with a space in each control token that it holds."""
        for token in (*self.reserved, *self.markup):
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
