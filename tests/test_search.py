"""A sentence finds pictures, a picture captions or pictures like it; what cannot be is one line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.record import Store
from harness.search import app
from harness.spec import pretrained, suites
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
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
    named = [word.format(clip=clip, photos=photos, empty=tmp_path / "empty") for word in words]
    code, output = asked(tmp_path, *named)
    assert code == 2, output
    assert said in " ".join(output.split())
    assert not (tmp_path / "found.html").exists()
