"""The embedded families: seeded images with exact boxes, questions and answers."""

from iapo.data.synthetic.families import BAR_FAMILIES, FAMILIES, TRAINED_FAMILIES
from iapo.data.synthetic.samples import LARGEST, SMALLEST, Chart, draw, generate

__all__ = ["BAR_FAMILIES", "FAMILIES", "LARGEST", "SMALLEST", "TRAINED_FAMILIES", "Chart", "draw", "generate"]
