"""The paper's claims, one by one: what confirms, refutes and decides nothing, and that untuned rows give no verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.measure.verdicts import COMPARABLE, FAR_LESS
from harness.report.formats import ABSENT, csv
from harness.report.read.groups import collect
from harness.report.read.published import gains
from harness.report.tables.checklist import GAIN, LESS, REACH, SAME, checklist, checks

QUERIES = 41  # timed; odd, and enough for an interval of their median


@pytest.fixture
def timed(stored):
    """One query takes 2 ms of VSE++, 2.4 with SelfAlign and 30 of SCAN, encoding 1, 1 and 2 of them."""
    for label, encode, search in (("vsepp", 1, 0.8), ("vsepp+selfalign", 1, 1.2), ("scan:t2i-lse", 2, 27.8)):
        stored.ask(stored.job(label), [encode] * QUERIES, [search] * QUERIES, [0.2] * QUERIES)
    return stored


def found(make):
    (group,) = collect(make.folder)
    return {(check.pair.other.name, check.measure): check for check in checks(group)}


def test_every_pair_is_asked_for_recall_and_for_both_times(timed):
    timed.settle()
    told = found(timed)
    assert {key: (check.claim, check.verdict) for key, check in told.items()} == {
        ("vsepp", "Rsum"): (GAIN, "undecided"),  # two seeds, so far apart that nothing is known
        ("vsepp", "end to end"): (SAME, "confirmed"),  # 1.2 times
        ("vsepp", "search alone"): (SAME, "refuted"),  # 1.4 times
        ("scan:t2i-lse", "Rsum"): (REACH, "undecided"),  # one seed
        ("scan:t2i-lse", "end to end"): (LESS, "confirmed"),  # 0.08 times
        ("scan:t2i-lse", "search alone"): (LESS, "confirmed"),  # 0.05 times
    }
    end = told["vsepp", "end to end"]
    assert (end.value, end.interval, end.items, end.measured) == (
        pytest.approx(1.2),
        pytest.approx((1.2, 1.2)),
        2,
        True,
    )


def test_untuned_rows_give_no_verdict(timed):
    assert {check.verdict for check in found(timed).values()} == {"untuned"}


@pytest.mark.parametrize(
    ("host", "verdict"),
    [(2.4 / COMPARABLE + 0.01, "confirmed"), (2.4 / COMPARABLE - 0.01, "refuted"), (None, "undecided")],
)
def test_the_limit_of_a_comparable_time(timed, host, verdict):
    """A host that takes as long as the limit asks; one that takes less; one whose queries are on both sides."""
    search = [host - 1.2] * QUERIES if host else [0.1] * 20 + [5.0] * 21
    timed.ask(timed.job("vsepp"), [1.0] * QUERIES, search, [0.2] * QUERIES)
    timed.settle()
    assert found(timed)["vsepp", "end to end"].verdict == verdict


@pytest.mark.parametrize(("other", "verdict"), [(2.4 / FAR_LESS + 0.1, "confirmed"), (2.4 / FAR_LESS - 0.1, "refuted")])
def test_the_limit_of_an_order_of_magnitude(timed, other, verdict):
    timed.ask(timed.job("scan:t2i-lse"), [2.0] * QUERIES, [other - 2.2] * QUERIES, [0.2] * QUERIES)
    timed.settle()
    assert found(timed)["scan:t2i-lse", "end to end"].verdict == verdict


def test_few_queries_decide_nothing(timed):
    timed.ask(timed.job("vsepp"), [1.0] * 5, [9.0] * 5, [0.2] * 5)
    timed.settle()
    check = found(timed)["vsepp", "end to end"]
    assert (check.verdict, check.interval) == ("undecided", None)
    assert check.value == pytest.approx(2.4 / 10.2)


def test_what_is_extrapolated_is_known_as_far_as_its_law(timed):
    """A law that is off by a tenth, of 100 ms; the caption's encoding comes on top."""
    cost = timed.store.cost(timed.job("scan:t2i-lse").key)
    (own,) = cost.galleries
    far = own | {"items": 1000, "p50_ms": 100.0, "measured": False, "stages_ms": {s: [] for s in own["stages_ms"]}}
    timed.store.save_cost(replace(cost, galleries=[own, far], law={"residual": 0.1}))
    mine = timed.store.cost(timed.job("vsepp+selfalign").key)
    (near,) = mine.galleries
    timed.store.save_cost(replace(mine, galleries=[near, near | {"items": 1000}]))
    timed.settle()
    (group,) = collect(timed.folder)
    end, search = (check for check in checks(group) if check.items == 1000)
    assert (end.measured, end.value, end.interval) == (
        False,
        pytest.approx(2.4 / 102),
        pytest.approx((2.4 / 112, 2.4 / 92)),
    )
    assert search.interval == pytest.approx((1.4 / 110, 1.4 / 90))
    assert "≈0.0235× [0.0214, 0.0261] confirmed" in set(checklist(group)[2].text["1K images"])


def test_times_in_batches_have_a_ratio_and_no_verdict(stored):
    stored.settle()
    check = found(stored)["vsepp", "in batches"]
    assert (check.value, check.verdict) == (pytest.approx(0.1 / 0.05), "undecided")


def test_the_summary_names_hosts_and_counts_pairs(timed):
    timed.settle()
    (group,) = collect(timed.folder)
    first, recalls, times = checklist(group)
    assert first.text.to_numpy().tolist() == [
        [GAIN, ABSENT, ABSENT, "vsepp", ABSENT],
        [REACH, ABSENT, ABSENT, "1", ABSENT],
        [f"{SAME}: end to end, 2 images", "vsepp", ABSENT, ABSENT, ABSENT],
        [f"{SAME}: search alone, 2 images", ABSENT, "vsepp", ABSENT, ABSENT],
        [f"{LESS}: end to end, 2 images", "1", ABSENT, ABSENT, ABSENT],
        [f"{LESS}: search alone, 2 images", "1", ABSENT, ABSENT, ABSENT],
    ]
    assert list(recalls.text["published"]) == ["+9.1 / +4.2 / +6.6", ABSENT]
    assert times.text.iloc[0].tolist() == ["vsepp+selfalign", "vsepp", "end to end", "1.20× [1.20, 1.20] confirmed"]
    lines = csv(first).splitlines()
    assert lines[1].startswith(f"{GAIN},vsepp+selfalign,vsepp,2,Rsum,,+105.0,-160.1,+370.1,1.00,,undecided,undecided,")
    assert lines[2].startswith(f"{SAME},vsepp+selfalign,vsepp,2,end to end,2,1.20,1.20,1.20,,no,,confirmed,")
    assert len(lines) == 7


def test_without_selfalign_nothing_is_asked(make):
    make.add(make.job("vsepp"), make.ranks([0], [0]))
    first, behind = checklist(collect(make.folder)[0])
    assert (len(first.text), first.notes) == (0, ())
    assert "there is nothing to confirm or refute" in behind.notes[0]


def test_the_published_gains_are_those_of_the_paper():
    assert gains() == {"flickr30k": 9.1, "coco1k": 4.2, "coco5k": 6.6}
    assert gains(()) == {}
