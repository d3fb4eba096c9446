"""Gradient x embedding against a closed form, directional derivatives, Captum and completeness."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from calls import make_call
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from iapo.attribution.gradient import CallInput, Pictures, _Batch, block_scores, call_log_probs
from iapo.models import features_of_images
from iapo.records import Sample
from iapo.rollout.prompt import Block, PromptEncoder, build_blocks

CALL = '```python\ndisplay(focus_on_rows_with_draw(image_1, ["{name}"], rows_bbox))\n```'
THOUGHT = "I want to see row B.\n"


def pictures_of(encoder: PromptEncoder, images: Sequence[Image.Image]) -> Pictures:
    pixels = encoder.pixels(images)
    return Pictures(pixels["pixel_values"], pixels["image_grid_thw"])


class Case:
    """One call with its pictures, and `s` as a function of its inputs, computed without the code under test.

    The inputs are the merged embeddings, shape (1, L, H), and in Qwen3-VL the picture's deepstack features, each of
    shape (1, image tokens, H).
    """

    def __init__(self, model: PreTrainedModel, encoder: PromptEncoder, sample: Sample, thought: str) -> None:
        self.model = model
        self.call = make_call(encoder, build_blocks(sample), CALL.format(name="B"), thought)
        self.pictures = pictures_of(encoder, [sample.image])
        self.ids = torch.tensor([[*self.call.prompt_ids, *self.call.turn_ids]])
        self.is_image = self.ids == encoder.image_token_id
        with torch.no_grad():
            embeddings = model.get_input_embeddings()(self.ids)
            features = features_of_images(model.model, self.pictures.pixel_values, self.pictures.grid_thw)
            (embeddings[self.is_image],) = features[0]
        self.inputs = (embeddings, *(torch.stack(layer) for layer in features[1:]))
        self.positions, _ = model.model.get_rope_index(
            self.ids,
            self.is_image.int(),
            image_grid_thw=self.pictures.grid_thw,
            attention_mask=torch.ones_like(self.ids),
        )
        self.block_of = torch.tensor(self.call.block_of)

    def log_prob(self, embeddings: Tensor, *deepstack: Tensor) -> Tensor:
        """`s`, shape (1,)."""
        if deepstack:
            hidden = self.model.model.language_model(
                inputs_embeds=embeddings,
                position_ids=self.positions,
                visual_pos_masks=self.is_image,
                deepstack_visual_embeds=[layer[0] for layer in deepstack],
                use_cache=False,
            ).last_hidden_state
            logits = self.model.lm_head(hidden)
        else:
            logits = self.model(inputs_embeds=embeddings, position_ids=self.positions, use_cache=False).logits
        log_probs = logits.log_softmax(-1)
        start = len(self.call.prompt_ids)
        scored = [start + i for i, target in enumerate(self.call.target) if target]
        return sum(log_probs[:, at - 1, self.ids[0, at]] for at in scored)

    def by_block(self, parts: Sequence[Tensor]) -> Tensor:
        """Values of the inputs' positions, shaped like the inputs without H, summed over each block."""
        of_embeddings, *of_deepstack = parts
        scores = torch.zeros(self.call.blocks)
        scores.index_add_(0, self.block_of, of_embeddings[0, : len(self.block_of)].detach())
        for part in of_deepstack:
            scores[1] += part.sum().detach()
        return scores


@pytest.fixture(params=["", THOUGHT], ids=["bare", "thought"])
def case(request: pytest.FixtureRequest, model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]) -> Case:
    return Case(model, encoder, samples[0], request.param)


class ToyInner(nn.Module):
    """`h_t = sum_{i <= t} decay^(t - i) e_i`: linear, so that the gradient can be written down."""

    decay = 0.7

    def forward(self, inputs_embeds: Tensor, position_ids: Tensor, **_: Any) -> SimpleNamespace:
        hidden = torch.zeros_like(inputs_embeds[:, 0])
        states = []
        for e in inputs_embeds.unbind(1):
            hidden = self.decay * hidden + e
            states.append(hidden)
        return SimpleNamespace(last_hidden_state=torch.stack(states, 1))

    @property
    def language_model(self) -> ToyInner:
        return self

    def get_rope_index(self, ids: Tensor, types: Tensor, **_: Any) -> tuple[Tensor, None]:
        return torch.zeros(3, *ids.shape, dtype=torch.long), None


class Toy(nn.Module):
    """What `block_scores` uses of a model, and no more."""

    device = torch.device("cpu")
    config = SimpleNamespace(image_token_id=-1)

    def __init__(self, vocabulary: int = 7, hidden: int = 5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(vocabulary, hidden)
        self.model = ToyInner()
        self.lm_head = nn.Linear(hidden, vocabulary, bias=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table


def closed_form(toy: Toy, call: CallInput) -> list[float]:
    """`sum_{i in I_j} <e_i, sum_t decay^(t-1-i) W^T (onehot(y_t) - softmax(W h_{t-1}))>`, in fp64."""
    ids = [*call.prompt_ids, *call.turn_ids]
    e = toy.table.weight.detach().double()[ids]
    w = toy.lm_head.weight.detach().double()
    scores = [0.0] * call.blocks
    for offset, scored in enumerate(call.target):
        if not scored:
            continue
        t = len(call.prompt_ids) + offset
        h = sum(toy.model.decay ** (t - 1 - i) * e[i] for i in range(t))
        residual = -torch.softmax(w @ h, 0)
        residual[ids[t]] += 1
        for i, block in enumerate(call.block_of):
            scores[block] += float(toy.model.decay ** (t - 1 - i) * (e[i] @ w.T @ residual))
    return scores


TOY_CALLS = [
    CallInput([1, 2, 3, 2], [0, 0, 1, 2], 3, [4, 5], [True, True]),
    CallInput([6], [1], 3, [0], [True]),
    # Scored and unscored tokens in turns; what comes after the last scored one does not matter.
    CallInput([1, 1, 4], [2, 0, 2], 3, [2, 6, 0, 3, 5, 5], [False, True, False, True, False, False]),
]


def test_closed_form():
    toy = Toy()
    scores = block_scores(toy, TOY_CALLS)  # type: ignore[arg-type]
    expected = torch.tensor([closed_form(toy, call) for call in TOY_CALLS])
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
    # Blocks without a token in the prompt get nothing.
    assert torch.equal(scores[1, [0, 2]], torch.zeros(2))


def test_closed_form_of_the_integrated_path():
    """The path scales the prompt alone; with two points it passes 1/4^5 and 3/4^5, for its parts up to 1/2^5 and 1."""
    toy = Toy()
    call = TOY_CALLS[0]
    expected = torch.zeros(3)
    for fraction, part in ((0.25**5, 0.5**5), (0.75**5, 1 - 0.5**5)):
        # A scaled prompt is a prompt of further tokens, which never come next.
        longer = copy.deepcopy(toy)
        weight = toy.table.weight.detach()
        longer.table = nn.Embedding.from_pretrained(torch.cat([weight, weight * fraction]))
        moved = CallInput([7 + i for i in call.prompt_ids], call.block_of, 3, call.turn_ids, call.target)
        # <g, fraction e> / fraction is <g, e>.
        expected += torch.tensor(closed_form(longer, moved)) / fraction * part
    scores = block_scores(toy, [call], steps=2)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_completeness_of_the_toy():
    toy = Toy()
    scores = block_scores(toy, TOY_CALLS, steps=200).sum(1)  # type: ignore[arg-type]
    batch = _Batch.build(toy, TOY_CALLS, None)  # type: ignore[arg-type]
    with torch.no_grad():
        empty = torch.where(batch.is_prompt[..., None], 0.0, batch.inputs)
        expected = batch.values(toy, batch.inputs) - batch.values(toy, empty)  # type: ignore[arg-type]
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)


def test_directional_derivatives(case: Case):
    """Scaling one block's inputs by 1 + t changes `s` at t = 0 at the rate of that block's score."""
    scores = block_scores(case.model, [case.call], case.pictures)[0]
    embeddings, *deepstack = case.inputs

    def scaled(t: Tensor) -> Tensor:
        factor = torch.cat([1 + t[case.block_of], torch.ones(embeddings.shape[1] - len(case.block_of))])
        return case.log_prob(embeddings * factor[:, None], *(layer * (1 + t[1]) for layer in deepstack))[0]

    zero = torch.zeros(case.call.blocks)
    with sdpa_kernel(SDPBackend.MATH):  # The only kernel with forward-mode derivatives.
        derivatives = torch.stack(
            [torch.func.jvp(scaled, (zero,), (direction,))[1] for direction in torch.eye(case.call.blocks)]
        )
    assert scores.abs().min() > 1e-4
    torch.testing.assert_close(scores, derivatives, rtol=1e-5, atol=1e-5 * scores.abs().max().item())


def test_captum_agrees(case: Case):
    # Loaded by nobody else.
    import captum.attr

    method = captum.attr.InputXGradient(case.log_prob)
    found = method.attribute(tuple(one.clone().requires_grad_(True) for one in case.inputs))
    scores = block_scores(case.model, [case.call], case.pictures)[0]
    torch.testing.assert_close(scores, case.by_block([one.sum(-1) for one in found]), rtol=1e-5, atol=1e-5)


def test_deepstack_features_are_a_part_of_the_pictures_score(case: Case):
    """The picture's score without them, and that of a model that never sees them, are other scores."""
    whole = block_scores(case.model, [case.call], case.pictures)[0]
    embeddings = case.inputs[0].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(case.log_prob(embeddings, *case.inputs[1:]).sum(), embeddings)
    (blind,) = torch.autograd.grad(case.log_prob(embeddings).sum(), embeddings)
    first, without = (case.by_block([(one * embeddings).sum(-1)]) for one in (gradient, blind))
    layers = len(case.inputs) - 1
    assert layers == (2 if case.model.config.model_type == "qwen3_vl" else 0)
    # All other blocks have embeddings alone.
    others = [block for block in range(case.call.blocks) if block != 1]
    torch.testing.assert_close(whole[others], first[others], rtol=1e-5, atol=1e-5)
    difference = 0.05 * whole.abs().max()
    assert ((whole[1] - first[1]).abs() > difference) == (layers > 0)
    assert ((whole - without).abs().max() > difference) == (layers > 0)


@pytest.mark.slow(2)
def test_completeness(family: str, case: Case):
    """On the integrated path the scores sum to `s(x) - s(no prompt)`; gradient x embedding does not."""
    if family == "qwen3_vl":
        # With its norms of queries and keys, so much happens in the path's first millionth that thousands of points
        # are needed; a larger epsilon spreads it out.
        case.model = copy.deepcopy(case.model)
        for module in case.model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 1e-4
    embeddings, *deepstack = (one.clone() for one in case.inputs)
    embeddings[:, : len(case.call.prompt_ids)] = 0
    with torch.no_grad():
        empty = case.log_prob(embeddings, *(torch.zeros_like(layer) for layer in deepstack))
        difference = (case.log_prob(*case.inputs) - empty).item()
    once, path = (
        abs(block_scores(case.model, [case.call], case.pictures, steps=steps).sum().item() - difference)
        for steps in (1, 256)
    )
    # `s` is about -50 and swings by several nats near the baseline.
    assert path < 0.02 * abs(difference) + 0.1
    assert once > 3 * path


def test_log_prob_is_the_models_own(case: Case):
    with torch.no_grad():
        expected = case.log_prob(*case.inputs)
        # And once more from token ids and pixels, with nothing of the merging written here.
        logits = case.model(
            input_ids=case.ids,
            pixel_values=case.pictures.pixel_values,
            image_grid_thw=case.pictures.grid_thw,
            mm_token_type_ids=(case.ids == case.model.config.image_token_id).int(),
        ).logits.log_softmax(-1)
    start = len(case.call.prompt_ids)
    whole = sum(logits[0, start + i - 1, case.ids[0, start + i]] for i, on in enumerate(case.call.target) if on)
    found = call_log_probs(case.model, [case.call], case.pictures)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0], whole, rtol=1e-5, atol=1e-5)
    assert not found.requires_grad


@pytest.fixture
def mixed(encoder: PromptEncoder, samples: list[Sample]) -> tuple[list[CallInput], list[Image.Image]]:
    """Calls of other lengths, pictures of other sizes in another order than the calls, a text alone, and duplicates."""
    shapes = [(112, 112), (196, 84), (56, 140)]
    images = [samples[i].image.resize(shape) for i, shape in enumerate(shapes)]

    def call(picture: int | None, turn: str, thought: str = "") -> CallInput:
        image = [] if picture is None else [Block("image", "i", image=images[picture])]
        text = [Block("query", "j", "and nothing to see,")] if picture is None else []
        blocks = [Block("context", "c", "Answer."), *image, *text, Block("query", "q", f"QUESTION: {turn[::-1]}")]
        return make_call(encoder, blocks, turn, thought, picture)

    calls = [
        call(2, CALL.format(name="A")),
        call(0, "draw it", THOUGHT),
        call(None, CALL.format(name="C"), THOUGHT),
        call(1, CALL.format(name="a much longer name than the others'")),
        call(0, CALL.format(name="B")),
    ]
    return [*calls, calls[1], calls[0]], images


def alone(
    call: CallInput, images: list[Image.Image], encoder: PromptEncoder
) -> tuple[list[CallInput], Pictures | None]:
    """A call and its own picture, as if there were no other."""
    values = [call.prompt_ids, call.block_of, call.blocks, call.turn_ids, call.target]
    if not call.pictures:
        return [call], None
    return [CallInput(*values, (0,))], pictures_of(encoder, [images[call.pictures[0]]])


@pytest.mark.parametrize("steps", [1, 3])
def test_a_batch_is_its_calls_one_at_a_time(
    model: PreTrainedModel, encoder: PromptEncoder, mixed: tuple[list[CallInput], list[Image.Image]], steps: int
):
    calls, images = mixed
    together = block_scores(model, calls, pictures_of(encoder, images), steps)
    apart = torch.cat([block_scores(model, *alone(call, images, encoder), steps) for call in calls])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5 * apart.abs().max().item())
    torch.testing.assert_close(together[5], together[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together[6], together[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[4], rtol=1e-2)
    values = call_log_probs(model, calls, pictures_of(encoder, images))
    singles = torch.cat([call_log_probs(model, *alone(call, images, encoder)) for call in calls])
    torch.testing.assert_close(values, singles, rtol=1e-5, atol=1e-5)


def test_log_probs_are_those_of_left_padded_rows(
    model: PreTrainedModel, encoder: PromptEncoder, mixed: tuple[list[CallInput], list[Image.Image]]
):
    """As a trainer lays rows out: prompts padded on the left, turns on the right."""
    calls, images = mixed
    most, longest = (max(map(len, rows)) for rows in ([c.prompt_ids for c in calls], [c.turn_ids for c in calls]))
    ids, mask = torch.zeros(2, len(calls), most + longest, dtype=torch.long)
    for row, call in enumerate(calls):
        columns = slice(most - len(call.prompt_ids), most + len(call.turn_ids))
        ids[row, columns] = torch.tensor([*call.prompt_ids, *call.turn_ids])
        mask[row, columns] = 1
    pictures = pictures_of(encoder, [images[index] for call in calls for index in call.pictures])
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=pictures.pixel_values,
            image_grid_thw=pictures.grid_thw,
            mm_token_type_ids=((ids == encoder.image_token_id) & (mask == 1)).int(),
        ).logits.log_softmax(-1)
    expected = [
        sum(logits[row, most + i - 1, call.turn_ids[i]] for i, on in enumerate(call.target) if on)
        for row, call in enumerate(calls)
    ]
    found = call_log_probs(model, calls, pictures_of(encoder, images))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.fixture
def positions_seen(model: PreTrainedModel) -> Iterator[list[Tensor | None]]:
    """The position ids that reach the language model, one entry a forward pass."""
    seen: list[Tensor | None] = []

    def look(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["position_ids"])

    handle = model.model.language_model.register_forward_pre_hook(look, with_kwargs=True)
    yield seen
    handle.remove()


def stale(model: PreTrainedModel) -> None:
    """Leaves behind what a generation from another prompt would."""
    model.model.rope_deltas = torch.tensor([[-37]])


@pytest.mark.parametrize("before", [lambda model: None, stale], ids=["fresh", "stale"])
def test_positions_are_the_models_own(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    mixed: tuple[list[CallInput], list[Image.Image]],
    positions_seen: list[Tensor],
    before: Callable[[PreTrainedModel], None],
):
    """On random weights wrong positions hardly move the logits, so that the positions themselves are compared."""
    calls, images = mixed
    before(model)
    found = _Batch.build(model, calls, pictures_of(encoder, images)).position_ids
    assert not positions_seen
    for row, call in enumerate(calls):
        length = len(call.prompt_ids) + max(i for i, scored in enumerate(call.target) if scored) + 1
        ids = torch.tensor([[*call.prompt_ids, *call.turn_ids]])[:, :length]
        one, pictures = alone(call, images, encoder)
        inputs: dict[str, Tensor] = {"input_ids": ids}
        if pictures is not None:
            inputs |= {"pixel_values": pictures.pixel_values, "image_grid_thw": pictures.grid_thw}
            inputs["mm_token_type_ids"] = (ids == encoder.image_token_id).int()
        with torch.no_grad():
            model(**inputs, use_cache=False)
        own = positions_seen.pop()
        own = torch.arange(length).expand(3, 1, -1) if own is None else own[-3:]
        assert torch.equal(found[:, row, :length], own[:, 0])
        assert torch.equal(_Batch.build(model, one, pictures).position_ids, own)
        if call.pictures:
            # The rows and columns of the picture are told apart.
            assert not torch.equal(own[1], own[2])


def test_an_earlier_generation_does_not_matter(case: Case):
    fresh = block_scores(case.model, [case.call], case.pictures)
    stale(case.model)
    assert torch.equal(block_scores(case.model, [case.call], case.pictures), fresh)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_alone(case: Case, training: bool):
    model = copy.deepcopy(case.model).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        scores = block_scores(model, [case.call], case.pictures)
    assert not scores.requires_grad
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(scores, block_scores(case.model, [case.call], case.pictures))
    # A frozen model can be explained as well.
    torch.testing.assert_close(block_scores(model.requires_grad_(False), [case.call], case.pictures), scores)


def test_the_last_mlp_runs_where_it_counts_alone(case: Case):
    """Nothing but the positions that predict scored tokens looks at it; a forward pass of its own comes back."""
    model = copy.deepcopy(case.model)
    last = model.model.language_model.layers[-1].mlp
    original, widths = last.forward, []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        widths.append(x.shape[1])
        return original(x)

    last.forward = recorded
    length = len(case.call.prompt_ids) + len(case.call.turn_ids)
    model.model.language_model(input_ids=torch.arange(length)[None])
    scores = block_scores(model, [case.call], case.pictures)
    first = len(case.call.prompt_ids) + case.call.target.index(True) - 1
    assert widths == [length, len(case.call.prompt_ids) + case.call.length - first]
    assert last.forward is recorded
    torch.testing.assert_close(scores, block_scores(case.model, [case.call], case.pictures), rtol=0, atol=0)


def test_gradients_of_a_step_in_progress_survive(case: Case):
    model = copy.deepcopy(case.model)
    parameter = model.lm_head.weight
    parameter.grad = torch.full_like(parameter, 2.0)
    block_scores(model, [case.call], case.pictures)
    assert torch.equal(parameter.grad, torch.full_like(parameter, 2.0))


def test_half_precision_gives_fp32_scores_nearby(case: Case):
    reference = block_scores(case.model, [case.call], case.pictures)
    half = copy.deepcopy(case.model).to(torch.bfloat16)
    scores = block_scores(half, [case.call], case.pictures)
    assert scores.dtype == torch.float32
    assert (scores - reference).norm() < 0.2 * reference.norm()


def test_what_follows_the_scored_tokens_does_not_matter(case: Case):
    call = case.call
    longer = CallInput(
        call.prompt_ids, call.block_of, call.blocks, [*call.turn_ids, 9, 9], [*call.target, False, False], (0,)
    )
    assert torch.equal(*(block_scores(case.model, [one], case.pictures) for one in (call, longer)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([1, 2], [0], 1, [3], [True], None), "2 prompt tokens, but blocks for 1"),
        (([1], [0], 1, [3, 4], [True], None), "2 turn tokens, but a target mask of 1"),
        (([1], [0], 1, [3], [False], None), "without a scored token"),
        (([1], [0], 1, [], [], None), "without a scored token"),
    ],
)
def test_refused_calls(fields: tuple[Any, ...], message: str):
    with pytest.raises(ValueError, match=message):
        CallInput(*fields)


def test_refused_batches(model: PreTrainedModel, encoder: PromptEncoder, case: Case):
    with pytest.raises(ValueError, match="no calls"):
        block_scores(model, [])
    text = make_call(encoder, [Block("query", "q", "two"), Block("query", "r", " blocks")], "x", picture=None)
    with pytest.raises(ValueError, match="the same number of blocks"):
        block_scores(model, [text, case.call], case.pictures)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        block_scores(model, [text], steps=0)
    with pytest.raises(ValueError, match="no pictures were given"):
        block_scores(model, [case.call])
    values = [case.call.prompt_ids, case.call.block_of, case.call.blocks, case.call.turn_ids, case.call.target]
    with pytest.raises(ValueError, match="16 image tokens in a call's sequence, but 0 image features"):
        block_scores(model, [case.call, CallInput(*values, pictures=())], case.pictures)
    with pytest.raises(ValueError, match="none of them names a picture"):
        block_scores(model, [CallInput(*values, pictures=())], case.pictures)
    # Pictures that no call has are no error.
    assert torch.equal(block_scores(model, [text], case.pictures), block_scores(model, [text]))


def test_swapped_pictures_are_refused(model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]):
    """Also where the image tokens of the whole batch are as many as the features."""
    images = [samples[0].image, samples[0].image.resize((56, 84))]
    calls = [
        make_call(encoder, [Block("image", "i", image=image), Block("query", "q", "?")], "x", picture=1 - index)
        for index, image in enumerate(images)
    ]
    with pytest.raises(ValueError, match="16 image tokens in a call's sequence, but 6 image features"):
        block_scores(model, calls, pictures_of(encoder, images))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": "zzz"}, "no score 'zzz'; use one of log_prob, logit, log_odds, contrast"),
        ({"pictures": (-1,)}, r"pictures are \(-1,\); give indices from 0"),
        ({"pictures": (0, -2)}, r"pictures are \(0, -2\)"),
    ],
)
def test_a_call_that_would_be_explained_as_another(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CallInput(**{"prompt_ids": [1], "block_of": [0], "blocks": 1, "turn_ids": [2], "target": [True], **changes})
