"""What can be known of scenes: truth and bags of all pairs, against the grammar's own word for one pair."""

from collections import Counter

import numpy as np
import pytest

from harness.data import scenes
from harness.data.grammar import ATTRIBUTES, Mention, Scene, Statement, Thing, holds
from harness.data.prepared import image_batch, prepare, text_batch
from harness.data.scenes_scale import bags_hold, truths
from harness.measure.metrics import summary
from harness.spec.job import Data, Settings

SMALL = scenes.Settings(train_images=2, dev_images=31, test_images=43, binding_share=0.4, relation_share=0.4)


def thing(words: str, row: int, column: int) -> Thing:
    size, colour, material, category = words.split()
    return Thing(category, colour, size, material, (row, column), (0.0, 0.0))


RED_BALL, BLUE_BOX = thing("small red wood ball", 0, 0), thing("large blue metal box", 0, 2)
BLUE_BALL, RED_BOX = thing("small blue wood ball", 0, 0), thing("large red metal box", 0, 2)
STAR = thing("small pink glass star", 2, 1)
SCENE = Scene((RED_BALL, BLUE_BOX), (300, 300))
TWIN = Scene((BLUE_BALL, RED_BOX, STAR), (300, 300))  # the same bag, bound otherwise, and a star


@pytest.mark.parametrize(
    ("statement", "true", "in_bag"),
    [
        (Statement((Mention("ball", colour="red"),)), [True, False], [True, True]),
        (Statement((Mention("ball"), Mention("box"))), [True, True], [True, True]),
        (Statement((Mention("ball"), Mention("ball"))), [False, False], [False, False]),  # there is one
        (Statement((Mention("ball"), Mention("box")), "left"), [True, True], [True, True]),
        (Statement((Mention("ball"), Mention("box")), "right"), [False, False], [True, True]),  # no bag tells
        (Statement((Mention("ball", place="bottom"),)), [False, False], [True, True]),
        (Statement((Mention("ball"), Mention("box"), Mention("star"))), [False, True], [False, True]),
        (
            Statement((Mention(colour="red"), Mention(colour="blue"), Mention(size="small"))),
            [False, True],
            [True, True],
        ),
    ],
)
def test_by_hand(statement: Statement, true: list[bool], in_bag: list[bool]):
    assert truths([statement], [SCENE, TWIN]).tolist() == [true]
    assert bags_hold([statement], [SCENE, TWIN]).tolist() == [in_bag]


def slow_bag(statement: Statement, scene: Scene) -> bool:
    named = {
        name: Counter(value for m in statement.mentions if (value := getattr(m, name)) is not None)
        for name in ATTRIBUTES
    }
    return all(named[name] <= scene.bag[name] for name in ATTRIBUTES)


def test_all_pairs_are_what_the_slow_twins_say():
    drawn = scenes.scenes("test", SMALL)
    said = [caption.statement for caption in scenes.captions(drawn, "test", SMALL)] * 2  # more than are done at once
    true, in_bag = truths(said, drawn), bags_hold(said, drawn)
    assert true.tolist() == [[holds(statement, scene) for scene in drawn] for statement in said]
    assert in_bag.tolist() == [[slow_bag(statement, scene) for scene in drawn] for statement in said]
    assert 0 < true.sum() < in_bag.sum() < in_bag.size
    assert not (true & ~in_bag).any()


def test_what_is_kept_of_a_split_is_what_would_be_found_of_it():
    whole, first = scenes.load("test", SMALL), scenes.load("test", SMALL).first(7)
    for name in ("truth", "bag"):
        assert first.fits[name]().tolist() == whole.fits[name]()[:35, :7].tolist()


def slow_rsum(fits: np.ndarray, owner: np.ndarray, rng: np.random.Generator) -> float:
    """Expected by drawing ties: among what a caption fits any, for an image the captions that fit fewest first."""
    ranks = {"t2i": [], "i2t": []}
    number = fits.sum(1)
    for caption, own in enumerate(owner):
        order = sorted(range(fits.shape[1]), key=lambda image: (not fits[caption, image], rng.random()))
        ranks["t2i"].append(order.index(own))
    for image in range(fits.shape[1]):
        order = sorted(
            range(len(owner)),
            key=lambda caption: (not fits[caption, image], number[caption], rng.random()),
        )
        ranks["i2t"].append(next(place for place, caption in enumerate(order) if owner[caption] == image))
    return sum(100 * float(np.mean(np.array(found) < k)) for found in ranks.values() for k in (1, 5, 10))


@pytest.mark.parametrize(("label", "need"), [("oracle", "truth"), ("bag", "bag")])
def test_rsum_of_a_row_is_that_of_its_slow_twin(label: str, need: str):
    from harness.learn.build import build
    from harness.spec import registry

    settings = Settings(min_count=1)
    data = prepare(Data(train_images=20, dev_images=40, ranked="dev"), settings)
    side, owner = data.ranked, data.ranked.split.caption_to_image
    fits = side.split.fits[need]()
    rng = np.random.default_rng(0)
    drawn = [slow_rsum(fits, owner, rng) for _ in range(20)]
    found = []
    for seed in range(20):
        model = build(registry.model(label), data.inputs(settings), seed)
        images = model.encode_images(image_batch(side.split.images, slice(None), model.needs))
        texts = model.encode_texts(text_batch(side.tokens, slice(None), model.needs))
        scores = model.similarity(images, texts).numpy()  # (N, M)
        own = scores[owner, np.arange(len(owner))]
        t2i = (scores > own).sum(0)
        best = np.array([own[owner == image].max() for image in range(len(scores))])
        found.append(summary((scores > best[:, None]).sum(1), t2i)["rsum"])
    assert len({round(value, 3) for value in found}) > 3  # ties are by chance
    error = (np.var(drawn) / 20 + np.var(found) / 20) ** 0.5
    assert abs(np.mean(found) - np.mean(drawn)) < 4 * error
    assert np.mean(found) > 300
