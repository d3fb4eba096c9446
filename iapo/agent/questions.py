"""A question about an image as a sample: its boxes given, or found in the image."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from iapo.data.boxes import add_boxes
from iapo.data.boxes.names import Names
from iapo.data.damage import RowError
from iapo.data.fields import refuse_control_tokens
from iapo.data.formats import own
from iapo.data.pictures import encode_picture, read_picture
from iapo.data.rows import Row
from iapo.errors import InputError, unknown
from iapo.records import MOST_IMAGES, Kind, Sample

BOX_FIELDS = ("column_boxes", "row_boxes", "kind", "axis", "list_names")
"""What may be said of an image beside the question: fields of one's own data (docs/data.md)."""

_SHOWN = 12

KINDS: tuple[str, ...] = ("auto", "chart", "table")

LONGEST_QUESTION = 20_000
"""Characters of a question."""

Picture = Image.Image | bytes | Path | str
"""An image, its encoded bytes, or the path of its file."""

_PICTURE = (Image.Image, bytes, Path, str)
_WANTED = "an image of Pillow's, its encoded bytes, or the path of its file"

Pictures = Picture | Sequence[Picture]
"""An image, or a list of several that one question is about."""


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A question that can be asked.

    Attributes:
        sample: The image, the question and the boxes; it has no gold answer.
        note: A sentence that says which boxes there are and where they come from.
    """

    sample: Sample
    note: str


def make_question(
    image: Pictures,
    question: str,
    boxes: Mapping[str, Any] | None = None,
    *,
    kind: Literal["auto", "chart", "table"] = "auto",
    names: Names = "places",
) -> Question:
    """Makes a sample of an image, or several, and a question, as `iapo evaluate` makes one of a row of one's own data.

    Args:
        image: Image, its encoded bytes, or the path of its file; or a list of several, `image_1` and so on.
        question: Text of the question.
        boxes: Boxes and what else is known of the first image, by the names of `BOX_FIELDS`; `{}` has none. None has
            boxes looked for in it.
        kind: Content of the image, where its boxes are looked for; `auto` tries a bar chart, then a table.
        names: How found boxes are named (`iapo.data.boxes.add_boxes`).

    Raises:
        InputError: If the image cannot be read, the question has no text or a control token, or the boxes do not
            follow the schema.
    """
    if not isinstance(question, str):
        raise InputError(f"the question is of type {type(question).__name__}; give text")
    if not question.strip():
        raise InputError("the question is empty; ask something")
    if len(question) > LONGEST_QUESTION:
        raise InputError(f"the question has {len(question):,} characters; ask with at most {LONGEST_QUESTION:,}")
    check_kind(kind)
    fields = _checked({} if boxes is None else boxes)
    for text in (question, *(name for part in BOX_FIELDS[:2] for name in _names(fields.get(part)))):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            what = "half a surrogate pair, or a byte that is no UTF-8"
            raise InputError(f"the question, or the name of a box, holds {what}, which is no character")
    # A row must have an answer; nothing is graded by this one, and none is written.
    images = [image] if isinstance(image, _PICTURE) else image
    if not isinstance(images, list | tuple):
        raise InputError(f"the image is of type {type(image).__name__}; give {_WANTED}, or a list of them")
    for number, one in enumerate(images, 1):
        if not isinstance(one, _PICTURE):
            raise InputError(f"image {number} is of type {type(one).__name__}; give {_WANTED}")
    if not 1 <= len(images) <= MOST_IMAGES:
        raise InputError(f"the question comes with {len(images)} images; give 1 to {MOST_IMAGES}")
    encoded = [_encoded(one) for one in images]
    fields |= {"images": encoded, "question": question, "answer": "-"}
    try:
        sample = own.read(Row(1, fields, "question"))
        refuse_control_tokens(sample)
    except RowError as error:
        raise InputError(_blamed(images, encoded) or str(error)) from error
    # It is no row of a data set, and messages call it the question.
    sample = dataclasses.replace(sample, id="", source="")
    if boxes is not None:
        return Question(sample, _told(sample, "given"))
    return _found(sample, kind, names)


def check_kind(kind: str) -> None:
    """Refuses what is no kind of content.

    Raises:
        InputError: If so.
    """
    # An array would be compared with each of them.
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"kind is {kind!r}; use auto, chart or table")


def read_boxes(path: Path) -> dict[str, Any]:
    """Reads a JSON file with boxes for `make_question`.

    Raises:
        InputError: If it cannot be read, has a key twice, or has other fields than `BOX_FIELDS`.
    """
    try:
        return _checked(json.loads(path.read_bytes(), object_pairs_hook=_unique))
    except OSError as error:
        raise InputError(f"cannot read the boxes {path} ({error.strerror}); give the path of a JSON file") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON; write boxes as in docs/using.md, or leave --boxes out") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise InputError(f"the key {twice!r} stands twice in one JSON object; give it once")
    return found


def _checked(boxes: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(boxes, Mapping):
        raise InputError(f"the boxes are of type {type(boxes).__name__}; give a mapping with {', '.join(BOX_FIELDS)}")
    for name in boxes:
        if name not in BOX_FIELDS:
            raise unknown("field of boxes", str(name), BOX_FIELDS)
    for field in BOX_FIELDS[:2]:
        for name in _names(boxes.get(field)):
            if not isinstance(name, str):
                raise InputError(f"{field} has a name of type {type(name).__name__}; give names as text")
    return dict(boxes)


def _names(boxes: Any) -> list[Any]:
    return list(boxes) if isinstance(boxes, Mapping) else []


def _encoded(image: Picture) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        try:
            # It is decoded at once, and nowhere kept.
            return encode_picture(image, compression=1)
        except (ValueError, OSError, SyntaxError) as error:
            # Pillow reads an image's file late, which then may be closed or damaged.
            raise InputError(
                f"the image cannot be read ({error}); open it anew, or give the path of its file"
            ) from error
    try:
        # A device may never end.
        if not Path(image).is_file() and Path(image).exists():
            raise InputError(f"cannot read the image {image} (it is no file); give the path of an image file")
        return Path(image).read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read the image {image} ({reason}); give the path of an image file") from error


def _blamed(images: Sequence[Picture], encoded: Sequence[bytes]) -> str | None:
    """Returns what is wrong with an image file, by its name; None where that is not what is wrong."""
    for image, data in zip(images, encoded, strict=True):
        if isinstance(image, str | Path):
            try:
                read_picture(data, None)
            except RowError as error:
                return f"{image}: {error}"
    return None


def _found(sample: Sample, kind: str, names: Names) -> Question:
    reasons = []
    kinds: tuple[Kind, ...] = ("chart", "table") if kind == "auto" else ("table",) if kind == "table" else ("chart",)
    for one in kinds:
        found, reason = add_boxes(dataclasses.replace(sample, kind=one), names)
        if not reason:
            return Question(found, _told(found, f"found, as of a {one}"))
        reasons.append(f"as a {one}: {reason}")
    return Question(sample, f"no boxes are found ({'; '.join(reasons)}), so that tools that need some fail; give them")


def _told(sample: Sample, how: str) -> str:
    told = []
    for what, boxes in (("column", sample.column_boxes), ("row", sample.row_boxes)):
        if boxes:
            shown = ", ".join(list(boxes)[:_SHOWN]) + (", ..." if len(boxes) > _SHOWN else "")
            told.append(f"{len(boxes)} {what}{'s' if len(boxes) > 1 else ''} ({shown})")
    flaws = f"; {'; '.join(sample.flaws)}" if sample.flaws else ""
    where = f", on the first of {len(sample.images)} images" if told and sample.more_images else ""
    return f"{how}: {' and '.join(told) or 'none'}{where}{flaws}"
