"""One query: a caption is encoded, a gallery scored and ranked, as of all pairs at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import contract
from harness.data.prepared import Side
from harness.data.split import Images, Split
from harness.data.vocabulary import Vocabulary, tokens
from harness.measure import query
from harness.measure.evaluator import encode_texts
from harness.measure.exact import top_k
from harness.measure.query import STAGES, encoder, index_bytes, prepared, ready, stages_ms
from harness.protocol import Encoded, Retriever
from harness.spec import registry
from harness.spec.job import Settings
from harness.spec.methods import FITS

SETTINGS = Settings(dim=contract.DIM)
WORDS = contract.INPUTS.words[4:]
CAPTIONS = tuple(" ".join(WORDS[first : first + count]) for first, count in ((0, 3), (7, 1), (2, 5), (11, 2)))


def encoded(label: str) -> tuple[Retriever, Encoded, Encoded]:
    """A model and both sides of five pairs whose regions and words are of several numbers."""
    model = contract.built(label).eval()
    with torch.inference_mode():
        images, texts = contract.encodings(model, contract.pairs(label))
    return model, model.indexed(images), model.indexed(texts)


def side(max_words: int = 60) -> Side:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, contract.REGIONS, contract.IMAGE_DIM), dtype=np.float32)
    split = Split(Images(features, np.arange(2), ("a", "b")), CAPTIONS, np.array([0, 0, 1, 1]))
    words = Vocabulary(WORDS)
    fits = {need: lambda: np.array([[True, False], [True, True], [False, True], [False, True]]) for need in FITS}
    return Side(split, replace(tokens(CAPTIONS, words, max_words), fits=fits), words)


@pytest.mark.parametrize("label", registry.labels())
@torch.inference_mode()
def test_a_search_of_what_is_made_ready_finds_what_all_pairs_say(label):
    model, images, texts = encoded(label)
    found = ready(model, images, SETTINGS)
    wanted = model.similarity(images, texts).numpy()  # (5, 5), nothing made ready
    for caption in range(5):
        scores = found.scores(texts.select(slice(caption, caption + 1)))
        np.testing.assert_allclose(np.asarray(scores), wanted[:, caption], rtol=1e-5, atol=1e-6)
        assert found.best(scores).tolist() == top_k(np.asarray(scores), 10).tolist()


@torch.inference_mode()
def test_what_depends_on_the_gallery_alone_is_computed_once(monkeypatch):
    model, images, texts = encoded("scan:t2i-lse")
    made: list[int] = []
    plain = type(model).prepared
    monkeypatch.setattr(
        type(model), "prepared", lambda self, side: (made.append("gram" in side.extras), plain(self, side))[1]
    )
    search = ready(model, images, SETTINGS)
    for caption in range(3):
        search.scores(texts.select(slice(caption, caption + 1)))
    assert made == [False, True, True, True]


@pytest.mark.parametrize(
    ("label", "terms"),
    [
        ("chan", set()),
        ("scan:i2t-lse", set()),
        ("imram:image", set()),
        ("scan:t2i-lse", {"gram"}),
        ("imram:full", {"gram", "mapped"}),
        ("gsmn", {"edges"}),
        ("camp", {"asking", "own", "hidden", "hop", "message"}),
    ],
)
def test_no_term_is_computed_that_scores_do_not_read(label, terms):
    model, images, _ = encoded(label)
    assert set(prepared(model, images, SETTINGS).extras) == terms


def test_what_is_made_ready_counts_as_index():
    model, images, _ = encoded("scan:t2i-lse")
    more = index_bytes(prepared(model, images, SETTINGS)) - index_bytes(images)
    assert more == 4 * len(images) * contract.REGIONS**2


@pytest.mark.parametrize(
    ("label", "precision"), [*((label, "fp32") for label in registry.labels()), ("vsepp", "bf16"), ("chan", "bf16")]
)
@torch.inference_mode()
def test_a_caption_alone_is_encoded_as_in_a_batch(label, precision):
    model, settings, data = contract.built(label).eval(), replace(SETTINGS, precision=precision), side(max_words=4)
    encode = encoder(model, data, settings)
    near = 1e-5 if precision == "fp32" else 2e-2
    for group in encode_texts(model, data.tokens, settings):
        for place, caption in enumerate(group.rows.tolist()):
            wanted = group.encoded.select(slice(place, place + 1)).tensors()
            found = encode(caption).tensors()
            assert found.keys() == wanted.keys()
            for name, tensor in found.items():
                torch.testing.assert_close(tensor, wanted[name].to(tensor.dtype), rtol=near, atol=near)


def test_a_query_is_read_from_its_letters_cut_as_the_split_is():
    data = side(max_words=4)
    for caption in range(4):
        text = data.query(caption, ("tokens", "strings"))
        stored, mask = data.tokens.take(slice(caption, caption + 1))
        assert text.tokens.tolist() == stored.tolist()
        assert text.mask.tolist() == mask.tolist()
        assert text.strings == (CAPTIONS[caption],)
    numbers = replace(data, tokenizer=None).query(2)
    assert numbers.tokens.tolist() == data.query(2).tokens.tolist()


@torch.inference_mode()
def test_stages_are_those_of_one_query_and_add_up(monkeypatch):
    model, images, _ = encoded("vsepp")
    data = side()
    encode, search = encoder(model, data, SETTINGS), ready(model, images, SETTINGS)
    monkeypatch.setattr(query, "laps", lambda value, calls, _: (value, [0.001 * (n + 1) for n in range(len(calls))]))
    _, spent = stages_ms(encode, search, 1, "cpu")
    assert spent == {"encode": 1.0, "search": 2.0, "rank": 3.0}
    monkeypatch.undo()
    best, spent = stages_ms(encode, search, 1, "cpu")
    assert best.tolist() == search.best(search.scores(encode(1))).tolist()
    assert tuple(spent) == STAGES
