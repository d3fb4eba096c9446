"""Samples as rows of the parquet files that VeRL's `RLHFDataset` reads, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from iapo.data.pictures import encode_picture
from iapo.errors import InputError
from iapo.records import Sample
from iapo.storage import whole_file

AGENT = "iapo"
"""Name of the agent loop."""


def write_rows(samples: Iterable[Sample], path: Path) -> int:
    """Writes samples for `data.train_files` or `data.val_files`.

    Args:
        samples: The samples.
        path: File to write, a `.parquet`.

    Returns:
        The number of rows.

    Raises:
        InputError: If there is no sample.
    """
    rows = [to_row(sample, index) for index, sample in enumerate(samples)]
    if not rows:
        raise InputError(f"there is no sample to write into {path}; give at least one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        pq.write_table(pa.Table.from_pylist(rows), part)
    return len(rows)


def to_row(sample: Sample, index: int) -> dict[str, Any]:
    """Returns a sample as a row.

    The agent loop lays the prompt out by itself; the messages are what logs show. The sample's record goes as text,
    since a column of names and boxes would have all names of all rows.

    Args:
        sample: The sample.
        index: Number of the row.
    """
    # VeRL takes each of these in a message for an image, and counts them.
    question = re.sub(r"<(image|video|audio)>", r"< \1>", sample.question)
    return {
        "data_source": sample.source or AGENT,
        "agent_name": AGENT,
        "prompt": [{"role": "user", "content": f"<image>{question}"}],
        "images": [{"bytes": encode_picture(sample.image)}],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(list(sample.answers))},
        "extra_info": {"index": index, "grading": sample.grading, "sample": json.dumps(sample.to_json(image_path=""))},
    }


def sample_of(row: Mapping[str, Any]) -> Sample:
    """Reads the sample of a row as `RLHFDataset` hands it to an agent loop.

    Args:
        row: Fields of the row; `raw_prompt` holds the image, of the size in which boxes are given.

    Raises:
        InputError: If it was not written by `write_rows`.
    """
    record = (row.get("extra_info") or {}).get("sample")
    if record is None:
        raise InputError("a row has no extra_info.sample; write the data with iapo_verl.data.write_rows")
    parts = [part for message in row["raw_prompt"] for part in message["content"] if isinstance(part, Mapping)]
    images = [part["image"] for part in parts if part.get("type") == "image"]
    if len(images) != 1 or not isinstance(images[0], Image.Image):
        raise InputError(f"a row has {len(images)} opened images in its prompt; give one, as write_rows does")
    return Sample.from_json(json.loads(record), image=images[0])
