"""Lessons: they leave a host as it was, add what they say, and read what it shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness import contract
from harness.learn.build import build
from harness.spec import registry
from models.modules import distilled

HOSTS = ("vsepp", "vsrn+selfalign", "camera")
MODULES = ("a-sdm", "efa", "distilled")


def trained(model, label, steps=3):
    """The host's own weights after some updates, and what it lost in each."""
    adam, lost = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3), []
    torch.manual_seed(0)
    for update in range(steps):
        terms = contract.losses(model.train(), replace(contract.pairs(label), update=update))
        adam.zero_grad()
        contract.total(terms).backward()
        adam.step()
        lost.append({name: term.item() for name, term in terms.items()})
    return {name: value for name, value in model.state_dict().items() if not name.startswith("lessons")}, lost


def made(label, **options):
    name = label.rpartition("+")[2]
    return build(registry.model(label, module_options={name: options}), contract.INPUTS, 0)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("module", ["a-sdm", "efa"])
def test_a_lesson_of_no_weight_is_the_host_bit_for_bit(host, module):
    plain, before = trained(contract.built(host), host)
    taught, after = trained(made(f"{host}+{module}", weight=0.0), host)
    assert all(torch.equal(value, taught[name]) for name, value in plain.items())
    assert plain.keys() == taught.keys()
    for one, other in zip(before, after, strict=True):
        assert other.pop(module) == 0
        assert one == other


@pytest.mark.parametrize("module", MODULES)
def test_a_lesson_changes_what_is_learned_and_nothing_of_retrieval(module):
    host, label = "vsepp", f"vsepp+{module}"
    plain, taught = contract.built(host).eval(), contract.built(label).eval()
    assert torch.equal(contract.scores(plain, contract.pairs(host)), contract.scores(taught, contract.pairs(label)))
    learned, other = trained(plain, host)[0], trained(taught, label)[0]
    assert not all(torch.equal(value, other[name]) for name, value in learned.items())


def test_a_lesson_may_stand_in_for_the_ranking_loss():
    assert "hinge" in contract.losses(made("vsepp+a-sdm"), contract.pairs("vsepp"))
    assert set(contract.losses(made("vsepp+a-sdm", hinge=False), contract.pairs("vsepp"))) == {"a-sdm"}


def test_two_lessons_add_up():
    batch = contract.pairs("vsepp")
    both = contract.losses(contract.built("vsepp+a-sdm+efa"), batch)
    for module in ("a-sdm", "efa"):
        assert torch.equal(both[module], contract.losses(contract.built(f"vsepp+{module}"), batch)[module])


def test_a_joint_teacher_learns_by_the_hinge_and_nothing_from_its_student(monkeypatch):
    scores = torch.randn(5, 5, requires_grad=True)
    monkeypatch.setattr(distilled, "max_regions_sum_words", lambda *_: scores)
    terms = contract.losses(made("vsepp+distilled", hinge=False), contract.pairs("vsepp"))
    assert terms.keys() == {"alignment", "distilled"}
    terms["distilled"].backward()
    assert scores.grad is None
    terms["alignment"].backward()
    assert scores.grad.any()


def test_two_students_teach_each_other():
    model = made("vsepp+distilled", teacher="peer")
    own, peer = dict(model.named_parameters()), dict(model.lessons["distilled"].peer.named_parameters())
    assert not torch.equal(own["regions.linear.weight"], peer["regions.linear.weight"])
    terms = contract.losses(model.train(), contract.pairs("vsepp"))
    assert terms.keys() == {"hinge", "distilled", "peer hinge", "peer distilled"}
    terms["distilled"].backward(retain_graph=True)
    assert peer["regions.linear.weight"].grad is None
    terms["peer distilled"].backward()
    assert peer["regions.linear.weight"].grad.any()


@pytest.mark.parametrize("mode", ["listwise", "mse", "ordinal", "contrastive"])
def test_every_mode_teaches(mode):
    batch = contract.pairs("vsepp")
    model = made("vsepp+distilled", mode=mode, stride=1)
    contract.losses(model.train(), batch)["distilled"].backward()
    assert model.regions.linear.weight.grad.isfinite().all()
    assert model.regions.linear.weight.grad.any()


def test_a_lesson_may_come_every_so_many_updates():
    model = made("vsepp+distilled", teacher="smoothed", every=3)
    batches = [replace(contract.pairs("vsepp"), update=update) for update in range(4)]
    given = ["distilled" in contract.losses(model, batch) for batch in batches]
    assert given == [True, False, False, True]
    once = contract.losses(made("vsepp+distilled", teacher="smoothed"), batches[0])["distilled"]
    torch.testing.assert_close(contract.losses(model, batches[0])["distilled"], 3 * once)


def test_a_frozen_teacher_is_asked_for_its_scores_and_no_part_of_the_student():
    model = made("vsepp+distilled", teacher="scan:t2i-lse")
    with pytest.raises(ValueError, match="scan:t2i-lse has not been handed over"):
        contract.losses(model, contract.pairs("vsepp"))
    asked = []
    model.lessons["distilled"].teacher = lambda batch: asked.append(len(batch.texts)) or torch.eye(5)
    found = contract.losses(model, contract.pairs("vsepp"))["distilled"]
    torch.testing.assert_close(
        found, contract.losses(made("vsepp+distilled", teacher="smoothed"), contract.pairs("vsepp"))["distilled"]
    )
    assert asked == [5]
    assert model.state_dict().keys() == contract.built("vsepp").state_dict().keys()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "kl"}, "mode"),
        ({"sides": "left"}, "sides"),
        ({"entropy": 1.0}, "entropy"),
        ({"every": 0}, "every"),
        ({"mode": "mse", "sides": "rows"}, "mode='mse'.*sides must be 'both', got 'rows'"),
    ],
)
def test_impossible_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        made("vsepp+distilled", **options)


def test_the_alignment_head_learns_from_the_hardest_negatives_during_the_hosts_warm_up():
    batch, warming = contract.pairs("vsepp"), replace(contract.INPUTS, warmup_updates=9)
    cold, warm = (
        contract.losses(build(registry.model("vsepp+distilled"), inputs, 0), batch)
        for inputs in (contract.INPUTS, warming)
    )
    assert torch.equal(cold["alignment"], warm["alignment"])
    assert not torch.equal(cold["hinge"], warm["hinge"])


def test_a_lesson_that_needs_the_ranking_loss_says_so():
    with pytest.raises(ValueError, match="every > 1"):
        made("vsepp+distilled", every=2, hinge=False)
