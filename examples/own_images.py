"""Thirty images as people have them: stacked bars, lines, pies and photographed tables, with a question on each.

    python examples/own_images.py own

Writes `own/pictures`, `own/train.jsonl` (23 questions) and `own/test.jsonl` (7). They have no boxes and no axis, are of
several sizes and modes, and some photographs lie on their side, as cameras leave them. docs/your-own.md trains on them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

COLORS = ((54, 110, 178), (222, 132, 48), (86, 160, 92), (186, 70, 74), (128, 104, 172))
PLACES = ("Bergen", "Lagos", "Lima", "Osaka", "Quebec", "Turin")
GOODS = ("tea", "rice", "wool", "salt", "glass")
YEARS = tuple(str(year) for year in range(2016, 2024))
ORIENTATION = 0x0112
"""Number of the EXIF tag that says how a camera was held."""

Drawn = tuple[Image.Image, str, str]
"""An image, a question on it, and the answer."""


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def stacked_bars(rng: random.Random) -> Drawn:
    """Draws bars of three parts each, on a transparent ground."""
    years, parts = YEARS[: rng.randint(4, 6)], rng.sample(GOODS, 3)
    values = {year: [rng.randint(2, 9) for _ in parts] for year in years}
    width, height = 110 * len(years) + 220, 560
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    for place, year in enumerate(years):
        left, bottom = 60 + 110 * place, height - 60
        for color, value in zip(COLORS, values[year], strict=False):
            draw.rectangle((left, bottom - 17 * value, left + 70, bottom), fill=color)
            draw.text((left + 35, bottom - 17 * value / 2), str(value), "white", font(18), "mm")
            bottom -= 17 * value
        draw.text((left + 35, height - 35), year, "black", font(22), "mm")
    for place, (color, part) in enumerate(zip(COLORS, parts, strict=False)):
        draw.rectangle((width - 130, 60 + 40 * place, width - 110, 80 + 40 * place), fill=color)
        draw.text((width - 100, 70 + 40 * place), part, "black", font(20), "lm")
    asked = rng.choice(years)
    return image, f"What is the total of {asked}?", str(sum(values[asked]))


def lines(rng: random.Random) -> Drawn:
    """Draws two lines over the years, in a palette of few colours."""
    names = rng.sample(PLACES, 2)
    heights = {name: rng.sample(range(5, 95, 3), len(YEARS)) for name in names}
    image = Image.new("RGB", (980, 620), "white")
    draw = ImageDraw.Draw(image)
    for level in range(0, 101, 20):
        draw.line((80, 540 - 4.6 * level, 940, 540 - 4.6 * level), (210, 210, 210))
        draw.text((65, 540 - 4.6 * level), str(level), "black", font(18), "rm")
    places = [100 + 110 * place for place in range(len(YEARS))]
    for place, year in zip(places, YEARS, strict=True):
        draw.text((place, 575), year, "black", font(20), "mm")
    for color, name in zip(COLORS, names, strict=False):
        points = [(place, 540 - 4.6 * level) for place, level in zip(places, heights[name], strict=True)]
        draw.line(points, color, 5)
        draw.text((points[-1][0] + 10, points[-1][1] - 18), name, color, font(20), "rm")
    asked = rng.choice(names)
    return image.quantize(32), f"In which year was {asked} highest?", YEARS[heights[asked].index(max(heights[asked]))]


def pie(rng: random.Random) -> Drawn:
    """Draws a pie with the share of each part."""
    parts = rng.sample(GOODS, rng.randint(3, 5))
    shares = [rng.randint(10, 40) + place for place, _ in enumerate(parts)]
    image = Image.new("RGB", (700, 700), (250, 248, 240))
    draw = ImageDraw.Draw(image)
    start = 0.0
    for color, share in zip(COLORS, shares, strict=False):
        end = start + 360 * share / sum(shares)
        draw.pieslice((100, 100, 600, 600), start, end, fill=color, outline="white", width=3)
        start = end
    for row, (color, part, share) in enumerate(zip(COLORS, parts, shares, strict=False)):
        draw.rectangle((20, 20 + 28 * row, 40, 40 + 28 * row), fill=color)
        draw.text((48, 30 + 28 * row), f"{part} {100 * share / sum(shares):.0f}%", "black", font(18), "lm")
    return image, "Which part is the largest?", parts[shares.index(max(shares))]


def photographed_table(rng: random.Random) -> Drawn:
    """Draws a table on paper, seen from the side, a little out of focus and held askew."""
    places, goods = rng.sample(PLACES, rng.randint(3, 6)), rng.sample(GOODS, 3)
    values = {place: [rng.randint(10, 99) for _ in goods] for place in places}
    paper = Image.new("RGB", (760, 90 + 70 * len(places)), (246, 243, 232))
    draw = ImageDraw.Draw(paper)
    for row, cells in enumerate([["", *goods], *([place, *map(str, values[place])] for place in places)]):
        for column, text in enumerate(cells):
            draw.rectangle((20 + 180 * column, 15 + 70 * row, 200 + 180 * column, 85 + 70 * row), outline=(90, 90, 90))
            draw.text((110 + 180 * column, 50 + 70 * row), text, (30, 30, 40), font(28), "mm")
    width, height = paper.size
    corners = [value + rng.randint(-40, -10) * sign for value, sign in (
        (0, 1), (0, 1), (0, 1), (height, -1), (width, -1), (height, -1), (width, -1), (0, 1)
    )]  # fmt: skip
    seen = paper.transform(
        (width, height), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC, fillcolor=(104, 82, 60)
    ).filter(ImageFilter.GaussianBlur(0.8))
    asked, good = rng.choice(places), rng.choice(goods)
    return seen, f"How much {good} does {asked} have?", str(values[asked][goods.index(good)])


KINDS: dict[str, tuple[int, Callable[[random.Random], Drawn]]] = {
    "bars": (8, stacked_bars),
    "lines": (8, lines),
    "pie": (6, pie),
    "table": (8, photographed_table),
}
"""How many there are of each kind, and what draws one."""


def save(image: Image.Image, folder: Path, name: str, sideways: bool) -> str:
    """Saves a photograph as JPEG, turned where the camera was held sideways, and all else as PNG."""
    if not name.startswith("table"):
        image.save(folder / f"{name}.png")
        return f"{name}.png"
    exif = Image.Exif()
    if sideways:
        image, exif[ORIENTATION] = image.transpose(Image.Transpose.ROTATE_90), 6
    image.save(folder / f"{name}.jpg", quality=80, exif=exif)
    return f"{name}.jpg"


def main(folder: Path) -> None:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    rng = random.Random(0)
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for kind, (count, drawn) in KINDS.items():
        for number in range(count):
            image, question, answer = drawn(rng)
            name = save(image, pictures, f"{kind}-{number}", sideways=number % 3 == 1)
            row = {"image": f"pictures/{name}", "question": question, "answer": answer}
            rows["test" if number % 4 == 3 else "train"].append(json.dumps(row))
    for split, found in rows.items():
        (folder / f"{split}.jsonl").write_text("\n".join(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "own"))
