"""Extended ground truths: which further answers are right, by the ids of the data.

`eccv` and `cxc` are read from the files of the package eccv_caption (Chun et al., ECCV 2022; MIT), which is not run:
COCO's 5,000 test images and 25,000 captions in the order of Karpathy's split.  Any other is a JSON file,
`{"i2t": {image id: [caption ids]}, "t2i": {caption id: [image ids]}}`, of as many queries as were judged.
Data whose images show identities bring `identities` themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.split import DataError, Split
from harness.data.texts import read_json

PACKAGED = ("eccv", "cxc")
WAYS = {"i2t": "image_to_caption", "t2i": "caption_to_image"}
OF_IDENTITIES = (
    "every caption of an identity fits every image of it; R@K is rank-K, mAP looks at the places of all right answers, "
    "mINP is their number by the place of the last (Ye et al., TPAMI 2021); ties count against the model"
)
Answers = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Truth:
    """Right answers by their numbers in the data, for some queries of each direction."""

    name: str
    digest: str  # of what it was read from
    answers: Mapping[str, Answers]  # way -> query -> right answers
    beyond: Mapping[str, Mapping[int, int]]  # way -> query -> how many more are not in the gallery
    note: str = ""
    whole: bool = False  # known of every query: measured by the places of all right answers in the whole gallery


def read(asked: str, split: Split) -> Truth:
    """`eccv`, `cxc` or a file.  Raises DataError, one line, for what does not fit the split."""
    images, captions = list(split.images.ids), list(split.caption_ids)
    if asked not in PACKAGED:
        path = Path(asked)
        stored = read_json(path)
        if not isinstance(stored, dict) or not set(WAYS) & set(stored):
            raise DataError(f"{path}: need a JSON object with i2t, t2i or both")
        return _numbered(
            path.stem, str(path), {way: stored.get(way, {}) for way in WAYS}, images, captions, outside=False
        )
    folder = _package()
    coco_captions = [str(number) for number in np.load(folder / "coco_test_ids.npy", allow_pickle=False).tolist()]
    image_of = {key: str(value[0]) for key, value in read_json(folder / "original_caption_to_image.json").items()}
    if [image_of[caption] for caption in coco_captions] != [images[owner] for owner in split.caption_to_image]:
        raise DataError(
            f"--truths {asked}: these are not COCO's 5,000 test images by their ids with five captions each, in the "
            f"order of Karpathy's split (here {len(images):,} and {len(captions):,}, first {images[0]!a:.40})"
        )
    stored = {way: read_json(folder / f"{asked}_{name}.json") for way, name in WAYS.items()}
    found = _numbered(asked, asked, stored, images, coco_captions, outside=True)
    note = "annotated from what VSRN, PVSE, PCME, ViLT and CLIP retrieved: rows like these are favoured"
    return Truth(found.name, found.digest, found.answers, found.beyond, note if asked == "eccv" else "")


def of_identities(split: Split) -> Truth | None:
    """Every caption of an identity fits every image of it, both ways; None where the data tell no identities."""
    shown = split.identity_numbers()
    if shown is None:
        return None
    said = shown[split.caption_to_image]  # (M,) whom each caption describes
    images, captions = (
        [np.flatnonzero(some == who).tolist() for who in range(shown.max() + 1)] for some in (shown, said)
    )
    answers = {
        "i2t": {image: captions[who] for image, who in enumerate(shown.tolist())},
        "t2i": {caption: images[who] for caption, who in enumerate(said.tolist())},
    }
    told = json.dumps(["identities", shown.tolist(), split.caption_to_image.tolist()])
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    return Truth("identities", digest, answers, {way: {} for way in WAYS}, OF_IDENTITIES, whole=True)


def _package() -> Path:
    """Where the files of eccv_caption lie.  Raises DataError where it is not installed."""
    spec = find_spec("eccv_caption")
    if spec is None or spec.origin is None:
        raise DataError("--truths eccv and cxc are read from a package: pip install 'selfalign-harness[truths]'")
    return Path(spec.origin).parent / "data"


def _numbered(
    name: str,
    where: str,
    stored: Mapping[str, Any],
    images: Sequence[str],
    captions: Sequence[str],
    outside: bool,
) -> Truth:
    """outside: whether a right answer may be none of the gallery.  Raises DataError."""
    numbers = {"i2t": (_places(images), _places(captions)), "t2i": (_places(captions), _places(images))}
    answers: dict[str, dict[int, list[int]]] = {way: {} for way in WAYS}
    beyond: dict[str, dict[int, int]] = {way: {} for way in WAYS}
    for way, (queries, gallery) in numbers.items():
        if not isinstance(stored[way], dict):
            raise DataError(f"{where}: {way} must map an id to a list of ids")
        for query, right in stored[way].items():
            if not isinstance(right, list) or not right:
                raise DataError(f"{where}: {way} {query!a:.40} must have a list of right answers")
            if query not in queries:
                raise DataError(f"{where}: {way} asks by {query!a:.40}, which is no id of the data")
            known = [gallery[str(one)] for one in right if str(one) in gallery]
            if (len(known) < len(right) and not outside) or not known:
                strange = next(str(one) for one in right if str(one) not in gallery)
                raise DataError(f"{where}: {way} {query!a:.40}: {strange!a:.40} is no id of the data")
            answers[way][queries[query]] = known
            if len(known) < len(right):
                beyond[way][queries[query]] = len(right) - len(known)
    if not any(answers.values()):
        raise DataError(f"{where}: no query has a right answer")
    digest = hashlib.sha256(json.dumps([answers, beyond], sort_keys=True).encode()).hexdigest()[:16]
    return Truth(name, digest, answers, beyond)


def _places(ids: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(ids)}
