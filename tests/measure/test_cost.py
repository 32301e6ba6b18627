"""The timing phase: equal work for all, in turns, every sample kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data.prepared import Side
from harness.data.split import Images, Split
from harness.data.vocabulary import Vocabulary, tokens
from harness.learn.build import build
from harness.measure import cost, gallery, sampled
from harness.measure.cost import (
    Contender,
    index_bytes,
    measure,
    noise,
    spread,
    workload,
)
from harness.measure.sampled import STAGES, is_current
from harness.progress import Progress
from harness.protocol import Encoded, Inputs
from harness.spec import registry
from harness.spec.job import Data, Job, Settings

REGIONS, DIM, EMBEDDING = 5, 7, 8


@pytest.fixture(autouse=True)
def small_galleries(monkeypatch):
    monkeypatch.setattr(gallery, "PROBES", (3, 5))
    monkeypatch.setattr(sampled, "GALLERIES", (7, 17))


def side(images: int = 11, per_image: int = 2) -> Side:
    rng = np.random.default_rng(0)
    captions = tuple(" ".join(["ant"] * int(rng.integers(1, 6))) for _ in range(images * per_image))
    features = rng.standard_normal((images, REGIONS, DIM), dtype=np.float32)
    stored = Images(features, np.arange(images), tuple(map(str, range(images))))
    split = Split(stored, captions, np.repeat(np.arange(images), per_image))
    return Side(split, tokens(captions, Vocabulary(("ant",)), 60))


def contender(label: str) -> Contender:
    inputs = Inputs(image_dim=DIM, regions=REGIONS, vocabulary=5, dim=EMBEDDING, word_dim=3)
    job = Job(Data(), registry.model(label), Settings(dim=EMBEDDING, word_dim=3))
    return Contender(job, build(job.model, inputs, 0))


@pytest.mark.parametrize(
    ("length", "count", "expected"), [(9, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 1, 2]), (1, 5, [0]), (7, 1, [0])]
)
def test_items_are_spread_evenly(length, count, expected):
    assert spread(length, count).tolist() == expected


def test_the_workload_is_as_large_as_the_split_allows(monkeypatch):
    monkeypatch.setattr(sampled, "IMAGES", 5)
    monkeypatch.setattr(sampled, "CAPTIONS", 13)
    monkeypatch.setattr(sampled, "QUERIES", 3)
    data = side()
    load = workload(data)
    assert load.sizes == {"images": 5, "captions": 13, "queries": 3, "gallery": 11}
    assert load.query_images.tolist() == data.split.caption_to_image[load.queries].tolist()
    assert load.queries[[0, -1]].tolist() == [0, 21]
    assert workload(side(3)).sizes == {"images": 3, "captions": 6, "queries": 3, "gallery": 3}
    assert sampled.sizes(3, 6) == workload(side(3)).sizes  # as records tell it, without the data
    assert sampled.sizes(len(data.split.images), len(data.split.captions)) == load.sizes


def test_every_round_but_the_first_is_a_sample():
    rows = [contender("vsepp"), contender("scan:t2i-lse"), contender("chance")]
    seen: list[Progress] = []
    found = measure(rows, side(), 3, seen.append)
    assert [record.label for record in found] == ["vsepp", "scan:t2i-lse", "chance"]
    for record, row in zip(found, rows, strict=True):
        assert record.key == row.job.key
        assert set(record.samples_s) == set(STAGES)
        assert all(len(samples) == 3 and min(samples) > 0 for samples in record.samples_s.values())
        assert record.sizes == workload(side()).sizes
    assert [p.done for p in seen if p.stage == "time"] == list(range(1, 13))  # 3 methods, 1 + 3 rounds
    assert [p.done for p in seen if p.stage == "query"] == list(range(1, 46))  # 3 methods, 5 galleries, 3 turns
    assert {(p.stage, p.total) for p in seen} == {("time", 12), ("query", 45)}


def test_methods_take_turns(monkeypatch):
    turns: list[str] = []

    class Bench:
        def __init__(self, row: Contender, *_: object) -> None:
            self.label = row.job.model.label

        def sample(self) -> dict[str, float]:
            turns.append(self.label)
            return dict.fromkeys(STAGES, float(len(turns)))

        def searcher(self, budget_s: float) -> float:
            return budget_s

        def record(self, samples: dict[str, list[float]], *_: object) -> dict[str, list[float]]:
            return samples

    monkeypatch.setattr(cost, "_Bench", Bench)
    monkeypatch.setattr(gallery, "take_turns", lambda *_: None)
    first, second = measure([contender("vsepp"), contender("chance")], side(), 2, budget_s=1000.0)
    assert turns == ["vsepp", "chance"] * 3
    assert first == {stage: [3.0, 5.0] for stage in STAGES}  # the first round warmed up
    assert second == {stage: [4.0, 6.0] for stage in STAGES}


def test_models_are_timed_in_eval_mode_and_without_gradients(monkeypatch):
    modes: list[tuple[bool, bool]] = []
    row = contender("vsepp")
    row.model.train()
    inner = row.model.encode_images

    def spied(images: object) -> Encoded:
        modes.append((row.model.training, torch.is_grad_enabled()))
        return inner(images)  # type: ignore[arg-type]

    monkeypatch.setattr(row.model, "encode_images", spied)
    measure([row], side(), 1)
    assert set(modes) == {(False, False)}


def test_an_index_is_counted_in_single_precision_without_its_mask():
    mask = torch.ones(3, 5, dtype=torch.bool)
    encoded = Encoded(embedding=torch.zeros(3, 7), contextual=torch.zeros(3, 5, 7), mask=mask)
    assert index_bytes(encoded) == 4 * (3 * 7 + 3 * 5 * 7)


def test_the_index_of_each_family_has_the_size_of_what_it_keeps():
    vectors, fragments = measure([contender("vsepp"), contender("scan:t2i-lse")], side(), 1)
    assert vectors.index_bytes_per_image == vectors.index_bytes_per_caption == 4 * EMBEDDING
    assert fragments.index_bytes_per_image == 4 * (EMBEDDING * REGIONS + REGIONS**2)  # and their products
    lengths = side().tokens.lengths  # nothing is padded
    assert fragments.index_bytes_per_caption == pytest.approx(4 * EMBEDDING * lengths.mean())


def test_samples_are_current_while_machine_work_and_rounds_are_the_same():
    row, data = contender("vsepp"), side()
    load = workload(data).sizes
    record = measure([row], data, 2)[0]
    assert is_current(record, row.job, load, 2)
    assert not is_current(None, row.job, load, 2)
    assert not is_current(record, row.job, load, 3)
    assert not is_current(record, replace(row.job, settings=replace(row.job.settings, threads=7)), load, 2)
    assert not is_current(record, row.job, workload(side(12)).sizes, 2)
    assert not is_current(record, row.job, load, 2, budget_s=11.0)
    assert not is_current(replace(record, asked={}), row.job, load, 2)  # stored before single queries were timed
    unlike = [{name: value for name, value in entry.items() if name != "stages_ms"} for entry in record.galleries]
    assert not is_current(replace(record, galleries=unlike), row.job, load, 2)  # or their stages
    assert not is_current(replace(record, galleries=record.galleries[:1]), row.job, load, 2)
    fewer_stages = {stage: samples for stage, samples in record.samples_s.items() if stage != "rank"}
    assert not is_current(replace(record, samples_s=fewer_stages), row.job, load, 2)


def test_a_gallery_of_one_can_be_timed():
    for record in measure([contender("vsepp"), contender("scan:t2i-lse")], side(1, per_image=1), 1):
        assert record.sizes == {"images": 1, "captions": 1, "queries": 1, "gallery": 1}


def test_nobody_to_time_is_no_error():
    assert measure([], side(), 2) == []


def test_a_row_over_its_budget_still_has_one_sample_after_the_warm_up():
    slow, fast = measure([contender("scan:t2i-lse"), contender("chance")], side(), 5, budget_s=1e-6)
    for record in (slow, fast):
        assert {len(samples) for samples in record.samples_s.values()} == {1}
        assert record.asked == {"rounds": 5, "budget_s": 1e-6}
        assert [entry["measured"] for entry in record.galleries] == [False, False, False]
    assert is_current(slow, contender("scan:t2i-lse").job, workload(side()).sizes, 5, 1e-6)


def test_a_record_says_how_much_is_computed_kept_and_learnt():
    row = contender("vsepp")
    record = measure([row], side(), 1)[0]
    assert record.parameters == sum(p.numel() for p in row.model.parameters())
    assert record.flops["pair"] == 2 * EMBEDDING
    # the projection of each region; VSE++ pools what comes out of it
    assert record.flops["image"] == 2 * REGIONS * DIM * EMBEDDING
    assert record.flops["caption"] > 0
    assert record.peak_memory_mib is None or record.peak_memory_mib > 1
    assert all(entry["stages_ms"]["encode"] for entry in record.galleries)


def test_scoring_a_pair_of_fragments_takes_at_least_their_products():
    record = measure([contender("scan:t2i-lse")], side(), 1)[0]
    words = np.mean(side().tokens.lengths)
    assert record.flops["pair"] >= 2 * REGIONS * words * EMBEDDING


def test_noise_is_the_interquartile_range_over_the_median():
    assert noise({"score": [1.0, 2.0, 3.0, 4.0, 5.0], "rank": [7.0, 7.0, 7.0]}) == {"score": 2 / 3, "rank": 0.0}
    assert noise({"score": [1.0, 2.0]}) == {"score": None}
