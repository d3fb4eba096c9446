"""Samples: questions about images, and images as JSON has them (`iapo.records` has the other records)."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO, Literal, Self, cast

from PIL import Image, UnidentifiedImageError

from iapo.answer_texts import answer_text
from iapo.errors import InputError, why
from iapo.images import UNREADABLE, open_image, to_rgb
from iapo.kinds import plain
from iapo.read_only import read_only
from iapo.storage import take, take_list, whole_file

Axis = Literal["columns", "rows"]
Kind = Literal["chart", "table"]
Grading = Literal["plain", "chart", "exact", "finance", "claim"]
"""The rules by which a sample's answers are graded (`iapo.grading.rules`, docs/grading.md)."""

Box = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)`` in pixels of the image, ``x1 < x2`` and ``y1 < y2``, origin at the top left."""

AXES: tuple[Axis, ...] = ("columns", "rows")
KINDS: tuple[Kind, ...] = ("chart", "table")
GRADINGS: tuple[Grading, ...] = ("plain", "chart", "exact", "finance", "claim")

MOST_IMAGES = 8
"""Most images of one sample."""

FIRST_IMAGE = "image_1"
"""What prompts and programs call a sample's first image, on which its boxes and its axis are."""

_FAR = 1e9
"""Pixels that no box is away."""

_UNSHOWN: tuple[type[Exception], ...] = (*UNREADABLE, Image.DecompressionBombError)

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


EFFORT = 6
"""Effort of zlib for a PNG, 0 to 9, where nothing else is said."""


def save_png(image: Image.Image, target: Path | BinaryIO, *, compression: int = EFFORT) -> None:
    """Writes an image as PNG; modes that PNG does not have, such as CMYK and F, become RGB.

    Args:
        image: Image to write.
        target: Open file to write to, or a path, whose file is written whole or not at all.
        compression: Effort of zlib, 0 to 9; the pixels are the same.
    """
    writable = image if image.mode in _PNG_MODES else to_rgb(image)
    if not isinstance(target, Path):
        writable.save(target, format="PNG", compress_level=compression)
        return
    with whole_file(target) as part:
        writable.save(part, format="PNG", compress_level=compression)


def image_digest(image: Image.Image) -> str:
    """Returns the SHA-256 of what makes an image look as it does: mode, size, pixels, and palette where it has one."""
    digest = hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes())
    if image.mode in ("P", "PA"):
        # The pixels are indices here; two images may differ in the palette alone.
        digest.update(f"{image.getpalette()} {image.info.get('transparency')}".encode())
    return digest.hexdigest()


def images_digest(images: Sequence[Image.Image]) -> str:
    """Returns what tells the images of a sample apart from others', in order: of a single one its `image_digest`."""
    if len(images) == 1:
        return image_digest(images[0])
    return hashlib.sha256(" ".join(map(image_digest, images)).encode()).hexdigest()


def image_to_text(image: Image.Image) -> str:
    """Encodes an image as base64 PNG, for JSON."""
    buffer = io.BytesIO()
    save_png(image, buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def image_address(image: Image.Image) -> str:
    """Returns an image as a data address of its RGB pixels, as endpoints take images."""
    return f"data:image/png;base64,{image_to_text(to_rgb(image))}"


def image_from_text(text: str) -> Image.Image:
    """Decodes what `image_to_text` wrote."""
    image = open_image(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def pack_image(image: Image.Image | None, path: str | None) -> dict[str, str] | None:
    """Returns an image as JSON has it: where it lies, or embedded; None without one."""
    if path is not None:
        return {"path": path}
    return None if image is None else {"png": image_to_text(image)}


def unpack_image(data: Mapping[str, str] | None, root: Path | None) -> Image.Image | None:
    """Reads what `pack_image` wrote; paths start from `root`.

    Raises:
        InputError: If it is something else, or the image cannot be read.
    """
    if data is None:
        return None
    embedded = "png" in data
    text = take(data, "png" if embedded else "path", str)
    try:
        if embedded:
            return image_from_text(text)
        image = open_image((root or Path()) / text)
        image.load()
        return image
    except UnidentifiedImageError as error:
        what = "an embedded image" if embedded else f"the image {text[:200]!r}"
        raise InputError(f"{what} is in no known format; give an image file") from error
    except _UNSHOWN as error:
        what = "an embedded image" if embedded else f"the image {text[:200]!r}"
        reason = f"{type(error).__name__}: {' '.join(why(error).split())[:200]}"
        raise InputError(f"{what} cannot be read ({reason})") from error


def _corners(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Takes boxes out of a sample's record."""
    boxes: dict[str, Any] = take(data, name, dict)
    for box in boxes:
        if len(take_list(boxes, box, int, float)) != 4:
            raise InputError(f"the box {box[:100]!r} of {name} is no list of four numbers of pixels")
    return boxes


def _boxes(data: Mapping[str, Any], where: str) -> Mapping[str, Box]:
    if not isinstance(data, Mapping):
        raise InputError(f"{where} are of type {type(data).__name__}; give a map from name to (x1, y1, x2, y2)")
    boxes: dict[str, Box] = {}
    for name, box in data.items():
        if not isinstance(name, str):
            raise InputError(f"{where} have the name {name!r} of type {type(name).__name__}; give texts")
        try:
            if isinstance(box, str | bytes | set | frozenset | Mapping):
                raise TypeError
            values = list(map(plain, box))
            # Python makes numbers of texts and truth values, too.
            if any(isinstance(value, bool | str | bytes | bytearray) for value in values):
                raise TypeError
            x1, y1, x2, y2 = map(float, values)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where} have {str(box)[:80]} for {name!r}; give four numbers, x1, y1, x2, y2") from error
        # Whatever is compared with NaN is false.
        if not all(abs(value) < _FAR for value in (x1, y1, x2, y2)):
            raise InputError(
                f"{where} have {(x1, y1, x2, y2)} for {name!r}; give four finite numbers, each less than {_FAR:g} "
                "pixels away"
            )
        boxes[name] = (x1, y1, x2, y2)
    return read_only(boxes)


_FIELDS: tuple[tuple[str, Any, str], ...] = (
    *((name, str, "a text") for name in ("id", "question", "source", "question_type", "judge")),
    ("image", Image.Image, "a Pillow image"),
    ("list_names", bool, "True or False"),
    ("flaws", (tuple, list), "a tuple of texts"),
    ("more_images", (tuple, list), "a tuple of Pillow images"),
)
"""Fields of a sample, what they are, and what to give: each is checked where the sample is made, some microseconds."""


def _answers(values: Any, id: str) -> tuple[str, ...]:
    """Returns the answers of a sample as texts.

    Raises:
        InputError: If there is none, or something else is given.
    """
    if not isinstance(values, tuple | list):
        what = f"the text {values[:80]!r}" if isinstance(values, str) else f"of type {type(values).__name__}"
        raise InputError(f"sample {id!r}: its answers are {what}; give a tuple of texts, of a single answer (TEXT,)")
    if not values:
        raise InputError(f"sample {id!r} has no answer; give at least one")
    texts = tuple(map(answer_text, values))
    if None in texts:
        odd = values[texts.index(None)]
        raise InputError(f"sample {id!r} has an answer that is no text, finite number or date, but {str(odd)[:80]!r}")
    return cast("tuple[str, ...]", texts)


def _is_one(value: Any, known: Sequence[str]) -> bool:
    # An array would be compared with each of them.
    return isinstance(value, str) and value in known


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about an image, or about several.

    Attributes:
        id: Unique within its source.
        image: The image, any Pillow mode; of several the first, on which the boxes and the axis are.
        question: The question as asked.
        answers: The gold answer(s); several mean that all of them are asked for, in any order. Numbers and dates among
            them become texts, as in rows of data (`iapo.answer_texts`).
        column_boxes: Box of each named column, in pixels; empty where columns are not annotated.
        row_boxes: Box of each named row, in pixels; empty where rows are not annotated.
        kind: `chart` or `table`.
        axis: The axis along which the image is cleanly divisible (the right tools' axis), or None where both
            or neither is, in which case no call on it counts as misuse.
        source: The data set, for example `synthetic/vbar`.
        question_type: Type of the question (`value`, `largest`, ...), empty where unknown.
        list_names: Whether prompts list the names of the boxes, for images from which they cannot be read off.
        flaws: What was wrong with the boxes or the answers as they were read, and what became of it, a sentence each;
            empty for a whole sample. A box that is no use is left out, and the sample stays.
        grading: The rules by which answers are graded, a name in `iapo.grading.rules`.
        judge: Name of the judge of calls on it (`iapo.tools.add_judge`), instead of the tools' own and of the axis;
            empty for none.
        more_images: The further images, `image_2` and so on, in order; `MOST_IMAGES` with the first one at most.

    Raises:
        InputError: If a field is of another type, there is no answer, a box is empty or no four finite numbers, the
            kind, the axis or the grading is unknown, or there are too many images.
    """

    id: str
    image: Image.Image
    question: str
    answers: tuple[str, ...]
    column_boxes: Mapping[str, Box] = field(default_factory=dict)
    row_boxes: Mapping[str, Box] = field(default_factory=dict)
    kind: Kind = "chart"
    axis: Axis | None = None
    source: str = ""
    question_type: str = ""
    list_names: bool = False
    flaws: tuple[str, ...] = ()
    grading: Grading = "plain"
    judge: str = ""
    more_images: tuple[Image.Image, ...] = ()

    def __post_init__(self) -> None:
        for name, kind, wanted in _FIELDS:
            if not isinstance(value := getattr(self, name), kind):
                raise InputError(f"sample {self.id!r}: its {name} is of type {type(value).__name__}; give {wanted}")
        object.__setattr__(self, "answers", _answers(self.answers, self.id))
        object.__setattr__(self, "flaws", tuple(self.flaws))
        object.__setattr__(self, "more_images", tuple(self.more_images))
        for flaw in self.flaws:
            if not isinstance(flaw, str):
                raise InputError(f"sample {self.id!r}: a flaw is of type {type(flaw).__name__}; give texts")
        for number, image in enumerate(self.more_images, 2):
            if not isinstance(image, Image.Image):
                raise InputError(
                    f"sample {self.id!r}: its image_{number} is of type {type(image).__name__}; give a Pillow image"
                )
        if not _is_one(self.kind, KINDS):
            raise InputError(f"sample {self.id!r} is of the kind {str(self.kind)[:40]!r}; use {' or '.join(KINDS)}")
        if self.axis is not None and not _is_one(self.axis, AXES):
            raise InputError(f"sample {self.id!r} has axis {self.axis!r}; use 'columns', 'rows' or None")
        if not _is_one(self.grading, GRADINGS):
            raise InputError(f"sample {self.id!r} has grading {self.grading!r}; use one of {', '.join(GRADINGS)}")
        if len(self.images) > MOST_IMAGES:
            raise InputError(f"sample {self.id!r} has {len(self.images)} images; give at most {MOST_IMAGES}")
        for boxes_of in ("column_boxes", "row_boxes"):
            boxes = _boxes(getattr(self, boxes_of), f"sample {self.id!r}: its {boxes_of}")
            object.__setattr__(self, boxes_of, boxes)
        for what, boxes in (("column", self.column_boxes), ("row", self.row_boxes)):
            for name, (x1, y1, x2, y2) in boxes.items():
                if not (x1 < x2 and y1 < y2):
                    raise InputError(f"sample {self.id!r}: the box of {what} {name!r} is empty: {(x1, y1, x2, y2)}")

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All images, the first one first."""
        return (self.image, *self.more_images)

    @property
    def named_images(self) -> dict[str, Image.Image]:
        """All images by what prompts and programs call them: `image_1`, `image_2` and so on."""
        return {f"image_{number}": image for number, image in enumerate(self.images, 1)}

    def showing(
        self, image: Image.Image, made_of: str = FIRST_IMAGE, *, moved: bool = False, kept: bool = False
    ) -> Self:
        """Returns the sample with another first image, as a tool made it.

        Boxes are in pixels of the first image: one of another size (unless `kept`), of another one, or moved has none.

        Args:
            image: The image.
            made_of: Name of the image that it was made of.
            moved: Whether what is in that image lies elsewhere in this one.
            kept: Whether it lies in its place though this one is larger.
        """
        if (kept or image.size == self.image.size) and made_of == FIRST_IMAGE and not moved:
            return replace(self, image=image)
        return replace(self, image=image, column_boxes={}, row_boxes={})

    def to_json(self, image_path: str | None = None, more_paths: Sequence[str | None] = ()) -> dict[str, Any]:
        """Returns a JSON-ready dict; images are embedded as PNG unless a path says where they lie.

        Args:
            image_path: Path of the first image; where it is empty, the caller keeps all images apart.
            more_paths: Paths of the further images, in order; none are given, or one each.
        """
        paths = more_paths or ("" if image_path == "" else None,) * len(self.more_images)
        more = [pack_image(image, path) for image, path in zip(self.more_images, paths, strict=True)]
        # Whole samples are written, and hashed, as they were before there were flaws.
        flaws = {"flaws": list(self.flaws)} if self.flaws else {}
        return {
            "id": self.id,
            "image": pack_image(self.image, image_path),
            "question": self.question,
            "answers": list(self.answers),
            "column_boxes": {name: list(box) for name, box in self.column_boxes.items()},
            "row_boxes": {name: list(box) for name, box in self.row_boxes.items()},
            "kind": self.kind,
            "axis": self.axis,
            "source": self.source,
            "question_type": self.question_type,
            "list_names": self.list_names,
            **flaws,
            # Left out where it is plain: older files have none, and the hashes of their data stay as they were.
            **({} if self.grading == "plain" else {"grading": self.grading}),
            **({"judge": self.judge} if self.judge else {}),
            **({"more_images": more} if more else {}),
        }

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        root: Path | None = None,
        image: Image.Image | None = None,
        more_images: Sequence[Image.Image] | None = None,
    ) -> Self:
        """Reads what `to_json` wrote.

        Args:
            data: The dict.
            root: The folder that relative image paths start from.
            image: The first image itself, where the caller keeps it apart from the dict.
            more_images: The further images, where the caller keeps them apart.

        Raises:
            InputError: If it is something else, or there is no image, none that can be read, or not as many as the dict
                was written with.
        """
        name = take(data, "id", str)
        picture = image if image is not None else unpack_image(take(data, "image", dict, NoneType), root)
        if picture is None:
            raise InputError(f"sample {name!r} has no picture")
        written = take_list(data, "more_images", dict, NoneType) if "more_images" in data else []
        if more_images is None:
            more_images = [one for one in (unpack_image(packed, root) for packed in written) if one is not None]
        if len(more_images) != len(written):
            raise InputError(f"sample {name!r} has {1 + len(more_images)} of its {1 + len(written)} pictures")
        return cls(
            id=name,
            image=picture,
            question=take(data, "question", str),
            answers=tuple(take_list(data, "answers", str)),
            column_boxes=_corners(data, "column_boxes"),
            row_boxes=_corners(data, "row_boxes"),
            kind=take(data, "kind", str),
            axis=take(data, "axis", str, NoneType),
            source=take(data, "source", str),
            question_type=take(data, "question_type", str),
            list_names=take(data, "list_names", bool, default=False),
            flaws=tuple(take_list(data, "flaws", str)) if "flaws" in data else (),
            grading=take(data, "grading", str, default="plain"),
            judge=take(data, "judge", str, default=""),
            more_images=tuple(more_images),
        )


def sample_list(samples: Iterable[Sample]) -> list[Sample]:
    """Returns samples, whatever gives them, as a list; a generator is read here, once.

    Raises:
        InputError: If they are none.
    """
    if not isinstance(samples, Iterable) or isinstance(samples, str | Mapping):
        raise InputError(f"the samples are of type {type(samples).__name__}; give a list or a generator of iapo.Sample")
    found = list(samples)
    for number, one in enumerate(found, 1):
        if not isinstance(one, Sample):
            raise InputError(f"sample {number} of {len(found)} is of type {type(one).__name__}; give iapo.Sample")
    return found
