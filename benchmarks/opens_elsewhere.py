"""Opens exported checkpoints with stock Transformers alone, as other software does: classes, an image, a forward pass.

    cd /tmp && python benchmarks/opens_elsewhere.py FOLDER ...

Run it with the Python of an environment that has torch and Transformers but not iapo; where iapo can be imported, it
refuses. With torchvision `AutoProcessor` opens the folder, and its output is that of the tokenizer and the image
processor, opened one by one; without, only these two are tried, and what `AutoProcessor` says is printed.
"""

from __future__ import annotations

import importlib.util
import sys

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer


def opens(folder: str) -> str:
    """Opens a folder, and runs its model on an image and a question.

    Args:
        folder: Checkpoint.

    Returns:
        The names of the classes that were opened, and what `AutoProcessor` did.
    """
    image = Image.effect_noise((224, 168), 80).convert("RGB")
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    wrong = {name: sorted(keys) for name, keys in info.items() if keys}
    if wrong:
        raise SystemExit(f"{folder}: weights do not fit: {wrong}")
    tokenizer, images = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is shown?"}]}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    pixels = images(images=[image], return_tensors="pt")
    pad = tokenizer.convert_ids_to_tokens(model.config.image_token_id)
    count = int(pixels["image_grid_thw"].prod()) // images.merge_size**2
    ids = tokenizer(text.replace(pad, pad * count), return_tensors="pt")["input_ids"]
    types = (ids == model.config.image_token_id).long()
    with torch.no_grad():
        logits = model(input_ids=ids, mm_token_type_ids=types, **pixels).logits
    if not logits.isfinite().all():
        raise SystemExit(f"{folder}: logits are not finite")
    said = "opened without torchvision"
    if importlib.util.find_spec("torchvision") is None:
        try:
            AutoProcessor.from_pretrained(folder)
        except ImportError as error:
            said = f"refuses without torchvision ({type(error).__name__})"
    else:
        both = AutoProcessor.from_pretrained(folder)
        again = both(text=[text], images=[image], return_tensors="pt")
        if not torch.equal(again["input_ids"], ids):
            raise SystemExit(f"{folder}: AutoProcessor makes other tokens than the tokenizer")
        largest = (again["pixel_values"] - pixels["pixel_values"]).abs().max()
        said = f"{type(both).__name__}, its pixels within {float(largest):.2g} of the image processor's"
    opened = ", ".join(type(one).__name__ for one in (model, tokenizer, images))
    return f"{folder}: {opened}; {ids.shape[1]} tokens, finite logits; AutoProcessor: {said}"


if __name__ == "__main__":
    if importlib.util.find_spec("iapo") is not None:
        raise SystemExit("iapo can be imported here; run this with an environment and from a folder without it")
    for one in sys.argv[1:]:
        print(opens(one))
