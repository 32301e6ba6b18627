"""Rows that average others, and rows with settings of their own: told apart from the rest."""

from __future__ import annotations

import pytest

from harness.report.outputs import texts
from harness.report.read.groups import collect
from harness.spec import ensembles


@pytest.fixture
def folder(make):
    """SGRAF of two seeds; only the first was timed: 4 and 5 seconds of scoring."""
    jobs = [make.job(row, seed) for row in ("sgraf:sgr", "sgraf:saf") for seed in (0, 1)]
    for job in jobs:
        make.add(job, make.ranks([0, 3], [0, 0, 0, 0, 3]))
    make.time(jobs[0], score=4)
    make.time(jobs[2], score=5)
    for plan in ensembles.plan(jobs).plans:
        make.add(plan.job, make.ranks([0, 0], [0, 0, 0, 0, 0]), family="interactive", members=plan.members)
    return make


# Ensembles


def rows(make):
    (group,) = collect(make.folder)
    return {row.name: row for row in group.rows}


def test_an_ensemble_is_a_row_of_its_own(folder):
    found = rows(folder)
    assert list(found) == ["sgraf*", "sgraf:saf", "sgraf:sgr"]
    assert [row.is_ensemble for row in found.values()] == [True, False, False]
    assert [run.seed for run in found["sgraf*"].runs] == [0, 1]
    assert found["sgraf*"].rsums == {0: 600.0, 1: 600.0}


def test_its_time_is_that_of_all_members_and_one_ranking(folder):
    cost = rows(folder)["sgraf*"].cost
    assert cost is not None
    assert cost.label == "sgraf*"
    assert cost.samples_s["score"] == [9, 0, 18]  # turn by turn: 4 + 5, 0 + 0, 9 + 9
    assert cost.samples_s["encode_images"] == pytest.approx([0.4, 0.2, 0.6])
    assert cost.samples_s["rank"] == [0.01] * 3
    assert (cost.index_bytes_per_image, cost.index_bytes_per_caption) == (2048, 1024)


def test_members_timed_apart_give_no_time(folder):
    folder.time(folder.job("sgraf:saf"), score=5, machine={"device": "loom", "threads": 2})
    assert rows(folder)["sgraf*"].cost is None


def test_a_member_without_time_gives_none(folder):
    folder.store.cost_path(folder.job("sgraf:saf").key).unlink()
    assert rows(folder)["sgraf*"].cost is None


def test_two_seeds_of_one_row_take_twice_its_time(make):
    jobs = [make.job("vsrn", seed) for seed in (0, 1)]
    for job in jobs:
        make.add(job, make.ranks([0, 3], [0, 0, 0, 0, 3]))
    make.time(jobs[0], score=4)
    (plan,) = ensembles.plan(jobs).plans
    make.add(plan.job, make.ranks([0, 0], [0, 0, 0, 0, 0]), family="independent", members=plan.members)
    cost = rows(make)["vsrn*"].cost
    assert cost is not None
    assert cost.samples_s["score"] == [8, 0, 18]


# Suite `paper`


@pytest.fixture
def published(make, tmp_path):
    """Two methods as published, one of them with two seeds; `full` holds the same."""
    makers = tuple(type(make)(tmp_path / name) for name in ("paper-f30k", "full-f30k"))
    for maker in makers:
        for row, seed, lr in (("vsepp", 0, 2e-4), ("vsepp", 1, 2e-4), ("naaf", 0, 5e-4)):
            maker.add(maker.job(row, seed, {"name": "f30k"}, lr=lr), maker.ranks([0, 3], [0, 0, 0, 0, 3]))
    return makers


def test_published_settings_share_a_table_and_say_so(published):
    paper, full = published
    assert len(collect(full.folder)) == 2
    (group,) = collect(paper.folder)
    assert [(row.name, len(row.runs), row.settings) for row in group.rows] == [
        ("vsepp", 2, {"lr": 2e-4}),
        ("naaf", 1, {"lr": 5e-4}),
    ]
    assert "lr" not in group.settings
    assert group.settings["batch"] == 128
    text = texts(paper.folder, [group])["comparison.md"]
    assert "Published settings of each method, not identical: what differs is in the column `settings`." in text
    assert "| lr 0.0002 " in text
    assert "| lr 0.0005 " in text
    assert "Published settings" not in texts(full.folder, collect(full.folder))["comparison-1.md"]


def test_one_method_with_two_settings_is_two_rows(published):
    paper, _ = published
    paper.add(paper.job("naaf", 0, {"name": "f30k"}, lr=1e-4), paper.ranks([0, 3], [0, 0, 0, 0, 3]))
    (group,) = collect(paper.folder)
    assert [row.settings["lr"] for row in group.rows if row.name.startswith("naaf")] == [1e-4, 5e-4]
    assert len({row.name for row in group.rows}) == 3
