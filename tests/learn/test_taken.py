"""Rows that take the weights of another: looked up by label, part of the identity, at work in training."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from harness import api
from harness.data.prepared import pair_batches, prepare
from harness.data.text_model import TokenStates
from harness.learn import taken as at_work
from harness.learn.build import build
from harness.learn.checkpoint import CheckpointError
from harness.phases.train import load_model
from harness.spec import registry, suites
from harness.spec.job import SpecError
from harness.spec.taken import all_resolved, resolved, weights_hash
from harness.store import Store
from tests.text_models import tiny_bert

TINY = {
    "data.train_images": 24,
    "data.dev_images": 12,
    "data.test_images": 12,
    "settings.batch": 16,
    "settings.dim": 16,
    "settings.word_dim": 8,
    "settings.epochs": 1,
    "settings.min_count": 1,
}
TEACHER, STUDENT = "scan:t2i-lse", "vsepp+distilled"
TAUGHT = TINY | {"distilled.teacher": TEACHER}


def student(seed=0, **changes):
    return api._job(STUDENT, "scenes", seed, TAUGHT | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder with one trained teacher."""
    path = tmp_path_factory.mktemp("taken")
    api.run(TEACHER, path, changes=TINY)
    return path


def test_a_row_is_looked_up_and_is_part_of_the_identity(folder):
    job, store = student(), Store(folder)
    assert registry.wanted(job.model) == {"distilled.teacher": TEACHER}
    found = resolved(job, store)
    key = next(record.key for record in store.records() if record.label == TEACHER)
    assert found.model.taken == {"distilled.teacher": f"{key}.{weights_hash(store, key)}"}
    assert found.key != job.key
    assert found.model == job.model  # rows of several seeds are of one model
    assert type(found).from_dict(found.as_dict()).key == found.key
    by_key = student(**{"distilled.teacher": f"{TEACHER}@{key[:6]}"})
    assert resolved(by_key, store).model.taken == found.model.taken


def test_an_arm_whose_teacher_is_not_there_is_left_out_in_a_line(folder):
    data = student().data
    asked = suites.asked("full", data, only=["ablations/distillation/vsepp"], seeds=[0], changes=TINY)
    found, lines = all_resolved(asked, Store(folder))
    assert len(lines) == 1
    assert "Left out: vsepp chan: distilled.teacher takes the weights of chan" in lines[0]
    (posed,) = found.posed
    assert {*asked.posed[0].arms} - {*posed.arms} == {"chan"}
    assert posed.arms["scan"].model.taken
    assert posed.arms["peer"] == asked.posed[0].arms["peer"]
    with pytest.raises(SpecError, match="takes the weights of chan"):
        all_resolved(replace(asked, rows=(asked.posed[0].arms["chan"],)), Store(folder))


def test_a_job_that_takes_nothing_is_left_alone(folder):
    for row, changes in (("vsepp", TINY), (STUDENT, TINY), (STUDENT, TINY | {"distilled.teacher": "peer"})):
        job = api._job(row, "scenes", 0, changes)
        assert resolved(job, Store(folder)) is job


@pytest.mark.parametrize(
    ("changes", "seed", "says"),
    [
        ({}, 3, "seed 0 is not 3"),
        ({"distilled.teacher": "chan"}, 0, "it was not run there"),
        ({"settings.max_words": 7}, 0, r"its settings\.max_words is 60"),
        ({"data.train_images": 20}, 0, r"its data\.train_images is another"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_in_a_line(folder, changes, seed, says):
    with pytest.raises(SpecError, match=f"distilled.teacher takes the weights of .*{says}"):
        resolved(student(seed, **changes), Store(folder))


def test_of_several_one_is_chosen_by_its_key(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    other = api.run(TEACHER, copy, changes=TINY | {"settings.lr": 1e-3})
    with pytest.raises(SpecError, match=f"has several: choose one by .*{TEACHER}@{other.key}"):
        resolved(student(), Store(copy))
    chosen = resolved(student(**{"distilled.teacher": f"{TEACHER}@{other.key}"}), Store(copy))
    assert chosen.model.taken["distilled.teacher"].startswith(other.key)


def test_weights_that_are_gone_or_changed_are_noticed(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    store, job = Store(copy), resolved(student(), Store(copy))
    path = next(copy.glob("checkpoints/*/best.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    data = prepare(job.data, job.settings)
    with pytest.raises(SpecError, match=rf"the weights of {TEACHER} .* changed since"):
        at_work.hand_over(load_model(job, data), job, data, store)
    with pytest.raises(CheckpointError, match="cannot be used"):
        at_work.hand_over(load_model(job, data), *(resolved(student(), store), data, store))
    path.unlink()
    with pytest.raises(SpecError, match="its weights are gone"):
        resolved(student(), store)


@pytest.mark.parametrize("most_mib", [100.0, 1e-4])
def test_a_teacher_scores_a_batch_as_it_would_alone_each_item_encoded_once(folder, most_mib, monkeypatch):
    job = resolved(student(), Store(folder))
    data = prepare(job.data, job.settings)
    other = at_work.frozen(at_work.Taken.read(job.model.taken["distilled.teacher"]), job, data, Store(folder))
    teacher, encoded = at_work.Teacher(other, data.train, most_mib), []
    real = other.encode_images
    monkeypatch.setattr(other, "encode_images", lambda images: encoded.append(len(images)) or real(images))
    for epoch in (0, 1):
        for batch in pair_batches(data.train, 16, 0, epoch):
            with torch.no_grad():
                alone = other.similarity(real(batch.images), other.encode_texts(batch.texts))
            torch.testing.assert_close(teacher(batch), alone, rtol=1e-4, atol=1e-5)
    batches = 2 * sum(1 for _ in pair_batches(data.train, 16, 0, 0))
    assert len(encoded) == batches if most_mib < 1 else len(encoded) < batches
    assert not any(p.requires_grad for p in other.parameters())


def test_a_student_is_trained_recorded_and_cached(folder):
    record = api.run(STUDENT, folder, changes=TAUGHT)
    assert record.status == "ok", record.error
    assert record.label == STUDENT
    assert record.history[0]["losses"].keys() >= {"hinge", "distilled"}
    assert record.job["model"]["taken"]
    assert api.run(STUDENT, folder, changes=TAUGHT) == record
    plain = api.run("vsepp", folder, changes=TINY)
    assert record.parameters == plain.parameters


def test_a_teacher_must_be_a_row():
    with pytest.raises(SpecError, match=r"distilled.teacher is joint, peer, smoothed or a row: unknown method 'scn'"):
        registry.model(STUDENT, module_options={"distilled": {"teacher": "scn"}})


def test_a_method_that_takes_no_row_says_so():
    job = student()
    model = build(replace(job.model, modules={}), prepare(job.data, job.settings).inputs(job.settings), 0)
    with pytest.raises(NotImplementedError, match="VSEpp takes no row for encoder"):
        model.take("encoder", model)


def test_a_teacher_reads_the_states_of_a_frozen_text_model_that_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bert").mkdir()
    read = {"settings.text_model": tiny_bert(tmp_path / "bert")}
    api.run(TEACHER, tmp_path / "results", changes=TINY | read)
    store, computed = Store(tmp_path / "results"), []
    job = resolved(student(**read), store)
    data = prepare(job.data, job.settings)
    model = load_model(job, data)
    at_work.hand_over(model, job, data, store)
    real = TokenStates._computed
    monkeypatch.setattr(TokenStates, "_computed", lambda self, *given: computed.append(1) or real(self, *given))
    model.get_submodule("lessons.distilled").teacher(next(iter(pair_batches(data.train, 16, 0, 0))))
    assert not computed
