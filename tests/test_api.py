"""The harness from Python: hand-made scores, a slow twin of the search, and input that could mean two things."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from harness import ROOT, Row, evaluate, load, run, search
from harness.data.given.files import NEEDED
from harness.data.split import DataError
from harness.record import RecordError
from harness.spec.job import SpecError

SCORES = np.array([[0.9, 0.1, 0.5, 0.2], [0.8, 0.3, 0.4, 0.7]])  # 2 images, captions 0 and 1 of the first


def test_ranks_and_recalls_of_hand_made_scores():
    found = evaluate(SCORES)
    assert found.i2t.tolist() == [0, 1]  # the second image likes caption 0 best
    assert found.t2i.tolist() == [0, 1, 1, 0]
    assert (found.metrics["i2t_r1"], found.metrics["t2i_r1"]) == (50, 50)
    assert found.metrics["rsum"] == 50 + 50 + 4 * 100


def test_captions_in_any_order():
    mixed = [3, 0, 2, 1]
    found = evaluate(SCORES[:, mixed], np.array([0, 0, 1, 1])[mixed])
    assert found.i2t.tolist() == [0, 1]
    assert found.t2i.tolist() == [0, 0, 1, 1]


def test_embeddings_are_scored_by_inner_products_and_a_row_keeps_what_is_known_of_it():
    rng = np.random.default_rng(0)
    images, captions = rng.standard_normal((5, 3)), rng.standard_normal((10, 3))
    row = Row("mine", images=images, captions=captions, about={"seed": 3})
    found = evaluate(row)
    assert (found.name, found.about) == ("mine", {"seed": 3})
    assert found.metrics == evaluate((images, captions)).metrics == evaluate(images @ captions.T).metrics


def test_folds_are_ranked_on_their_own():
    """Two folds of one image: nothing to confuse it with."""
    found = evaluate(SCORES, fold=1)
    assert found.folds["rsum"] == 600
    mixed = [3, 0, 2, 1]
    assert evaluate(SCORES[:, mixed], np.array([0, 0, 1, 1])[mixed], fold=1).folds == found.folds


def spoilt(value: float) -> np.ndarray:
    scores = SCORES.copy()
    scores[1, 2] = value
    return scores


@pytest.mark.parametrize(
    ("given", "owners", "says"),
    [
        (spoilt(np.nan), None, "1 of 8 row: scores are not finite"),
        (spoilt(np.inf), None, "1 of 8 row: scores are not finite"),
        (SCORES.T, None, "2 captions do not spread evenly over 4 images, are they transposed?"),
        (SCORES.T, [0, 0, 1, 1], "2 captions but 4 image indices, are the scores transposed?"),
        (SCORES, [0, 0, 1], "4 captions but 3 image indices"),
        (SCORES, [0, 0, 1, 2], "image indices must be 0 to 1, got 0 to 2"),
        (SCORES, [0, 0, 0, 0], "1 of 2 images have no caption"),
        (SCORES, [0.0, 0, 1, 1], "image_of_caption must be whole numbers"),
        (SCORES[0], None, "must be a matrix, got shape (4,)"),
        (np.empty((0, 3)), None, "must be a matrix, got shape (0, 3)"),
        (SCORES.astype(str), None, "must be numbers"),
        ((SCORES, SCORES[:, :3]), None, "row: images have shape (2, 4), row: captions (2, 3): widths must be equal"),
        (Row("r"), None, "r: give scores, or images and captions"),
        (Row("r", scores=SCORES, images=SCORES), None, "r: give scores, or images and captions"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, owners, says):
    with pytest.raises(DataError) as refusal:
        evaluate(given, owners)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shape", [(), (4,), (0, 4), (2, 0), (1, 2, 3, 4)])
@pytest.mark.parametrize("kind", ["lists", "embeddings"])
def test_files_without_rows_are_refused_in_one_line(tmp_path, kind, shape):
    one, other = NEEDED[kind]
    np.savez(tmp_path / "mine.npz", **{one: np.zeros(shape, int), other: np.zeros(shape, int)})
    with pytest.raises(DataError, match=rf"^mine: {one} (have|must be) [^\n]*shape {re.escape(str(shape))}[^\n]*$"):
        evaluate(tmp_path / "mine.npz")


@pytest.mark.parametrize("fold", [-1, 3])
def test_a_fold_that_does_not_divide_the_images_is_refused(fold):
    with pytest.raises(DataError, match="fold must divide the 2 images"):
        evaluate(SCORES, fold=fold)


def test_search_is_that_of_a_full_sort():
    rng = np.random.default_rng(1)
    gallery, queries = rng.integers(-2, 3, (50, 4)).astype(np.float32), rng.integers(-2, 3, (300, 4)).astype(np.float32)
    ids, scores = search(gallery, queries, k=7)  # whole numbers: many ties
    whole = queries @ gallery.T
    expected = np.argsort(-whole, axis=1, kind="stable")[:, :7]
    assert (ids == expected).all()
    assert (scores == np.take_along_axis(whole, expected, 1)).all()
    assert search(gallery, queries, k=99)[0].shape == (300, 50)


@pytest.mark.parametrize(("width", "k", "says"), [(3, 1, "widths must be equal"), (4, 0, "k must be at least 1")])
def test_a_search_that_cannot_be_is_refused(width, k, says):
    with pytest.raises(DataError, match=says):
        search(np.ones((5, 4)), np.ones((2, width)), k)


@pytest.mark.usefixtures("same_torch_after")
def test_a_job_is_run_once_and_loaded_as_a_line(data_folder, tmp_path):
    small = {"settings.min_count": 1, "settings.batch": 13, "settings.dim": 8, "settings.epochs": 1}
    record = run("vsepp", tmp_path, data=str(data_folder), seed=2, changes=small)
    assert record.status == "ok"
    assert run("vsepp", tmp_path, data=str(data_folder), seed=2, changes=small) == record
    (line,) = load(tmp_path).to_dict("records")
    assert (line["label"], line["seed"], line["key"], line["status"]) == ("vsepp", 2, record.key, "ok")
    assert 0 <= line["rsum"] <= 600


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecordError, match="holds no records"):
        load(tmp_path)
    with pytest.raises(SpecError, match="did you mean vsepp"):
        run("vsep", tmp_path)


def test_the_package_alone_is_light():
    code = (
        "import sys, harness; light = not {'torch', 'numpy', 'pandas', 'typer'} & set(sys.modules);"
        "from harness import run, evaluate; sys.exit(not (light and callable(run) and callable(evaluate)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
