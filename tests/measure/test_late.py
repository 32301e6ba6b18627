"""Late interaction is measured against the model's own scores, and a full shortlist finds what they find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.contract import built, encodings, pairs
from harness.measure import index, late
from harness.measure.late import Row, fragments, measure, reranked, scores
from harness.protocol import Encoded
from harness.spec.job import Settings, SpecError

KINDS = {"exact", "best products", "muvera sq8", "word anchors"}


@pytest.fixture
def row() -> Row:
    """An untrained CHAN with 5 images of 1 to 7 regions and 5 captions."""
    model = built("chan").eval()
    with torch.inference_mode():
        images, texts = encodings(model, pairs("chan"))
    assert texts.contextual is not None
    assert texts.mask is not None
    queries = [texts.select(slice(n, n + 1)).trim(int(length)) for n, length in enumerate(texts.mask.sum(1))]
    words = texts.contextual[texts.mask].numpy()
    return Row(model, replace(Settings(), threads=1), late._regions(images, "chan"), queries, words)


def test_scores_are_those_of_the_model(row):
    images = fragments(row.real)
    for text in row.queries:
        with torch.inference_mode():
            own = row.model.similarity(images, text)[:, 0]
        torch.testing.assert_close(torch.from_numpy(scores(row, images, text)), own)


def test_a_shortlist_of_everything_is_exact_search(row):
    images = fragments(index.filled_up(row.real, 37))
    for text in row.queries:
        own = scores(row, images, text)
        shuffled = np.random.default_rng(0).permutation(37)
        found = reranked(row, images, lambda _, k, all_=shuffled: all_[:k], 37)(text)
        np.testing.assert_array_equal(found, np.argsort(-own, kind="stable")[:10])
        few = reranked(row, images, lambda _, k, all_=shuffled: all_[:k], 4)(text)
        assert own[few].tolist() == sorted(own[shuffled[:4]].tolist(), reverse=True)


def test_a_gallery_of_fragments_keeps_its_padding_and_their_lengths(row):
    gallery = index.filled_up(row.real, 37)
    np.testing.assert_array_equal(gallery[:5], row.real)
    mask = fragments(gallery).mask
    assert mask is not None
    lengths = np.linalg.norm(gallery, axis=2)
    np.testing.assert_allclose(lengths[mask.numpy()], 1, rtol=1e-5)
    assert set(mask.sum(1).tolist()) <= set(mask[:5].sum(1).tolist())
    assert len(np.unique(gallery.reshape(37, -1), axis=0)) == 37


def test_every_index_is_asked_at_every_size(row, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(late, "SHORTLISTS", (11, 100))
    seen: list[tuple[int, int]] = []
    entries = measure(row, [7, 41], 60.0, lambda progress: seen.append((progress.done, progress.total)))
    assert {(entry["items"], entry["index"]) for entry in entries} == {(n, kind) for n in (7, 41) for kind in KINDS}
    assert seen == sorted(seen)
    assert seen[-1] == (6, 6)
    for entry in entries:
        assert len(entry["samples_ms"]) == len(row.queries)
        assert entry["p50_ms"] == pytest.approx(np.median(entry["samples_ms"]))
        assert entry["bytes"] >= 2 * 7 * 32 * entry["items"]  # fragments in float16 at least
    by = {(e["items"], e["index"], e["setting"]): e["recall"] for e in entries}
    assert [by[n, kind, ""] for n in (7, 41) for kind in ("exact", "best products")] == [1.0] * 4
    for kind in ("muvera sq8", "word anchors"):
        assert by[7, kind, "shortlist=7"] == 1
        assert by[41, kind, "shortlist=41"] >= 0.98  # float16 may exchange the last of the best
        assert by[41, kind, "shortlist=11"] <= by[41, kind, "shortlist=41"]
    assert by[41, "word anchors", "shortlist=11"] > 0.8  # these words are their own anchors


def test_an_index_that_takes_too_long_and_a_gallery_that_does_not_fit_say_so(row, monkeypatch):
    pytest.importorskip("faiss")
    slow = {entry["index"]: entry for entry in measure(row, [7], -1.0)}
    assert {kind for kind, entry in slow.items() if "0 of 7 items were in" in entry["note"]} == KINDS - {
        "exact",
        "best products",
    }
    assert slow["muvera sq8"]["recall"] is slow["muvera sq8"]["p50_ms"] is None
    monkeypatch.setattr(late, "available_bytes", lambda _: 1000)
    entries = measure(row, [7], 60.0)
    assert {entry["index"] for entry in entries} == KINDS
    assert all(entry["note"].startswith("memory: 7 images need 0.00 GiB") for entry in entries)


def test_what_is_no_late_interaction_is_refused(row):
    other = replace(row, model=built("scan:t2i-lse"))
    with pytest.raises(SpecError, match="the score of SCAN is no late interaction"):
        other.pool(torch.ones(2, 3))
    with pytest.raises(SpecError, match="vsepp keeps no fragments"):
        late._regions(Encoded(embedding=torch.ones(2, 3)), "vsepp")
