"""Approximate search is fed what it should be and measured against exact search."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from harness.measure import index
from harness.measure.index import filled_up, measure, recall, vectors
from harness.protocol import Encoded
from harness.spec.job import SpecError

REAL = np.random.default_rng(0).standard_normal((31, 7), dtype=np.float32)
QUERIES = np.random.default_rng(1).standard_normal((13, 7), dtype=np.float32)
KINDS = ("exact", "faiss flat", "faiss hnsw", "faiss ivf")


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


# What is indexed -----------------------------------------------------------------------------------------------------


def test_inner_products_of_the_vectors_are_the_scores():
    images = Encoded(embedding=numbers(3, 5), shared=numbers(3, 2))
    texts = Encoded(embedding=numbers(4, 5), shared=numbers(4, 2))
    expected = numbers(3, 5) @ numbers(4, 5).T + numbers(3, 2) @ numbers(4, 2).T
    np.testing.assert_allclose(vectors(images, "a") @ vectors(texts, "a").T, expected.numpy(), rtol=1e-5)


def test_what_is_no_single_vector_is_refused_by_name():
    with pytest.raises(SpecError, match="camera keeps 12 views of an image, a FAISS index holds one vector an item"):
        vectors(Encoded(embedding=numbers(3, 12, 5)), "camera")
    with pytest.raises(SpecError, match="scan keeps fragments, not embeddings"):
        vectors(Encoded(contextual=numbers(3, 12, 5), mask=torch.ones(3, 12, dtype=torch.bool)), "scan")


def test_a_gallery_begins_with_what_is_real_and_goes_on_with_neighbours_of_it():
    gallery = filled_up(REAL, 100)
    assert gallery.shape == (100, 7)
    np.testing.assert_array_equal(gallery[:31], REAL)
    np.testing.assert_array_equal(gallery, filled_up(REAL, 100))
    assert len(np.unique(gallery, axis=0)) == 100
    lengths = np.linalg.norm(gallery, axis=1)
    assert np.isclose(lengths[31:, None], np.linalg.norm(REAL, axis=1), rtol=1e-4).any(1).all()
    directions = gallery / lengths[:, None]
    assert (directions[31:] @ directions[:31].T).max(1).min() > 0.5  # at least half of some real one is in each
    np.testing.assert_array_equal(filled_up(REAL, 5), REAL[:5])


def test_found_are_those_that_score_as_high_as_the_last_of_the_best():
    gallery, query = np.arange(20, dtype=np.float32)[:, None], np.ones(1, np.float32)
    bar = 10.0  # the ten best are 19 down to 10
    assert recall(gallery, query, np.arange(19, 9, -1), bar) == 1
    assert recall(gallery, query, np.array([19, 18, 3, 2, 1, -1, -1, -1, -1, -1]), bar) == 0.2
    assert recall(gallery[:4], query, np.array([3, 2, 1, 0, -1, -1]), 0.0) == 1  # no more than there are


# What is measured ----------------------------------------------------------------------------------------------------


def test_every_index_is_asked_at_every_size():
    pytest.importorskip("faiss")
    seen: list[tuple[int, int]] = []
    entries = measure(REAL, QUERIES, [20, 300], 1, watch=lambda p: seen.append((p.done, p.total)))
    assert {(e["items"], e["index"]) for e in entries} == {(size, kind) for size in (20, 300) for kind in KINDS}
    assert seen[-1] == (8, 8)
    assert seen == sorted(seen)
    for entry in entries:
        assert len(entry["samples_ms"]) == len(QUERIES)
        assert entry["p50_ms"] == pytest.approx(np.median(entry["samples_ms"]))
        assert 0 <= entry["recall"] <= 1
        assert entry["bytes"] >= 4 * 7 * entry["items"]
        assert entry["note"] == ""
    whole = [e for e in entries if e["index"] in ("exact", "faiss flat") or e["setting"] == "nprobe=17 of 17"]
    assert len(whole) == 5  # everything is looked at
    assert {entry["recall"] for entry in whole} == {1.0}
    wide = {e["setting"]: e["recall"] for e in entries if e["index"] == "faiss hnsw" and e["items"] == 300}
    assert wide["efSearch=256"] >= 0.9
    deep = [e["recall"] for e in entries if e["index"] == "faiss ivf" and e["items"] == 300]
    assert deep == sorted(deep)
    assert deep[0] < 1


def test_an_index_that_takes_too_long_is_given_up_and_says_so():
    pytest.importorskip("faiss")
    entries = measure(REAL, QUERIES, [50], 1, build_s=-1.0)
    assert [(e["index"], e["recall"] is None) for e in entries] == [(kind, kind != "exact") for kind in KINDS]
    assert all("0 of 50 items were in" in e["note"] for e in entries[1:])
    assert entries[1]["p50_ms"] is entries[1]["bytes"] is entries[1]["build_s"] is None


def test_a_gallery_that_does_not_fit_is_refused_with_its_size(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(index, "available_bytes", lambda _: 2 * 3 * 4 * 7 * 40)  # 40 items
    entries = measure(REAL, QUERIES, [40, 41], 1)
    assert {e["items"] for e in entries if e["note"]} == {41}
    assert all(e["note"].startswith("memory: 41 vectors need") for e in entries if e["items"] == 41)


def test_without_faiss_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SpecError, match=r"needs faiss: pip install 'selfalign-harness\[index\]'"):
        measure(REAL, QUERIES, [10], 1)
