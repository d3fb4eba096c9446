"""A tiny student that writes three and eight turns, which the packaged ones do not, and data with several images.

Of a vertical bar chart it edits the picture twice and answers. Of a horizontal one it first calls a tool with a name
that is not there, is told so, edits the picture six times and answers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from several import with_more
from torch.nn.utils.rnn import pad_sequence

from iapo.data.formats.parquet import write_rows
from iapo.data.synthetic import generate
from iapo.records import Sample
from iapo.rollout.budget import Budget
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish

PROMPT, TURNS = "tiny-turns", 8
STEPS, ROWS = 100, 8
SIZES = ((84, 140), (140, 84), (112, 112))
"""Of the second images; those of a batch differ."""


def charts(count: int, split: str = "train", first: int = 0) -> list[Sample]:
    """Vertical and horizontal bar charts by turns."""
    families = [
        list(generate(family, first + count // 2, seed=0, split=split, question_types=("value",)))[first:]
        for family in ("vbar", "hbar")
    ]
    return [sample for pair in zip(*families, strict=True) for sample in pair]


def pairs(samples: Iterable[Sample]) -> list[Sample]:
    """The charts, each with a second image."""
    return [with_more(sample, SIZES[index % len(SIZES)]) for index, sample in enumerate(samples)]


def turns_of(sample: Sample) -> tuple[str, ...]:
    """What the student is to write."""
    upright = sample.axis == "columns"
    name, other, *_ = sample.column_boxes if upright else sample.row_boxes
    boxes, tool = ("columns_bbox", "focus_on_columns") if upright else ("rows_bbox", "focus_on_rows")

    def call(way: str, name: str) -> str:
        return f'```python\ndisplay({tool}_with_{way}(image_1, ["{name}"], {boxes}))\n```'

    answer = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    if upright:
        return call("highlight", name), call("draw", name), answer
    edits = [call(way, one) for one in (name, other) for way in ("highlight", "draw", "mask")]
    return call("mask", "Z"), *edits, answer


def scripted(samples: Sequence[Sample], encoder: PromptEncoder) -> list[Rollout]:
    """Rollouts on the samples whose turns are the script's."""
    end = encoder.tokenizer.eos_token_id
    left = [iter([*encoder.tokenizer(text)["input_ids"], end] for text in turns_of(sample)) for sample in samples]

    def write(rows: list[list[int]], _: object) -> list[list[int]]:
        # Who has a turn left is asked for it, in order.
        turns = [turn for turn in (next(one, None) for one in left) if turn is not None]
        assert len(turns) == len(rows)
        return turns

    prompts = encode_prompts(samples, encoder)
    first = write([one.ids for one in prompts], None)
    return finish(samples, prompts, first, encoder, write, budget=Budget(turns=TURNS))


def practise(out: Path) -> None:
    """Writes the student's checkpoint."""
    policy = load_policy("tiny-student", prompt=PROMPT)
    encoder, model = PromptEncoder(policy.processor), policy.model
    alone = charts(128)
    # Every other four have two images.
    samples = [
        one for first in range(0, 128, 8) for one in (*alone[first : first + 4], *pairs(alone[first + 4 : first + 8]))
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    model.train()
    for step in range(STEPS):
        some = [samples[(step * ROWS + place) % len(samples)] for place in range(ROWS)]
        rollouts = scripted(some, encoder)
        assert {len(one.turns) for one in rollouts} == {3, 8}
        ids = [torch.tensor(one.prompt.ids + one.completion_ids) for one in rollouts]
        own = [torch.tensor([False] * len(one.prompt.ids) + one.model_written) for one in rollouts]
        rows = pad_sequence(ids, batch_first=True, padding_value=encoder.tokenizer.pad_token_id)
        loss = model(
            input_ids=rows,
            attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            labels=rows.masked_fill(~pad_sequence(own, batch_first=True), -100),
            mm_token_type_ids=(rows == encoder.image_token_id).long(),
            **encoder.pixels([image for one in rollouts for image in one.images]),
        ).loss
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 10, (STEPS - step) / 20)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step % 20 == 19:
            sys.stdout.write(f"step {step + 1}: {loss.item():.4f}\n")
    model.save_pretrained(out)
    policy.processor.save_pretrained(out)


if __name__ == "__main__":
    practise(Path(sys.argv[1]))
    test = charts(40, "test")
    write_rows(test, Path(sys.argv[2]) / "one.parquet")
    write_rows(pairs(test), Path(sys.argv[2]) / "two.parquet")
