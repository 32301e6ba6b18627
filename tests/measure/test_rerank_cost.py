"""Timing of both parts of a query: turns, equal work for all, and that what is timed is the real thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.data.prepared import Side
from harness.data.split import Images, Split
from harness.data.vocabulary import Vocabulary, tokens
from harness.learn.build import build
from harness.measure import evaluator, rerank_cost
from harness.measure.cost import Contender
from harness.measure.rerank_cost import measure, plan, queries_of
from harness.progress import Progress
from harness.protocol import Inputs
from harness.spec import registry
from harness.spec.job import Data, Job, Settings

REGIONS, DIM = 5, 7
SETTINGS = Settings(dim=8, word_dim=3)
KS = (1, 3, 11, 22)


def side(images: int = 11, per_image: int = 2) -> Side:
    rng = np.random.default_rng(0)
    captions = tuple(" ".join(rng.choice(["ant", "bee"], rng.integers(1, 6))) for _ in range(images * per_image))
    features = rng.standard_normal((images, REGIONS, DIM), dtype=np.float32)
    split = Split(
        Images(features, np.arange(images), tuple(map(str, range(images)))),
        captions,
        np.repeat(np.arange(images), per_image),
    )
    return Side(split, tokens(captions, Vocabulary(("ant", "bee")), 60))


def contender(label: str) -> Contender:
    inputs = Inputs(image_dim=DIM, regions=REGIONS, vocabulary=6, dim=8, word_dim=3)
    job = Job(Data(), registry.model(label), SETTINGS)
    return Contender(job, build(job.model, inputs, 0))


def bench(label: str) -> rerank_cost._Bench:
    with torch.inference_mode():
        return rerank_cost._Bench(contender(label), side(), plan(side(), KS))


@pytest.mark.parametrize(("k", "expected"), [(1, 16), (125, 16), (200, 10), (2000, 1), (5000, 1)])
def test_large_shortlists_have_fewer_queries(k, expected):
    assert queries_of(k) == expected


def test_candidates_are_distinct_nested_and_others_for_every_query():
    shared = plan(side(), KS)
    whole = [shared.candidates("i2t", query, 99).tolist() for query in range(11)]
    assert all(sorted(items) == list(range(22)) for items in whole)
    assert len({tuple(items) for items in whole}) == 11
    assert shared.candidates("i2t", 3, 5).tolist() == whole[3][:5]
    assert len(shared.candidates("t2i", 0, 99)) == 11


def test_every_part_has_a_sample_a_round_and_size():
    rows, seen = [contender("vsepp"), contender("scan:t2i-lse")], list[Progress]()
    found = measure(rows, side(), KS, 3, seen.append)
    parts = {"vsepp": "retrieve", "scan:t2i-lse": "rerank"}
    for row in rows:
        samples = found[row.job.key]
        assert set(samples) == {f"{way}_{parts[row.job.model.label]}" for way in ("i2t", "t2i")}
        assert all(len(of_k) == 3 and min(of_k) > 0 for by_k in samples.values() for of_k in by_k)
        assert all(len(by_k) == len(KS) for by_k in samples.values())
    assert [(p.done, p.total) for p in seen] == [(n, 8) for n in range(1, 9)]  # two methods, a warm-up and 3 rounds


def test_no_rounds_are_no_samples():
    assert measure([contender("vsepp")], side(), KS, 0) == {}


def test_methods_take_turns(monkeypatch):
    turns: list[str] = []
    names = {(rows := [contender("vsepp"), contender("scan:t2i-lse")])[0].job.key: "a", rows[1].job.key: "b"}
    monkeypatch.setattr(rerank_cost._Bench, "sample", lambda self, *_: turns.append(names[self.key]) or len(turns))
    found = measure(rows, side(), (1,), 2)
    assert "".join(turns) == "aabb" * 3  # both directions
    assert found[rows[0].job.key] == {"i2t_retrieve": [[5, 9]], "t2i_retrieve": [[6, 10]]}  # the first round warmed up


@torch.inference_mode()
def test_the_retrieval_that_is_timed_finds_the_best_of_the_gallery():
    made, data = bench("vsepp"), side()
    scores, _ = evaluator.scores(made.model, data, SETTINGS)
    for query in range(5):
        for way, row_of in (("t2i", scores.T), ("i2t", scores)):
            row = row_of[made.plan.queries[way][query]]
            found = row[made._retrieve(way, query, 4).numpy()]
            np.testing.assert_allclose(found, np.sort(row)[::-1][:4], rtol=1e-6)  # equal captions have equal scores


@pytest.mark.parametrize("label", ["scan:t2i-lse", "scan:i2t-avg"])
@torch.inference_mode()
def test_the_reranking_that_is_timed_puts_the_candidates_in_the_order_of_their_scores(label):
    made, data = bench(label), side()
    scores, _ = evaluator.scores(made.model, data, SETTINGS)
    for query in range(5):
        for k in (1, 4, 22):
            some, item = made.plan.candidates("t2i", query, k), made.plan.queries["t2i"][query]
            ordered = scores[some, item][made._rerank("t2i", query, k)]
            assert np.all(np.diff(ordered) <= 1e-6)
            some, item = made.plan.candidates("i2t", query, k), made.plan.queries["i2t"][query]
            ordered = scores[item, some][made._rerank("i2t", query, k)]
            assert len(ordered) == k
            assert np.all(np.diff(ordered) <= 1e-6)


def test_a_gallery_of_one_can_be_timed():
    found = measure([contender("vsepp"), contender("scan:t2i-lse")], side(1, 1), (1,), 1)
    assert len(found) == 2
