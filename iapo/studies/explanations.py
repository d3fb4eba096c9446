"""One call explained by one model, with all that is shown of it: shares of blocks, tokens, and parts of images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iapo.attribution.calls import Attributor, Turn
from iapo.attribution.gradient import call_log_probs
from iapo.attribution.settings import AttributionSettings
from iapo.attribution.tokens import picture_shares
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder


@dataclass(frozen=True, slots=True)
class Explanation:
    """One model's attribution of a call.

    Attributes:
        name: The model.
        blocks: Names of the m scored blocks, in order.
        log_prob: `s`, the log-probability of the program under the model, in nats.
        scores: Block scores by the chosen method, shape (m,), fp32, on the CPU.
        shares: Shares of the blocks as they are compared, shape (m,); 0 of a block that is not.
        tokens: The prompt as the model reads it: text, block and score of each token.
        maps: Signed shares of each image's tokens by the image's block, in order, shape (rows, columns): scores over
            the sum of all prompt tokens' absolute scores.
    """

    name: str
    blocks: tuple[str, ...]
    log_prob: float
    scores: Tensor
    shares: Tensor
    tokens: list[dict[str, Any]]
    maps: dict[str, NDArray[np.float32]]

    @property
    def patches(self) -> NDArray[np.float32]:
        """Shares of the last image's tokens."""
        return list(self.maps.values())[-1]


def explain(
    name: str,
    policy: Policy,
    encoder: PromptEncoder,
    prompt: EncodedPrompt,
    turn: Turn,
    settings: AttributionSettings | None = None,
) -> Explanation:
    """Attributes one call by one model.

    Args:
        name: Name of the model.
        policy: The model.
        encoder: Its encoder.
        prompt: The prompt in its tokens.
        turn: The first turn in its tokens, and which of them belong to the program.
        settings: Settings of the attribution.

    Raises:
        InputError: If an attribution is not finite.
    """
    settings = settings or AttributionSettings()
    # The program's log-probability is told, whatever is explained.
    settings = replace(settings, log_probs=True)
    attributor = Attributor(policy.model, encoder.pixels, settings, tokenizer=encoder.tokenizer)
    (call,), pictures = attributor.prepare([prompt], [turn])
    (tokens,) = (one.cpu() for one in attributor.token_scores([call], pictures))
    scores = attributor.method.scores(policy.model, [call], pictures, settings)[0].cpu()
    shares, places = torch.zeros_like(scores), settings.places(prompt.block_names)
    shares[places] = settings.shares(scores[places])
    merge, image = encoder.processor.image_processor.merge_size, encoder.image_token_id
    images = [name for name in prompt.block_names if name.startswith("image_")]
    texts = [encoder.tokenizer.decode([token]) for token in prompt.ids]
    return Explanation(
        name=name,
        blocks=settings.names(prompt.block_names),
        log_prob=call_log_probs(policy.model, [replace(call, target=call.told)], pictures).item(),
        scores=scores,
        shares=shares,
        tokens=[
            {"text": text, "block": prompt.block_names[block], "score": score}
            for text, block, score in zip(texts, prompt.block_of, tokens.tolist(), strict=True)
        ],
        maps={
            name: picture_shares(tokens, prompt.ids, image, pictures.grid_thw[at], merge, place)
            for place, (name, at) in enumerate(zip(images, call.pictures, strict=True))
        },
    )
