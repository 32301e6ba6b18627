"""What every method owes the harness, whoever wrote it: checks that say in a sentence what is wrong and what to do.

A check takes a row's label and raises Broken; where it does not apply it returns why, else "".
Padded positions hold rubbish in all of them: a mask is the only thing that says what is real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.vocabulary import SPECIALS
from harness.learn.build import build
from harness.learn.checkpoint import Checkpoints
from harness.learn.trainer import trained_parameters
from harness.measure.anchors import best_products
from harness.parameters import counted
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch, concatenate
from harness.spec import registry
from harness.spec.methods import FITS
from models.retrievers import Independent

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
UNTRAINED = "it trains nothing"
UNPADDED = "it reads neither fragments nor tokens, and nothing else is padded"
Check = Callable[[str], str]


class Broken(AssertionError):
    """A check that a method does not pass; the message is a sentence."""


def demand(holds: bool | Tensor, sentence: str) -> None:
    """Raises Broken."""
    if not holds:
        raise Broken(sentence)


def near(found: Tensor, wanted: Tensor, sentence: str, tolerance: float = 1e-5) -> None:
    """Raises Broken where two tensors differ by more than `tolerance`, absolutely and relatively."""
    demand(found.shape == wanted.shape, f"{sentence}: shape {tuple(found.shape)} in place of {tuple(wanted.shape)}")
    found, wanted = found.double(), wanted.double()
    off = float((found - wanted).detach().abs().max())
    demand(torch.allclose(found, wanted, rtol=tolerance, atol=tolerance), f"{sentence} (they differ by {off:.2g})")


def needs(label: str) -> tuple[str, ...]:
    """What a row reads of an item."""
    model = registry.model(label)
    return registry.methods()[model.method].needed(model.options)


def built(label: str, seed: int = 0, inputs: Inputs = INPUTS) -> Retriever:
    return build(registry.model(label), inputs, seed)


def pairs(label: str, count: int = 5, more: int = 0, rubbish: int = 0, seed: int = 0) -> PairBatch:
    """Pairs of 1 to 7 regions and 1 to 5 words, of which a row gets what it needs.

    rubbish: seeds what stands in padding.  more: widens it.
    """
    wanted = needs(label)
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
    boxes = torch.cat([corners, corners + extent], 2)
    sizes = torch.tensor([100.0, 120.0]).expand(count, 2)
    told = bool(set(FITS) & set(wanted))
    named = tuple(f"image-{number}" for number in range(count))
    images = ImageBatch(
        **({"fragments": fragments, "mask": regions} if {"fragments", "boxes"} & set(wanted) else {}),
        **({"boxes": boxes, "sizes": sizes} if "boxes" in wanted else {}),
        ids=named,
        pixels=_pictures(real, count) if "pixels" in wanted else None,
        places=torch.arange(count) if told else None,
    )
    spelt = _spelt(tokens, words) if "strings" in wanted else None
    fits = (torch.rand(count, count, generator=real) < 0.3) | torch.eye(count, dtype=torch.bool) if told else None
    texts = TextBatch(
        tokens, words, tuple(f"{name}#0" for name in named), spelt, torch.arange(count) if told else None, fits
    )
    return PairBatch(images, texts, torch.arange(count))


def _pictures(generator: torch.Generator, count: int) -> tuple[Tensor, ...]:
    """Of 3 sizes."""
    sides = [(32 + 4 * (number % 3), 48) for number in range(count)]
    return tuple(torch.randint(256, (3, *side), generator=generator, dtype=torch.uint8) for side in sides)


def _spelt(tokens: Tensor, mask: Tensor) -> tuple[str, ...]:
    """Captions as somebody would have written them, in real words."""
    return tuple(" ".join(INPUTS.words[n] for n in row[real].tolist()) for row, real in zip(tokens, mask, strict=True))


def chosen(batch: PairBatch, rows: list[int]) -> PairBatch:
    """These pairs of a batch, in this order."""

    def of(value: Any) -> Any:
        return tuple(value[row] for row in rows) if isinstance(value, tuple) else None if value is None else value[rows]

    images, texts = ([of(getattr(side, f.name)) for f in fields(side)] for side in (batch.images, batch.texts))
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
        loss = total(losses(model, pairs(label)))
        adam.zero_grad()
        loss.backward()
        adam.step()
        lost.append(loss.item())
    return model, lost


def finite(terms: Mapping[str, Tensor], where: str) -> None:
    """Raises Broken where a loss is no finite scalar."""
    for name, value in terms.items():
        demand(value.ndim == 0, f"losses must be scalars, {name!r} has shape {tuple(value.shape)}")
        demand(value.isfinite(), f"the loss {name!r} is {value.item()} {where}")


def finite_gradients(model: Retriever, where: str) -> None:
    """Raises Broken."""
    wrong = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    demand(not wrong, f"gradients of {', '.join(wrong)} are not finite {where}")


def check_it_is_built(label: str) -> str:
    """Its module is imported and its `build` returns a model, also at the default settings."""
    model = built(label)
    demand(isinstance(model, Retriever), f"`build` returns a {type(model).__name__}, not a harness.protocol.Retriever")
    counted(label)
    return ""


def check_shapes_and_family(label: str) -> str:
    """Encodings have a row an item, scores a row an image and a column a caption."""
    model = built(label).eval()
    images, texts = encodings(model, pairs(label))
    for side, found in (("encode_images", images), ("encode_texts", texts)):
        short = [name for name, tensor in found.tensors().items() if len(tensor) != 5]
        demand(not short, f"{side} must keep one row an item in every tensor, {', '.join(short)} does not")
    family = registry.parse(label)[0].family
    demand(model.family == family, f"the model says family {model.family!r}, its file says {family!r}")
    if family == "independent":
        _check_embeddings(images.embedding, texts.embedding)
    some = model.similarity(images.select(slice(0, 3)), texts)
    demand(some.shape == (3, 5), f"similarity of 3 images and 5 captions has shape {tuple(some.shape)}, not (3, 5)")
    demand(some.isfinite().all(), "similarity is not finite on unremarkable inputs")
    return ""


def _check_embeddings(image: Tensor | None, text: Tensor | None) -> None:
    if image is None or text is None:
        raise Broken("an independent method must fill `embedding` on both sides")
    demand(text.ndim == 2, f"captions have one vector each, but their embedding has shape {tuple(text.shape)}")
    demand(image.shape[-1] == text.shape[-1], f"image vectors have width {image.shape[-1]}, captions {text.shape[-1]}")


def check_gradients_are_finite_and_reach_every_parameter(label: str) -> str:
    """Within a few updates, for a layer that starts at zero hides what lies before it."""
    model = built(label).train()
    waiting = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adam = torch.optim.Adam(waiting.values(), lr=1e-3) if waiting else None
    for epoch in range(3):
        terms = losses(model, replace(pairs(label), epoch=epoch))
        finite(terms, "on unremarkable inputs")
        if adam is None:
            return UNTRAINED
        demand(bool(terms), "it has parameters to train but no losses: freeze them, or write `losses`")
        adam.zero_grad()
        total(terms).backward()
        finite_gradients(model, "on unremarkable inputs")
        waiting = {name: p for name, p in waiting.items() if p.grad is None or not p.grad.any()}
        adam.step()
    demand(not waiting, f"no gradient reaches {', '.join(waiting)}: use it, or freeze it (requires_grad_(False))")
    return ""


def check_a_single_pair_costs_something_finite(label: str) -> str:
    """A batch of one pair has no negatives."""
    finite(losses(built(label).train(), pairs(label, 1)), "for a batch of a single pair, which has no negatives")
    return ""


def check_it_is_the_same_where_nobody_reads_its_fragments(label: str) -> str:
    """A row alone, as it is trained and searched, may leave out what a host fills for others."""
    unread = build(registry.model(label), INPUTS, 0, fragments_read=False)
    if not isinstance(unread, Independent):
        return "its fragments are what it scores"
    near(
        scores(unread.eval(), pairs(label)),
        scores(built(label).eval(), pairs(label)),
        "scores are others where nobody reads its fragments: read none of your own encodings' `fragments`",
    )
    finite(losses(unread.train(), pairs(label)), "where nobody reads its fragments")
    return ""


def check_padding_changes_no_score(label: str) -> str:
    """Neither what stands in padding, nor how much of it there is."""
    if unpadded(label):
        return UNPADDED
    model, _ = stepped(label, seed=0)
    narrow = scores(model, pairs(label))
    sentence = "padding changes the scores: apply the mask wherever fragments or words are summed, compared or read"
    near(scores(model, pairs(label, rubbish=1)), narrow, sentence)
    near(scores(model, pairs(label, more=3, rubbish=2)), narrow, sentence)
    return ""


def check_padding_changes_no_loss(label: str) -> str:
    """What stands in padding does not."""
    if unpadded(label):
        return UNPADDED
    lost = []
    for rubbish in (0, 1):
        model = built(label).train()
        torch.manual_seed(0)  # of the dropout
        lost.append(total(losses(model, pairs(label, rubbish=rubbish))))
    near(lost[0], lost[1], "what stands in padding changes the loss: apply the mask in `losses` too")
    return ""


def unpadded(label: str) -> bool:
    return not {"fragments", "tokens"} & set(needs(label))


def check_order_and_company_change_no_score(label: str) -> str:
    """An item is encoded alike wherever it stands in a batch and whatever stands beside it."""
    model, _ = stepped(label, seed=0)
    batch = pairs(label)
    whole = scores(model, batch)
    order = [3, 0, 4, 1, 2]
    sentence = "scores depend on the {} of a batch: in evaluation mode an item must be encoded on its own"
    near(scores(model, chosen(batch, order)), whole[order][:, order], sentence.format("order"))
    alone = torch.cat([scores(model, chosen(batch, [row])) for row in range(5)]).flatten()
    near(alone, whole.diagonal(), sentence.format("other items"))
    return ""


def check_blocks_equal_the_whole(label: str) -> str:
    """Scoring in blocks equals scoring at once."""
    model, _ = stepped(label, seed=0)
    with torch.inference_mode():
        images, texts = (model.indexed(side) for side in encodings(model.eval(), pairs(label)))
        whole = model.similarity(images, texts)
        rows = [slice(0, 3), slice(3, 5)]
        columns = [slice(0, 1), slice(1, 5)]
        blocks = [torch.cat([model.similarity(images.select(r), texts.select(c)) for c in columns], 1) for r in rows]
    near(torch.cat(blocks), whole, "scoring in blocks differs from scoring at once: `similarity` must look at no block")
    return ""


def check_an_index_keeps_all_that_scores_need(label: str) -> str:
    """`indexed` drops nothing that `similarity` reads, and batches can be joined."""
    model, _ = stepped(label, seed=0)
    with torch.inference_mode():
        images, texts = encodings(model.eval(), pairs(label))
        whole = model.similarity(images, texts)
        first, second = (model.indexed(images.select(rows)) for rows in (slice(0, 2), slice(2, 5)))
        kept = model.similarity(concatenate([first, second]), model.indexed(texts))
    near(kept, whole, "what `indexed` keeps gives other scores than the full encoding")
    return ""


def check_images_made_ready_score_alike(label: str) -> str:
    """What `prepared` computes of images ahead of a query is what `similarity` would compute, and is not made twice."""
    model, _ = stepped(label, seed=0)
    with torch.inference_mode():
        images, texts = (model.indexed(side) for side in encodings(model.eval(), pairs(label)))
        ready = model.prepared(images)
        again = model.prepared(ready)
        found = torch.cat([model.similarity(ready.select(rows), texts) for rows in (slice(0, 2), slice(2, 5))])
        near(found, model.similarity(images, texts), "images made ready by `prepared` have other scores", 1e-6)
    same = ready.tensors().keys() == again.tensors().keys() and all(
        one is other for one, other in zip(ready.tensors().values(), again.tensors().values(), strict=True)
    )
    demand(same, "`prepared` computes anew what it is given: let it return images that are ready as they are")
    return ""


def check_late_interaction_pools_best_products(label: str) -> str:
    """Where a method says that its scores come from best products, they do."""
    model, _ = stepped(label, seed=0)
    if model.late_interaction is None:
        return ""
    with torch.inference_mode():
        images, texts = (model.indexed(side) for side in encodings(model.eval(), pairs(label)))
        whole = model.similarity(images, texts)
        (regions, region_mask), (words, word_mask) = ((side.contextual, side.mask) for side in (images, texts))
        if regions is None or words is None or region_mask is None or word_mask is None:
            raise Broken("`late_interaction` needs `contextual` fragments and their `mask` on both sides")
        lengths = torch.cat([regions[region_mask], words[word_mask]]).norm(dim=1)
        near(lengths, torch.ones_like(lengths), "fragments of a late interaction must have length 1")
        best = [best_products(some[real], regions, region_mask) for some, real in zip(words, word_mask, strict=True)]
        found = torch.stack([model.late_interaction(products) for products in best], 1)
    near(found, whole, "`late_interaction` of best products gives other scores than `similarity`")
    return ""


def check_captions_of_one_length_may_lose_their_padding(label: str) -> str:
    """As the evaluator encodes them: in groups of equal length, which are joined for independent methods."""
    if "tokens" not in needs(label):
        return "it reads no tokens"
    # in double precision: where a score has a step, as at the edge of BFAN's mask, rounding may not decide
    model, batch = stepped(label, seed=0)[0].double(), in_double(pairs(label))
    whole = scores(model, batch)
    with torch.inference_mode():
        images = model.indexed(model.encode_images(batch.images))
        for row, length in enumerate(batch.texts.lengths.tolist()):
            text = chosen(batch, [row]).texts
            text = replace(text, tokens=text.tokens[:, :length], mask=text.mask[:, :length])
            found = model.similarity(images, model.indexed(model.encode_texts(text)))
            near(found, whole[:, row : row + 1], "a caption without its padding has other scores: apply the mask")
    return ""


def check_weights_survive_a_checkpoint(label: str) -> str:
    """All that scores rest on is in the state of the module."""
    model, _ = stepped(label, seed=0)
    before, other = scores(model, pairs(label)), built(label, seed=1)
    if trained_parameters(model):
        same = torch.equal(scores(other, pairs(label)), before)
        demand(not same, "another seed and no updates give the same scores: weights are not drawn from the seed")
    with TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save_best(model)
        checkpoints.load_best(other)
    after = scores(other, pairs(label))
    demand(torch.equal(after, before), "a checkpoint loses something: keep all state in parameters and buffers")
    return ""


def all_found(found: Tensor) -> bool:
    """R@1 = 100 both ways."""
    places = torch.arange(len(found))
    return torch.equal(found.argmax(0), places) and torch.equal(found.argmax(1), places)


def check_eight_pairs_are_learnt_by_heart(label: str) -> str:
    """Within 200 updates, the first half of them warm-up."""
    model = built(label, inputs=replace(INPUTS, warmup_updates=100))
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        return UNTRAINED
    batch, adam = pairs(label, 8), torch.optim.Adam(trained, lr=5e-3)
    for step in range(200):
        if step % 10 == 0 and all_found(scores(model, batch)):
            return ""
        adam.zero_grad()
        total(losses(model.train(), replace(batch, epoch=step // 100, update=step))).backward()
        nn.utils.clip_grad_norm_(trained, 2.0)
        adam.step()
    demand(all_found(scores(model, batch)), "after 200 updates not all of 8 pairs find each other: it does not learn")
    return ""


def check_the_same_seed_gives_the_same_numbers(label: str) -> str:
    """And another one others, where there is anything to draw."""
    (model, lost), (twin, lost_again) = stepped(label, seed=0), stepped(label, seed=0)
    demand(lost == lost_again, "two trainings from one seed lose different amounts: draw from torch's generator alone")
    same = torch.equal(scores(model, pairs(label)), scores(twin, pairs(label)))
    demand(same, "two models of one seed score differently: draw from torch's generator alone")
    if model.state_dict():
        other = torch.equal(scores(built(label, seed=1), pairs(label)), scores(built(label, seed=0), pairs(label)))
        demand(not (other and trained_parameters(model)), "two seeds give the same scores: weights must be drawn")
    return ""


def in_double(batch: PairBatch) -> PairBatch:
    def of(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    images = replace(batch.images, **{f.name: of(getattr(batch.images, f.name)) for f in fields(batch.images)})
    return replace(batch, images=images)


def check_double_precision_agrees_and_trains(label: str) -> str:
    """`model.double()` on float64 fragments, as the checks of exactness run it."""
    model = built(label)
    single, double = scores(model, pairs(label)), scores(model.double(), in_double(pairs(label)))
    demand(double.isfinite().all(), "scores are not finite in double precision")
    near(double, single, "scores in double precision are others: make tensors of the dtype of the weights", 1e-4)
    terms = losses(model.train(), in_double(pairs(label)))
    finite(terms, "in double precision")
    if trained_parameters(model):
        total(terms).backward()
    return ""


def check_bfloat16_is_close(label: str) -> str:
    """Under autocast, forward and backward."""
    model = built(label)
    full = scores(model, pairs(label))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = scores(model, pairs(label))
        terms = losses(model.train(), pairs(label))
    demand(half.isfinite().all(), "scores are not finite under bfloat16 autocast")
    near(half, full, "scores under bfloat16 autocast are far from those in float32", 0.1)
    finite(terms, "under bfloat16 autocast")
    if trained_parameters(model):
        total(terms).backward()
        finite_gradients(model, "under bfloat16 autocast")
    return ""


def check_a_device_changes_little(label: str, device: str = "cpu") -> str:
    """The model and its batches moved there and back."""
    model, batch = built(label), pairs(label)
    here = scores(model, batch)
    there = scores(model.to(device), batch.to(device))
    demand(there.device.type == device, f"scores are on {there.device}, the model and its inputs on {device}")
    near(there.cpu(), here, f"scores on {device} differ from those on cpu", 0.0 if device == "cpu" else 1e-3)
    near(scores(model.to("cpu"), batch.to(device).to("cpu")), here, f"scores differ after {device} and back")
    finite(losses(model.to(device).train(), batch.to(device)), f"on {device}")
    return ""


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


def check_a_text_model_may_stand_in_for_word_vectors(label: str) -> str:
    """`settings.text_model` reaches the method, and learns through it."""
    if "tokens" not in needs(label):
        return "it reads no tokens"
    model = built(label, inputs=replace(INPUTS, token_states=ToyStates()))
    demand(scores(model, pairs(label)).shape == (5, 5), "with a text model scores are not (images, captions)")
    if not trained_parameters(model):
        return UNTRAINED
    if registry.parse(label)[0].rows:
        return "it stands on a stored row, whose words are frozen"
    total(losses(model.train(), pairs(label))).backward()
    tables = [m.table.weight.grad for m in model.modules() if isinstance(m, _Toy)]
    demand(bool(tables), f"{label} ignores settings.text_model: build its words from inputs.token_states where given")
    learns = all(gradient is not None and gradient.any() for gradient in tables)
    demand(learns, "no gradient reaches the text model: its states must not be detached")
    return ""


CHECKS: tuple[Check, ...] = (  # without a model the others have nothing to look at
    check_it_is_built,
    check_shapes_and_family,
    check_gradients_are_finite_and_reach_every_parameter,
    check_a_single_pair_costs_something_finite,
    check_it_is_the_same_where_nobody_reads_its_fragments,
    check_padding_changes_no_score,
    check_padding_changes_no_loss,
    check_order_and_company_change_no_score,
    check_blocks_equal_the_whole,
    check_an_index_keeps_all_that_scores_need,
    check_images_made_ready_score_alike,
    check_late_interaction_pools_best_products,
    check_captions_of_one_length_may_lose_their_padding,
    check_weights_survive_a_checkpoint,
    check_eight_pairs_are_learnt_by_heart,
    check_the_same_seed_gives_the_same_numbers,
    check_double_precision_agrees_and_trains,
    check_bfloat16_is_close,
    check_a_device_changes_little,
    check_a_text_model_may_stand_in_for_word_vectors,
)


def said(check: Check) -> str:
    """The name of a check in words."""
    return check.__name__.removeprefix("check_").replace("_", " ")


def outcomes(label: str) -> Iterator[tuple[str, str, str]]:
    """What each check finds: its name in words, "ok", "skipped" or "FAILED", and why; whatever the method raises."""
    for check in CHECKS:
        state, why = _outcome(check, label)
        yield said(check), state, why
        if check is check_it_is_built and state == "FAILED":
            return


def _outcome(check: Check, label: str) -> tuple[str, str]:
    try:
        why = check(label)
    except Broken as broken:
        return "FAILED", str(broken)
    except Exception as error:
        return "FAILED", f"it raises {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return ("skipped", why) if why else ("ok", "")
