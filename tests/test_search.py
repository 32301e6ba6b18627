"""A sentence finds pictures, a picture captions or pictures like it; what cannot be is one line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.search import app
from harness.spec import pretrained, suites
from harness.store import Store
from tests.pretrained import tiny

pytestmark = pytest.mark.usefixtures("same_torch_after")
PICTURES = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("clip", tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in a folder, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number, picture in enumerate(tiny.pictures(PICTURES)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    pretrained.choose()


def asked(tmp_path, *words):
    result = CliRunner().invoke(app, [*map(str, words), "--no-show", "--page", str(tmp_path / "found.html")])
    return result.exit_code, result.output


def listed(output):
    """Ids and scores that were printed."""
    lines = re.findall(r"^ +\d+ +(-?[0-9.]+)  (\S+)", output, re.M)
    return [name for _, name in lines], [float(score) for score, _ in lines]


def test_a_sentence_finds_pictures_of_a_folder(tmp_path, clip, photos):
    code, output = asked(tmp_path, clip, "a red ball", "--gallery", photos, "--top", 3)
    assert code == 0, output
    ids, scores = listed(output)
    assert len(set(ids)) == 3
    assert scores == sorted(scores, reverse=True)
    everything = listed(asked(tmp_path, clip, "a red ball", "--gallery", photos, "--top", 99)[1])
    assert everything[0][:3] == ids
    assert sorted(everything[0]) == [f"{number}.png" for number in range(PICTURES)]
    assert re.search(rf"{PICTURES} pictures: encode query .* ms, score .* ms, rank .* ms; encode gallery .* ms", output)
    page = (tmp_path / "found.html").read_text()
    assert page.count("data:image/jpeg;base64,") == PICTURES


def test_a_picture_finds_itself_first(tmp_path, clip, photos):
    for query in (photos / "4.png", "4.png"):
        ids, scores = listed(asked(tmp_path, clip, query, "--gallery", photos)[1])
        assert ids[0] == "4.png"
        assert scores[0] == pytest.approx(1, abs=1e-3)


def test_a_picture_finds_captions_where_there_are_some(tmp_path, clip):
    code, output = asked(tmp_path, clip, "test-3", "--top", 2)
    assert code == 0, output
    assert all(re.fullmatch(r"test-\d+#\d", name) for name in listed(output)[0])


@pytest.mark.slow
def test_a_stored_row_finds_what_its_record_says(tmp_path):
    from harness.data import sources
    from harness.data.prepared import prepare
    from harness.phases.train import execute

    data, _ = sources.described("scenes")
    changes = {"data.test_images": 11, "settings.epochs": 1, "data.train_images": 30}
    (job,) = suites.asked("smoke", data, only=["vsepp"], seeds=[0], changes=changes).jobs
    store = Store(tmp_path / "smoke-scenes")
    execute(job, store)
    split = prepare(job.data, job.settings).ranked.split
    ranks = store.ranks(job.key)
    for caption in (0, 17, 40):
        code, output = asked(tmp_path, f"{store.folder}:vsepp", split.captions[caption])
        assert code == 0, output
        expected = [split.images.ids[image] for image in ranks.t2i_top[caption][:5]]
        assert listed(output)[0] == expected
    code, output = asked(tmp_path, f"{store.folder}:vsepp", split.images.ids[2])
    assert listed(output)[0] == [split.caption_ids[caption] for caption in ranks.i2t_top[2][:5]]
    code, output = asked(tmp_path, store.folder, "a ball")
    assert (code, f"name one of its rows, {store.folder}:vsepp" in "".join(output.split("\n"))) == (2, True)
    code, output = asked(tmp_path, f"{store.folder}:vsep", "a ball")
    assert (code, "did you mean vsepp" in output) == (2, True)
    code, output = asked(tmp_path, f"{store.folder}:vsepp", "zzz qqq")
    assert (code, "no word of 'zzz qqq' is known" in output) == (2, True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "black.png")
    code, output = asked(tmp_path, f"{store.folder}:vsepp", tmp_path / "black.png")
    assert code == 2
    assert "this row reads fragments and tokens, not pixels" in " ".join(output.split())
    code, output = asked(tmp_path, f"{store.folder}:vsepp", "a ball", "--gallery", tmp_path)
    assert (code, "vsepp reads fragments, which pictures alone do not have" in " ".join(output.split())) == (2, True)
    shutil.rmtree(store.folder / "checkpoints")
    code, output = asked(tmp_path, f"{store.folder}:vsepp", "a ball")
    assert (code, "no weights" in output) == (2, True)


def test_both_stages_are_searched(tmp_path, photos):
    from harness.pretrained import rows

    folder = tiny.save("blip", tmp_path / "blip")
    code, output = asked(tmp_path, folder, "a red ball", "--gallery", photos, "--top", PICTURES)
    assert code == 0, output
    model = rows.build(pretrained.chosen()[0], None)
    from tests.pretrained.test_scores import encoded

    expected = model.similarity(*encoded(model, images=PICTURES, captions=["a red ball"]))[:, 0]
    assert listed(output)[0] == [f"{int(place)}.png" for place in expected.argsort(descending=True)]


IMAGES, CAPTIONS = 11, 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of both sides of several kinds, no data set, and a vector."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    images, captions = rng.standard_normal((IMAGES, 7)), rng.standard_normal((CAPTIONS, 7))
    np.save(folder / "images.npy", images.astype(np.float32))
    np.save(folder / "captions.npy", captions.astype(np.float16))
    np.save(folder / "vector.npy", captions[3].astype(np.float16))
    np.save(folder / "wide.npy", np.ones(8))
    np.save(folder / "two.npy", np.ones((2, 7)))
    np.save(folder / "zero.npy", np.zeros(7))
    np.save(folder / "scores.npy", images @ captions.T)
    named = {"image_ids": np.array([f"i{n}" for n in range(IMAGES)]), "caption_ids": np.arange(100, 100 + CAPTIONS)}
    np.savez(folder / "named.npz", images=images, captions=captions, **named)
    np.savez(folder / "doubled.npz", images=images, captions=captions, image_ids=np.zeros(IMAGES, np.int64))
    np.savez(folder / "views.npz", images=rng.standard_normal((IMAGES, 3, 7)), captions=captions)
    np.savez(folder / "both.npz", images=rng.standard_normal((IMAGES, 3, 7)), captions=captions[:, None])
    return folder


def expected_of(files: Path, caption: int, *, cosine: bool) -> tuple[list[int], np.ndarray]:
    images, captions = (np.load(files / f"{side}.npy").astype(float) for side in ("images", "captions"))
    scores = images @ captions[caption]
    if cosine:
        scores /= np.linalg.norm(images, axis=1) * np.linalg.norm(captions[caption])
    order = [int(place) for place in np.argsort(-scores)]
    return order, scores[order]


@pytest.mark.parametrize("scorer", ["dot", "cosine"])
@pytest.mark.parametrize("query", ["caption:3", "vector.npy"])
def test_embeddings_from_files_are_asked_by_their_own_captions_or_a_vector(tmp_path, files, scorer, query):
    named = files / query if query.endswith(".npy") else query
    row = f"mine={files}/images.npy,{files}/captions.npy,scorer={scorer}"
    code, output = asked(tmp_path, row, named, "--top", 4)
    assert code == 0, output
    order, scores = expected_of(files, 3, cosine=scorer == "cosine")
    assert listed(output)[0] == [str(place) for place in order[:4]]
    assert listed(output)[1] == pytest.approx(scores[:4], abs=2e-3)
    assert f"{IMAGES} pictures: look query up" in output


def test_items_of_files_are_called_as_the_file_calls_them(tmp_path, files):
    order, _ = expected_of(files, 3, cosine=False)
    for query in ("103", "caption:103"):
        code, output = asked(tmp_path, f"mine={files}/named.npz", query)
        assert (code, listed(output)[0]) == (0, [f"i{place}" for place in order[:5]])
    code, output = asked(tmp_path, f"mine={files}/named.npz", "i4", "--top", 99)
    assert (code, f"{CAPTIONS} captions: look query up" in output) == (0, True)
    images, captions = (np.load(files / f"{side}.npy").astype(float) for side in ("images", "captions"))
    assert listed(output)[0] == [str(100 + place) for place in np.argsort(-(captions @ images[4]))]


@pytest.mark.parametrize("row", ["views.npz,scorer=max", "views.npz,scorer=max-cosine", "both.npz,scorer=max-sum"])
@pytest.mark.parametrize("query", ["caption:2", "image:2"])
def test_several_vectors_an_item_are_scored_as_by_the_row(tmp_path, files, row, query):
    import torch

    from harness.searching_given import opened
    from harness.spec.given import parsed
    from harness.spec.job import Settings

    code, output = asked(tmp_path, f"mine={files}/{row}", query, "--top", 99)
    assert code == 0, output
    model = opened(parsed(f"mine={files}/{row}"), "", Settings()).model
    from harness.protocol import ImageBatch, TextBatch

    images = model.encode_images(ImageBatch(ids=tuple(map(str, range(IMAGES)))))
    texts = model.encode_texts(TextBatch(torch.empty(0), torch.empty(0), ids=tuple(map(str, range(CAPTIONS)))))
    matrix = model.similarity(images, texts)
    scores = matrix[:, 2] if query == "caption:2" else matrix[2]
    assert listed(output)[0] == [str(int(place)) for place in scores.argsort(descending=True)]


def test_with_data_items_of_files_have_the_ids_and_captions_of_the_data(tmp_path, data_folder):
    from harness.data.prepared import prepare_ranked
    from harness.data.sources import described

    split = prepare_ranked(described(str(data_folder))[0]).ranked.split
    rng = np.random.default_rng(0)
    images, order = rng.standard_normal((len(split.images), 6)), rng.permutation(len(split.images))
    np.savez(
        tmp_path / "mine.npz",
        images=images[order],
        captions=images[split.caption_to_image],
        image_ids=np.array(split.images.ids)[order],
    )
    row, image = f"mine={tmp_path}/mine.npz,scorer=cosine", split.images.ids[2]
    code, output = asked(tmp_path, row, split.caption_ids[5], "--data", data_folder, "--top", 1)
    assert (code, listed(output)[0]) == (0, [split.images.ids[split.caption_to_image[5]]]), output
    code, output = asked(tmp_path, row, image, "--data", data_folder, "--top", 2)
    assert code == 0, output
    assert {name.partition("#")[0] for name in listed(output)[0]} == {image}
    assert split.captions[np.flatnonzero(split.caption_to_image == 2)[0]] in output


@pytest.mark.parametrize(
    ("row", "query", "said"),
    [
        ("images.npy,captions.npy", "3", "3 is an image as well as a caption: ask for caption:3 or image:3"),
        ("images.npy,captions.npy", "a red ball", "embeddings from a file have no encoder, so a query is caption:ID"),
        ("images.npy,captions.npy", "caption:5", "'caption:5': embeddings from a file have no encoder"),
        ("images.npy,captions.npy", "{files}/gone.npy", "gone.npy: no such file"),
        (
            "images.npy,captions.npy",
            "{files}/wide.npy",
            "float64 of shape (8,), a caption here is floating-point",
        ),
        ("images.npy,captions.npy", "{files}/two.npy", "holds 2 vectors, a query is one"),
        ("images.npy,captions.npy", "{files}/zero.npy", "NaN, infinite or all zero: no query"),
        ("scores.npy", "caption:1", "these files hold scores, only embeddings can be searched"),
        ("doubled.npz", "caption:1", "image_ids: 10 ids are there twice, first '0'"),
        ("gone.npz", "caption:1", "gone.npz: no such file"),
        ("images.npy,captions.npy,scorer=best", "caption:1", "scorer must be one of"),
    ],
)
def test_what_files_cannot_answer_is_one_line(tmp_path, files, row, query, said):
    code, output = asked(tmp_path, f"mine={files}/{row.replace(',c', f',{files}/c')}", query.format(files=files))
    assert code == 2, output
    assert said in " ".join(output.split())
    assert not (tmp_path / "found.html").exists()


def test_files_bring_their_own_gallery(tmp_path, files, photos):
    code, output = asked(tmp_path, f"mine={files}/named.npz", "103", "--gallery", photos)
    assert (code, "--gallery is of rows that read pixels" in output) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{results}", "a ball"], "is a folder of results: name one of its rows"),
        (["nowhere", "a ball"], "nowhere: neither RESULTS:ROW with a results folder, nor a folder with a config.json"),
        (["{clip}", " "], "the query is empty"),
        (["{clip}", "a ball", "--gallery", "{empty}"], "no picture in it"),
        (["{clip}", "a ball", "--gallery", "{photos}/nothing"], "no such folder, tar or zip of pictures"),
        (["{clip}", "{photos}/notes.txt", "--gallery", "{photos}"], "notes.txt is no readable picture"),
        (["{clip}", "a ball", "--data", "sceness"], "did you mean scenes"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, clip, photos, words, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "results" / "records").mkdir(parents=True)
    made = {name: tmp_path / name for name in ("empty", "results")}
    named = [word.format(clip=clip, photos=photos, **made) for word in words]
    code, output = asked(tmp_path, *named)
    assert code == 2, output
    assert said in " ".join(output.split())
    assert not (tmp_path / "found.html").exists()
