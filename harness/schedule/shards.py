"""All pairs of one row, shared out over workers of Ray: each scores some of the blocks, and counts add up to the ranks.

The driver encodes both sides; a worker gets the images of its blocks and all captions, through Ray's object store.  It
first tells the scores of the positives in its blocks, then counts against those of all (`harness.measure.ranking`).
Blocks are as they are without shards, so that ranks are the same to the last one, ties included.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

# first: it sets what Ray reads as it is imported
from harness.schedule.cluster import one_line  # isort: split

import numpy as np
import ray
import ray.exceptions
import torch
from ray import cloudpickle

from harness.learn.build import FROM_FILE
from harness.measure.ranking import Asked, Block, Found, Share, Stream, joined, span, stream
from harness.measure.scoring import Group
from harness.precision import prepare_torch, score_products
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, Retriever, from_tensors
from harness.schedule.worker import check_code, code_fingerprint
from harness.spec.job import Settings, SpecError

Arrays = dict[str, np.ndarray]  # a side as the object store keeps it, without a copy for every worker of a node
RESTARTS = 1  # of a worker that died: it starts its share anew


def over(settings: Settings, count: int) -> Stream:
    """`stream` by at most `count` workers of a running Ray, each with the threads and the device of the settings.

    Raises ScoreError, and SpecError where a worker is lost or has other code.
    """
    return partial(stream, count=count, counted=partial(_by_workers, settings))


def _by_workers(
    settings: Settings,
    model: Retriever,
    images: Encoded,
    groups: Sequence[Group],
    grids: Sequence[list[Block]],
    asked: Asked,
    watch: Watch,
) -> list[Found]:
    precision = _precision(settings)
    told = [ray.put(value) for value in (_portable(model), _captions(groups), asked, precision)]
    workers = [_started(grid, images, told, precision) for grid in grids]
    try:
        positives = ray.put(joined(_all([worker.positives.remote() for worker in workers])))
        return _all([worker.counted.remote(positives) for worker in workers], watch)
    finally:
        for worker in workers:
            ray.kill(worker)


def _precision(settings: Settings) -> Settings:
    """As products are computed at this moment: the ranks beside those in half precision are found in single."""
    half = torch.is_autocast_enabled(torch.device(settings.device).type)
    return replace(settings, score_precision="bf16" if half else "fp32")


def _portable(model: Retriever) -> bytes:
    """A model for processes that may have no GPU yet; one of a plugin's file with its code."""
    for name in {type(part).__module__ for part in model.modules()}:
        if name.startswith(FROM_FILE):
            cloudpickle.register_pickle_by_value(sys.modules[name])
    place = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    with torch.inference_mode(False):  # weights that are moved within it could not be trained any more
        try:
            return cloudpickle.dumps(model.cpu())  # pyright: ignore[reportPrivateImportUsage]
        finally:
            model.to(place)


def _captions(groups: Sequence[Group]) -> list[tuple[np.ndarray, Arrays]]:
    return [(group.rows, _arrays(group.encoded)) for group in groups]


def _arrays(encoded: Encoded) -> Arrays:
    return {name: tensor.cpu().numpy() for name, tensor in encoded.tensors().items()}


def _encoded(arrays: Arrays, device: str) -> Encoded:
    """A copy, for the store's own arrays cannot be written to, of which torch warns."""
    return from_tensors({name: torch.from_numpy(array.copy()).to(device) for name, array in arrays.items()})


def _started(grid: list[Block], images: Encoded, told: Sequence[Any], settings: Settings) -> Any:
    """A worker with its share."""
    held = span(grid)
    gpus = 1 if settings.device.startswith("cuda") else 0
    own = ray.put(_arrays(images.select(held)))
    return _Worker.options(num_cpus=settings.threads, num_gpus=gpus).remote(
        code_fingerprint(), *told, own, grid, held.start
    )


@ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)
class _Worker:
    """A share of the blocks, in a process of its own."""

    def __init__(
        self,
        code: str,
        model: bytes,
        captions: list[tuple[np.ndarray, Arrays]],
        asked: Asked,
        settings: Settings,
        images: Arrays,
        grid: list[Block],
        first: int,
    ) -> None:
        self.told = code, model, captions, asked, settings, images, grid, first
        self.share: Share | None = None

    def positives(self) -> np.ndarray:
        """As `Share.positives`.  Raises SpecError where this node has other code than the driver."""
        share, settings = self._opened()
        with torch.inference_mode(), score_products(settings, share.model.family):
            return share.positives()

    def counted(self, positives: np.ndarray) -> Found:
        """As `Share.counted`, also in a process that took over from one that died."""
        share, settings = self._opened()
        with torch.inference_mode(), score_products(settings, share.model.family):
            return share.counted(positives)

    def _opened(self) -> tuple[Share, Settings]:
        """What is only now done may fail, and is told as what it is; a constructor's failure is a death to Ray."""
        code, packed, captions, asked, settings, images, grid, first = self.told
        if self.share is None:
            check_code(code)
            prepare_torch(settings)
            model: Retriever = cloudpickle.loads(packed).to(settings.device).eval()
            groups = [Group(rows, _encoded(arrays, settings.device)) for rows, arrays in captions]
            own = _encoded(images, settings.device)
            self.share = Share(model, own, groups, grid, asked, settings.score_memory_mib, first)
        return self.share, settings


def _all(asked: Sequence[Any], watch: Watch = unwatched) -> list[Any]:
    """What all workers answer, in order.  Raises what a worker raised, and SpecError where one is lost."""
    left = list(asked)
    try:
        while left:
            done, left = ray.wait(left)
            ray.get(done)
            watch(Progress("score", len(asked) - len(left), len(asked)))
        return ray.get(list(asked))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else SpecError(one_line(error))) from None
    except ray.exceptions.RayError as error:
        raise SpecError(f"a worker that scores a share of the pairs was lost: {one_line(error)}") from None
