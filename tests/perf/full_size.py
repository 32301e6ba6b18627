"""What evaluating SCAN on a split of the usual size takes, in a process of its own.

`python -m tests.perf.full_size IMAGES [DEVICE]` prints one line of JSON: seconds of scoring and ranking together, the
peak of memory in MiB, and ranks of a few queries beside those of the reference loop.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from harness.data.split import Images, Split
from harness.learn.build import build
from harness.measure import evaluator, metrics
from harness.measure.memory import peak_of
from harness.measure.scoring import Group, all_pairs
from harness.protocol import Encoded, Inputs
from harness.record import Ranks
from harness.spec import registry
from tests.references import REFERENCES

PER_IMAGE, REGIONS, DIM = 5, 36, 1024
SHORTEST, LONGEST = 7, 20  # words
NOISE = 0.2  # of a word, in each of its numbers; a region's are about 0.03
MEMORY_MIB = 1024
CHECKED = 4  # image queries and caption queries that the reference loop ranks too


def sides(images: int) -> tuple[Encoded, list[Group], np.ndarray]:
    """Unit fragments; the words of a caption lie around regions of its image, so that ranks are low but not all first.

    Captions come as the evaluator has them, in groups of one length.  The last is their image, (M,).
    """
    generator = torch.Generator().manual_seed(0)
    regions = F.normalize(torch.randn(images, REGIONS, DIM, generator=generator), dim=-1)
    owner = torch.arange(images).repeat_interleave(PER_IMAGE)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (len(owner),), generator=generator)
    groups = []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().squeeze(1)
        chosen = torch.randint(REGIONS, (len(rows), length), generator=generator)
        words = (
            torch.randn(len(rows), length, DIM, generator=generator)
            .mul_(NOISE)
            .add_(regions[owner[rows, None], chosen])
        )
        words /= words.norm(dim=-1, keepdim=True)
        groups.append(
            Group(rows.numpy(), Encoded(contextual=words, mask=torch.ones(len(rows), length, dtype=torch.bool)))
        )
    everywhere = torch.ones(images, REGIONS, dtype=torch.bool)
    return Encoded(contextual=regions, mask=everywhere), groups, owner.numpy()


def some_captions(groups: list[Group], wanted: np.ndarray) -> list[tuple[int, Encoded]]:
    """Number and encoding of each of these captions, alone."""
    return [
        (int(row), group.encoded.select(slice(place, place + 1)))
        for group in groups
        for place, row in enumerate(group.rows)
        if row in wanted
    ]


@torch.inference_mode()
def main(images: int, device: str = "cpu") -> None:
    model = build(registry.model("scan:t2i-lse"), Inputs(image_dim=2, regions=REGIONS, vocabulary=5, dim=DIM), 0)
    model.to(device).eval()
    regions, groups, owner = sides(images)
    regions, groups = regions.to(device), [Group(g.rows, g.encoded.to(device)) for g in groups]
    ids = tuple(map(str, range(images)))
    split = Split(Images(np.ones((images, 1, 1), np.float32), np.arange(images), ids), ids * PER_IMAGE, owner)
    started = time.perf_counter()

    def evaluated() -> Ranks:
        return evaluator.rank(all_pairs(model, regions, groups, MEMORY_MIB), split)[0]

    ranks, peak_mib = peak_of(evaluated, device)
    seconds = time.perf_counter() - started

    queries = np.linspace(0, len(owner) - 1, CHECKED).round().astype(np.int64)
    columns = [
        (row, REFERENCES["scan"](model, regions, text).numpy(force=True))
        for row, text in some_captions(groups, queries)
    ]
    t2i = {row: int(metrics.text_to_image_ranks(column, owner[[row]])[0][0]) for row, column in columns}
    gallery = np.linspace(0, images - 1, CHECKED).round().astype(np.int64)
    few = regions.select(torch.from_numpy(gallery).to(device))
    scores = np.empty((CHECKED, len(owner)), np.float32)
    for group in groups:
        scores[:, group.rows] = REFERENCES["scan"](model, few, group.encoded).numpy(force=True)
    i2t = [
        int((row[owner != image] >= row[owner == image].max()).sum())
        for image, row in zip(gallery, scores, strict=True)
    ]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mib": peak_mib,
                "t2i": [int(ranks.t2i[row]) for row in t2i],
                "t2i_reference": list(t2i.values()),
                "i2t": ranks.i2t[gallery].tolist(),
                "i2t_reference": i2t,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
