"""What a folder of records offers to choose from: its rows and pairs, and why some are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import RECALLS, RerankRecord
from harness.report.read.groups import Group, collect
from harness.report.read.machines import is_asked, machine_words, machines, on_machine
from harness.report.tables.candidates import candidates
from harness.report.tables.choice import Budget, choose
from harness.report.tables.choice_words import verdict
from tests.report.conftest import MACHINE, Maker

KS = [1, 2, 10, 12, 30]  # of 12 images and 30 captions


def lawful(make: Maker, label: str, seed: int = 0, intercept: float = 1.0, per_item: float = 1e-5) -> None:
    """2 ms to encode; then along a law, measured among 1K and 100K images."""
    job = make.job(label, seed)
    cost = make.store.cost(job.key)
    assert cost is not None
    galleries = []
    for items in (1_000, 100_000, 1_000_000):
        measured, ms = items < 1_000_000, intercept + per_item * items
        stages = (
            {"encode": [2.0], "search": [ms], "rank": [0.0]} if measured else {"encode": [], "search": [], "rank": []}
        )
        galleries.append(
            {
                "items": items,
                "p50_ms": ms,
                "p95_ms": ms,
                "p99_ms": ms,
                "measured": measured,
                "note": "",
                "limit_ms": None,
            }
            | {"stages_ms": stages}
        )
    law = {"intercept_ms": intercept, "ms_per_item": per_item, "residual": 0.25}
    make.store.save_cost(replace(cost, galleries=galleries, law=law))


@pytest.fixture
def timed(stored: Maker) -> Maker:
    for label, intercept in {"vsepp": 1.0, "vsepp+selfalign": 5.0, "scan:t2i-lse": 100.0}.items():
        lawful(stored, label, intercept=intercept)
    return stored


def pair(make: Maker, first: str = "vsepp", second: str = "scan:t2i-lse", **changes) -> None:
    """Every recall is k; k ms to rerank, and a second to retrieve, which the retriever's own time stands in for."""
    record = RerankRecord(
        key=f"{make.job(first).key}-{make.job(second).key}",
        retriever=first,
        reranker=second,
        machine=MACHINE,
        sizes={"images": 12, "captions": 30},
        ks=KS,
        accuracy={name: [float(k) for k in KS] for name in RECALLS}
        | {f"{name}_ceiling": [99.0] * len(KS) for name in ("i2t", "t2i", "rsum")},
        queries=[16] * len(KS),
        samples_s={"t2i_retrieve": [[1.0]] * len(KS), "t2i_rerank": [[0.0, k / 1000, 9.0] for k in KS]},
    )
    make.store.save_rerank(replace(record, **changes))


def only(make: Maker) -> Group:
    (group,) = collect(make.folder)
    return group


def test_rows_have_their_mean_interval_time_and_memory_and_chance_is_none(timed):
    field = candidates(only(timed))
    by_name = {candidate.name: candidate for candidate in field.candidates}
    assert list(by_name) == ["vsepp", "vsepp+selfalign", "scan:t2i-lse"]
    vsepp = by_name["vsepp"]
    # image ranks 4, 9 and 4, 10; caption ranks 0, 4, 9, 10, 10: R@1 0 + 20, R@5 50 + 40, R@10 100 + 60 and 50 + 60
    assert vsepp.means == pytest.approx({"rsum": (270 + 220) / 2, "t2i-r1": 20, "i2t-r1": 0})
    assert vsepp.intervals["rsum"] == pytest.approx((245 - 12.7062 * 25, 245 + 12.7062 * 25), abs=0.01)
    assert (vsepp.seeds, vsepp.images, vsepp.bytes_per_image, vsepp.untuned) == (2, 12, 1024, False)
    assert vsepp.curve.at(1_000_000) == pytest.approx(2 + 11)
    assert by_name["scan:t2i-lse"].intervals["rsum"] is None
    assert field.left_out == ()


def test_a_pair_adds_the_rerankers_caption_and_its_shortlist_and_keeps_both_indexes(timed):
    pair(timed)
    field = candidates(only(timed))
    pairs = [candidate for candidate in field.candidates if candidate.k is not None]
    assert [(found.name, found.k) for found in pairs] == [
        ("vsepp, then scan:t2i-lse", 2),
        ("vsepp, then scan:t2i-lse", 10),  # one image is the retriever alone, all twelve the reranker
    ]
    ten = pairs[1]
    assert ten.means == {"rsum": 60.0, "t2i-r1": 10.0, "i2t-r1": 10.0}
    assert ten.rerank_ms == pytest.approx(2 + 10)
    assert (ten.bytes_per_image, ten.seeds, ten.images) == (2048, 1, 12)
    (found,) = choose([ten], Budget(1_000_000, 100)).inside
    assert found.ms == pytest.approx(13 + 12)


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": {**MACHINE, "threads": 4}},
        {"samples_s": {"t2i_retrieve": [[1.0]] * len(KS)}},
        {"samples_s": {"t2i_rerank": [[1.0], [1.0], [], [1.0], [1.0]]}},
    ],
)
def test_pairs_whose_time_is_of_elsewhere_or_not_known_are_left_out_with_a_line(changes, timed):
    pair(timed, **changes)
    field = candidates(only(timed))
    assert all(candidate.k is None for candidate in field.candidates)
    assert field.left_out == ("Left out, reranking not timed, or not as its rows were: vsepp, then scan:t2i-lse.",)


def test_a_pair_without_counts_is_none(timed):
    pair(timed, sizes={})
    assert all(candidate.k is None for candidate in candidates(only(timed)).candidates)


def test_ensembles_rows_of_elsewhere_and_untimed_rows_are_left_out_with_a_line(timed):
    model = replace(timed.job("vsepp").model, method="mine", given="a" * 64)
    timed.add(timed.job("vsrn", 3), timed.ranks([0, 1], [0, 1, 0, 1, 0]))
    together = timed.job("vsrn", 4)
    timed.add(together, timed.ranks([0, 1], [0, 1, 0, 1, 0]), members=[together.key])
    group = only(timed)
    rows = [replace(row, model=model) if row.name == "vsepp+selfalign" else row for row in group.rows]
    told = candidates(replace(group, rows=tuple(rows))).left_out
    assert told[0].startswith("Left out, several models together, never ranked with single ones: vsrn")
    assert told[1] == "Left out, trained elsewhere, never ranked with those trained here: vsepp+selfalign."
    timed.store.cost_path(timed.job("vsepp").key).unlink()
    assert candidates(only(timed)).left_out[-1] == "Left out, not timed from the caption on: vsepp."


def test_rows_that_were_not_timed_alike_are_no_candidates(timed):
    cost = timed.store.cost(timed.job("vsepp").key)
    timed.store.save_cost(replace(cost, machine={**MACHINE, "threads": 4}))
    group = only(timed)
    field = candidates(group)
    assert field.candidates == ()
    assert field.left_out[-1].startswith("Times are left out, rows were not timed alike: threads 4 (vsepp), 2 (vsepp+")
    found = machines([group])
    assert list(found) == ["abacus, 4 threads", "abacus, 2 threads"]
    alone = candidates(on_machine(group, found["abacus, 4 threads"]))
    assert [candidate.name for candidate in alone.candidates] == ["vsepp"]


def test_the_lead_is_told_apart_by_the_interval_over_seeds_and_images(timed):
    field = candidates(only(timed))
    vsepp, aligned, scan = field.candidates
    said = verdict(field.rows, aligned, vsepp)
    assert said.startswith("+")
    assert said.endswith("] Rsum: not told apart")
    assert verdict(field.rows, scan, aligned) == "one seed of scan:t2i-lse: not told apart"
    # caption R@1 40 and 40 beside 20 and 20: no seed differs
    assert verdict(field.rows, aligned, vsepp, "t2i-r1") == "+20.0 [20.0, 20.0] t2i R@1: told apart"


def test_what_is_derived_from_a_row_is_not_told_apart_from_others(timed):
    field = candidates(only(timed))
    vsepp, aligned, _ = field.candidates
    by_index = replace(vsepp, name="vsepp by word anchors", k=100)
    assert verdict(field.rows, aligned, by_index) == (
        "vsepp by word anchors, k=100 is derived from another row: not told apart"
    )


def test_rows_that_share_no_seed_are_told_apart_by_welch(make):
    for seed, label in [(0, "vsepp"), (1, "vsepp"), (2, "vsrn"), (3, "vsrn")]:
        make.add(make.job(label, seed), make.ranks([9 * (label == "vsepp")] * 2, [0] * 5))
        make.time(make.job(label, seed), 1.0)
        lawful(make, label, seed)
    field = candidates(only(make))
    vsepp, vsrn = field.candidates
    assert verdict(field.rows, vsrn, vsepp) == "+200.0 [200.0, 200.0] Rsum: told apart"  # R@1 and R@5 of images


def test_untuned_rows_among_tuned_ones_are_marked(timed):
    assert not any(candidate.untuned for candidate in candidates(only(timed)).candidates)
    timed.settle()
    group = only(timed)
    assert group.is_tuned
    assert not any(candidate.untuned for candidate in candidates(group).candidates)
    rows = tuple(
        replace(row, tuning=replace(row.tuning, how="untuned")) if row.name == "vsepp" else row for row in group.rows
    )
    marked = {candidate.name: candidate.untuned for candidate in candidates(replace(group, rows=rows)).candidates}
    assert marked == {"vsepp": True, "vsepp+selfalign": False, "scan:t2i-lse": False}


def test_a_machine_is_asked_for_by_its_kind_or_its_words():
    cpu, gpu = (
        {"device": "AMD EPYC", "threads": 1, "cuda": None},
        {"device": "NVIDIA H200", "cuda": "13.0", "tf32": False},
    )
    assert (machine_words(cpu), machine_words(gpu)) == ("AMD EPYC, 1 thread", "NVIDIA H200, cuda 13.0")
    for asked, expected in [
        ("cpu", [True, False]),
        ("CUDA", [False, True]),
        ("h200", [False, True]),
        ("", [True, True]),
    ]:
        assert [is_asked(machine_words(machine), machine, asked) for machine in (cpu, gpu)] == expected
