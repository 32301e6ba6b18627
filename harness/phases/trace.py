"""The tracing phase of a suite: one trained job per row under torch.profiler, after training and timing are over.

Nothing that is reported comes out of a traced run: training is done again for a few steps on a model that is thrown
away, encoding and scoring with the stored weights.  Records gain the table of operators and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.profiler import record_function

from harness.data.prepared import Prepared, pair_batches, prepare
from harness.learn.trainer import optimiser, train_step, trained_parameters
from harness.measure.cost import spread, workload
from harness.measure.evaluator import encode_images, encode_texts, in_float32
from harness.measure.scoring import all_pairs
from harness.measure.trace import STAGES, trace
from harness.phases.recorded import first_trained
from harness.phases.time import contender
from harness.phases.train import load_model
from harness.precision import score_products
from harness.progress import Progress, Start, counted
from harness.protocol import PairBatch, Retriever
from harness.spec.job import Job
from harness.store import Store

ITEMS = 32  # images encoded, captions encoded and captions scored in one step: a trace keeps every operator call

Step = Callable[[], object]


def phase(jobs: Sequence[Job], store: Store, watch: Start, *, folder: Path) -> Iterator[str]:
    """Traces every trained row into FOLDER/<row>-<key>/ and puts its top operators into its record.

    Yields one line for people.  Raises OSError.
    """
    rows = first_trained(jobs, store)
    if not rows:
        yield "traces  nothing to trace"
        return
    data = prepare(rows[0].data, rows[0].settings)
    shown, lost, done = watch("tracing phase"), [], count(1)
    for job in rows:
        found: dict[str, Any] = {}
        with torch.random.fork_rng([job.settings.device] if job.settings.device != "cpu" else []):
            for stage, step in _stages(job, data, store):
                found[stage] = trace(stage, step, folder / run_name(job), job.settings.device)
                shown(Progress("trace", next(done), len(rows) * len(STAGES)))
        store.save_operators(job.key, found)
        if "score" not in found:
            lost.append(job.model.label)
    missing = f"; no weights for {', '.join(lost)} (--force trains again)" if lost else ""
    yield f"traced  {counted(len(rows), 'row')}{missing}; tensorboard --logdir {folder}, stages under Workers"


def run_name(job: Job) -> str:
    """`scan-t2i-lse-0123456789abcdef`: what TensorBoard lists."""
    return f"{re.sub(r'[^A-Za-z0-9_+.]', '-', job.model.label)}-{job.key}"


def _stages(job: Job, data: Prepared, store: Store) -> Iterator[tuple[str, Step]]:
    """Name and one step of each stage that the row has; what a stage needs is made ready only when it is reached."""
    fresh = load_model(job, data)
    if trained_parameters(fresh):
        yield "train", _training(job, data, fresh)
    del fresh
    trained = contender(job, data, store)
    if trained is None:
        return
    model, settings, load = trained.model.eval(), job.settings, workload(data.ranked)
    queries, tokens = load.queries[spread(len(load.queries), ITEMS)], data.ranked.tokens
    yield "encode_images", _inferring(lambda: encode_images(model, load.images.first(ITEMS), settings))
    yield "encode_texts", _inferring(lambda: encode_texts(model, tokens, settings, queries))
    with torch.inference_mode():
        gallery = in_float32(encode_images(model, load.gallery, settings))
        groups = encode_texts(model, tokens, settings, queries)
        groups = [replace(group, encoded=in_float32(group.encoded)) for group in groups]

    def score() -> None:
        with score_products(settings, model.family):
            all_pairs(model, gallery, groups, settings.score_memory_mib)

    yield "score", _inferring(score)


def _training(job: Job, data: Prepared, model: Retriever) -> Step:
    """One update after the other on the batches of the first epoch, from the first weights, as the trainer does it."""
    settings = job.settings
    torch.manual_seed(settings.seed)
    optimizer, batches, number = optimiser(model.train(), settings), _first_epoch(job, data, model), count(1)

    def step() -> None:
        with record_function("train/batch"):
            batch = next(batches).to(settings.device)
        train_step(model, batch, optimizer, settings, f"traced step {next(number)}")

    return step


def _first_epoch(job: Job, data: Prepared, model: Retriever) -> Iterator[PairBatch]:
    """Its batches in order, over again where it has too few."""
    while True:
        yield from pair_batches(data.train, job.settings.batch, job.settings.seed, epoch=0, needs=model.needs)


def _inferring(call: Step) -> Step:
    def step() -> None:
        with torch.inference_mode():
            call()

    return step
