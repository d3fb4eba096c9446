"""A tool of your own beside the six; also `iapo train --config demo-iapo --tools standard,examples/own_tool.py`."""

from PIL import ImageOps

from iapo import TOOLS, IAPOConfig, IAPOTrainer, define, to_dataset
from iapo.data.synthetic import generate


def invert_columns(image, names, boxes):
    """Invert the colours of the named columns."""
    edited = image.convert("RGB")
    for box in (tuple(map(int, boxes[name])) for name in names if name in boxes):
        edited.paste(ImageOps.invert(edited.crop(box)), box)
    return edited


invert = define(invert_columns, axis="columns", style="highlight")

if __name__ == "__main__":
    args = IAPOConfig("runs/own-tool", reward="grpo", max_steps=1, max_turn_tokens=24, use_cpu=True, bf16=False)
    charts = to_dataset(list(generate("vbar", 16, seed=0)))
    IAPOTrainer("tiny-student", args=args, train_dataset=charts, tools={**TOOLS, invert.name: invert}).train()
