"""A program for several processes: rollouts through one server that echoes prompts, with unequal rows and rounds."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from accelerate import Accelerator

from iapo.training.vllm_rollouts import RolloutEngine, take_part


class Client:
    """Stands for the server: continues each prompt with its first token."""

    def image_features(self, images: list[Any]) -> list[Any]:
        # As the real one, which makes a pool of that many threads.
        assert images
        return [None for _ in images]

    def generate(self, prompts: list[list[int]], **_: Any) -> dict[str, Any]:
        new = [[row[0]] for row in prompts]
        return {
            "prompt_ids": prompts,
            "completion_ids": new,
            "logprobs": [[[-float(row[0])]] for row in prompts],
            "logprob_token_ids": [[[row[0]]] for row in prompts],
        }


def engine(accelerator: Accelerator) -> Any:
    found = object.__new__(RolloutEngine)
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    for name, value in sampling.items():
        setattr(found, name, value)
    found.accelerator, found.mode, found.tensor_parallel_size = accelerator, "server", 1
    found.encoder = SimpleNamespace(tokenizer=SimpleNamespace(eos_token_id=0), image_token_id=-1)
    found.max_completion_length, found.logprobs, found.structured_outputs_regex = 8, 0, None
    found.generation_kwargs, found.vllm_client = {}, Client()
    return found


def main() -> None:
    accelerator = Accelerator(cpu=True)
    generation, rank = engine(accelerator), accelerator.process_index
    # How many rows each process has in each of three rounds, one after the other; those that are left out are none.
    for counts in (((3,), ()), ((1,), (2,)), ((2, 1, 1), (2,)), ((), (1, 3)), ((), ())):
        for count in counts[rank]:
            rows = [[100 * (rank + 1) + index, 5] for index in range(count)]
            _, written, log_probs, _ = generation.generate(rows, [[] for _ in rows], 1)
            assert written == [[row[0]] for row in rows], (rank, counts, written)
            assert log_probs == [[[-float(row[0])]] for row in rows]
        take_part(generation, 3 - len(counts[rank]))
    sys.stdout.write("own rows\n")


if __name__ == "__main__":
    main()
