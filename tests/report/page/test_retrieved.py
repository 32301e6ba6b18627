"""The page of what was retrieved: which queries it shows, whose answers, with which pictures, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.data import precomp, scenes
from harness.record import Concepts, Ranks
from harness.report.__main__ import app
from harness.report.page import queries
from harness.spec.job import SpecError

HOST, OWN = "vsepp", "vsepp+selfalign"
IMAGES = 7  # the first of the scenes
EVIL = "<script>alert(1)</script> & {{ 7 * 7 }} in a_b"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _the_page_alone(monkeypatch):
    """The door makes tables and figures first, which have tests of their own."""
    monkeypatch.setattr("harness.report.__main__._write", lambda _folder, _slides: True)


def ranks_of(i2t_top: np.ndarray, t2i_top: np.ndarray, i2t: np.ndarray, t2i: np.ndarray) -> Ranks:
    none = np.zeros(0, np.int32)
    return Ranks(
        i2t.astype(np.int32),
        t2i.astype(np.int32),
        i2t_top.astype(np.int32),
        t2i_top.astype(np.int32),
        *(none,) * 4,
        groups={},
    )


def perfect(images: int, per_image: int) -> Ranks:
    """Every answer first, the others in their order."""
    owner = np.repeat(np.arange(images), per_image)
    order = np.array([[image, *(other for other in range(images) if other != image)][:6] for image in range(images)])
    captions = np.array([[first * per_image + place for first in line for place in range(per_image)] for line in order])
    return ranks_of(captions[:, :10], order[owner], np.zeros(images), np.zeros(len(owner)))


def backwards(images: int, per_image: int) -> Ranks:
    """Image 0 first for every caption, caption 0 for every image."""
    owner = np.repeat(np.arange(images), per_image)
    first = np.tile(np.arange(6), (len(owner), 1))
    return ranks_of(np.tile(np.arange(10), (images, 1)), first, np.arange(images) * per_image, owner)


def concepts(captions: list[int], words: list[str]) -> Concepts:
    """Word i of each caption has region i, prototype 5; so has region 0 alone."""
    size = (len(captions), len(words))
    places = np.tile(np.arange(len(words)), (len(captions), 1))
    return Concepts(
        captions=np.array(captions, np.int32),
        words=np.tile(np.array(words), (len(captions), 1)),
        regions=places.astype(np.int32),
        similarities=np.full(size, 0.123, np.float32),
        word_prototypes=np.full(size, 5, np.int32),
        region_prototypes=np.where(places == 0, 5, 9).astype(np.int32),
        prototypes=np.array([5], np.int32),
        uses=np.array([41], np.int32),
        top_words=np.array([[words[0], ""]]),
        top_counts=np.array([[37, 0]], np.int32),
        top_regions=np.array([[[1, 0], [-1, -1]]], np.int32),
        top_similarities=np.array([[0.875, 0]], np.float32),
        total=np.array(64, np.int32),
    )


@pytest.fixture
def folder(make) -> Path:
    """A host that gives image 0 for everything, and SelfAlign that is always right, on the first scenes."""
    data = {"fingerprint": scenes.source().fingerprint, "test_images": IMAGES}
    counts = {"test": {"images": IMAGES, "captions": 5 * IMAGES, "notes": []}}
    for label, ranks in ((HOST, backwards(IMAGES, 5)), (OWN, perfect(IMAGES, 5))):
        make.add(make.job(label, data=data), ranks, data=counts)
    return make.folder


@pytest.fixture
def user(make, tmp_path) -> tuple[Path, Path, Path]:
    """Results, data and pictures of a user: 6 images with 2 captions each, one of them hostile."""
    data = tmp_path / "mine"
    data.mkdir()
    for split in ("train", "dev", "test"):
        np.save(data / f"{split}_ims.npy", np.random.default_rng(0).standard_normal((6, 4, 3), dtype=np.float32))
        np.save(data / f"{split}_boxes.npy", np.tile(np.array([10, 20, 30, 60], np.float32), (6, 4, 1)))
        np.save(data / f"{split}_img_sizes.npy", np.tile(np.array([100, 80], np.float32), (6, 1)))
        captions = [f"caption {number}" for number in range(12)]
        captions[4] = EVIL
        (data / f"{split}_caps.txt").write_text("\n".join(captions) + "\n")
        (data / f"{split}_ids.txt").write_text("".join(f"picture{image}\n" for image in range(6)))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for image in range(6):
        Image.new("RGB", (100, 80), (40 * image, 0, 0)).save(pictures / f"picture{image}.jpg")
    fixed = {"name": "mine", "fingerprint": precomp.source(data).fingerprint}
    for label, ranks in ((HOST, backwards(6, 2)), (OWN, perfect(6, 2))):
        make.add(make.job(label, data=fixed), ranks, data={"test": {"images": 6, "captions": 12, "notes": []}})
    return make.folder, data, pictures


def page(folder: Path) -> str:
    return (folder / "retrieved.html").read_text(encoding="utf-8")


def section(html: str, title: str, way: str) -> list[str]:
    """Articles of a section."""
    (found,) = re.findall(rf"<h2>{re.escape(title)} <small>{way}:.*?</section>", html, re.DOTALL)
    return re.findall(r"<article.*?</article>", found, re.DOTALL)


# Which queries


def test_disagreements_go_by_the_ratio_of_ranks():
    """1-based: 1 against 2, 4 against 400, 500 against 1000, equal, and the other way round."""
    better, worse = np.array([0, 3, 499, 7, 9]), np.array([1, 399, 999, 7, 0])
    owner = np.arange(5)
    assert queries.disagreements(better, worse, owner, 9) == [1, 0, 2]
    assert queries.disagreements(better, worse, owner, 1) == [1]
    assert queries.disagreements(worse, better, owner, 9) == [4]


def test_failures_are_those_of_the_better_method():
    a, b, owner = np.array([0, 90, 30, 20]), np.array([99, 10, 40, 20]), np.arange(4)
    assert queries.failures(a, b, owner, 9) == [2, 3, 1]
    assert queries.failures(a[:1], b[:1], owner[:1], 9) == []


def test_captions_of_one_image_count_once():
    ranks, owner = np.array([50, 49, 48, 47]), np.array([0, 0, 1, 1])
    assert queries.failures(ranks, ranks, owner, 2) == [0, 2]
    assert queries.disagreements(ranks * 0, ranks, owner, 2) == [0, 2]


def test_spread_queries_reach_from_first_to_last():
    assert queries.spread(11, 3) == [0, 5, 10]
    assert queries.spread(2, 6) == [0, 1]


@pytest.mark.parametrize("text", ["17", "t2i:-1", "t2i:x", "i2i:3", "t2i:7"])
def test_a_query_that_is_none_is_refused(text):
    with pytest.raises(SpecError, match=re.escape(text)):
        queries.chosen(text, {"t2i": 7, "i2t": 3})


def test_queries_are_chosen_by_number():
    assert queries.chosen("t2i:6, i2t:2,t2i:0", {"t2i": 7, "i2t": 3}) == {"t2i": [6, 0], "i2t": [2]}


# What the page says


def test_both_answers_stand_side_by_side_with_the_right_one_marked(folder):
    done = call("--retrieved", f"{HOST},{OWN}", folder)
    assert done.exit_code == 0, done.stderr
    assert "".join(done.stdout.splitlines()).endswith(f"what was retrieved: {folder}/retrieved.html")
    said = scenes.load("test").first(IMAGES)
    ahead = section(page(folder), f"Where {OWN} is ahead", "t2i")
    assert len(ahead) == 6
    last = 5 * (IMAGES - 1)  # the first caption of the last image is found at rank 7 of 7 and at rank 1
    assert f"“{said.captions[last]}”" in unescape(ahead[0])
    host, own = re.findall(r'<div class="side">.*?</div>', ahead[0], re.DOTALL)
    assert "rank 7" in host
    assert 'class="right"' not in host
    assert [int(p) for p in re.findall(r'href="#p(\d+)"', host)] == [0, 1, 2, 3, 4]
    assert "rank 1<" in own
    assert [int(p) for p in re.findall(r'href="#p(\d+)"', own)] == [6, 0, 1, 2, 3]
    assert own.index('class="right"') < own.index('href="#p6"') < own.index("✓") < own.index('href="#p0"')
    assert section(page(folder), f"Where {HOST} is ahead", "t2i") == []
    assert section(page(folder), "Worst failures of both", "i2t") == []
    captions = section(page(folder), f"Where {OWN} is ahead", "i2t")[0]
    assert len(re.findall('class="right"', captions)) == 5  # all five of the picture's own


def test_scenes_are_drawn_each_once_and_nothing_is_loaded(folder):
    call("--retrieved", f"{HOST},{OWN}", folder)
    html = page(folder)
    inside = re.findall(r'<image id="p(\d+)" href="data:image/png;base64,', html)
    assert len(inside) == len(set(inside)) == IMAGES
    assert set(re.findall(r'href="#p(\d+)"', html)) == set(inside)
    assert not re.findall(r'(?:src|href)="(?!#|data:image/)', html)
    assert "url(" not in html
    assert "<script" not in html
    assert len(html) < 500_000


def test_the_same_records_make_the_same_page(folder):
    call("--retrieved", f"{HOST},{OWN}", folder)
    first = page(folder)
    call("--retrieved", f"{HOST},{OWN}", folder)
    assert page(folder) == first


def test_queries_that_were_asked_for_are_shown(folder):
    assert call("--retrieved", f"{HOST},{OWN}", "--queries", "t2i:13", folder).exit_code == 0
    (card,) = section(page(folder), "Asked for", "t2i")
    assert "t2i:13<" in card
    assert "Evenly spread" not in page(folder)


def test_without_concepts_the_page_says_so(folder):
    call("--retrieved", f"{HOST},{OWN}", folder)
    assert "No concept assignments are stored for this run" in page(folder)
    assert "Concepts of vsepp " not in page(folder)  # the host has none to miss


def test_words_are_drawn_with_their_regions(folder, make):
    key = next(run.key for run in make.store.records() if run.label == OWN)
    make.store.save(make.store.record(key), make.store.ranks(key), concepts([0, 6], ["star", "moon"]))
    assert call("--retrieved", f"{HOST},{OWN}", folder).exit_code == 0
    html = page(folder)
    assert "The two are the same in 2 of 4 words." in " ".join(html.split())
    first, second = re.findall(r'<article class="sample">.*?</article>', html, re.DOTALL)
    split = scenes.load("test")
    assert split.images.boxes is not None
    for sample, image in ((first, 0), (second, 1)):
        assert f'href="#p{image}"' in sample
        boxes = [
            tuple(map(float, found)) for found in re.findall(r'class="box" x="(\S+)" y="(\S+)" width="(\S+)"', sample)
        ]
        expected = [(x1, y1, x2 - x1) for x1, y1, x2, _ in split.images.boxes[image, :2].tolist()]
        np.testing.assert_allclose(boxes, expected)
        rows = re.findall(
            r"<tr><td>(\w+)</td>.*?>(\d)</i></td><td>(\S+?)</td><td>(\d+)</td><td>(\d+)(.*?)</td></tr>", sample
        )
        assert [row[:5] for row in rows] == [("star", "1", "0.12", "5", "5"), ("moon", "2", "0.12", "5", "9")]
        assert ["✓" in row[5] for row in rows] == [True, False]
    (prototype,) = re.findall(r'<article class="prototype">.*?</article>', html, re.DOTALL)
    assert "P5" in prototype
    assert "star <small>× 37<" in prototype
    x1, y1, *_ = split.images.boxes[1, 0].tolist()
    (crop,) = re.findall(r'viewBox="(\S+) (\S+) ', prototype)
    assert (float(crop[0]), float(crop[1])) == (x1, y1)


def test_concepts_of_other_data_are_one_line(folder, make):
    key = next(run.key for run in make.store.records() if run.label == OWN)
    make.store.save(make.store.record(key), make.store.ranks(key), concepts([5 * IMAGES], ["star"]))
    done = call("--retrieved", f"{HOST},{OWN}", folder)
    assert done.exit_code == 2
    assert f"concepts of {OWN}: captions up to {5 * IMAGES}, the data have {5 * IMAGES}" in done.stderr


# A user's own data


def test_hostile_captions_read_as_themselves(user):
    folder, data, _ = user
    assert call("--retrieved", f"{HOST},{OWN}", "--queries", "t2i:4", "--data", data, folder).exit_code == 0
    html = page(folder)
    assert "<script" not in html
    assert f"“{EVIL}”" in unescape(html)


def test_pictures_are_read_only_where_they_are_named(user):
    folder, data, pictures = user
    assert call("--retrieved", f"{HOST},{OWN}", "--data", data, folder).exit_code == 0
    assert "data:image" not in page(folder)
    assert "Pictures are not shown: --images names" in page(folder)
    assert call("--retrieved", f"{HOST},{OWN}", "--data", data, "--images", pictures, folder).exit_code == 0
    assert len(re.findall("data:image/jpeg", page(folder))) == 6
    assert "were not found" not in page(folder)


def test_a_tar_is_as_good_as_a_folder_and_is_not_unpacked(user, tmp_path):
    folder, data, pictures = user
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        tar.add(pictures, "some/folder")
    call("--retrieved", f"{HOST},{OWN}", "--data", data, "--images", pictures, folder)
    from_folder = page(folder)
    before = set(tmp_path.rglob("*"))
    assert (
        call("--retrieved", f"{HOST},{OWN}", "--data", data, "--images", tmp_path / "pictures.tar", folder).exit_code
        == 0
    )
    assert page(folder) == from_folder
    assert set(tmp_path.rglob("*")) == before


def test_a_picture_that_is_missing_is_counted(user):
    folder, data, pictures = user
    (pictures / "picture3.jpg").unlink()
    assert call("--retrieved", f"{HOST},{OWN}", "--data", data, "--images", pictures, folder).exit_code == 0
    assert "1 of 6 pictures were not found." in page(folder)


def test_a_caption_file_tells_the_names_of_pictures(user, tmp_path):
    folder, data, pictures = user
    entries = []
    for image in range(6):
        (pictures / f"picture{image}.jpg").rename(pictures / f"x{image}.jpg")
        entries.append(
            f'{{"filename": "x{image}.jpg", "imgid": "picture{image}", "split": "test", "sentences": [{{"raw": "a"}}]}}'
        )
    (tmp_path / "captions.json").write_text('{"images": [' + ",".join(entries) + "]}")
    arguments = ["--retrieved", f"{HOST},{OWN}", "--data", data, "--images", pictures]
    assert "--captions names the file" in call(*arguments, folder).stderr
    assert call(*arguments, "--captions", tmp_path / "captions.json", folder).exit_code == 0
    assert len(re.findall("data:image/jpeg", page(folder))) == 6


def test_pictures_do_not_get_into_reference_results(user, monkeypatch):
    folder, data, pictures = user
    monkeypatch.setattr("harness.report.page.retrieved.ROOT", folder.parent)
    reference = folder.parent / "results" / "reference" / "mine"
    reference.parent.mkdir(parents=True)
    folder.rename(reference)
    done = call("--retrieved", f"{HOST},{OWN}", "--data", data, "--images", pictures, reference)
    assert done.exit_code == 2
    assert "pictures of other people are not written into reference results" in done.stderr
    assert call("--retrieved", f"{HOST},{OWN}", "--data", data, reference).exit_code == 0


# Bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retrieved", HOST], "--retrieved takes two different rows, comma-separated, got 'vsepp'"),
        (["--retrieved", f"{HOST},{HOST}"], "two different rows"),
        (
            ["--retrieved", f"{HOST},vsep+selfalign"],
            "no row 'vsep+selfalign' with ranks in these records; did you mean",
        ),
        (["--retrieved", f"{HOST},{OWN}", "--queries", "t2i:35"], "there is no query t2i:35: t2i has 35, from 0"),
        (["--retrieved", f"{HOST},{OWN}", "--data", "nowhere"], "nowhere"),
        (["--queries", "t2i:1"], "belong to --retrieved, which is not given"),
        (["--check", "--retrieved", f"{HOST},{OWN}"], "--check writes nothing; leave --retrieved out"),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, said):
    done = call(*arguments, folder)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "retrieved.html").exists()


def test_data_of_a_user_have_to_be_named_and_to_be_the_same(user):
    folder, data, _ = user
    assert "captions of mine are in no record: --data" in call("--retrieved", f"{HOST},{OWN}", folder).stderr
    (data / "test_caps.txt").write_text("".join(f"another {n}\n" for n in range(12)))
    assert "other data than those of the records" in call("--retrieved", f"{HOST},{OWN}", "--data", data, folder).stderr


def test_a_damaged_picture_is_one_line(user):
    folder, data, pictures = user
    (pictures / "picture0.jpg").write_bytes(b"none")
    done = call("--retrieved", f"{HOST},{OWN}", "--data", data, "--images", pictures, folder)
    assert done.exit_code == 2
    assert "picture0.jpg is no readable picture: unknown picture format" in done.stderr


def test_rows_of_other_settings_are_not_compared(folder, make):
    data = {"fingerprint": scenes.source().fingerprint, "test_images": IMAGES}
    make.add(make.job("vsrn", data=data, lr=1e-3), perfect(IMAGES, 5))
    assert "never run with the same data and settings" in call("--retrieved", f"{HOST},vsrn", folder).stderr


def test_a_row_with_options_in_its_name_can_be_chosen(folder, make):
    from harness.spec import registry

    data = {"fingerprint": scenes.source().fingerprint, "test_images": IMAGES}
    model = registry.model(OWN, selfalign_options={"prototypes": 7, "negatives": 11})
    make.add(make.job(model, data=data), perfect(IMAGES, 5))
    names = f"{HOST},{OWN} (negatives=11, prototypes=7)"
    done = call("--retrieved", names, folder)
    assert done.exit_code == 0, done.stderr


def test_ranks_of_other_data_are_refused(folder, make):
    for run in make.store.records():
        counts = {"images": IMAGES - 1, "captions": 5 * (IMAGES - 1)}
        make.store.save(replace(run, data={"test": counts}), perfect(IMAGES - 1, 5))
    done = call("--retrieved", f"{HOST},{OWN}", folder)
    assert done.exit_code == 2
    assert f"has {IMAGES - 1} + {5 * (IMAGES - 1)} queries, the data {IMAGES} + {5 * IMAGES}" in done.stderr


def test_the_page_needs_no_torch(folder):
    code = (
        "import sys; from harness.report.__main__ import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit(' '.join({'torch', 'ray', 'transformers'} & set(sys.modules)) or 0)"
    )
    arguments = ["--retrieved", f"{HOST},{OWN}", str(folder)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_edition_of_embedded_data_is_not_answered_with_the_pictures_of_todays(make):
    for label in (HOST, OWN):
        make.add(make.job(label, data={"fingerprint": "abcdef0123", "test_images": IMAGES}), perfect(IMAGES, 5))
    done = call("--retrieved", f"{HOST},{OWN}", make.store.folder)
    assert done.exit_code == 2
    assert "these records are of another edition of scenes (abcdef01) than is made today" in " ".join(
        done.stderr.split()
    )
