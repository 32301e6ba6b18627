"""What a model is fed: words known from training alone, pairs that belong together, in an order that the seed fixes."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data import scenes, sources
from harness.data.drawing import draw
from harness.data.prepared import (
    Prepared,
    Side,
    check_apart,
    check_no_copies,
    image_batch,
    pair_batches,
    prepare,
    steps_per_epoch,
    text_batch,
    update_batches,
)
from harness.data.split import DataError, Images
from harness.data.vocabulary import UNKNOWN
from harness.spec.job import Data, Settings

SETTINGS = Settings(min_count=1)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (["a", "b"], ["c", "d"], ""),
        (["0", "1", "2"], ["0", "1"], ""),  # numbered anew in each split
        (["0", "1", "2"], ["1"], "1 of the 1 images of {after} are in {before} too, '1' is one: "),
        (["a", "b"], ["c", "b", "a"], "2 of the 3 images of {after} are in {before} too, 'b' is one: "),
    ],
)
@pytest.mark.parametrize("names", [("train", "test"), ("train", "dev"), ("dev", "test")])
def test_no_two_splits_share_an_image(names, before, after, said):
    ids = {name: (f"of {name}",) for name in ("train", "dev", "test")} | dict(zip(names, (before, after), strict=True))
    if not said:
        check_apart(ids)
        return
    with pytest.raises(DataError) as refused:
        check_apart(ids)
    assert str(refused.value).startswith(said.format(before=names[0], after=names[1]))
    assert "\n" not in str(refused.value)


def prepared(folder: Path, settings: Settings = SETTINGS, **data) -> Prepared:
    return prepare(Data(**{"name": "zoo", "path": str(folder), **data}), settings)


def rewritten(folder: Path, split: str, line: int, caption: str) -> None:
    path = folder / f"{split}_caps.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[line] = caption
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_words_are_known_from_the_training_captions_alone(data_folder, split):
    known = prepared(data_folder).vocabulary_size
    rewritten(data_folder, split, 0, "a quokka and a cat")
    data = prepared(data_folder, dev_images=0)  # no other job has these data
    side = data.dev if split == "dev" else data.ranked
    assert data.vocabulary_size == known
    assert side.tokens.ids[0, :7].tolist().count(UNKNOWN) == 1
    assert side.tokens.ids[0, 2] == UNKNOWN
    rewritten(data_folder, "train", 0, "a quokka and a cat")
    assert prepared(data_folder).vocabulary_size == known + 1


def test_words_too_rare_in_training_are_unknown(data_folder):
    rewritten(data_folder, "train", 0, "a quokka")
    assert prepared(data_folder).train.tokens.ids[0, 2] != UNKNOWN
    assert prepared(data_folder, Settings(min_count=2)).train.tokens.ids[0, 2] == UNKNOWN


def test_only_as_many_images_as_the_job_asks_for(data_folder):
    data = prepared(data_folder, train_images=3, dev_images=2, test_images=4)
    assert [len(side.split.images) for side in (data.train, data.dev, data.ranked)] == [3, 2, 4]
    assert [len(side.tokens.lengths) for side in (data.train, data.dev, data.ranked)] == [6, 4, 8]


def test_settings_may_be_chosen_on_dev(data_folder):
    data = prepared(data_folder, ranked="dev")
    assert data.ranked is data.dev or data.ranked.split is data.dev.split


def test_pairs_of_a_batch_are_of_one_subject_where_their_identity_is_one(data_folder):
    (plain,) = pair_batches(prepared(data_folder).train, 26, 0, 0)
    assert plain.identity_index is None
    assert plain.subject is plain.image_index
    whose = np.arange(13) % 4
    (data_folder / "train_identities.txt").write_text("".join(f"p{who}\n" for who in whose))
    data = prepared(data_folder, name="persons")
    (batch,) = pair_batches(data.train, 26, 0, 0)
    assert batch.image_index.tolist() == plain.image_index.tolist()
    assert batch.subject.tolist() == whose[batch.image_index].tolist()
    (moved,) = pair_batches(replace(data.train, split=data.train.split.first(13)), 26, 0, 0)
    assert moved.to("cpu").subject.tolist() == batch.subject.tolist()


def test_long_captions_are_cut_and_counted(data_folder):
    data = prepared(data_folder, Settings(min_count=1, max_words=4))
    assert data.train.tokens.cut == 26
    assert data.train.tokens.lengths.max() == 4


def test_a_model_is_told_what_data_and_settings_fix(data_folder):
    settings = Settings(min_count=1, batch=8, dim=17, word_dim=19, margin=0.3, same_image_negatives=False)
    data = prepared(data_folder, settings)
    inputs = data.inputs(settings)
    assert (inputs.image_dim, inputs.regions, inputs.vocabulary) == (11, 3, data.vocabulary_size)
    assert (inputs.dim, inputs.word_dim, inputs.margin) == (17, 19, 0.3)
    assert not inputs.same_image_negatives
    assert inputs.token_states is None
    assert inputs.words[:4] == ("<pad>", "<start>", "<end>", "<unk>")
    assert set(inputs.words[4:]) == {word for caption in data.train.split.captions for word in caption.split()}
    assert inputs.caption_tokens is not None
    spelt = [[inputs.words[token] for token in row] for row in inputs.caption_tokens.tolist()]
    assert [" ".join(row[1:-1]) for row in spelt] == list(data.train.split.captions)


def test_the_warm_up_is_told_in_updates_whichever_way_it_is_set(data_folder):
    settings = Settings(min_count=1, batch=8, warmup_epochs=2)  # 26 captions: 3 updates an epoch
    data = prepared(data_folder, settings)
    assert data.inputs(settings).warmup_updates == 6
    assert data.inputs(replace(settings, warmup_updates=5)).warmup_updates == 5
    assert data.inputs(replace(settings, warmup_epochs=0)).warmup_updates == 0


def test_a_seed_draws_which_images_are_trained_on(data_folder):
    whole, few = prepared(data_folder), Settings(min_count=1, train_share=0.6)
    drawn = {seed: prepared(data_folder, replace(few, seed=seed)) for seed in range(6)}
    images = len(whole.train.split.images)
    ids = {seed: data.train.split.images.ids for seed, data in drawn.items()}
    assert {len(chosen) for chosen in ids.values()} == {round(0.6 * images)}
    assert len(set(ids.values())) > 1
    assert prepared(data_folder, replace(few, seed=3)).train.split.images.ids == ids[3]
    for data in drawn.values():
        assert (data.vocabulary_size, data.words) == (whole.vocabulary_size, whole.words)
        assert data.dev is whole.dev
        assert data.ranked is whole.ranked


def test_the_images_drawn_keep_their_captions_and_fragments(data_folder):
    whole = prepared(data_folder).train
    some = prepared(data_folder, Settings(min_count=1, train_share=0.6, seed=1)).train

    def said(side: Side) -> list[tuple[str, str, list[int]]]:
        owners = [side.split.images.ids[image] for image in side.split.caption_to_image]
        return list(zip(owners, side.split.captions, side.tokens.ids.tolist(), strict=True))

    assert said(some) == [line for line in said(whole) if line[0] in some.split.images.ids]
    places = [whole.split.images.ids.index(name) for name in some.split.images.ids]
    assert places == sorted(places)
    own, every = (image_batch(side.split.images, slice(None)).fragments for side in (some, whole))
    assert torch.equal(own, every[places])


def test_data_that_changed_since_the_job_was_made_are_refused(data_folder):
    says = f"^{data_folder} holds other data than zoo of the jobs, or changed since they were made$"
    with pytest.raises(DataError, match=says):
        prepared(data_folder, fingerprint="of other data")
    with pytest.raises(DataError, match=r"^data scenes changed since the jobs were made$"):
        prepare(Data(fingerprint="of another edition"), SETTINGS)


def test_splits_of_other_width_are_refused(data_folder):
    np.save(data_folder / "test_ims.npy", np.ones((7, 3, 13), np.float32) * np.arange(7)[:, None, None])
    with pytest.raises(DataError, match=r"^test has features of width 13, train has 11$"):
        prepared(data_folder)


def named(folder: Path, **ids: Sequence[str]) -> None:
    """Names the first images of splits; the others have names of their own."""
    for split in ("train", "dev", "test"):
        images = len((folder / f"{split}_caps.txt").read_text().splitlines()) // 2
        names = [*ids.get(split, ()), *(f"{split} {image}" for image in range(images))][:images]
        (folder / f"{split}_ids.txt").write_text("".join(f"{name}\n" * 2 for name in names))


@pytest.mark.parametrize(
    ("splits", "said", "ranks"),
    [
        (("train", "test"), "1 of the 7 images of test are in train too, 'shared' is one: ", ["dev", "train"]),
        (("train", "dev"), "1 of the 5 images of dev are in train too, 'shared' is one: ", []),
        (("dev", "test"), "1 of the 7 images of test are in dev too, 'shared' is one: ", ["dev", "train"]),
    ],
)
def test_data_whose_splits_share_an_image_are_refused(data_folder, splits, said, ranks):
    named(data_folder, **dict.fromkeys(splits, ("shared",)))
    for ranked in {"dev", "train", "test"} - set(ranks):
        with pytest.raises(DataError, match=f"^{said}" if ranked == "test" else " are in train too, "):
            prepared(data_folder, ranked=ranked)
    for ranked in ranks:
        assert len(prepared(data_folder, ranked=ranked).ranked.split.images) == {"dev": 5, "train": 13}[ranked]


def test_ids_that_number_the_captions_of_each_split_name_no_image(data_folder):
    for split in ("train", "dev", "test"):
        captions = len((data_folder / f"{split}_caps.txt").read_text().splitlines())
        (data_folder / f"{split}_ids.txt").write_text("".join(f"{caption}\n" for caption in range(captions)))
    assert prepared(data_folder).ranked.split.images.ids == tuple(f"test-{image}" for image in range(7))


def test_a_dev_split_that_is_a_copy_of_test_is_refused(data_folder):
    named(data_folder)
    for path in data_folder.glob("test_*"):
        shutil.copy(path, path.with_name(path.name.replace("test_", "dev_")))
    with pytest.raises(DataError, match=r"^7 of the 7 images of test are in dev too, 'test 0' is one: "):
        prepared(data_folder)


@pytest.mark.parametrize(("used", "name"), [("train", "dev"), ("train", "test"), ("dev", "test")])
def test_a_split_of_another_ones_features_is_refused_whatever_its_ids(data_folder, used, name):
    images = {"train": 13, "dev": 5, "test": 7}
    fewest = min(images[used], images[name])
    features = np.load(data_folder / f"{used}_ims.npy")[:fewest]
    after = np.load(data_folder / f"{name}_ims.npy")
    after[:fewest] = features
    np.save(data_folder / f"{name}_ims.npy", after)
    with pytest.raises(
        DataError, match=f"^the images of {name} have the features of those of {used}, place by place: "
    ):
        prepared(data_folder)
    after[0] += 1  # one image in common is no copy: photographs are posted twice
    np.save(data_folder / f"{name}_ims.npy", after)
    prepared(data_folder)


def test_splits_of_nothing_but_one_image_are_not_taken_for_copies():
    one = Images(np.ones((3, 2, 4), np.float32), np.arange(3), ("a", "b", "c"))
    check_no_copies({"train": one, "dev": one})
    other = replace(one, features=np.arange(24, dtype=np.float32).reshape(3, 2, 4))
    with pytest.raises(DataError):
        check_no_copies({"train": other, "dev": other.first(2)})
    check_no_copies({"train": other, "dev": one})


# Batches -------------------------------------------------------------------------------------------------------------


def test_batches_are_tensors_of_the_right_kind(data_folder):
    data = prepared(data_folder)
    images = image_batch(data.train.split.images, np.array([3, 0]))
    assert images.fragments.shape == (2, 3, 11)
    assert images.boxes is not None
    assert images.sizes is not None
    assert (images.boxes.shape, images.sizes.shape) == ((2, 3, 4), (2, 2))
    assert [t.dtype for t in (images.fragments, images.mask, images.boxes)] == [
        torch.float32,
        torch.bool,
        torch.float32,
    ]
    assert images.mask.sum(1).tolist() == [2, 3]
    texts = text_batch(data.train.tokens, slice(0, 2))
    assert [t.dtype for t in (texts.tokens, texts.mask)] == [torch.int64, torch.bool]
    assert texts.lengths.tolist() == data.train.tokens.lengths[:2].tolist()


def test_a_method_gets_what_it_needs_and_every_item_has_its_name(data_folder):
    side = prepared(data_folder).dev
    captions, order = side.split.captions, np.array([3, 0])
    plain = image_batch(side.split.images, order), text_batch(side.tokens, order)
    assert (plain[0].pixels, plain[1].strings) == (None, None)
    assert plain[0].ids == (side.split.images.ids[3], side.split.images.ids[0])
    assert plain[1].ids == (f"{side.split.images.ids[1]}#1", f"{side.split.images.ids[0]}#0")
    assert text_batch(side.tokens, order, ("strings",)).strings == (captions[3], captions[0])
    bare = image_batch(side.split.images, order, ("strings",))
    assert (bare.fragments, bare.mask, bare.boxes, len(bare)) == (None, None, None, 2)
    with pytest.raises(DataError, match=f"image {side.split.images.ids[3]}: there are no pictures in these data"):
        image_batch(side.split.images, order, ("pixels",))


def test_captions_that_are_kept_keep_their_strings_and_names(data_folder):
    half = prepared(data_folder, replace(SETTINGS, train_share=0.5)).train
    assert half.tokens.strings == half.split.captions
    assert half.tokens.names == half.split.caption_ids
    assert len(half.split.captions) == 2 * len(half.split.images)
    (batch,) = pair_batches(half, len(half.split.captions), 0, 0, needs=("fragments", "strings"))
    owners = dict(zip(half.split.caption_ids, half.split.captions, strict=True))
    assert [owners[name] for name in batch.texts.ids] == list(batch.texts.strings)
    assert [name.partition("#")[0] for name in batch.texts.ids] == list(batch.images.ids)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_a_folder_offers_the_pictures_that_lie_in_it(data_folder, packed):
    ids = prepared(data_folder).dev.split.images.ids
    bare = sources.find(str(data_folder))
    assert "pixels" not in bare.offers
    (data_folder / "pictures").mkdir()
    for number, name in enumerate(ids):
        Image.new("RGB", (5, 2 + number), (7, number, 0)).save(data_folder / "pictures" / name, format="PNG")
    if packed:
        with tarfile.open(data_folder / "pictures.tar", "w") as tar:
            tar.add(data_folder / "pictures", "somewhere")
        shutil.rmtree(data_folder / "pictures")
    found = sources.find(str(data_folder))
    assert "pixels" in found.offers
    assert found.fingerprint != bare.fingerprint
    images = found.load("dev").images
    first, second = image_batch(images, np.array([2, 0]), ("pixels",)).pixels
    assert (first.shape, first.dtype, second.shape) == ((3, 4, 5), torch.uint8, (3, 2, 5))
    assert first[:, 0, 0].tolist() == [7, 2, 0]


def test_scenes_offer_the_pictures_that_are_drawn_of_them():
    source = sources.find("scenes")
    assert {"pixels", "strings"} <= source.offers
    images = source.load("dev").images
    (picture,) = image_batch(images, np.array([5]), ("pixels",)).pixels
    assert max(picture.shape) == scenes.PIXELS
    wanted = np.asarray(draw(scenes.scenes("dev")[5], scenes.PIXELS))
    assert torch.equal(picture, torch.tensor(wanted).permute(2, 0, 1))


def test_an_epoch_shows_every_caption_once_with_its_image(data_folder):
    side = prepared(data_folder).train  # 26 captions
    batches = list(pair_batches(side, batch=2, seed=0, epoch=0))
    assert len(batches) == steps_per_epoch(side, 2) == 13
    pictures = image_batch(side.split.images, slice(0, None)).fragments
    found = []
    for batch in batches:
        assert torch.equal(batch.images.fragments, pictures[batch.image_index])
        for row, image in enumerate(batch.image_index.tolist()):
            length = int(batch.texts.lengths[row])
            found.append((image, tuple(batch.texts.tokens[row, :length].tolist())))
    ids, lengths = side.tokens.ids, side.tokens.lengths
    wanted = [(int(i), tuple(ids[n, : lengths[n]].tolist())) for n, i in enumerate(side.split.caption_to_image)]
    assert sorted(found) == sorted(wanted)


def test_a_last_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(data_folder):
    side = prepared(data_folder).train
    assert [len(batch.image_index) for batch in pair_batches(side, 7, 0, 0)] == [7, 7, 7]
    assert [len(batch.image_index) for batch in pair_batches(side, 100, 0, 0)] == [26]
    assert (steps_per_epoch(side, 7), steps_per_epoch(side, 100)) == (3, 1)


def test_training_captions_without_any_word_are_refused(data_folder):
    """Every word of nothing is known."""
    (data_folder / "train_caps.txt").write_text("...\n" * 26)
    with pytest.raises(DataError, match="none of its training captions holds a word"):
        prepared(data_folder)


def test_the_order_depends_on_seed_and_epoch_alone(data_folder):
    side = prepared(data_folder).train

    def order(seed: int, epoch: int) -> list[int]:
        torch.manual_seed(len(str(seed)))
        np.random.default_rng(3).random()
        batches = list(pair_batches(side, 26, seed, epoch))
        assert batches[0].epoch == epoch
        return batches[0].image_index.tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_updates_go_on_over_epochs_from_wherever_they_start(data_folder):
    side = prepared(data_folder).train
    whole = [batch for epoch in range(3) for batch in pair_batches(side, 8, 5, epoch)]  # 3 an epoch
    assert [(batch.epoch, batch.update) for batch in whole] == [(n // 3, n) for n in range(9)]
    for start, stop in ((0, 9), (0, 2), (2, 7), (3, 6), (8, 9), (4, 4)):
        found = list(update_batches(side, 8, 5, start, stop))
        assert [(batch.epoch, batch.update) for batch in found] == [(n // 3, n) for n in range(start, stop)]
        for one, other in zip(found, whole[start:stop], strict=True):
            assert torch.equal(one.image_index, other.image_index)
            assert torch.equal(one.texts.tokens, other.texts.tokens)


def test_features_are_mapped_and_not_read_whole(data_folder):
    features = prepared(data_folder).train.split.images.features
    assert isinstance(features, np.memmap)
