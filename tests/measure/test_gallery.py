"""Single queries against growing galleries: measured while time and memory last, extrapolated and marked beyond."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.learn.build import build
from harness.measure import gallery, sampled
from harness.measure.gallery import Searcher, enlarged, percentiles, take_turns
from harness.measure.law import fit_law
from harness.measure.query import STAGES, index_bytes
from harness.protocol import Encoded, Inputs, Retriever
from harness.spec import registry
from harness.spec.job import Settings

REGIONS, DIM = 5, 8
SETTINGS = Settings(dim=DIM)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def built(label: str) -> Retriever:
    return build(registry.model(label), Inputs(image_dim=7, regions=REGIONS, vocabulary=5, dim=DIM), 0).eval()


def fragments(items: int, length: int) -> Encoded:
    return Encoded(contextual=numbers(items, length, DIM), mask=torch.ones(items, length, dtype=torch.bool))


def searcher(label: str = "vsepp", budget_s: float = 60.0) -> Searcher:
    interactive = registry.parse(label)[0].family == "interactive"
    images = fragments(11, REGIONS) if interactive else Encoded(embedding=numbers(11, DIM))
    queries = [fragments(1, n) if interactive else Encoded(embedding=numbers(1, DIM)) for n in (1, 2, 3)]
    return Searcher(built(label), images, queries.__getitem__, len(queries), SETTINGS, budget_s)


@pytest.fixture(autouse=True)
def small_galleries(monkeypatch):
    monkeypatch.setattr(gallery, "PROBES", (3, 5))
    monkeypatch.setattr(sampled, "GALLERIES", (7, 17, 29))


# Galleries -----------------------------------------------------------------------------------------------------------


def test_a_gallery_repeats_its_images_and_no_two_are_the_same():
    mask = torch.tensor([[True, False], [True, True]])
    images = Encoded(contextual=numbers(2, 2, 3), mask=mask, extras={"kind": torch.tensor([4, 5])})
    large = enlarged(images, 5)
    assert len(large) == 5
    tensors = large.tensors()
    torch.testing.assert_close(tensors["contextual"], images.tensors()["contextual"][[0, 1, 0, 1, 0]])  # nearly
    torch.testing.assert_close(tensors["contextual"][4], images.tensors()["contextual"][0] * (1 - 2e-6))
    assert len(tensors["contextual"].flatten(1).unique(dim=0)) == 5
    assert tensors["mask"].tolist() == mask[[0, 1, 0, 1, 0]].tolist()
    assert tensors["kind"].tolist() == [4, 5, 4, 5, 4]
    torch.testing.assert_close(enlarged(images, 1).tensors()["contextual"], images.tensors()["contextual"][:1])


# Turns ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["vsepp", "scan:t2i-lse"])
@torch.inference_mode()
def test_all_sizes_are_measured_while_there_is_time(label):
    row = searcher(label)
    take_turns([row])
    rows = row.rows()
    assert [entry["items"] for entry in rows] == [7, 11, 17, 29]  # 11: of the data
    kept = DIM if label == "vsepp" else REGIONS * DIM + REGIONS**2  # and the products of an image's regions
    for entry in rows:
        assert entry["measured"] is True
        encode, search, rank = (np.array(entry["stages_ms"][stage]) for stage in STAGES)
        assert gallery.LEAST <= len(encode) <= gallery.MOST
        assert entry["p50_ms"] == pytest.approx(np.median(search + rank))
        assert len(entry["build_samples_s"]) == gallery.TURNS
        assert entry["p50_ms"] <= entry["p95_ms"] <= entry["p99_ms"]
        assert entry["bytes"] == entry["items"] * 4 * kept
        assert (entry["limit_ms"] is not None) == (label == "vsepp")
        assert entry["note"] == ""
    assert [probe["items"] for probe in row.law()["probes"]] == [3, 5]
    assert row.law()["fitted_items"] == [7, 11, 17, 29]


@torch.inference_mode()
def test_what_there_is_no_time_for_follows_the_law():
    row = searcher(budget_s=1e-6)
    take_turns([row])
    assert set(row.samples_ms) == {3, 5}
    law = fit_law(row.medians_ms)
    spread = percentiles(row.searched_ms(5))
    for entry in row.rows():
        assert entry["measured"] is False
        assert entry["stages_ms"] == {stage: [] for stage in STAGES}
        assert entry["p50_ms"] == pytest.approx(spread["p50_ms"] * law.ms(entry["items"]) / law.ms(5))
        assert entry["p50_ms"] >= spread["p50_ms"]  # never below what a smaller gallery took
        assert entry["p99_ms"] / entry["p50_ms"] == pytest.approx(spread["p99_ms"] / spread["p50_ms"])
        assert entry["note"].startswith("time: 7 images need ")


@torch.inference_mode()
def test_a_gallery_that_does_not_fit_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(gallery, "available_bytes", lambda _: 2 * 20 * 4 * DIM)  # 20 images in half of it
    row = searcher()
    take_turns([row])
    assert [entry["measured"] for entry in row.rows()] == [True, True, True, False]
    assert row.rows()[3]["note"] == "memory: 29 images need 0.00 GiB, 0.00 may be taken"
    law = fit_law(row.medians_ms)
    assert row.rows()[3]["p50_ms"] == pytest.approx(row.medians_ms[17] * law.ms(29) / law.ms(17))


def test_rows_take_turns_at_every_size():
    order: list[tuple[str, int]] = []

    class Fake:
        def __init__(self, name: str, largest: int) -> None:
            self.name, self.largest, self.sizes = name, largest, (3, 5, 7)

        def may(self, size: int) -> bool:
            return size <= self.largest

        def burst(self, size: int) -> None:
            order.append((self.name, size))

    seen: list[int] = []
    take_turns([Fake("a", 5), Fake("b", 7)], lambda progress: seen.append(progress.done))  # type: ignore[list-item]
    assert order == [("a", 3), ("b", 3)] * 3 + [("a", 5), ("b", 5)] * 3 + [("b", 7)] * 3
    assert seen == list(range(1, 19))


def test_percentiles_lie_between_samples():
    assert percentiles([1.0, 2.0, 3.0]) == pytest.approx({"p50_ms": 2.0, "p95_ms": 2.9, "p99_ms": 2.98})


def test_embedding_and_shared_block_are_kept_as_one_vector():
    images = Encoded(embedding=numbers(3, DIM), shared=numbers(3, 2))
    row = Searcher(built("vsepp"), images, lambda _: images, 1, SETTINGS, 1.0)
    assert row.images.tensors()["embedding"].shape == (3, DIM + 2)
    assert index_bytes(row.images) == index_bytes(images)
