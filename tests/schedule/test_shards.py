"""Pairs that workers share: the ranks of one process, whatever the row, and one line for what goes wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from harness.record import Ranks
from harness.store import Store
from tests.methods_of_others import INDEPENDENT

IMAGES = 120  # of the test split: three rows of blocks for two workers
WORKER = b"ray::_Worker"
BLOCKS = ("--score-memory", "1")  # MiB, so that there are several
NAMES = ("i2t", "t2i", "i2t_top", "t2i_top", "caption_to_image")


@pytest.fixture
def larger(ray_door, tmp_path) -> Path:
    """The data with a test split of many images, among them equal ones, so that there are ties."""
    folder = Path(shutil.copytree(ray_door.data, tmp_path / "larger"))
    rng = np.random.default_rng(0)
    some = rng.integers(0, len(np.load(folder / "test_ims.npy")), IMAGES)
    for name in ("ims", "boxes", "img_sizes", "counts"):
        values = np.load(folder / f"test_{name}.npy")[some]
        if name == "ims":
            values[::2] += rng.standard_normal(values[::2].shape).astype(np.float32)
        np.save(folder / f"test_{name}.npy", values)
    captions = (folder / "test_caps.txt").read_text().splitlines()
    words = [f"{captions[2 * place + k]}{' and a cat' * (place % 9)}" for place in some for k in range(2)]
    (folder / "test_caps.txt").write_text("\n".join(words) + "\n")
    return folder


def trained(door, rows: str, *more: str) -> None:
    door("--suite", "full", "--no-ensembles", "--seeds", "0", "--only", rows, "--epochs", "1", "--workers", "0", *more)


@contextmanager
def evaluating(door, data: Path, results: Path, *more: str) -> Iterator[subprocess.Popen]:
    where = ("--data", str(data), "--results", str(results), "--threads", "1")
    run = str(door.results / "full-zoo")
    command = (sys.executable, "-m", "harness.run", "--evaluate", run, *where, *BLOCKS, *more)
    with door.process(*command) as driver:
        yield driver


def evaluated(door, data: Path, results: Path, *more: str) -> dict[str, Ranks]:
    """Row -> what was found."""
    with evaluating(door, data, results, *more) as driver:
        door.end(driver)
    store = Store(results / f"evaluated-{data.name}")
    found = {record.label: store.ranks(record.key) for record in store.records()}
    assert all(found.values())
    return found  # type: ignore[return-value]


def same(one: dict[str, Ranks], other: dict[str, Ranks]) -> None:
    assert one.keys() == other.keys()
    for label, ranks in one.items():
        for name in NAMES:
            np.testing.assert_array_equal(getattr(ranks, name), getattr(other[label], name), err_msg=f"{label} {name}")


def test_two_workers_find_what_one_process_finds(ray_door, larger, tmp_path):
    """An interactive row, whose captions come by their lengths, and a small one of somebody's file."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(INDEPENDENT)
    rows = ("--plugin", str(plugin))
    trained(ray_door, "scan:t2i-lse,mine", *rows)
    alone = evaluated(ray_door, larger, tmp_path / "alone", *rows)
    assert len(alone) == 2
    same(evaluated(ray_door, larger, tmp_path / "shared", *rows, "--shards", "2"), alone)


def test_a_worker_that_dies_is_replaced_and_ranks_are_the_same(ray_door, larger, tmp_path):
    trained(ray_door, "scan:t2i-lse")
    alone = evaluated(ray_door, larger, tmp_path / "alone")
    with evaluating(ray_door, larger, tmp_path / "shared", "--shards", "2") as driver:
        victims = ray_door.until(
            lambda: [n for n, line in ray_door.below(driver.pid).items() if line.startswith(WORKER)], "worker"
        )
        ray_door.kill(victims[0])
        ray_door.end(driver)
    store = Store(tmp_path / "shared" / "evaluated-larger")
    (record,) = store.records()
    found = store.ranks(record.key)
    assert found is not None
    same({record.label: found}, alone)


def test_shards_are_of_an_evaluation(ray_door):
    assert "error: --shards is of --evaluate" in ray_door("--only", "vsepp", "--shards", "2", code=2)


def test_more_workers_than_cpus_are_refused_and_leave_nothing(ray_door, larger, tmp_path):
    trained(ray_door, "vsepp")
    with evaluating(ray_door, larger, tmp_path / "shared", "--shards", "1000") as driver:
        assert "error: 1000 workers of 1 threads need more than" in ray_door.end(driver, 2)
    assert not (tmp_path / "shared").exists()
