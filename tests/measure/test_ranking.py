"""Ranks found while scores go by are those of the whole matrix, bit for bit, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.learn.build import build
from harness.measure import metrics, ranking, scoring
from harness.measure.counting import Best
from harness.measure.memory import peak_of
from harness.measure.ranking import Asked, Ranked, Share, joined, ranked, shares, span, stream
from harness.measure.scoring import Group, ScoreError, all_pairs
from harness.progress import Progress
from harness.protocol import Encoded, Inputs, Untrained
from harness.spec import registry

MODEL = build(registry.model("vsepp"), Inputs(image_dim=2, regions=3, vocabulary=5, dim=8), 0).eval()
NOTHING, PLENTY = 0, 64  # MiB for blocks that are kept


def unbudgeted(block: tuple[int, int], patch: pytest.MonkeyPatch) -> None:
    for module in (scoring, ranking):
        patch.setattr(module, "block_shape", lambda *_: block)


def from_matrix(scores: np.ndarray, owner: np.ndarray, k: int, fold: int) -> dict[str, np.ndarray | int]:
    """The same from the whole matrix, folds cut out of it."""
    i2t, t2i, tied = metrics.ranks(scores, owner)
    found: dict[str, np.ndarray | int] = {"i2t": i2t, "t2i": t2i, "tied_queries": tied}
    found |= {"i2t_top": metrics.top(scores, k, 1), "t2i_top": metrics.top(scores, k, 0)}
    parts = [
        (np.flatnonzero(np.arange(len(scores)) // fold == f), np.flatnonzero(owner // fold == f)) for f in range(9)
    ]
    within = [metrics.ranks(scores[np.ix_(i, c)], owner[c] - i[0]) for i, c in parts if len(i)]
    return found | {
        "fold_i2t": np.concatenate([w[0] for w in within]),
        "fold_t2i": np.concatenate([w[1] for w in within]),
    }


def equal(found: Ranked, expected: dict[str, np.ndarray | int]) -> None:
    for name, value in expected.items():
        ours = getattr(found, name)
        np.testing.assert_array_equal(ours, value, err_msg=name)
        assert np.asarray(ours).dtype == np.asarray(value).dtype or name == "tied_queries", name


@st.composite
def sides(draw: st.DrawFn) -> tuple[Encoded, list[Group], np.ndarray]:
    """Embeddings of few levels, so that many scores tie, or of many; 1 to 4 captions an image; captions in groups."""
    n = draw(st.integers(1, 9))
    owner = np.repeat(np.arange(n), draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    images, texts = rng.standard_normal((n, 8)), rng.standard_normal((len(owner), 8))
    if draw(st.booleans()):
        images, texts = np.sign(images), np.round(texts)
    views = draw(st.booleans())
    image = torch.from_numpy(images).float()
    group_of = rng.integers(0, 3, len(owner))
    groups = [
        Group(rows, Encoded(embedding=torch.from_numpy(texts[rows]).float()))
        for rows in (np.flatnonzero(group_of == g) for g in range(3))
        if len(rows)
    ]
    return Encoded(embedding=torch.stack([image, image.flip(1)], 1) if views else image), groups, owner


@given(sides(), st.integers(1, 10), st.integers(1, 10), st.sampled_from([NOTHING, PLENTY]), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_everything_equals_the_whole_matrix_bit_for_bit(gallery, high, wide, memory_mib, k):
    images, groups, owner = gallery
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        unbudgeted((high, wide), patch)
        matrix = all_pairs(MODEL, images, groups, PLENTY)
        found = stream(MODEL, images, groups, owner, memory_mib, k, fold_images=4)
    equal(found, from_matrix(matrix, owner, k, 4))


class Pairwise(Untrained):
    """An interactive model whose scores are looked up, by places that both sides carry."""

    family = "interactive"
    encode_images = encode_texts = None  # type: ignore[assignment]

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__()
        self.scores = torch.from_numpy(scores)

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.scores[images.extras["place"][:, None], texts.extras["place"]]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Pairwise, Encoded, list[Group], np.ndarray]:
    """Scores of few levels or many; captions in groups, as those of equal lengths are, none of which is consecutive."""
    n = draw(st.integers(1, 9))
    owner = np.repeat(np.arange(n), draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    levels = draw(st.sampled_from([2, 3, 10**6]))
    scores = rng.integers(0, levels, (n, len(owner))).astype(np.float32)
    group_of = rng.integers(0, 3, len(owner))
    groups = [
        Group(rows, Encoded(extras={"place": torch.from_numpy(rows)}))
        for rows in (np.flatnonzero(group_of == g) for g in range(3))
        if len(rows)
    ]
    return Pairwise(scores), Encoded(extras={"place": torch.arange(n)}), groups, owner


@given(pairs(), st.integers(1, 10), st.integers(1, 10), st.sampled_from([NOTHING, PLENTY]), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_an_interactive_model_is_ranked_without_a_matrix_too(gallery, high, wide, memory_mib, k):
    model, images, groups, owner = gallery
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        unbudgeted((high, wide), patch)
        found = stream(model, images, groups, owner, memory_mib, k, fold_images=4)
    equal(found, from_matrix(model.scores.numpy(), owner, k, 4))


@given(pairs() | sides().map(lambda side: (MODEL, *side)), st.integers(1, 4), st.integers(1, 4), st.integers(1, 7))
@settings(max_examples=150, deadline=None)
def test_shares_of_the_blocks_add_up_to_what_one_share_finds(gallery, high, wide, parts):
    model, images, groups, owner = gallery
    asked = Asked(owner, len(images), k=3, fold_images=4)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        unbudgeted((high, wide), patch)
        alone = stream(model, images, groups, owner, PLENTY, 3, fold_images=4)
        images, groups = scoring.prepared(model, images, groups)
        grids = shares(model, images, groups, PLENTY, parts)
        held = [span(grid) for grid in grids]
        parted = [
            Share(model, images.select(some), groups, grid, asked, PLENTY, some.start)
            for grid, some in zip(grids, held, strict=True)
        ]
        positives = joined([share.positives() for share in parted])
        found = ranked([share.counted(positives) for share in parted], asked, 0.0)
    assert 1 <= len(grids) <= parts
    assert (
        max(some.stop - some.start for some in held) <= -(-len(images) // parts) + high
    )  # of memory too it is a share
    equal(found, {name: getattr(alone, name) for name in vars(alone) if name != "seconds"})


@given(sides(), st.integers(1, 10), st.integers(1, 10), st.randoms())
@settings(max_examples=30, deadline=None)
def test_captions_may_come_in_any_order(gallery, high, wide, random):
    images, groups, owner = gallery
    owner = np.array(random.sample(owner.tolist(), len(owner)))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        unbudgeted((high, wide), patch)
        found = stream(MODEL, images, groups, owner, NOTHING)
        i2t, t2i, tied = metrics.ranks(all_pairs(MODEL, images, groups, PLENTY), owner)
    np.testing.assert_array_equal(found.i2t, i2t)
    np.testing.assert_array_equal(found.t2i, t2i)
    assert found.tied_queries == tied
    assert found.i2t_top.size == found.fold_i2t.size == found.fold_t2i.size == 0


@pytest.mark.parametrize("memory_mib", [1, PLENTY])
def test_real_sizes_agree_and_kept_blocks_are_computed_once(memory_mib, monkeypatch):
    """Blocks as the budget makes them, and products whose kernels do round by shape."""
    monkeypatch.setattr(scoring, "CACHE_BYTES", 2**16)
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(331, 257, generator=generator)
    owner = np.repeat(np.arange(331), 3)
    texts = Encoded(embedding=places[owner] + 9 * torch.randn(len(owner), 257, generator=generator))
    groups, images = [Group(np.arange(len(owner)), texts)], Encoded(embedding=places)
    calls: list[int] = []
    inner = MODEL.similarity
    monkeypatch.setattr(MODEL, "similarity", lambda i, t: calls.append(len(i) * len(t)) or inner(i, t))
    matrix = all_pairs(MODEL, images, groups, memory_mib)
    once = sum(calls)
    assert once == matrix.size
    calls.clear()
    seen: list[Progress] = []
    found = stream(MODEL, images, groups, owner, memory_mib, 10, 100, seen.append)
    equal(found, from_matrix(matrix, owner, 10, 100))
    assert sum(calls) == once
    assert [p.done for p in seen] == list(range(1, len(calls) + 1))
    assert {(p.stage, p.total) for p in seen} == {("score", len(calls))}
    assert set(found.seconds) == {"score", "rank"}


def test_a_constant_model_comes_out_last_and_every_query_ties(monkeypatch):
    monkeypatch.setattr(MODEL, "similarity", lambda i, t: torch.zeros(len(i), len(t)))
    owner = np.repeat(np.arange(5), 2)
    sides = Encoded(embedding=torch.ones(5, 8)), [Group(np.arange(10), Encoded(embedding=torch.ones(10, 8)))]
    found = stream(MODEL, *sides, owner, 1, 3)
    assert (found.i2t.tolist(), found.t2i.tolist(), found.tied_queries) == ([8] * 5, [4] * 10, 15)
    assert found.i2t_top.tolist() == [[0, 1, 2]] * 5
    assert found.t2i_top.tolist() == [[0, 1, 2]] * 10


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("image", [0, 4])
def test_a_score_that_is_not_finite_is_refused_with_its_block(bad, image):
    embedding = torch.ones(5, 8)
    embedding[image, 0] = bad
    groups = [Group(np.arange(10), Encoded(embedding=torch.ones(10, 8)))]
    with pytest.raises(ScoreError, match=r"^VSEpp, images 0 to 5, captions 0 to 10: 10 of 50 scores are not finite$"):
        stream(MODEL, Encoded(embedding=embedding), groups, np.repeat(np.arange(5), 2), 1)


@given(
    st.lists(st.floats(-2, 2, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1e-45, 1e-45]), min_size=1, max_size=300),
    st.integers(1, 10),
    st.integers(1, 200),
    st.randoms(),
)
@settings(max_examples=100, deadline=None)
def test_the_best_of_blocks_in_any_order_are_the_best_of_all(values, k, wide, random):
    scores = np.array([values, values[::-1]], np.float32)
    for axis, matrix in ((1, scores), (0, np.ascontiguousarray(scores.T))):
        best = Best(2, min(k, len(values)))
        for columns in random.sample(parts := list(metrics.blocks(len(values), wide)), len(parts)):
            block = matrix[:, columns] if axis == 1 else matrix[columns]
            best.add(block, slice(0, 2), columns, axis)
        assert best.items().tolist() == [np.argsort(-row, kind="stable")[:k].tolist() for row in scores]


@pytest.mark.slow
def test_memory_of_an_interactive_model_does_not_grow_with_the_matrix():
    """5,000 x 25,000 scores of captions of 20 lengths: 477 MiB as a whole."""
    n, m, lengths = 5000, 25000, 20
    rng = np.random.default_rng(0)
    length = rng.integers(lengths, size=m)
    images, texts = torch.randn(n, 1, 8), torch.randn(m, 1, 8)

    class Fragments(Pairwise):
        def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
            assert images.fragments is not None
            assert texts.fragments is not None
            return images.fragments[:, 0] @ texts.fragments[:, 0].T

    def side(fragments: Tensor) -> Encoded:
        return Encoded(fragments=fragments, mask=torch.ones(fragments.shape[:2], dtype=torch.bool))

    groups = [Group(rows, side(texts[rows])) for rows in (np.flatnonzero(length == g) for g in range(lengths))]

    def found() -> Ranked:
        with torch.inference_mode():
            return stream(Fragments(np.zeros((1, 1))), side(images), groups, np.arange(m) // 5, 64, 10, 1000)

    _, before = peak_of(lambda: None, "cpu")
    _, peak = peak_of(found, "cpu")
    if before is None or peak is None:
        pytest.skip("this system does not count peaks of memory")
    assert peak - before < 256


@pytest.mark.slow
def test_the_largest_protocol_takes_less_memory_than_its_matrix():
    """5,000 x 25,000 scores are 477 MiB; beside both sides there are blocks and what is kept of them."""
    narrow, n, m = 64, 5000, 25000
    images, texts = torch.randn(n, narrow), torch.randn(m, narrow)
    group = Group(np.arange(m), Encoded(embedding=texts))

    def ranked() -> Ranked:
        with torch.inference_mode():
            return stream(MODEL, Encoded(embedding=images), [group], np.arange(m) // 5, 64, 10, 1000)

    _, before = peak_of(lambda: None, "cpu")
    _, peak = peak_of(ranked, "cpu")
    if before is None or peak is None:
        pytest.skip("this system does not count peaks of memory")
    assert peak - before < 256
