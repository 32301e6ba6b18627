"""Tables and the figure of retrieve-then-rerank, from stored pairs that are worked out by hand."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from harness import report
from harness.record import RECALLS, RerankRecord
from harness.report.figures.gather import Undrawn, rerank_curves
from harness.report.formats import ABSENT
from harness.report.read.groups import collect
from harness.report.tables.reranking import conflict, is_power_of_ten, points, rerank_sheets

KS = [1, 2, 10, 20, 30]


def made_pair(first: str = "a", second: str = "b", **changes) -> RerankRecord:
    """Every recall is 10 k; the ceilings are 99; a query takes k ms to rerank after 1 ms of retrieval (medians)."""
    pair = RerankRecord(
        key=f"{first}-{second}",
        retriever="vsepp",
        reranker="scan:t2i-lse",
        machine={"device": "abacus", "threads": 2, "cuda": None},
        sizes={"images": 20, "captions": 30},
        ks=KS,
        accuracy={name: [k / 10 for k in KS] for name in RECALLS}
        | {f"{name}_ceiling": [99.0] * len(KS) for name in ("i2t", "t2i", "rsum")},
        queries=[16] * len(KS),
        samples_s={f"{way}_retrieve": [[0.001, 0.0, 9.0] for _ in KS] for way in ("i2t", "t2i")}
        | {f"{way}_rerank": [[0.0, k / 1000, 9.0] for k in KS] for way in ("i2t", "t2i")},
    )
    return replace(pair, **changes)


def test_points_add_up_recalls_and_the_medians_of_both_parts():
    found = points([made_pair()])
    assert [point.k for point in found] == KS
    assert [point.accuracy["rsum"] for point in found] == pytest.approx([0.6 * k for k in KS])
    assert [point.t2i_ms for point in found] == pytest.approx([1 + k for k in KS])


@pytest.mark.parametrize("lacking", ["t2i_retrieve", "t2i_rerank"])
def test_a_time_with_half_its_samples_is_no_time(lacking):
    pair = made_pair()
    samples = {name: values for name, values in pair.samples_s.items() if name != lacking}
    found = points([replace(pair, samples_s=samples)])
    assert {point.t2i_ms for point in found} == {None}
    assert found[0].i2t_ms == pytest.approx(2)


def test_the_table_has_powers_of_ten_and_whole_galleries_the_csv_every_size():
    sheets = rerank_sheets([made_pair()])
    assert sheets is not None
    few, every = sheets
    assert list(few.text["k"]) == ["1", "10", "20", "30"]
    assert list(every.text["k"]) == [str(k) for k in KS]
    last = every.text.iloc[-1]
    assert (last["Rsum"], last["t2i R@1"], last["t2i ceiling"], last["t2i ms/query"]) == ("18.0", "3.0", "99.0", "31.0")
    assert "medians" in few.notes[1]
    assert "(3 samples; cuda —, device abacus, threads 2)" in few.notes[1]


def test_no_pairs_are_no_table():
    assert rerank_sheets([]) is None


def test_without_times_there_is_accuracy_alone():
    sheets = rerank_sheets([made_pair(samples_s={})])
    assert sheets is not None
    assert set(sheets[0].text["t2i ms/query"]) == {ABSENT}
    assert sheets[0].notes[1] == "Nothing was timed."


def test_times_of_unlike_machines_never_share_a_column():
    pairs = [made_pair(), made_pair("c", machine={"device": "abacus", "threads": 4, "cuda": None})]
    assert conflict(pairs) == "Times are left out, pairs were not timed alike: threads differ."
    sheets = rerank_sheets(pairs)
    assert sheets is not None
    assert set(sheets[1].text["i2t ms/query"]) == {ABSENT}
    assert sheets[0].notes[1] == conflict(pairs)
    assert conflict([pairs[0], replace(pairs[1], samples_s={})]) == ""


@pytest.mark.parametrize(
    ("k", "expected"), [(1, True), (10, True), (1000, True), (20, False), (100_1, False), (0, False)]
)
def test_powers_of_ten(k, expected):
    assert is_power_of_ten(k) == expected


# In a folder ---------------------------------------------------------------------------------------------------------


def test_pairs_of_a_folder_stand_in_the_order_of_its_rows_and_only_where_both_rows_count(stored):
    key = {run.record.label: run.record.key for run in collect(stored.folder)[0].runs if run.seed == 0}
    failed = next(record.key for record in stored.store.records() if record.status == "failed")
    for first in ("vsepp+selfalign", "vsepp", "chance"):
        stored.store.save_rerank(made_pair(key[first], key["scan:t2i-lse"], retriever="old name"))
    stored.store.save_rerank(made_pair(failed, key["scan:t2i-lse"]))
    (group,) = collect(stored.folder)
    assert [(pair.retriever, pair.reranker) for pair in group.reranks] == [
        ("chance", "scan:t2i-lse"),
        ("vsepp", "scan:t2i-lse"),
        ("vsepp+selfalign", "scan:t2i-lse"),
    ]
    assert {"rerank.md", "rerank.csv"} <= {path.name for path in report.write(stored.folder)}
    assert len((stored.folder / "tables" / "rerank.csv").read_text().splitlines()) == 1 + 3 * len(KS)


def test_pairs_of_other_settings_stand_in_their_own_group(make):
    keys = {}
    for lr in (2e-4, 8e-4):
        for row in ("vsepp", "scan:t2i-lse"):
            keys[row, lr] = make.add(make.job(row, lr=lr), make.ranks([0, 1], [0, 1]))
    make.store.save_rerank(made_pair(keys["vsepp", 8e-4], keys["scan:t2i-lse", 8e-4]))
    make.store.save_rerank(made_pair(keys["vsepp", 2e-4], keys["scan:t2i-lse", 8e-4]))  # of no one group
    assert [len(group.reranks) for group in collect(make.folder)] == [0, 1]
    assert "rerank-2.md" in {path.name for path in report.write(make.folder)}


# The figure ----------------------------------------------------------------------------------------------------------


def drawn(pairs):
    from harness.report.figures.rerank import rerank

    return rerank(rerank_curves(pairs), "Retrieve, then rerank", "data and settings")


def test_the_figure_has_a_panel_a_reranker_and_a_curve_with_its_ceiling_a_retriever():
    figure = drawn([made_pair(), made_pair("c", retriever="vsrn"), made_pair("a", "d", reranker="bfan")])
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["reranked by scan:t2i-lse", "reranked by bfan"]
    assert [len(panel.lines) for panel in figure.axes] == [4, 2]
    curve, ceiling = figure.axes[0].lines[:2]
    assert curve.get_xdata() == pytest.approx([1 + k for k in KS])
    assert curve.get_ydata() == pytest.approx([0.6 * k for k in KS])
    assert set(ceiling.get_ydata()) == {99.0}
    assert [text.get_text() for text in figure.axes[1].texts] == ["k=1", "k=10"]
    assert figure.axes[0].lines[0].get_marker() != figure.axes[0].lines[2].get_marker()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_figure_can_be_saved(kind):
    written = io.BytesIO()
    drawn([made_pair()]).savefig(written, format=kind)
    assert written.getvalue().startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])


def test_there_is_no_figure_of_what_was_not_timed_or_not_alike():
    for pairs in ([], [made_pair(samples_s={})]):
        with pytest.raises(Undrawn, match="no pair of a retriever and a reranker was timed"):
            rerank_curves(pairs)
    with pytest.raises(Undrawn, match="pairs were not timed alike: cuda, device, threads differ"):
        rerank_curves([made_pair(), made_pair("c", machine={"device": "other"})])
