"""The captioner against a caption-by-caption twin, and what must not change its loss."""

import math

import pytest
import torch
from torch import nn

from harness.protocol import TextBatch
from models.captioner import Captioner
from tests.places import needs_gpu

DIM, WORDS, COUNTS, LENGTHS = 11, 17, (5, 1, 3), (2, 7, 1)  # one region and one word included


def captioner(**settings):
    torch.manual_seed(0)
    return Captioner(DIM, WORDS, **({"word_dim": 7, "hidden": 13} | settings)).eval()


def regions(padding=0, rubbish=0.0):
    """(3, 5 + padding, 11) and their mask."""
    x = torch.randn(3, 5, DIM, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(5 + padding) < torch.tensor(COUNTS)[:, None]
    return nn.functional.pad(x, (0, 0, 0, padding)).masked_fill(~mask[..., None], rubbish), mask


def texts(padding=0):
    tokens = torch.randint(1, WORDS, (3, 7), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(7 + padding) < torch.tensor(LENGTHS)[:, None]
    return TextBatch(nn.functional.pad(tokens, (0, padding)) * mask, mask)


@torch.no_grad()
def slow_loss(model, captions):
    """One caption, one word, one region at a time, from the formulas."""
    x, _ = regions()
    total = 0.0
    for image, count, tokens, length in zip(x, COUNTS, captions.tokens, LENGTHS, strict=True):
        read, state = model.reader.gru(model.region_map(image[None, :count]))
        state = state[0]  # (1, h)
        for t in range(length):
            relevance = []
            for r in range(count):
                both = torch.cat([read[0, r], state[0]])
                relevance.append(model.relevance(model.attention(both).tanh()).exp().item())
            seen = sum(e / sum(relevance) * read[0, r] for r, e in enumerate(relevance))
            word = model.word_vectors.weight[tokens[t]]
            state = model.writer(torch.cat([word, seen])[None], state)
            following = int(tokens[t + 1]) if t + 1 < length else 0
            total -= float(model.word_map(state).log_softmax(1)[0, following])
    return total / len(x)


def test_it_equals_its_slow_twin():
    model, captions = captioner(), texts()
    assert model(*regions(), captions).item() == pytest.approx(slow_loss(model, captions), rel=1e-5)


def test_without_weights_every_word_is_as_likely():
    model = captioner()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert model(*regions(), texts()).item() == pytest.approx((2 + 7 + 1) / 3 * math.log(WORDS))


def test_the_first_word_is_given_and_the_end_is_not():
    model = captioner()
    nn.init.zeros_(model.word_map.weight)
    with torch.no_grad():
        model.word_map.bias.copy_(torch.where(torch.arange(WORDS) == 0, 50.0, 0.0))  # says padding, whatever happens
    lone = TextBatch(torch.tensor([[4]]), torch.ones(1, 1, dtype=torch.bool))
    pair = TextBatch(torch.tensor([[4, 5]]), torch.ones(1, 2, dtype=torch.bool))
    x, mask = regions()
    assert model(x[:1], mask[:1], lone).item() == pytest.approx(0.0)
    assert model(x[:1], mask[:1], pair).item() == pytest.approx(50.0)


def test_a_state_looks_back_only():
    model, captions = captioner(), texts()
    other = captions.tokens.clone()
    other[1, 4:] = 3
    before, after = (model.states(*regions(), tokens)[1] for tokens in (captions.tokens, other))
    torch.testing.assert_close(after[:4], before[:4])
    assert not torch.allclose(after[4:], before[4:])


def test_padding_does_not_matter():
    model = captioner()
    plain = model(*regions(), texts())
    torch.testing.assert_close(model(*regions(padding=3, rubbish=torch.nan), texts(padding=4)), plain)


def test_gradients_reach_every_parameter_and_real_regions_only():
    model = captioner().train()
    x, mask = regions(padding=2, rubbish=torch.nan)
    x.requires_grad_()
    model(x, mask, texts()).backward()
    assert [name for name, p in model.named_parameters() if not p.grad.isfinite().all() or not p.grad.any()] == []
    assert torch.equal(x.grad.any(2), mask)


def test_only_training_drops_inputs():
    model = captioner(dropout=0.5)
    assert torch.equal(model(*regions(), texts()), model(*regions(), texts()))
    model.train()
    assert not torch.equal(model(*regions(), texts()), model(*regions(), texts()))
    dry = captioner(dropout=0.0).train()
    assert torch.equal(dry(*regions(), texts()), captioner()(*regions(), texts()))


def test_it_learns_to_say_its_captions_and_to_end():
    model = captioner(hidden=31, dropout=0.0).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        loss = model(*regions(), texts())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_it_runs_in_half_precision():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = captioner()(*regions(), texts())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, captioner()(*regions(), texts()), rtol=0.02, atol=0)


@needs_gpu
def test_it_runs_on_a_gpu():
    x, mask = regions()
    loss = captioner().cuda()(x.cuda(), mask.cuda(), texts().to("cuda"))
    torch.testing.assert_close(loss.cpu(), captioner()(x, mask, texts()), rtol=1e-3, atol=0)
