"""Qwen's tokenizer out of its ranks: the byte-level BPE of Qwen2, 2.5 and 3, as tokenizer.json has it."""

from __future__ import annotations

import base64
import binascii
import itertools
from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import bytes_to_unicode

from iapo.errors import InputError

_NAMES = "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end"
_NAMES += " vision_start vision_end vision_pad image_pad video_pad"
SPECIAL = tuple(f"<|{name}|>" for name in _NAMES.split(" "))
"""Control tokens, in the order of their ids."""

_MIDDLE = ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")
_PLAIN = ("<tool_call>", "</tool_call>", *(f"<|{name}|>" for name in _MIDDLE))
_PLAIN_3 = ("<tool_response>", "</tool_response>", "<think>", "</think>")

_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_COUNT = 151643
_PACKAGE, _FILE = "dashscope", "resources/qwen.tiktoken"


def find_ranks(path: Path | None = None) -> Path:
    """Finds the file of ranks.

    Args:
        path: The file; that of the package `dashscope`, which needs not be importable, if None.

    Raises:
        InputError: If there is none.
    """
    if path is None:
        spec = find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError("Qwen's ranks are missing; `pip install --no-deps dashscope`, or give ranks, a file")
        path = Path(spec.submodule_search_locations[0]) / _FILE
    if not path.is_file():
        raise InputError(f"there is no file of ranks {path}; give qwen.tiktoken")
    return path


def make_tokenizer(ranks: Path, *, qwen3: bool) -> Tokenizer:
    """Makes the tokenizer.

    Args:
        ranks: File of ranks: a token in base 64 and its rank a line.
        qwen3: Whether it is Qwen3-VL's, which has four tokens more.

    Raises:
        InputError: If the file holds other ranks than Qwen's.
    """
    by_token = _read(ranks)
    letters = bytes_to_unicode()

    def written(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [
        (written(first), written(second))
        for token, rank in by_token.items()
        if len(token) > 1
        for first, second in [_parts(token, rank, by_token)]
    ]
    tokenizer = Tokenizer(models.BPE({written(token): rank for token, rank in by_token.items()}, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    plain = _PLAIN + (_PLAIN_3 if qwen3 else ())
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in plain])
    return tokenizer


def _read(path: Path) -> dict[bytes, int]:
    try:
        lines = [line.split() for line in path.read_bytes().splitlines() if line.strip()]
        found = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise InputError(f"{path} holds no ranks: a token in base 64 and a number a line ({error})") from error
    if sorted(found.values()) != list(range(_COUNT)):
        raise InputError(f"{path} holds {len(found)} ranks; Qwen's are {_COUNT}, from 0")
    return found


def _parts(token: bytes, limit: int, ranks: dict[bytes, int]) -> list[bytes]:
    """Returns the two parts that a token is merged of: what is left when only lower ranks are merged."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(first + second, limit) for first, second in itertools.pairwise(parts)]
        best = min(pairs)
        if best >= limit:
            raise InputError(f"the ranks make no token of {token!r}; they are not those of a byte-level BPE")
        index = pairs.index(best)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts
