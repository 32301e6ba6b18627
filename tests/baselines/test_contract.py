"""What every method owes the harness, whoever wrote it: found by file name, so that a new one is held to it at once.

Padded positions hold rubbish in all of these tests: a mask is the only thing that says what is real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.data.vocabulary import SPECIALS
from harness.learn.build import build
from harness.learn.checkpoint import Checkpoints
from harness.learn.trainer import trained_parameters
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch, concatenate
from harness.spec import registry
from tests import parameters
from tests.places import PLACES

VOCABULARY, IMAGE_DIM, REGIONS, WORDS, DIM = 29, 13, 7, 5, 32
INPUTS = Inputs(  # whatever a method may ask for
    image_dim=IMAGE_DIM,
    regions=REGIONS,
    vocabulary=VOCABULARY,
    dim=DIM,
    word_dim=11,
    words=(*SPECIALS, *(f"word{number}" for number in range(len(SPECIALS), VOCABULARY))),
    caption_tokens=torch.arange(1, 1 + 23 * WORDS).view(23, WORDS) % VOCABULARY,
)
LABELS = registry.labels()
every_method = pytest.mark.parametrize("label", LABELS)


def built(label: str, seed: int = 0, inputs: Inputs = INPUTS) -> Retriever:
    return build(registry.model(label), inputs, seed)


def pairs(count: int = 5, more: int = 0, rubbish: int = 0, seed: int = 0) -> PairBatch:
    """Pairs of 1 to 7 regions and 1 to 5 words; `rubbish` seeds what stands in padding, `more` widens it."""
    real, wrong = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(1000 + rubbish)
    regions = torch.arange(REGIONS + more) < torch.tensor([REGIONS, 1, 3, 5, 2])[torch.arange(count) % 5, None]
    words = torch.arange(WORDS + more) < torch.tensor([2, WORDS, 1, 3, 4])[torch.arange(count) % 5, None]

    def filled(mask: Tensor, width: int, draw: Callable[[torch.Generator, tuple[int, ...]], Tensor]) -> Tensor:
        true, false = draw(real, (count, width)), draw(wrong, mask.shape)
        false[:, :width] = torch.where(
            mask[:, :width].view(count, width, *[1] * (true.ndim - 2)), true, false[:, :width]
        )
        return false

    corners = filled(regions, REGIONS, lambda g, shape: 80 * torch.rand(*shape, 2, generator=g))
    extent = filled(regions, REGIONS, lambda g, shape: 1 + 19 * torch.rand(*shape, 2, generator=g))
    fragments = filled(regions, REGIONS, lambda g, shape: torch.randn(*shape, IMAGE_DIM, generator=g))
    tokens = filled(words, WORDS, lambda g, shape: torch.randint(1, VOCABULARY, shape, generator=g))
    sizes = torch.tensor([100.0, 120.0]).expand(count, 2)
    images = ImageBatch(fragments, regions, torch.cat([corners, corners + extent], 2), sizes)
    return PairBatch(images, TextBatch(tokens, words), torch.arange(count))


def chosen(batch: PairBatch, rows: list[int]) -> PairBatch:
    """These pairs of a batch, in this order."""
    images, texts = ([getattr(side, f.name)[rows] for f in fields(side)] for side in (batch.images, batch.texts))
    return PairBatch(ImageBatch(*images), TextBatch(*texts), batch.image_index[rows])


def encodings(model: Retriever, batch: PairBatch) -> tuple[Encoded, Encoded]:
    return model.encode_images(batch.images), model.encode_texts(batch.texts)


def scores(model: Retriever, batch: PairBatch) -> Tensor:
    """(B, B) as the evaluator gets them."""
    model.eval()
    with torch.inference_mode():
        return model.similarity(*(model.indexed(side) for side in encodings(model, batch)))


def losses(model: Retriever, batch: PairBatch) -> dict[str, Tensor]:
    return model.losses(*encodings(model, batch), batch)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum() if terms else torch.zeros(())  # an untrained one has none


def stepped(label: str, seed: int, steps: int = 3) -> tuple[Retriever, list[float]]:
    """A model after some updates, and what it lost before each."""
    model, lost = built(label, seed).train(), []
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        return model, lost
    adam = torch.optim.Adam(trained, lr=1e-3)
    for _ in range(steps):
        loss = total(losses(model, pairs()))
        adam.zero_grad()
        loss.backward()
        adam.step()
        lost.append(loss.item())
    return model, lost


def near(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance, check_dtype=False)


@every_method
def test_shapes_and_family(label):
    model = built(label).eval()
    images, texts = encodings(model, pairs())
    assert len(images) == len(texts) == 5
    assert all(len(tensor) == 5 for side in (images, texts) for tensor in side.tensors().values())
    some = model.similarity(images.select(slice(0, 3)), texts)
    assert some.shape == (3, 5)
    assert some.isfinite().all()
    assert model.family == registry.parse(label)[0].family
    if model.family == "independent":
        assert images.embedding is not None
        assert texts.embedding is not None
        assert images.embedding.shape[-1] == texts.embedding.shape[-1]
        assert texts.embedding.ndim == 2


@every_method
def test_gradients_are_finite_and_reach_every_parameter(label):
    """Within a few updates, for a layer that starts at zero hides what lies before it."""
    model = built(label).train()
    waiting = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adam = torch.optim.Adam(waiting.values(), lr=1e-3) if waiting else None
    for epoch in range(3):
        terms = losses(model, replace(pairs(), epoch=epoch))
        assert all(value.ndim == 0 and value.isfinite() for value in terms.values()), terms
        if adam is None:
            return
        adam.zero_grad()
        total(terms).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        waiting = {name: p for name, p in waiting.items() if p.grad is None or not p.grad.any()}
        adam.step()
    assert not waiting, f"no gradient reaches {', '.join(waiting)}"


@every_method
def test_a_single_pair_costs_something_finite(label):
    model = built(label).train()
    assert all(value.isfinite() for value in losses(model, pairs(1)).values())


@every_method
def test_padding_changes_no_score(label):
    model, _ = stepped(label, seed=0)
    narrow = scores(model, pairs())
    near(scores(model, pairs(rubbish=1)), narrow)
    near(scores(model, pairs(more=3, rubbish=2)), narrow)


@every_method
def test_padding_changes_no_loss(label):
    lost = []
    for rubbish in (0, 1):
        model = built(label).train()
        torch.manual_seed(0)  # of the dropout
        lost.append(total(losses(model, pairs(rubbish=rubbish))))
    near(lost[0], lost[1])


@every_method
def test_order_and_company_change_no_score(label):
    model, _ = stepped(label, seed=0)
    batch = pairs()
    whole = scores(model, batch)
    order = [3, 0, 4, 1, 2]
    near(scores(model, chosen(batch, order)), whole[order][:, order])
    alone = torch.cat([scores(model, chosen(batch, [row])) for row in range(5)]).flatten()
    near(alone, whole.diagonal())


@every_method
def test_blocks_equal_the_whole(label):
    model, _ = stepped(label, seed=0)
    with torch.inference_mode():
        images, texts = (model.indexed(side) for side in encodings(model.eval(), pairs()))
        whole = model.similarity(images, texts)
        rows = [slice(0, 3), slice(3, 5)]
        columns = [slice(0, 1), slice(1, 5)]
        blocks = [torch.cat([model.similarity(images.select(r), texts.select(c)) for c in columns], 1) for r in rows]
    near(torch.cat(blocks), whole)


@every_method
def test_an_index_keeps_all_that_scores_need(label):
    model, _ = stepped(label, seed=0)
    with torch.inference_mode():
        images, texts = encodings(model.eval(), pairs())
        whole = model.similarity(images, texts)
        first, second = (model.indexed(images.select(rows)) for rows in (slice(0, 2), slice(2, 5)))
        kept = model.similarity(concatenate([first, second]), model.indexed(texts))
    near(kept, whole)


@every_method
def test_captions_of_one_length_may_lose_their_padding(label):
    """As the evaluator encodes them: in groups of equal length, which are joined for independent methods."""
    model, _ = stepped(label, seed=0)
    batch = pairs()
    whole = scores(model, batch)
    with torch.inference_mode():
        images = model.indexed(model.encode_images(batch.images))
        for row, length in enumerate(batch.texts.lengths.tolist()):
            alone = TextBatch(batch.texts.tokens[row : row + 1, :length], batch.texts.mask[row : row + 1, :length])
            near(model.similarity(images, model.indexed(model.encode_texts(alone))), whole[:, row : row + 1])


@every_method
def test_weights_survive_a_checkpoint(label, tmp_path: Path):
    model, _ = stepped(label, seed=0)
    before = scores(model, pairs())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(model)
    other = built(label, seed=1)
    assert not torch.equal(scores(other, pairs()), before)
    checkpoints.load_best(other)
    assert torch.equal(scores(other, pairs()), before)


def all_found(scores: Tensor) -> bool:
    """R@1 = 100 both ways."""
    places = torch.arange(len(scores))
    return torch.equal(scores.argmax(0), places) and torch.equal(scores.argmax(1), places)


@every_method
def test_eight_pairs_are_learnt_by_heart(label):
    model = built(label, inputs=replace(INPUTS, warmup_updates=100))
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        return
    batch, adam = pairs(8), torch.optim.Adam(trained, lr=5e-3)
    for step in range(200):
        if step % 10 == 0 and all_found(scores(model, batch)):
            return
        adam.zero_grad()
        total(losses(model.train(), replace(batch, epoch=step // 100, update=step))).backward()  # one half is warm-up
        nn.utils.clip_grad_norm_(trained, 2.0)
        adam.step()
    assert all_found(scores(model, batch)), "after 200 steps not all of 8 pairs find each other"


@every_method
def test_the_same_seed_gives_the_same_numbers(label):
    (model, lost), (twin, lost_again) = stepped(label, seed=0), stepped(label, seed=0)
    assert lost == lost_again
    assert torch.equal(scores(model, pairs()), scores(twin, pairs()))
    assert not torch.equal(scores(built(label, seed=1), pairs()), scores(built(label, seed=0), pairs()))


def in_double(batch: PairBatch) -> PairBatch:
    assert batch.images.boxes is not None
    assert batch.images.sizes is not None
    images = replace(
        batch.images,
        fragments=batch.images.fragments.double(),
        boxes=batch.images.boxes.double(),
        sizes=batch.images.sizes.double(),
    )
    return replace(batch, images=images)


@every_method
def test_double_precision_agrees(label):
    model = built(label)
    single, double = scores(model, pairs()), scores(model.double(), in_double(pairs()))
    assert double.isfinite().all()
    near(double, single, 1e-4)


@every_method
def test_double_precision_trains(label):
    model = built(label).double().train()
    terms = losses(model, in_double(pairs()))
    assert all(value.isfinite() for value in terms.values())
    if trained_parameters(model):
        total(terms).backward()


@every_method
def test_bfloat16_is_close(label):
    model = built(label)
    full = scores(model, pairs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = scores(model, pairs())
        terms = losses(model.train(), pairs())
    assert half.isfinite().all()
    near(half, full, 0.1)
    assert all(value.isfinite() for value in terms.values())
    if trained_parameters(model):
        total(terms).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_batch_moves_to_a_device_as_a_whole():
    moved = pairs().to("meta")
    tensors = [getattr(side, f.name) for side in (moved.images, moved.texts) for f in fields(side)]
    assert {tensor.device.type for tensor in (*tensors, moved.image_index)} == {"meta"}


@every_method
@pytest.mark.parametrize("device", PLACES)
def test_a_device_changes_little(label, device):
    model = built(label)
    here = scores(model, pairs())
    there = scores(model.to(device), pairs().to(device))
    assert there.device.type == device
    near(there.cpu(), here, 0.0 if device == "cpu" else 1e-3)
    near(scores(model.to("cpu"), pairs().to(device).to("cpu")), here)
    terms = losses(model.to(device).train(), pairs().to(device))
    assert all(value.isfinite() for value in terms.values())


@dataclass(frozen=True)
class ToyStates:
    """Stands in for a pretrained text model of another width than `word_dim`."""

    width: int = 17

    def __call__(self) -> nn.Module:
        return _Toy(self.width)


class _Toy(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = nn.Embedding(VOCABULARY, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.table(tokens) * mask[..., None]


@every_method
def test_a_text_model_may_stand_in_for_word_vectors(label):
    model = built(label, inputs=replace(INPUTS, token_states=ToyStates()))
    assert scores(model, pairs()).shape == (5, 5)
    if trained_parameters(model):
        total(losses(model.train(), pairs())).backward()
        tables = [m.table.weight.grad for m in model.modules() if isinstance(m, _Toy)]
        assert tables, (
            f"{label} ignores settings.text_model: build its words from inputs.token_states where it is given"
        )
        assert all(gradient is not None and gradient.any() for gradient in tables)


@pytest.fixture(scope="module")
def default_inputs() -> Inputs:
    return parameters.inputs()


@every_method
def test_the_number_of_trained_parameters_is_the_one_that_is_listed(label, default_inputs):
    found = parameters.count(label, default_inputs)
    assert label in registry.parameters(), "python -m tests.parameters counts it"
    assert found == registry.parameters()[label]


def test_no_count_is_left_of_a_method_that_is_gone():
    assert set(registry.parameters()) == set(LABELS)
