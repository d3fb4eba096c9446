"""Charts drawn in the manners of well-known makers of charts, with the true middles of their rows or columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

NAVY, BLUE, GREY, RED, GREEN, GOLD, SAND = "#0f283e", "#2875dd", "#b9b9b9", "#a70b0b", "#89ba27", "#d4a72c", "#e5cd86"


@dataclass
class Drawn:
    """A chart, and where its slots' middles are along the axis of its bars."""

    image: Image.Image
    axis: str
    middles: list[float] = field(default_factory=list)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def sections(
    blocks: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]],
    colours: Sequence[str] = (GOLD, SAND),
    numbers: str = "end",
    heading_bold: bool = False,
    gap: int = 22,
) -> Drawn:
    """Lying stacked bars in blocks of rows, a heading above each block that has one, as polls are drawn.

    Args:
        blocks: A heading, may be empty, and rows of a name and the parts of its bar, in hundredths.
        colours: One a part.
        numbers: Where the numbers stand: `end` of the bar, `inside` of each part, or nowhere.
        heading_bold: Whether headings stand at the left side instead of at the bars.
        gap: Pixels between blocks.
    """
    rows = sum(len(block) + bool(heading) for heading, block in blocks)
    image = Image.new("RGB", (420, 150 + 22 * rows + gap * len(blocks)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((4, 10), "Older people more likely to see this as", fill="black", font=font(18))
    draw.text((4, 34), "a problem than are the younger ones", fill="black", font=font(18))
    draw.text((4, 60), "% who say that they see it in this way ...", fill="#666666", font=font(13))
    made = Drawn(image, "rows")
    y, base, scale = 95, 150, 2.2
    for heading, block in blocks:
        if heading:
            draw.text((4, y), heading, fill="black", font=font(13))
            y += 22
        for name, parts in block:
            draw.text((base - 6, y + 8), name, fill="black", font=font(13), anchor="rm")
            x = float(base)
            for part, colour in zip(parts, colours, strict=False):
                end = x + part * scale
                if round(end) > round(x):
                    draw.rectangle((round(x), y, round(end) - 1, y + 15), fill=colour)
                if numbers == "inside" and part >= 6:
                    draw.text(((x + end) / 2, y + 8), f"{part:g}", fill="black", font=font(12), anchor="mm")
                x = end
            if numbers == "end":
                draw.text((x + 5, y + 8), f"{sum(parts):g}", fill="black", font=font(12), anchor="lm")
            made.middles.append(y + 8)
            y += 22
        y += gap
    draw.text((4, y + 8), "Note: Those who did not give an answer are not shown.", fill="#888888", font=font(12))
    draw.text((4, y + 24), "Source: Survey of adults conducted in spring.", fill="#888888", font=font(12))
    draw.line((0, 2, 419, 2), fill="black")
    return made


def diverging(rows: Sequence[tuple[str, float, float]], line: bool = True) -> Drawn:
    """Lying bars to both sides of a middle line, with the numbers in them."""
    image = Image.new("RGB", (420, 140 + 32 * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((4, 10), "Opinions on the rule are mixed", fill="black", font=font(18))
    draw.text((180, 60), "Against", fill=GOLD, font=font(13))
    draw.text((270, 60), "In favour", fill=RED, font=font(13))
    made = Drawn(image, "rows")
    for place, (name, left, right) in enumerate(rows):
        y = 90 + 32 * place
        draw.text((4, y + 10), name, fill="black", font=font(13), anchor="lm")
        for value, colour, start in ((left, SAND, 260 - 1.5 * left), (right, GOLD, 260)):
            draw.rectangle((round(start), y, round(start + 1.5 * value) - 1, y + 19), fill=colour)
            draw.text((start + 0.75 * value, y + 10), f"{value:g}", fill="black", font=font(12), anchor="mm")
        made.middles.append(y + 10)
    if line:
        draw.line((260, 84, 260, 90 + 32 * len(rows)), fill="#666666")
    draw.text((4, 100 + 32 * len(rows)), "Note: Answers of some are not shown here.", fill="#888888", font=font(12))
    return made


def panels(rows: Sequence[tuple[str, float, float]]) -> Drawn:
    """Lying bars in two panels that share the names at the left."""
    image = Image.new("RGB", (520, 140 + 26 * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((4, 10), "What people expect of the two", fill="black", font=font(18))
    made = Drawn(image, "rows")
    for place, (name, left, right) in enumerate(rows):
        y = 90 + 26 * place
        draw.text((114, y + 8), name, fill="black", font=font(13), anchor="rm")
        for value, colour, base in ((left, NAVY, 120), (right, GREEN, 330)):
            if value:
                draw.rectangle((base, y, round(base + 1.5 * value), y + 15), fill=colour)
            draw.text((base + 1.5 * value + 6, y + 8), f"{value:g}", fill="black", font=font(12), anchor="lm")
        made.middles.append(y + 8)
    return made


def countries(values: Sequence[float], colours: Sequence[str], unit: str = "%") -> Drawn:
    """Lying bars with faint upright lines, names at the left, numbers at the ends, and an axis with numbers."""
    image = Image.new("RGB", (850, 600), "white")
    draw = ImageDraw.Draw(image)
    draw.text((16, 10), "Share of what is measured, 2013", fill="#555555", font=font(24))
    draw.text((16, 44), "It is measured in this way, and in some places in that one.", fill="#777777", font=font(14))
    base, step, top = 140, 460 / len(values), 80
    made = Drawn(image, "rows")
    scale = 560 / max(values)
    for place in range(7):
        x = base + place * 100
        draw.line((x, top, x, 540), fill="#eeeeee")
        draw.text((x, 556), f"{place * 10}{unit}", fill="#777777", font=font(15), anchor="mm")
    names = ("Mediterranean", "North", "Indian Ocean", "South Pacific", "World (total)", "Boys", "Ecuador")
    for place, value in enumerate(values):
        y = top + step * (place + 0.5)
        draw.text((base - 5, y), names[place % len(names)], fill="#444444", font=font(13), anchor="rm")
        end = base + value * scale
        if end - base >= 0.5:
            draw.rectangle((base, y - 0.38 * step, end, y + 0.38 * step), fill=colours[place % len(colours)])
        draw.text((end + 5, y), f"{value:g}{unit}", fill="#666666", font=font(13), anchor="lm")
        made.middles.append(y)
    draw.text((16, 578), "Source: An agency (2018)", fill="#777777", font=font(13))
    return made


def columns(
    groups: Sequence[Sequence[float | None]],
    colours: Sequence[str] = (BLUE, NAVY, GREY, RED, GREEN),
    *,
    numbers: bool = True,
    stacked: bool = False,
    every: int = 1,
) -> Drawn:
    """Upright bars on stripes with pale lines across, an axis, names below, a legend, and buttons at the side."""
    image = Image.new("RGB", (800, 557), "white")
    draw = ImageDraw.Draw(image)
    left, right, base, top = 100, 720, 380, 50
    step = (right - left) / len(groups)
    totals = [sum(v or 0 for v in some) if stacked else max(v or 0 for v in some) for some in groups]
    lowest = min(0.0, *(v or 0 for some in groups for v in some))
    scale = (base - top) * 0.9 / (max(totals) - lowest)
    zero = round(base + lowest * scale)
    made = Drawn(image, "columns")
    for place in range(0, len(groups), 2):
        draw.rectangle((left + place * step, top, left + (place + 1) * step, base), fill="#fafafa")
    for place in range(6):
        y = top + place * (base - top) / 5
        draw.line((left, y, right, y), fill="#e6e6e6")
        draw.text((left - 8, y), f"{(5 - place) * 20}%", fill="#666666", font=font(11), anchor="rm")
    for place, some in enumerate(groups):
        middle = left + step * (place + 0.5)
        made.middles.append(middle)
        count = 1 if stacked else len(some)
        width = 0.8 * step / count - (2 if count > 1 else 0.1 * step)
        foot = zero
        for index, value in enumerate(some):
            if value is None:
                continue
            x = middle - 0.4 * step + (0 if stacked else index * 0.8 * step / count) + 1
            end = foot - round(value * scale)
            if end != foot:
                draw.rectangle((x, min(end, foot), x + width, max(end, foot) - 1), fill=colours[index])
            if numbers and not stacked:
                at = (x + width / 2, end - 8 if value >= 0 else end + 8)
                draw.text(at, f"{value:g}", fill="#333333", font=font(11), anchor="mm")
            if stacked:
                draw.line((x, end, x + width, end), fill="white")
                foot = end
        if place % every == 0:
            draw.text((middle, base + 16), str(2003 + place), fill="#666666", font=font(11), anchor="mm")
    draw.line((left, zero, right, zero), fill="#333333")
    for index in range(len(groups[0])):
        draw.ellipse((250 + 90 * index, 430, 260 + 90 * index, 440), fill=colours[index])
        draw.text((266 + 90 * index, 435), f"Series {index}", fill="black", font=font(12), anchor="lm")
    for place in range(6):
        draw.rectangle((750, 40 + 40 * place, 780, 70 + 40 * place), fill="#f7f7f7", outline="#eeeeee")
        draw.ellipse((760, 50 + 40 * place, 770, 60 + 40 * place), fill="#a8a8b0")
    draw.text((30, 520), "Additional Information", fill=BLUE, font=font(12))
    return made


def slanted(values: Sequence[float], colours: Sequence[str] = (RED, GREEN, BLUE, "#99338a", "#e0521f")) -> Drawn:
    """Upright bars of a colour each on a tinted ground, with slanted names below and numbers above, without an axis."""
    image = Image.new("RGB", (858, 507), "white")
    draw = ImageDraw.Draw(image)
    draw.text((4, 14), "Something measured   Total, 2002", fill="#444444", font=font(15))
    draw.rectangle((0, 57, 857, 461), fill="#dde9f1")
    base, step = 430, 840 / len(values)
    made = Drawn(image, "columns")
    for place in range(7):
        y = base - 55 * place
        draw.line((0, y, 857, y), fill="white")
        draw.text((8, y - 6), f"{place * 20}K", fill="#333333", font=font(10))
    for place, value in enumerate(values):
        middle = step * (place + 0.5)
        made.middles.append(middle)
        colour = colours[place % len(colours)]
        high = base - 330 * value / max(values)
        if base - high >= 0.5:
            draw.rectangle((middle - 0.33 * step, high, middle + 0.33 * step, base - 1), fill=colour)
        draw.text((middle, high - 8), f"{value:g}K", fill=colour, font=font(10), anchor="mm")
        label = Image.new("RGBA", (70, 70), (0, 0, 0, 0))
        ImageDraw.Draw(label).text((68, 35), "Kazakhstan"[: 4 + place % 6], fill=colour, font=font(10), anchor="rm")
        turned = label.rotate(45, resample=Image.Resampling.BICUBIC)
        image.paste(turned, (round(middle - 58), base + 1), turned)
    draw.line((0, 470, 857, 470), fill="#5599dd")
    return made
