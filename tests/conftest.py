"""Data small enough to train on within a test, and torch left as it was found."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("HARNESS_WORKERS", "0")  # tests of the door do without Ray; tests of Ray ask for it

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or no command that a test starts could be interrupted

WORDS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
IMAGES = {"train": 13, "dev": 5, "test": 7}
REGIONS, DIM = 3, 11  # of every image; the last region is padding in some


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One for all tests of a process: playwright starts no second one beside it."""
    pytest.importorskip("playwright")
    from tests.browsers import chromium

    with chromium() as running:
        yield running


@pytest.fixture
def data_folder(tmp_path: Path, write_data: Callable[[Path], Path]) -> Path:
    """A folder of its own for every test."""
    return write_data(tmp_path / "zoo")


@pytest.fixture(scope="session")
def write_data() -> Callable[[Path], Path]:
    """Makes a folder of data and returns it."""
    return _write_data


def _write_data(folder: Path) -> Path:
    """In the precomp layout, two captions an image; images show things, captions name them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    looks = rng.standard_normal((len(WORDS), DIM))
    for split, images in IMAGES.items():
        shown = rng.integers(len(WORDS), size=(images, REGIONS))
        features = looks[shown] + 0.1 * rng.standard_normal((images, REGIONS, DIM))
        captions = [" and ".join(f"a {WORDS[thing]}" for thing in row) for row in shown for _ in "ab"]
        corner = rng.uniform(0, 50, (images, REGIONS, 2))
        np.save(folder / f"{split}_ims.npy", features.astype(np.float32))
        np.save(folder / f"{split}_boxes.npy", np.concatenate([corner, corner + 10], 2).astype(np.float32))
        np.save(folder / f"{split}_img_sizes.npy", np.full((images, 2), 100, np.float32))
        np.save(folder / f"{split}_counts.npy", REGIONS - np.arange(images) % 2)
        (folder / f"{split}_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def same_torch_after() -> Iterator[None]:
    """Threads and determinism are set for the whole process by a job; the next test gets them back as they were."""
    import torch  # most tests need none

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]


@pytest.fixture
def double() -> Iterator[None]:
    """New tensors and modules are in double precision: two ways to one value agree whatever the processor's kernels."""
    import torch

    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(usual)


# Pictures, of which features are made; what writes them imports transformers


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of seven noisy pictures of different sizes."""
    from tests.photo_folders import write_pictures

    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Their captions: picture i has 1 + i % 3."""
    from tests.photo_folders import write_captions

    return write_captions(tmp_path / "captions.json")


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A tiny ViT with random weights, made for pictures of 64 x 64."""
    from tests.photo_folders import write_vit

    return write_vit(tmp_path / "vit")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door of features loads a backbone that is nothing but colours."""
    from harness import features
    from tests.photo_folders import grey_backbone

    monkeypatch.setattr(features, "load_backbone", lambda *_: grey_backbone())
