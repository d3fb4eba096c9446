"""Draws `docs/images/crop-page.png`: a page of the crop world, what its student sees of it, and a crop of one panel."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from iapo.tiny.crop.pages import SIDE, VIEW, draw, panel

GAP = 16


def main() -> None:
    page = next(draw(1, seed=0, split="test"))
    image = page.sample.image
    box = tuple(int(edge) for edge in panel(page.asked))
    seen = image.resize((VIEW, VIEW), Image.Resampling.BICUBIC)
    parts = (image, *(one.resize((SIDE, SIDE), Image.Resampling.NEAREST) for one in (seen, image.crop(box))))
    sheet = Image.new("L", (len(parts) * (SIDE + GAP) - GAP, SIDE), 128)
    for place, part in enumerate(parts):
        sheet.paste(part, (place * (SIDE + GAP), 0))
    sheet.save(Path(__file__).parent / "images" / "crop-page.png", optimize=True)


if __name__ == "__main__":
    main()
