"""Cost of input attribution by method, in multiples of F: one forward pass over the group without gradients.

    python benchmarks/attribution.py [--quick] [--json FILE] [--threads 1] [--repeats 3] [--methods NAME ...]

F runs the vision tower once and computes logits at the calls' tokens only; it is what a policy-gradient trainer pays
for the log-probabilities of the same calls. Cost is user CPU time, the median over repeats in which the methods take
turns; weights are random, their widths a small Qwen2.5-VL's. All cells take about two hours on one core, --quick
three to four minutes; the loops over calls cost most of it, and `--methods fast reference` leaves them out.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from captum.attr import InputXGradient
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from iapo.attribution.gradient import CallInput, Pictures, block_scores, call_log_probs
from iapo.attribution.prefix import prefix_block_scores

IMAGE, VISION_START, VISION_END, FIRST_WORD, VOCABULARY = 1, 2, 3, 10, 4096
TOOLS, BLOCKS = 6, 9
CALL_TOKENS = (60, 137)
# Patches of the prompt's picture, by number of prompt tokens; four patches are one token.
GRIDS = {600: (32, 32), 1500: (52, 52)}

Method = Callable[[PreTrainedModel, Sequence[CallInput], Pictures], Tensor]


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the benchmark: `distinct` of `group` calls are different."""

    layers: int
    prompt_tokens: int
    group: int
    distinct: int


def make_model(layers: int) -> PreTrainedModel:
    """A Qwen2.5-VL with hidden width 512, 8 heads, 2 key-value heads and random weights."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "bos_token_id": None,
            "eos_token_id": None,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        },
        vision_config={
            "depth": 4,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_heads": 4,
            "out_hidden_size": 512,
            "window_size": 112,
            "fullatt_block_indexes": [3],
        },
        image_token_id=IMAGE,
        video_token_id=0,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config).float().eval()


def make_group(cell: Cell) -> tuple[list[CallInput], Pictures]:
    """One prompt (instructions, picture, tools of equal length, question) and its calls, of random tokens."""
    draw = random.Random(0)

    def words(count: int) -> list[int]:
        return [draw.randrange(FIRST_WORD, VOCABULARY) for _ in range(count)]

    height, width = GRIDS[cell.prompt_tokens]
    picture = [VISION_START, *[IMAGE] * (height * width // 4), VISION_END]
    context, query = words(50), words(40)
    each = (cell.prompt_tokens - len(picture) - len(context) - len(query)) // TOOLS
    parts = [context, picture, *(words(each) for _ in range(TOOLS)), query]
    calls = []
    for _ in range(cell.distinct):
        turn = words(draw.randint(*CALL_TOKENS))
        calls.append(
            CallInput(
                prompt_ids=[token for part in parts for token in part],
                block_of=[block for block, part in enumerate(parts) for _ in part],
                blocks=BLOCKS,
                turn_ids=turn,
                # The fence around the program is not scored.
                target=[3 <= index < len(turn) - 3 for index in range(len(turn))],
                pictures=(0,),
            )
        )
    calls = [calls[index % cell.distinct] for index in range(cell.group)]
    pixels = torch.randn(height * width, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(0))
    return calls, Pictures(pixels, torch.tensor([[1, height, width]]))


def forward(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures) -> Tensor:
    """The unit F."""
    return call_log_probs(model, calls, pictures)


def fast(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures) -> Tensor:
    """The shared prefix."""
    return prefix_block_scores(model, calls, pictures)


def reference(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures) -> Tensor:
    """Whole sequences in one batch."""
    return block_scores(model, calls, pictures)


def naive(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures) -> Tensor:
    """One call after the other, picture included."""
    return torch.cat([block_scores(model, [call], pictures) for call in calls])


def captum(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures) -> Tensor:
    """Captum's `InputXGradient`, one call after the other, picture included."""
    rows = []
    for call in calls:
        ids = torch.tensor([[*call.prompt_ids, *call.turn_ids]])
        start = len(call.prompt_ids)
        is_image = ids == IMAGE
        with torch.no_grad():
            features = torch.cat(
                model.model.get_image_features(pictures.pixel_values, pictures.grid_thw, return_dict=True).pooler_output
            )
            embeddings = model.get_input_embeddings()(ids).masked_scatter(is_image[..., None], features)
        positions, _ = model.model.get_rope_index(ids, is_image.long(), image_grid_thw=pictures.grid_thw)
        columns = torch.tensor([start + index for index, scored in enumerate(call.target) if scored])
        tokens = ids[0, columns]

        def total(
            prompt: Tensor, turn: Tensor, positions: Tensor = positions, columns: Tensor = columns, ids: Tensor = tokens
        ) -> Tensor:
            hidden = model.model(
                inputs_embeds=torch.cat([prompt, turn], 1), position_ids=positions, use_cache=False, return_dict=True
            ).last_hidden_state
            logits = model.lm_head(hidden[0, columns - 1])
            return logits.log_softmax(-1).gather(1, ids[:, None]).sum()[None]

        prompt = embeddings[:, :start].clone().requires_grad_(True)
        scores = InputXGradient(total).attribute(prompt, additional_forward_args=(embeddings[:, start:],))
        rows.append(torch.zeros(call.blocks).index_add_(0, torch.tensor(call.block_of), scores[0].sum(-1).detach()))
    return torch.stack(rows)


METHODS: dict[str, Method] = {"fast": fast, "reference": reference, "naive": naive, "captum": captum}


def measure(cell: Cell, model: PreTrainedModel, repeats: int, methods: dict[str, Method]) -> dict[str, float]:
    """Median cost of each method in multiples of F; fails if the methods' scores differ."""
    calls, pictures = make_group(cell)
    times: dict[str, list[float]] = {name: [] for name in ("forward", *methods)}
    for _ in range(repeats):
        scores = {}
        for name, method in {"forward": forward, **methods}.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            scores[name] = method(model, calls, pictures)
            times[name].append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
        expected = scores.get("reference", scores[next(iter(methods))])
        for name in methods:
            error = float((scores[name] - expected).abs().max() / expected.abs().max())
            if error > 1e-4:
                raise RuntimeError(f"{name} differs from the reference by {error:.1e}")
    unit = statistics.median(times["forward"])
    return {name: statistics.median(times[name]) / unit for name in methods}


def cells(quick: bool) -> list[Cell]:
    """The settings, those of one model next to each other."""
    layers, prompts, groups = ((3,), (600,), (4, 8)) if quick else ((3, 12), tuple(GRIDS), (4, 8, 16))
    return [
        Cell(depth, tokens, group, distinct)
        for depth in layers
        for tokens in prompts
        for group in groups
        for distinct in (group, group // 2)
    ]


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="cost of input attribution in multiples of one forward pass")
    parser.add_argument("--quick", action="store_true", help="one small model, short prompts; minutes on one core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each method")
    for name in ("layers", "prompt_tokens", "group"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="only cells with this number")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="only these methods")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    methods = {name: METHODS[name] for name in options.methods}
    table = Table(title="cost / F (user CPU time)")
    for column in ("layers", "prompt", "group", "distinct", *methods):
        table.add_column(column, justify="right")
    rows = []
    model, depth = None, 0
    chosen = {name: getattr(options, name) for name in ("layers", "prompt_tokens", "group")}
    for cell in cells(options.quick):
        if any(number not in (None, getattr(cell, name)) for name, number in chosen.items()):
            continue
        if model is None or cell.layers != depth:
            model, depth = make_model(cell.layers), cell.layers
        costs = measure(cell, model, options.repeats, methods)
        rows += [{**asdict(cell), "method": name, "cost_f": round(cost, 3)} for name, cost in costs.items()]
        table.add_row(*(str(value) for value in asdict(cell).values()), *(f"{cost:.2f}" for cost in costs.values()))
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
    Console().print(table)


if __name__ == "__main__":
    main()
