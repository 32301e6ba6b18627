"""The controls of a host: as wide in the end, as many parameters, as wide throughout as with SelfAlign, no more."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from harness import contract
from harness.learn.build import build, matching_width
from harness.phases import train
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from harness.spec import registry
from harness.spec.job import Data, Job, Settings
from harness.spec.override import override
from models.selfalign import Options, SelfAlign
from models.width import FinalWidth

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=37, dim=16, word_dim=7)
HOSTS = ("vsepp", "vse_infty", "vsrn", "camera")


def batch(pairs: int = 3) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(pairs, 5, 2, generator=generator)
    images = ImageBatch(
        fragments=torch.randn(pairs, 5, 13, generator=generator),
        mask=torch.ones(pairs, 5, dtype=torch.bool),
        boxes=torch.cat([corner, corner + 10], 2),
        sizes=torch.full((pairs, 2), 100.0),
    )
    tokens = torch.randint(1, 37, (pairs, 4), generator=generator)
    return PairBatch(images, TextBatch(tokens, tokens > 0), torch.arange(pairs))


def made(label: str, control: str = ""):
    return build(replace(registry.model(label), control=control), INPUTS, seed=0).eval()


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("host", HOSTS)
def test_a_control_is_as_wide_as_selfalign_makes_an_embedding(host):
    data = batch()

    def widths(model) -> set[int]:
        """Of what an inner product reads of either side: an embedding (or view) and what views share."""
        sides = model.encode_images(data.images), model.encode_texts(data.texts)
        return {s.embedding.shape[-1] + (0 if s.shared is None else s.shared.shape[-1]) for s in sides}

    wanted = widths(made(f"{host}+selfalign"))
    assert wanted == {3 * INPUTS.dim}
    assert widths(made(host, "final-width")) == widths(made(host, "width")) == wanted


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("options", [{}, {"prototypes": 40}], ids=["usual", "fewer prototypes"])
def test_a_control_has_as_many_parameters_as_any_width_allows(host, options):
    """Those of the very SelfAlign that it is a control of."""
    aligned = Job(Data(), registry.model(f"{host}+selfalign", None, options), Settings())
    control = override(aligned, {"selfalign": False, "control": "parameters"}).model
    wanted, found = (parameters(build(model, INPUTS, seed=0)) for model in (aligned.model, control))
    width = matching_width(control, INPUTS)
    step = registry.methods()[host].options.get("heads", 1)
    for other in (width - step, width + step):
        neighbour = build(registry.model(host), replace(INPUTS, dim=other), seed=0)
        assert abs(found - wanted) <= abs(parameters(neighbour) - wanted)


def test_only_the_last_map_is_new_and_the_host_keeps_its_weights_and_losses():
    host, wide = made("camera"), made("camera", "final-width")
    assert isinstance(wide, FinalWidth)
    state = wide.host.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in host.state_dict().items())
    data = batch()
    for model in (host, wide):
        model.train()
    own = [m.own_losses(m.encode_images(data.images), m.encode_texts(data.texts), data) for m in (host, wide)]
    assert own[0].keys() == own[1].keys() != set()
    assert all(torch.equal(own[0][name], own[1][name]) for name in own[0])


def test_an_embedding_of_two_vectors_is_widened_by_as_much_as_selfalign_does():
    pairs = contract.pairs("cvse")
    host, module = contract.built("cvse"), contract.built("cvse+selfalign")
    wide = build(replace(registry.model("cvse"), control="final-width"), contract.INPUTS, seed=0)
    for one, other, own in zip(*(contract.encodings(m, pairs) for m in (wide, module, host)), strict=True):
        assert one.embedding.shape == other.embedding.shape == (5, own.embedding.shape[1] + 2 * contract.INPUTS.dim)
    assert contract.losses(wide.train(), pairs).keys() == contract.losses(host.train(), pairs).keys()


def test_a_host_whose_embedding_is_not_as_wide_as_it_says_is_refused():
    host = contract.built("cvse")
    host.embedding_parts = 1
    with pytest.raises(ValueError, match=r"CVSE makes embeddings of width 64, its `embedding_parts` = 1 says 32"):
        FinalWidth(host).encode_images(contract.pairs("cvse").images)


def test_every_part_of_a_widened_embedding_learns():
    wide = made("vsepp", "final-width").train()
    data = batch()
    sum(wide.losses(wide.encode_images(data.images), wide.encode_texts(data.texts), data).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (wide.images.weight, wide.texts.weight))


@pytest.mark.parametrize("wrapper", [FinalWidth, lambda host: SelfAlign(host, Options())])
def test_a_host_that_stands_on_a_stored_row_takes_it_behind_whatever_is_put_on_it(wrapper, monkeypatch):
    host, other, taken = made("vsepp"), made("vsepp"), []
    monkeypatch.setattr(host, "take", lambda *given: taken.append(given))
    wrapper(host).take("encoder", other)
    assert taken == [("encoder", other)]


def test_an_interactive_model_has_no_embedding_to_widen():
    with pytest.raises(ValueError, match="only an independent host"):
        FinalWidth(made("scan:t2i-lse"))


def test_fragments_go_unread_where_nothing_stands_on_a_host_and_nowhere_else():
    alone = build(registry.model("vsepp"), INPUTS, 0, fragments_read=False)
    assert alone.encode_images(batch().images).fragments is None
    assert made("vsepp").encode_images(batch().images).fragments is not None
    for label in ("vsepp+selfalign", "vsepp+efa"):
        model = build(registry.model(label), INPUTS, 0, fragments_read=False)
        images, texts = model.encode_images(batch().images), model.encode_texts(batch().texts)
        assert all(term.isfinite() for term in model.losses(images, texts, batch()).values())


def test_a_job_is_built_for_training_with_its_fragments_unread(monkeypatch):
    told = {}
    monkeypatch.setattr(train, "build", lambda *given, **how: told.update(how) or build(*given, **how))
    data = SimpleNamespace(inputs=lambda _: INPUTS)
    train.load_model(Job(Data(), registry.model("vsepp"), Settings()), data)  # type: ignore[arg-type]
    assert told == {"fragments_read": False}
