"""IAPO in one file, to be read from top to bottom: rollouts, attribution, reward, loss, update.

Trains the packaged `tiny-student` against `tiny-teacher` on the CPU. PyTorch and Transformers do the work; of `iapo`
come only images with questions, checkpoints, the prompt's texts, the executor of programs and the grader. Sections are
those of docs/method.md, settings those of `demo-iapo` but for a smaller batch and a higher learning rate. What the
trainer does once for many rollouts is done for each; tests/test_from_scratch.py holds a step against `IAPOTrainer`.
"""

import bisect
import itertools
import math
from dataclasses import dataclass, field

import torch

from iapo.data.synthetic import generate
from iapo.grading.outcome import grade_sample
from iapo.records import Sample, ToolResult
from iapo.rollout.policy import load_policy, load_processor
from iapo.rollout.template import find_prompt
from iapo.tools import TOOLS, execute

STEPS, PROMPTS, GROUP = 6, 4, 8  # optimiser steps; prompts a step; rollouts a prompt
TURN_TOKENS, COMPLETION_TOKENS = 24, 96  # the longest turn; the most that the model writes over both turns
PENALTY, DECAY = 0.1, 0.01  # lambda_0, and its decay a step
BLOCKS, UNIFORM = len(TOOLS) + 3, 0.01  # m; eps, the weight of the uniform distribution in a block distribution
CLIP, BETA = 0.2, 0.01  # clipping of the ratio; weight of the KL to the reference policy
LEARNING_RATE, WEIGHT_DECAY, GRADIENT_NORM = 2e-4, 0.01, 1.0
IMAGE, WORDING = "<|vision_start|><|image_pad|><|vision_end|>", find_prompt("tiny")


@dataclass
class Rollout:
    """One rollout: a prompt, to which turns are added."""

    sample: Sample
    prompt: list[int]  # token ids of the prompt
    block_of: list[int]  # the block of each of them
    images: list  # the sample's image, then the edited one
    ids: list[int] = field(default_factory=list)  # token ids behind the prompt: turn 1, observation, turn 2
    written: list[bool] = field(default_factory=list)  # which of them the policy wrote
    in_program: list[bool] = field(default_factory=list)  # which tokens of turn 1 belong to its program
    result: ToolResult | None = None  # what came of the program
    answer: str = ""  # the turn that is graded, without special tokens


# Section 1: a prompt is a list of blocks, and each of its tokens belongs to exactly one of them.
def see(processor, images):
    """Cuts images into the patches that the vision tower takes."""
    return dict(processor.image_processor(images=[image.convert("RGB") for image in images], return_tensors="pt"))


def encode(processor, parts, image):
    """Tokenises a text in parts: token ids, and each token's part; the image takes a token for each of its features."""
    features = 0 if image is None else see(processor, [image])["image_grid_thw"].prod().item()
    starts = [0, *itertools.accumulate(map(len, parts[:-1]))]
    encoding = processor.tokenizer("".join(parts), return_offsets_mapping=True, add_special_tokens=False)
    ids, part_of = [], []
    for token, (start, _) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        repeats = features // processor.image_processor.merge_size**2 if token == processor.image_token_id else 1
        ids += [token] * repeats
        part_of += [bisect.bisect_right(starts, start) - 1] * repeats
    return ids, part_of


def begin(processor, sample):
    """Begins a rollout with context, image, tools and query; chat scaffolding belongs to the block that it wraps."""
    context, image = f"<|im_start|>system\n{WORDING.instructions}<|im_end|>\n", f"<|im_start|>user\n{IMAGE}"
    tools = [f"{tool.text}\n" for tool in TOOLS.values()]
    query = f"QUESTION: {sample.question}<|im_end|>\n<|im_start|>assistant\n"
    return Rollout(sample, *encode(processor, [context, image, *tools, query], sample.image), [sample.image])


# Section 2: turn 1 writes a program, the executor carries it out, turn 2 sees the edited image and answers.
def write_turns(model, processor, rollouts):
    """Samples the next turn of each rollout at temperature 1; returns token ids."""
    rows, images = [one.prompt + one.ids for one in rollouts], [image for one in rollouts for image in one.images]
    end, pad, width = processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id, max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    inputs = {"attention_mask": mask, "mm_token_type_ids": (ids == processor.image_token_id).long()}
    limits = {"max_new_tokens": TURN_TOKENS, "suppress_tokens": [processor.image_token_id, processor.video_token_id]}
    rows = model.generate(ids, do_sample=True, top_k=0, **inputs, **limits, **see(processor, images)).tolist()
    return [row[width : row.index(end, width) + 1] if end in row[width:] else row[width:] for row in rows]


def add_turn_1(processor, rollout, turn):
    """Runs a first turn's program and marks its tokens; returns whether turn 2 follows, the observation then added."""
    texts = [processor.tokenizer.decode(turn[:end], skip_special_tokens=True) for end in range(len(turn) + 1)]
    rollout.ids, rollout.written, rollout.answer = [*turn], [True] * len(turn), texts[-1]
    rollout.result = execute(rollout.answer, rollout.sample)
    first, last = rollout.result.span or (0, 0)
    rollout.in_program = [a < min(b, last) and b > first for a, b in itertools.pairwise(map(len, texts))]
    edited, error = rollout.result.image, str(rollout.result.error).replace("<|", "< |")
    seen = IMAGE + WORDING.observation_edited if edited else WORDING.observation_error.format(error=error)
    ending = "" if turn[-1] == processor.tokenizer.eos_token_id else "<|im_end|>"
    text = f"{ending}\n<|im_start|>user\n{seen}<|im_end|>\n<|im_start|>assistant\n"
    observation, _ = encode(processor, [text], edited)
    if rollout.result.status == "no_call" or len(turn) >= COMPLETION_TOKENS:
        return False
    rollout.ids, rollout.written = rollout.ids + observation, rollout.written + [False] * len(observation)
    rollout.images += [edited] if edited else []
    return True


def add_turn_2(processor, rollout, turn):
    """Adds the second turn, which then is the one that is graded."""
    turn = turn[: COMPLETION_TOKENS - sum(rollout.written)]
    rollout.ids, rollout.written = rollout.ids + turn, rollout.written + [True] * len(turn)
    rollout.answer = processor.tokenizer.decode(turn, skip_special_tokens=True)


# Section 3: S_j = sum of <ds/de_i, e_i> over block j's positions i, with s = log p(program | prompt).
def block_distribution(model, processor, rollout):
    """Attributes a program to the blocks of its prompt (Qwen2.5-VL, where an image enters through embeddings alone)."""
    start, end = len(rollout.prompt), len(rollout.prompt) + len(rollout.in_program)
    ids = torch.tensor([rollout.prompt + rollout.ids])[:, :end]
    is_image, pixels = ids == processor.image_token_id, see(processor, rollout.images[:1])
    with torch.no_grad():  # e: embeddings of the text, features of the image; a leaf, cut off from the vision tower
        features = torch.cat(model.model.get_image_features(**pixels, return_dict=True).pooler_output)
        inputs = model.get_input_embeddings()(ids).masked_scatter(is_image[..., None], features).requires_grad_()
    places, _ = model.model.get_rope_index(ids, is_image.long(), image_grid_thw=pixels["image_grid_thw"])
    hidden = model.model.language_model(inputs_embeds=inputs, position_ids=places, use_cache=False).last_hidden_state
    log_probs = model.lm_head(hidden[0, start - 1 : -1]).log_softmax(-1).gather(1, ids[0, start:, None])[:, 0]
    (gradient,) = torch.autograd.grad(log_probs[torch.tensor(rollout.in_program)].sum(), inputs)
    token_scores = (gradient * inputs.detach()).sum(-1)[0, :start]
    scores = token_scores.new_zeros(BLOCKS).index_add(0, torch.tensor(rollout.block_of), token_scores)
    return (1 - UNIFORM) * scores.softmax(0) + UNIFORM / BLOCKS


# Section 4: R = outcome - lambda_k D with D = KL(student || teacher); GRPO compares R within a prompt's rollouts.
def divergence(student, teacher, processor, rollout):
    """Compares student's and teacher's attributions of the same tokens (the packaged models have one processor)."""
    if rollout.result.status not in ("edited", "failed"):
        return math.log(BLOCKS)  # no attribution: the worst value, since 0 would reward calling nothing
    p, q = (block_distribution(model, processor, rollout) for model in (student, teacher))
    return (p * (p / q).log()).sum().clamp(0.0, math.log(BLOCKS)).item()


def written_log_probs(model, processor, rollout):
    """Scores the tokens that the policy wrote, in both turns; the edited image stands before turn 2."""
    ids = torch.tensor([rollout.prompt + rollout.ids])
    is_image, start = (ids == processor.image_token_id).long(), len(rollout.prompt)
    logits = model(input_ids=ids, mm_token_type_ids=is_image, **see(processor, rollout.images)).logits
    log_probs = logits[0, start - 1 : -1].log_softmax(-1).gather(1, ids[0, start:, None])[:, 0]
    return log_probs[torch.tensor(rollout.written)]


def update(step, student, teacher, reference, processor, optimizer, rollouts):
    """Makes one optimiser step from finished rollouts, a prompt's in a row; returns what was measured."""
    outcomes = torch.tensor([grade_sample(one.answer, one.sample).value for one in rollouts])
    divergences = torch.tensor([divergence(student, teacher, processor, one) for one in rollouts])
    groups = (rewards := outcomes - PENALTY * math.exp(-DECAY * step) * divergences).view(-1, GROUP)
    advantages = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten()
    optimizer.zero_grad()
    losses, tokens = [], sum(sum(one.written) for one in rollouts)  # the loss is a mean over written tokens ("dapo")
    for rollout, advantage in zip(rollouts, advantages, strict=True):
        log_probs = written_log_probs(student, processor, rollout)
        target = written_log_probs(reference, processor, rollout).detach()
        ratio = (log_probs - log_probs.detach()).exp()  # a batch serves one update: 1, but with a gradient
        surrogate = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        kl = ratio * ((target - log_probs).exp() - (target - log_probs) - 1)
        losses.append((BETA * kl - surrogate).sum() / tokens)
        losses[-1].backward()
    norm = torch.nn.utils.clip_grad_norm_(student.parameters(), GRADIENT_NORM)
    optimizer.step()
    found = {"reward": rewards, "outcome": outcomes, "divergence": divergences, "advantage": advantages}
    misuses = torch.tensor([float(bool(one.result.misuse(one.sample.axis))) for one in rollouts])
    return {**found, "misuse": misuses, "loss": sum(losses).detach(), "norm": norm}


def make_optimizer(student):
    """Makes AdamW; by Transformers' rule, biases and what is named a norm do not decay."""
    decays = {name: "bias" not in name and "norm." not in name for name, _ in student.named_parameters()}
    groups = [[one for name, one in student.named_parameters() if decays[name] == which] for which in (True, False)]
    settings = [{"params": groups[0], "weight_decay": WEIGHT_DECAY}, {"params": groups[1], "weight_decay": 0.0}]
    return torch.optim.AdamW(settings, lr=LEARNING_RATE)


def main():
    """Trains, and prints a line a step."""
    torch.manual_seed(0)
    student, teacher, reference = (load_policy(f"tiny-{name}").model for name in ("student", "teacher", "student"))
    processor, optimizer = load_processor("tiny-student"), make_optimizer(student)
    families = [generate(name, STEPS * PROMPTS // 2, seed=0, question_types=("value",)) for name in ("vbar", "hbar")]
    samples = (sample for pair in zip(*families, strict=True) for sample in pair for _ in range(GROUP))
    for step in range(STEPS):
        rollouts = [begin(processor, sample) for sample in itertools.islice(samples, PROMPTS * GROUP)]
        turns = zip(rollouts, write_turns(student, processor, rollouts), strict=True)
        called = [rollout for rollout, turn in turns if add_turn_1(processor, rollout, turn)]
        for rollout, turn in zip(called, write_turns(student, processor, called) if called else [], strict=True):
            add_turn_2(processor, rollout, turn)
        found = update(step, student, teacher, reference, processor, optimizer, rollouts)
        means = (f"{name} {found[name].mean():6.3f}" for name in ("reward", "outcome", "misuse", "divergence", "loss"))
        print(f"step {step:2}", *means, sep="  ", flush=True)


if __name__ == "__main__":
    main()
