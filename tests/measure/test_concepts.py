"""Concept assignments: the fast way against one that looks at a word at a time, and what is stored of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from harness.data.prepared import Side, image_batch, text_batch
from harness.data.split import Images, Split
from harness.data.vocabulary import SPECIALS, Vocabulary, tokens
from harness.learn.build import build
from harness.measure import concepts
from harness.measure.concepts import assigned
from harness.protocol import Inputs
from harness.record import Concepts, Record, RecordError
from harness.spec import registry
from harness.spec.job import Settings
from harness.store import Store

REGIONS, DIM, KNOWN = 5, 7, ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
SPELLED = (*SPECIALS, *KNOWN)
SETTINGS = Settings(dim=8, word_dim=3)


def side(images: int, per_image: int = 2) -> Side:
    """Random fragments, some of them padding, and captions of 1 to 7 words."""
    rng = np.random.default_rng(0)
    captions = tuple(" ".join(rng.choice(KNOWN, rng.integers(1, 8))) for _ in range(images * per_image))
    split = Split(
        images=Images(
            features=rng.standard_normal((images, REGIONS, DIM), dtype=np.float32),
            rows=np.arange(images),
            ids=tuple(map(str, range(images))),
            counts=rng.integers(1, REGIONS + 1, images),
        ),
        captions=captions,
        caption_to_image=np.repeat(np.arange(images), per_image),
    )
    return Side(split, tokens(captions, Vocabulary(KNOWN), 60))


def model_of(label: str, prototypes: int = 11):
    inputs = Inputs(image_dim=DIM, regions=REGIONS, vocabulary=len(SPELLED), dim=8, word_dim=3)
    options = {"prototypes": prototypes} if label.endswith("+selfalign") else None
    return build(registry.model(label, selfalign_options=options), inputs, 0)


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


@torch.inference_mode()
def word_by_word(model, data: Side, caption: int) -> list[tuple[str, int, float, int, int]]:
    """Word, region, similarity, prototype of the word and of the region, one caption alone."""
    image = int(data.split.caption_to_image[caption])
    regions = model.encode_images(image_batch(data.split.images, np.array([image])))
    words = model.encode_texts(text_batch(data.tokens, np.array([caption])))
    prototypes = unit(model.concept.prototypes)
    real = unit(regions.fragments[0][regions.mask[0]])
    spelled = data.split.captions[caption].split()
    found = []
    for place, word in enumerate(spelled, start=1):  # place 0 is <start>
        vector = unit(words.fragments[0, place])
        cosines = [float(vector @ region) for region in real]
        best = int(np.argmax(cosines))
        found.append(
            (word, best, cosines[best], int((prototypes @ vector).argmax()), int((prototypes @ real[best]).argmax()))
        )
    return found


@pytest.fixture(params=["vsepp+selfalign", "vsrn+selfalign"])
def model(request):
    return model_of(request.param)


def test_each_word_has_the_region_and_prototypes_of_the_slow_twin(model):
    data = side(13)
    found = assigned(model, data, SPELLED, SETTINGS)
    assert found is not None
    model.eval()
    assert len(found.captions) == 24  # of 26, evenly spread
    assert (found.captions[0], found.captions[-1]) == (0, 25)
    for place, caption in enumerate(found.captions):
        expected = word_by_word(model, data, int(caption))
        length = len(expected)
        assert found.words[place, :length].tolist() == [word for word, *_ in expected]
        assert found.regions[place, :length].tolist() == [region for _, region, *_ in expected]
        np.testing.assert_allclose(found.similarities[place, :length], [row[2] for row in expected], atol=1e-5)
        assert found.word_prototypes[place, :length].tolist() == [row[3] for row in expected]
        assert found.region_prototypes[place, :length].tolist() == [row[4] for row in expected]
        for name in ("regions", "word_prototypes", "region_prototypes"):
            assert set(getattr(found, name)[place, length:].tolist()) <= {-1}
        assert set(found.words[place, length:].tolist()) <= {""}


def test_prototypes_have_the_words_that_are_nearest_to_them(model):
    data = side(13)
    found = assigned(model, data, SPELLED, SETTINGS)
    assert found is not None
    model.eval()
    counts: dict[int, Counter[str]] = {}
    for caption in range(26):
        for word, _, _, prototype, _ in word_by_word(model, data, caption):
            counts.setdefault(prototype, Counter())[word] += 1
    assert found.uses.tolist() == sorted(found.uses, reverse=True)
    uses = dict(zip(found.prototypes.tolist(), found.uses.tolist(), strict=True))
    assert {p: n for p, n in uses.items() if n} == {p: counter.total() for p, counter in counts.items()}
    assert int(found.total) == 11
    for place, prototype in enumerate(found.prototypes.tolist()):
        top = [(w, n) for w, n in zip(found.top_words[place], found.top_counts[place], strict=True) if w]
        expected = sorted(counts.get(prototype, Counter()).items(), key=lambda item: (-item[1], item[0]))[:5]
        assert top == expected  # the vocabulary is in alphabetical order, as ties are


def test_prototypes_have_the_regions_that_are_nearest_to_them(model, monkeypatch):
    monkeypatch.setattr(concepts, "IMAGE_BATCH", 3)  # best of several blocks
    data = side(7)
    found = assigned(model, data, SPELLED, SETTINGS)
    assert found is not None
    model.eval()
    with torch.inference_mode():
        images = model.encode_images(image_batch(data.split.images, slice(0, None)))
        scores = unit(images.fragments) @ unit(model.concept.prototypes).T  # (N, R, K)
    for place, prototype in enumerate(found.prototypes.tolist()):
        of_image = []
        for image in range(7):
            real = [(float(scores[image, r, prototype]), r) for r in range(REGIONS) if images.mask[image, r]]
            of_image.append((max(real)[0], image, max(real)[1]))
        best = sorted(of_image, reverse=True)[:5]
        assert found.top_regions[place].tolist() == [[image, region] for _, image, region in best]
        np.testing.assert_allclose(found.top_similarities[place], [s for s, *_ in best], atol=1e-5)


def test_few_images_leave_places_empty():
    found = assigned(model_of("vsepp+selfalign"), side(2), SPELLED, SETTINGS)
    assert found is not None
    assert found.top_regions[:, 2:].tolist() == [[[-1, -1]] * 3] * len(found.prototypes)
    assert len(found.captions) == 4


def test_only_a_concept_level_has_assignments():
    data = side(2)
    assert assigned(model_of("vsepp"), data, SPELLED, SETTINGS) is None
    inputs = Inputs(image_dim=DIM, regions=REGIONS, vocabulary=len(SPELLED), dim=8, word_dim=3)
    context_alone = build(registry.model("vsepp+selfalign", selfalign_options={"concept": False}), inputs, 0)
    assert assigned(context_alone, data, SPELLED, SETTINGS) is None


def test_the_model_goes_on_as_it_was():
    model = model_of("vsepp+selfalign")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assigned(model, side(3), SPELLED, SETTINGS)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Stored --------------------------------------------------------------------------------------------------------------


def record() -> Record:
    return Record(key="a" * 16, label="vsepp+selfalign", status="ok", job={}, family="independent")


def test_assignments_are_stored_whole_and_small(tmp_path):
    store, found = Store(tmp_path), assigned(model_of("vsepp+selfalign"), side(30), SPELLED, SETTINGS)
    assert found is not None
    store.save(record(), None, found)
    back = store.concepts("a" * 16)
    assert isinstance(back, Concepts)
    for f in fields(Concepts):
        np.testing.assert_array_equal(getattr(back, f.name), getattr(found, f.name))
    assert store.concepts_path("a" * 16).stat().st_size < 20_000


def test_a_run_without_assignments_leaves_none_of_an_earlier_one(tmp_path):
    store = Store(tmp_path)
    assert store.concepts("a" * 16) is None
    store.save(record(), None, assigned(model_of("vsepp+selfalign"), side(3), SPELLED, SETTINGS))
    store.save(record())
    assert store.concepts("a" * 16) is None


@pytest.mark.parametrize("damage", ["cut", "other fields", "objects"])
def test_a_damaged_file_is_one_line(tmp_path, damage):
    store, found = Store(tmp_path), assigned(model_of("vsepp+selfalign"), side(3), SPELLED, SETTINGS)
    assert found is not None
    store.save(record(), None, found)
    path = store.concepts_path("a" * 16)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "other fields":
        np.savez_compressed(path, words=found.words)
    else:
        store.save(record(), None, replace(found, words=np.array([["a", None]], dtype=object)))
    with pytest.raises(RecordError, match=r"concepts/a+\.npz"):
        store.concepts("a" * 16)
