"""Two stages: a frozen encoder, a scorer that learns from what the encoder finds hardest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.interactive.two_stage import among_hardest
from harness import api, contract
from harness.data.prepared import prepare
from harness.learn.build import build
from harness.learn.checkpoint import load_weights
from harness.learn.stored import load
from harness.learn.taken import hand_over
from harness.phases.train import load_model
from harness.spec import registry
from harness.spec.job import Job, SpecError
from harness.spec.taken import resolved
from harness.store import Store
from tests.learn.test_taken import TINY


def test_the_scorer_alone_is_trained():
    model = contract.built("two_stage")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    contract.total(contract.losses(model.train(), contract.pairs("two_stage"))).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained
    assert not any(name.startswith("encoder.") for name in trained)
    assert not model.encoder.training
    assert before.keys() == model.state_dict().keys()


def test_without_a_scorer_the_first_stage_is_left():
    model, batch = contract.built("two_stage"), contract.pairs("two_stage")
    nn.init.zeros_(model.score.weight)
    torch.testing.assert_close(contract.scores(model, batch), contract.scores(model.encoder, batch))


def test_hard_negatives_are_those_of_the_first_stage_by_hand():
    scores = torch.tensor([[1.0, 5.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    first = torch.tensor([[9.0, 1.0, 2.0], [1.0, 9.0, 2.0], [2.0, 1.0, 9.0]])
    off = ~torch.eye(3, dtype=torch.bool)
    # each row against the one negative that the first stage puts higher, whose score is 0: the 5 is never looked at
    expected = torch.nn.functional.softplus(torch.tensor(-1.0))
    torch.testing.assert_close(among_hardest(scores, first, off, 1), expected)
    assert among_hardest(scores, first, off, 2) > expected
    assert among_hardest(scores, first, torch.zeros_like(off), 1) == 0


def test_an_interactive_encoder_is_refused():
    with pytest.raises(ValueError, match="must be an independent row"):
        build(registry.model("two_stage", {"encoder": "scan:t2i-lse"}), contract.INPUTS, 0)


def test_the_encoders_needs_are_its_own_and_its_weights_those_of_the_seed():
    model = build(registry.model("two_stage", {"encoder": "camera"}), contract.INPUTS, 0)
    assert "boxes" in model.needs
    seeds = [contract.built("two_stage", seed).state_dict() for seed in (0, 1)]
    assert not torch.equal(seeds[0]["keys.weight"], seeds[1]["keys.weight"])


@pytest.mark.parametrize(
    ("encoder", "changes"),
    [
        ("vsepp", {"model.pooling": "max"}),
        ("vsepp", {"control": "final-width"}),
        ("vsepp+selfalign", {"selfalign.negatives": 7, "selfalign.prototypes": 11}),
        ("vsepp", {}),
    ],
)
def test_an_encoder_is_built_as_it_was_stored(encoder, changes, tmp_path):
    stood_on = api.run(encoder, tmp_path, changes=TINY | changes)
    record = api.run("two_stage", tmp_path, changes=TINY | {"model.encoder": encoder})
    assert record.status == "ok", record.error
    assert Job.from_dict(record.job).key == record.key
    assert record.job["model"].get("stands_on", {}) == ({"model.encoder": changes} if changes else {})
    own, its = load(tmp_path, stood_on.key).model, load(tmp_path, record.key).model.encoder
    assert repr(own) == repr(its)
    assert getattr(own, "options", None) == getattr(its, "options", None)
    assert all(torch.equal(value, its.state_dict()[name]) for name, value in own.state_dict().items())


@pytest.mark.parametrize("size", ["dim", "word_dim"])
def test_an_encoder_of_another_width_is_refused(size, tmp_path):
    api.run("vsepp", tmp_path, changes=TINY | {f"settings.{size}": 24})
    job = api._job("two_stage", "scenes", 0, TINY)
    with pytest.raises(SpecError, match=rf"model.encoder takes the weights of vsepp, .*: its settings\.{size} is 24"):
        resolved(job, Store(tmp_path))
    taught = api._job("vsrn+distilled", "scenes", 0, TINY | {"distilled.teacher": "vsepp"})
    assert resolved(taught, Store(tmp_path)).model.taken  # a teacher is as wide as it was stored


def test_an_encoder_that_does_not_fit_is_told_in_torchs_words():
    model = contract.built("two_stage")
    with pytest.raises(ValueError, match="the stored vsepp is not the encoder of two_stage: size mismatch"):
        model.take("encoder", contract.built("vsepp", inputs=replace(contract.INPUTS, word_dim=23)))


def test_it_stands_on_a_stored_row_and_is_recorded(tmp_path):
    api.run("vsepp", tmp_path, changes=TINY)
    store = Store(tmp_path)
    job = resolved(api._job("two_stage", "scenes", 0, TINY), store)
    assert job.model.taken.keys() == {"model.encoder"}
    data = prepare(job.data, job.settings)
    model = load_model(job, data)
    hand_over(model, job, data, store)
    stored = load_weights(next(record.key for record in store.records()), tmp_path)
    assert all(torch.equal(value, stored[name]) for name, value in model.encoder.state_dict().items())
    record = api.run("two_stage", tmp_path, changes=TINY)
    assert record.status == "ok", record.error
    assert record.family == "interactive"
