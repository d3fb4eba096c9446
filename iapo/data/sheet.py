"""`iapo data show`: samples side by side with their boxes drawn, as one image and as one HTML file."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from iapo.data.boxes import add_boxes
from iapo.data.boxes.names import Names, check_names
from iapo.data.damage import Damage
from iapo.data.loading import load
from iapo.data.pictures import encode_picture
from iapo.display.terminal import plain
from iapo.errors import InputError
from iapo.records import Box, Sample, image_to_text
from iapo.storage import make_folder, write_all

_COLUMN, _ROW = "#1f4e9c", "#e08214"
_CELL, _CAPTION, _GAP = 320, 63, 8
_FLAW = "#bb0000"
_LARGEST = 800
"""Longer side of the images in the HTML file."""

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1.5rem; }
article { border: 1px solid #ddd; padding: .75rem; overflow-wrap: anywhere; }
img { max-width: 100%; margin-top: .5rem; background: #eee; }
svg { width: 100%; height: auto; background: #eee; }
rect { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
text { font-size: 12px; }
.column { stroke: COLUMN; } text.column { fill: COLUMN; stroke: none; }
.row { stroke: ROW; } text.row { fill: ROW; stroke: none; }
dt { color: #666; float: left; margin-right: .5rem; } dd { margin: 0; }
.damage { border-color: #b00; } .flaw { color: #b00; }
""".replace("COLUMN", _COLUMN).replace("ROW", _ROW)


def show(
    source: str,
    out: Path,
    *,
    count: int = 24,
    split: str | None = None,
    format: str | None = None,
    find_boxes: bool = False,
    names: Names = "places",
    flawed: bool = False,
) -> tuple[Path, Path]:
    """Draws the first rows of a data set with their boxes, the names of these, and what was left out of them and why.

    Args:
        source: A file, a folder or a hub id.
        out: The folder to write `sheet.png` and `sheet.html` to; the HTML holds its images and runs no script.
        count: Number of rows.
        split: Split; None where there is one alone.
        format: One of `iapo.data.loading.FORMATS`; detected if None.
        find_boxes: Whether images without boxes are searched for some; where none are found, that and why is drawn
            like a flaw.
        names: How found boxes are named, as in `iapo.data.boxes.add_boxes`.
        flawed: Whether only doubtful rows are drawn: damaged ones, those of which a box was left out or mended, and
            those in which no boxes were found.

    Returns:
        The two files.

    Raises:
        InputError: If `count` is not positive, the data cannot be read, or `names` needs what is not installed.
    """
    check_names(names)
    if count < 1:
        raise InputError(f"the number of rows is {count}; give at least 1")
    # No larger than they are shown, so that many large images need little memory.
    items: list[Sample | Damage] = []
    rows: Iterable[Sample | Damage] = load(source, split=split, format=format)
    if find_boxes:
        rows = (item if isinstance(item, Damage) else _searched(item, names) for item in rows)
    if flawed:
        rows = (item for item in rows if isinstance(item, Damage) or item.flaws)
    for item in itertools.islice(rows, count):
        items.append(item if isinstance(item, Damage) else _shrunk(item))
    if not items:
        raise InputError(f"{source} has no {'doubtful rows' if flawed else 'rows'} to show")
    make_folder(out)
    picture, page = out / "sheet.png", out / "sheet.html"
    drawn = encode_picture(contact_sheet(items))
    write_all({picture: drawn, page: html_sheet(items, title=source).encode()})
    return picture, page


def contact_sheet(items: Sequence[Sample | Damage]) -> Image.Image:
    """Returns one image of all rows: each with its boxes (columns blue, rows orange) and their names, its id, its
    question, its answers, and in red what was left out.
    """
    across = math.ceil(math.sqrt(len(items)))
    down = math.ceil(len(items) / across)
    step_x, step_y = _CELL + _GAP, _CELL + _CAPTION + _GAP
    sheet = Image.new("RGB", (across * step_x + _GAP, down * step_y + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for place, item in enumerate(items):
        x, y = _GAP + place % across * step_x, _GAP + place // across * step_y
        if isinstance(item, Damage):
            draw.rectangle((x, y, x + _CELL - 1, y + _CELL - 1), outline=_FLAW)
            lines = [f"row {item.row}: damaged", *_lines(plain(item.reason), font)]
        else:
            sheet.paste(_drawn(item), (x, y))
            count = f" ({len(item.images)} images, the first is shown)" if item.more_images else ""
            lines = [item.id + count, item.question, " | ".join(item.answers)]
        for index, line in enumerate(lines[:3]):
            draw.text((x, y + _CELL + 2 + 15 * index), _fitting(plain(line, 200), font), fill="#222222", font=font)
        if isinstance(item, Sample) and item.flaws:
            text = f"{len(item.flaws)} flaw{'s' * (len(item.flaws) > 1)}: {item.flaws[0]}"
            draw.text((x, y + _CELL + 47), _fitting(plain(text, 200), font), fill=_FLAW, font=font)
    return sheet


def html_sheet(items: Sequence[Sample | Damage], title: str) -> str:
    """Returns all rows as one HTML page with images inside; every text is escaped, and no script may run."""
    name = html.escape(plain(title, 200))
    parts = [_damage_html(item) if isinstance(item, Damage) else _sample_html(item) for item in items]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            f"<title>{name}</title><style>{_STYLE}</style></head><body><h1>{name}</h1>",
            '<p>Boxes of <span style="color:#1f4e9c">columns</span> and '
            '<span style="color:#e08214">rows</span>.</p><main>',
            *parts,
            "</main></body></html>",
        ]
    )


def _searched(sample: Sample, names: Names) -> Sample:
    """Returns the sample with found boxes, or with the reason why there are none."""
    found, reason = add_boxes(sample, names)
    return replace(found, flaws=(*found.flaws, f"no boxes found: {reason}")) if reason else found


def _shrunk(sample: Sample) -> Sample:
    """Returns the sample with images no larger than they are shown."""
    more = tuple(map(_smaller, sample.more_images))
    scale = _LARGEST / max(sample.image.size)
    if scale >= 1:
        return replace(sample, more_images=more)
    size = (max(1, round(sample.image.width * scale)), max(1, round(sample.image.height * scale)))

    def smaller(boxes: Mapping[str, Box]) -> dict[str, list[float]]:
        return {name: [value * scale for value in box] for name, box in boxes.items()}

    record = sample.to_json(image_path="")
    record |= {"column_boxes": smaller(sample.column_boxes), "row_boxes": smaller(sample.row_boxes)}
    return Sample.from_json(record, image=sample.image.convert("RGBA").resize(size), more_images=more)


def _smaller(image: Image.Image) -> Image.Image:
    scale = _LARGEST / max(image.size)
    if scale >= 1:
        return image
    return image.convert("RGBA").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _drawn(sample: Sample) -> Image.Image:
    """Returns the image in its cell with its boxes; what is transparent lies on grey."""
    scale = min(_CELL / sample.image.width, _CELL / sample.image.height)
    size = (max(1, round(sample.image.width * scale)), max(1, round(sample.image.height * scale)))
    picture = sample.image.convert("RGBA").resize(size)
    cell = Image.new("RGB", (_CELL, _CELL), "#eeeeee")
    cell.paste(picture, mask=picture.getchannel("A"))
    draw = ImageDraw.Draw(cell)
    font = ImageFont.load_default(9)
    for boxes, colour in ((sample.row_boxes, _ROW), (sample.column_boxes, _COLUMN)):
        for name, (x1, y1, x2, y2) in boxes.items():
            left, top, right, bottom = x1 * scale, y1 * scale, x2 * scale, y2 * scale
            draw.rectangle((left, top, right, bottom), outline=colour)
            # In a strip of its own over the image, no wider than the box.
            label = Image.new(
                "RGB", (max(1, min(round(right - left) - 1, round(font.getlength(plain(name))) + 2)), 11), "white"
            )
            ImageDraw.Draw(label).text((1, 0), plain(name), fill=colour, font=font)
            cell.paste(label, (round(left) + 1, round(top) + 1))
    return cell


def _lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    first = _fitting(text, font)
    return [text] if first == text else [first.removesuffix("..."), text[len(first) - 3 :]]


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Returns the text, cut where the cell ends."""
    if font.getlength(text) <= _CELL:
        return text
    while text and font.getlength(f"{text}...") > _CELL:
        text = text[:-1]
    return f"{text}..."


def _sample_html(sample: Sample) -> str:
    width, height = sample.image.size
    shapes = [*_boxes_html(sample.row_boxes, "row"), *_boxes_html(sample.column_boxes, "column")]
    about = {
        "id": sample.id,
        "question": sample.question,
        "answers": " | ".join(sample.answers),
        "kind": sample.kind + (f", {sample.axis}" if sample.axis else ""),
        "columns": ", ".join(sample.column_boxes) or "no boxes",
        "rows": ", ".join(sample.row_boxes) or "no boxes",
        "source": sample.source,
    }
    entries = "".join(f"<dt>{key}</dt><dd>{_escaped(value)}</dd>" for key, value in about.items() if value)
    entries += "".join(f'<dt>flaw</dt><dd class="flaw">{_escaped(flaw)}</dd>' for flaw in sample.flaws)
    more = "".join(
        f'<img alt="image_{number}" src="data:image/png;base64,{image_to_text(image)}">'
        for number, image in enumerate(sample.more_images, 2)
    )
    return (
        f'<article><svg viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
        f'href="data:image/png;base64,{image_to_text(sample.image)}"/>{"".join(shapes)}</svg>{more}'
        f"<dl>{entries}</dl></article>"
    )


def _boxes_html(boxes: Mapping[str, Box], what: str) -> list[str]:
    return [
        f'<g><title>{what} {_escaped(name)}</title><rect class="{what}" x="{x1:.1f}" y="{y1:.1f}" '
        f'width="{x2 - x1:.1f}" height="{y2 - y1:.1f}"/>'
        f'<text class="{what}" x="{x1 + 2:.1f}" y="{y1 + 12:.1f}">{_escaped(name)}</text></g>'
        for name, (x1, y1, x2, y2) in boxes.items()
    ]


def _damage_html(damage: Damage) -> str:
    return f'<article class="damage"><b>damaged</b> {_escaped(str(damage))}</article>'


def _escaped(text: str) -> str:
    return html.escape(plain(text))
