"""What does the harness add to a training step?  Its loop beside the barest loop of the same model, taking turns.

`pytest tests/perf/test_training.py --benchmark-only` prints the overhead: the median ratio of neighbouring turns.
The bare loop has the data as stored (half precision) in memory and checks, logs and reports nothing; both end with
equal weights.  Processor time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.data.prepared import Side, steps_per_epoch
from harness.data.split import Images, Split
from harness.data.vocabulary import Vocabulary, tokens
from harness.learn import trainer
from harness.learn.build import build
from harness.learn.parallel import ALONE
from harness.learn.schedule import Plan
from harness.progress import unwatched
from harness.protocol import ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from harness.spec import registry
from harness.spec.job import Settings

ROWS = ("vsepp", "vsepp+selfalign", "vsrn")
ROUNDS = 7  # turns of each loop, an epoch of three steps each


@dataclass(frozen=True)
class Size:
    images: int
    regions: int
    width: int
    batch: int
    dim: int


REAL = Size(images=77, regions=36, width=1280, batch=128, dim=256)  # features of Flickr8k
TINY = Size(images=5, regions=3, width=11, batch=7, dim=8)


def side(size: Size) -> Side:
    """Five captions of 5 to 15 words an image; fragments in half precision, as features are stored."""
    rng = np.random.default_rng(0)
    words = tuple(f"w{n}" for n in range(50))
    captions = tuple(" ".join(rng.choice(words, rng.integers(5, 16))) for _ in range(5 * size.images))
    features = rng.standard_normal((size.images, size.regions, size.width), dtype=np.float32).astype(np.float16)
    images = Images(features, np.arange(size.images), tuple(map(str, range(size.images))))
    return Side(Split(images, captions, np.repeat(np.arange(size.images), 5)), tokens(captions, Vocabulary(words), 60))


def ready(row: str, size: Size) -> tuple[Retriever, torch.optim.Optimizer, Settings]:
    settings = Settings(batch=size.batch, dim=size.dim, epochs=1)
    inputs = Inputs(image_dim=size.width, regions=size.regions, vocabulary=54, dim=size.dim)
    model = build(registry.model(row), inputs, 0).train()
    torch.manual_seed(0)
    return model, trainer.optimiser(model, settings), settings


def harness_loop(row: str, size: Size, data: Side) -> tuple[Retriever, Callable[[], object]]:
    """The model and one turn: an epoch as the trainer does it, without the dev split."""
    model, optimizer, settings = ready(row, size)
    plan = Plan(settings, steps_per_epoch(data, size.batch))
    return model, lambda: trainer._part(model, data, lambda: 0.0, optimizer, plan, [], unwatched, ALONE)


def bare_loop(row: str, size: Size, data: Side) -> tuple[Retriever, Callable[[], object]]:
    """The same updates on tensors in memory."""
    model, optimizer, settings = ready(row, size)
    fragments, ids = torch.from_numpy(data.split.images.features), torch.from_numpy(data.tokens.ids).long()
    lengths, owner = torch.from_numpy(data.tokens.lengths), torch.from_numpy(data.split.caption_to_image)
    order = torch.from_numpy(np.random.default_rng([settings.seed, 0]).permutation(len(owner)))
    full = torch.ones(size.batch, size.regions, dtype=torch.bool)
    parameters = list(model.parameters())

    def turn() -> None:
        for chosen in order.split(size.batch):
            if len(chosen) == size.batch:
                images = ImageBatch(fragments[owner[chosen]].float(), full)
                mask = torch.arange(int(lengths[chosen].max())) < lengths[chosen, None]
                texts = TextBatch(ids[chosen, : mask.shape[1]], mask)
                update(PairBatch(images, texts, owner[chosen]))

    def update(batch: PairBatch) -> None:
        losses = model.losses(model.encode_images(batch.images), model.encode_texts(batch.texts), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()

    return model, turn


LOOPS = {"bare": bare_loop, "harness": harness_loop}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("loop", LOOPS)
def test_train(benchmark, request, loop, row):
    size = TINY if request.config.getoption("benchmark_disable") else REAL
    _, turn = LOOPS[loop](row, size, side(size))
    benchmark.name = f"train[{row}-{loop}]"
    benchmark.pedantic(turn, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("row", ROWS)
def test_overhead(benchmark, request, capsys, row):
    """Loops in turns, so that drift of the machine hits both alike."""
    size = TINY if request.config.getoption("benchmark_disable") else REAL
    data, ratios, bare_s = side(size), list[float](), list[float]()
    (_, bare), (_, ours) = (LOOPS[loop](row, size, data) for loop in ("bare", "harness"))

    def bare_turn() -> None:
        start = time.process_time()
        bare()
        bare_s.append(time.process_time() - start)

    def our_turn() -> None:
        start = time.process_time()
        ours()
        ratios.append((time.process_time() - start) / bare_s[-1])

    benchmark.name = f"train[{row}-harness, in turns]"
    benchmark.pedantic(our_turn, setup=bare_turn, rounds=ROUNDS, warmup_rounds=1)
    if size is REAL:
        found = sorted(ratios[1:])
        with capsys.disabled():
            print(f"\n{row}: harness over bare loop {median(found):.3f} (from {found[0]:.3f} to {found[-1]:.3f})")


@pytest.mark.parametrize("row", ROWS)
def test_both_loops_end_with_equal_weights(row):
    data = side(TINY)
    ends: list[dict[str, Tensor]] = []
    for loop in LOOPS.values():
        model, turn = loop(row, TINY, data)
        turn()
        ends.append(model.state_dict())
    start = ready(row, TINY)[0].state_dict()
    assert any(not torch.equal(ends[0][name], start[name]) for name in start)
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=0, atol=0, msg=name)
