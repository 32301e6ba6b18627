"""A probe trains on the embeddings of the pictures it is shown, whatever ids splits give them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data.kept import keeping
from harness.data.prepared import Side, image_batch, unread
from harness.data.split import Images, Split
from harness.pretrained import rows
from harness.pretrained.probe import Probe
from harness.protocol import Inputs
from tests.pretrained import tiny
from tests.pretrained.conftest import chosen

pytestmark = pytest.mark.usefixtures("same_torch_after")
PICTURES = tiny.pictures(7)
INPUTS = Inputs(image_dim=0, regions=1, vocabulary=5, dim=11)


def side(pictures: list[int], ids: list[str]) -> Side:
    shown = {name: PICTURES[picture].permute(1, 2, 0).numpy() for name, picture in zip(ids, pictures, strict=True)}
    images = Images(np.empty((len(ids), 1, 0), np.float32), np.arange(len(ids)), tuple(ids), pixels=shown.__getitem__)
    return unread(Split(images, tuple(f"a {name}" for name in ids), np.arange(len(ids))))


@pytest.mark.parametrize(
    ("ids", "needs"),
    [
        ((["a", "b", "c"], ["d", "e"], ["f", "g"]), ("strings",)),
        ((["0", "1", "2"], ["0", "1"], ["0", "1"]), ("pixels", "strings")),  # numbered anew in each split
        ((["0", "1", "c"], ["d", "e"], ["f", "0"]), ("pixels", "strings")),
    ],
)
def test_pictures_of_all_splits_keep_their_own_embeddings(folder_of, ids, needs):
    probe = rows.build(chosen(folder_of("clip"), "head=probe"), INPUTS)
    assert isinstance(probe, Probe)
    sides = [side(pictures, names) for pictures, names in zip(([0, 1, 2], [3, 4], [5, 6]), ids, strict=True)]

    def encoded(needs: tuple[str, ...]) -> list[torch.Tensor]:
        batches = [image_batch(one.split.images, slice(None), needs) for one in sides]
        return [probe.encode_images(batch).embedding for batch in batches]

    wanted = encoded(("pixels",))
    probe.look(sides)
    assert probe.needs == needs
    for found, own in zip(encoded(probe.needs), wanted, strict=True):
        torch.testing.assert_close(found, own)


def test_a_split_that_is_read_twice_is_found_by_its_ids(folder_of):
    probe = rows.build(chosen(folder_of("clip"), "head=probe"), INPUTS)
    train = side([0, 1, 2], ["0", "1", "2"])
    few = replace(train, split=train.split.some(np.array([True, False, True])))
    with keeping(probe):
        probe.look((few, side([3], ["d"]), train))
    assert probe.needs == ("strings",)
