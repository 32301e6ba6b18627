"""Ensembles: which jobs are averaged, and that what is averaged are the members' scores, element by element."""

from dataclasses import replace

import numpy as np
import pytest

from harness.data.prepared import prepare
from harness.learn.checkpoint import Checkpoints
from harness.measure.metrics import ranks
from harness.phases import average
from harness.phases.train import execute
from harness.progress import unwatched
from harness.spec import ensembles, registry, suites
from harness.spec.ensembles import ENSEMBLES
from harness.spec.job import Data, Job, Settings
from harness.store import Store

pytestmark = pytest.mark.usefixtures("same_torch_after")
SMALL = Settings(epochs=1, batch=13, dim=8, word_dim=7, min_count=1)


def planned(*rows, seeds=(0,)):
    jobs = [Job(Data(), registry.model(row), replace(SMALL, seed=seed)) for row in rows for seed in seeds]
    return ensembles.plan(jobs)


# Which jobs


def test_members_are_rows_and_labels_are_marked():
    for ensemble in ENSEMBLES:
        assert set(ensemble.members) <= set(registry.labels())
        assert "*" in ensemble.name
        assert (len(ensemble.members), ensemble.seeds) in ((2, 1), (1, 2))


def test_rows_trained_apart_are_averaged_seed_by_seed():
    plans = planned("sgraf:sgr", "sgraf:saf", "vsepp", seeds=(0, 1, 2)).plans
    assert [plan.name for plan in plans] == ["sgraf* seed 0", "sgraf* seed 1", "sgraf* seed 2"]
    assert [[job.name for job in plan.jobs] for plan in plans] == [
        [f"sgraf:sgr seed {seed}", f"sgraf:saf seed {seed}"] for seed in range(3)
    ]


def test_two_seeds_of_one_row_are_one_run():
    (plan,) = planned("vsrn+selfalign", seeds=(5, 7, 9)).plans
    assert [job.settings.seed for job in plan.jobs] == [5, 7]
    assert plan.job.model.label == plan.ensemble.name == "vsrn*+selfalign"


def test_arms_of_an_ablation_are_not_members():
    jobs = suites.jobs("full", Data(), only=["vsrn+selfalign", "ablations/submodules/vsrn"], seeds=[1, 2])
    (plan,) = ensembles.plan([job for job in jobs if job.model.selfalign]).plans
    rows = suites.jobs("full", Data(), only=["vsrn+selfalign"], seeds=[1, 2])
    assert plan.members == [job.key for job in rows[:2]]


def test_what_is_too_little_is_said():
    assert planned("camera").short == ("camera*: needs 2 seeds of camera, 1 asked for",)
    sgr, saf = (
        Job(Data(), registry.model(f"sgraf:{module}"), replace(SMALL, seed=seed))
        for seed, module in enumerate(("sgr", "saf"))
    )
    found = ensembles.plan([sgr, saf])
    assert (found.plans, found.short) == ((), ("sgraf*: sgraf:sgr and sgraf:saf share no seed",))


def test_half_an_ensemble_is_none():
    assert planned("sgraf:sgr", "vsepp") == ensembles.Planned((), ())


def test_the_key_is_that_of_the_members():
    (one,), (again,), (other,) = (planned("vsrn", seeds=seeds).plans for seeds in ((0, 1), (0, 1), (0, 2)))
    assert one.key == again.key != other.key
    assert one.key not in one.members


def test_full_has_every_ensemble_of_two_seeds():
    found = ensembles.plan(suites.jobs("full", Data(), seeds=[1, 2]))
    assert {plan.ensemble.name for plan in found.plans} == {ensemble.name for ensemble in ENSEMBLES}
    assert not found.short
    assert len({plan.key for plan in found.plans}) == len(found.plans)


# What is averaged

ROWS = ("scan:t2i-avg", "scan:i2t-lse")


@pytest.fixture
def made(data_folder, tmp_path):
    """Two trained members with their scores, and the plan of their ensemble."""
    data = Data(name="zoo", path=str(data_folder))
    jobs = [Job(data, registry.model(row), SMALL) for row in ROWS]
    store = Store(tmp_path / "full-zoo")
    for job in jobs:
        execute(job, store, keep_scores=True)
    (plan,) = ensembles.plan(jobs).plans
    return plan, store


def told(plan, store, force=False):
    return list(average.phase(plan.jobs, store, lambda _: unwatched, force=force))


def test_the_mean_of_two_matrices_by_hand(monkeypatch):
    monkeypatch.setattr(average, "BLOCK_ROWS", 2)
    one, other = np.arange(15, dtype=np.float32).reshape(5, 3), np.full((5, 3), 4, np.float32)
    found = average.mean_of([one, other])
    assert found.dtype == np.float32
    assert found.tolist() == [[2 + i / 2 for i in range(3 * row, 3 * row + 3)] for row in range(5)]


def test_an_ensemble_ranks_the_mean_of_stored_scores(made):
    plan, store = made
    assert told(plan, store)[0].startswith("done    scan* seed 0: test Rsum ")
    record, found = store.record(plan.key), store.ranks(plan.key)
    members = [store.record(key) for key in plan.members]
    assert (record.label, record.status, record.family, record.members) == ("scan*", "ok", "interactive", plan.members)
    assert record.parameters == sum(member.parameters for member in members)
    assert record.seconds["train"] == pytest.approx(sum(member.seconds["train"] for member in members))
    matrices = [np.load(store.scores_path(key)) for key in plan.members]
    assert not np.array_equal(*matrices)
    split = prepare(plan.job.data, SMALL).ranked.split
    i2t, t2i, tied = ranks((matrices[0] + matrices[1]) / 2, split.caption_to_image)
    assert found.i2t.tolist() == i2t.tolist()
    assert found.t2i.tolist() == t2i.tolist()
    assert record.tied_queries == tied
    assert Job.from_dict(record.job).model == plan.job.model


def test_nothing_is_made_twice_but_when_a_member_ran_again(made):
    plan, store = made
    told(plan, store)
    assert told(plan, store)[0] == "cached  scan* seed 0"
    assert told(plan, store, force=True)[0].startswith("done")
    record = store.record(plan.members[0])
    store.save(replace(record, provenance={**record.provenance, "finished": "later"}), store.ranks(record.key))
    assert told(plan, store)[0].startswith("done")


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:200])])
def test_lost_scores_come_from_the_weights(made, spoil):
    plan, store = made
    told(plan, store)
    before = np.load(store.scores_path(plan.members[1])), store.ranks(plan.key)
    spoil(store.scores_path(plan.members[1]))
    assert told(plan, store, force=True)[0].startswith("done")
    assert np.array_equal(np.load(store.scores_path(plan.members[1])), before[0])
    assert store.ranks(plan.key).t2i.tolist() == before[1].t2i.tolist()


def test_a_missing_member_is_named_and_leaves_no_record(made):
    plan, store = made
    told(plan, store)
    store.scores_path(plan.members[1]).unlink()
    Checkpoints(store.checkpoints(plan.members[1])).discard()
    (line, _) = told(plan, store, force=True)
    assert line == "missing scan* seed 0: scan:i2t-lse seed 0 has neither scores nor weights (--force trains it again)"
    assert store.record(plan.key) is store.ranks(plan.key) is None
    store.save(replace(store.record(plan.members[0]), status="failed", error="no"))
    assert told(plan, store) == ["missing scan* seed 0: scan:t2i-avg seed 0 failed"]
    store.remove(plan.members[0])
    assert told(plan, store) == ["missing scan* seed 0: scan:t2i-avg seed 0 is not recorded"]


def test_the_room_that_scores_take_is_told(made):
    plan, store = made
    assert told(plan, store)[-1] == "scores  2 matrices for ensembles take 0.0 MiB in full-zoo/scores, safe to delete"


def test_scores_are_kept_for_members_alone(data_folder, tmp_path):
    store, job = Store(tmp_path), Job(Data(name="zoo", path=str(data_folder)), registry.model("chance"), SMALL)
    execute(job, store)
    assert store.scores(job.key) is None
    execute(job, store, keep_scores=True)
    assert store.scores(job.key) is not None
    execute(job, store)  # whose weights may be others: scores of the run before are not its own
    assert store.scores(job.key) is None
