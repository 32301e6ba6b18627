"""People's judgements through the command: a trained row, embeddings, scores and lists; kept, shown, refused."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.judgements import CROWD, EXPERTS
from harness.data.prepared import prepare_ranked
from harness.data.sources import described
from harness.measure.judged import agreement
from harness.store import Store
from tests.phases.test_given import SMALL, run

pytestmark = pytest.mark.usefixtures("same_torch_after")


@pytest.fixture
def split(data_folder):
    """7 images of two captions each."""
    return prepare_ranked(described(str(data_folder))[0]).ranked.split


@pytest.fixture
def people(split, tmp_path):
    """Every image with the second caption of every image: experts say how far apart their numbers are, the crowd yes
    of neighbours; one damaged line, and a judgement of an image that is not there."""
    ids = split.images.ids
    pairs = [(i, j) for i in range(7) for j in range(7)]
    experts = [f"{ids[i]}\t{ids[j]}#1\t" + "\t".join([str(max(1, 4 - abs(i - j)))] * 3) for i, j in pairs]
    crowd = [f"{ids[i]}\t{ids[j]}#1\t" + ("1\t3\t0" if abs(i - j) == 1 else "0\t0\t3") for i, j in pairs]
    folder = tmp_path / "people"
    folder.mkdir()
    (folder / EXPERTS).write_text("\n".join([*experts, f"gone.jpg\t{ids[0]}#1\t1\t1\t1"]))
    (folder / CROWD).write_bytes("\n".join(crowd).encode() + b"\n\xff\xfe\n")
    return folder


def files(split, tmp_path) -> list[str]:
    """Rows from files: scores as people have them, the same with other scores of captions, embeddings, lists."""
    owner = split.caption_to_image
    near = -np.abs(np.arange(7)[:, None] - owner).astype(np.float32)
    np.save(tmp_path / "near.npy", near)
    np.savez(tmp_path / "both.npz", scores=near, scores_t2i=np.where(near == 0, near, -10 - near))
    angles = 0.2 * np.arange(7)
    looks = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", images=looks, captions=looks[owner])
    i2t = np.argsort(-near, 1, kind="stable")
    t2i = np.argsort(-near.T, 1, kind="stable")
    np.savez(tmp_path / "lists.npz", i2t_ids=i2t, t2i_ids=t2i)
    names = ("near.npy", "both.npz", "vectors.npz", "lists.npz")
    return [f"--row={name.partition('.')[0]}={tmp_path / name}" for name in names]


def test_rows_stand_beside_what_people_said(data_folder, split, people, tmp_path):
    common = ["--data", str(data_folder), "--results", str(tmp_path / "results"), "--seeds", "0", *SMALL]
    options = [*files(split, tmp_path), f"--judgements={people}", "--timing-rounds=0"]
    found = run("--only", "vsepp", *options, *common)
    assert found.exit_code == 0, found.output
    for said in (
        f"judged  {CROWD}: 1 of 50 lines are damaged and left out",
        "is not in the ranked split: 1 judgements of experts, 0 of the crowd",
        "judged  near seed 0: Kendall's tau with experts +",
        "(42 pairs of 7 captions)",
        "judged  vsepp seed 0: Kendall's tau with experts",
        "missing lists seed 0: lists of what was retrieved have no score for every judged pair",
    ):
        assert said in found.output
    folder = tmp_path / "results" / "full-zoo"
    store = Store(folder)
    keys = {record.label: record.key for record in store.records()}
    stored = {label: store.judged(key) for label, key in keys.items()}
    assert {label for label, one in stored.items() if one is None} == {"lists"}
    near, both, trained = stored["near"], stored["both"], stored["vsepp"]
    assert near is not None
    assert both is not None
    assert trained is not None
    assert len(near.images) == 7 * 7 + 7  # and the first caption of each, which nobody judged
    assert (len(near.scores), len(both.scores), near.gallery.tolist()) == (1, 2, [7, 14])
    ranks = store.ranks(keys["vsepp"])
    assert ranks is not None
    own = trained.own
    assert np.array_equal(trained.t2i_above[own], ranks.t2i[trained.captions[own]])
    lines = (folder / "tables" / "judged.csv").read_text().splitlines()
    table = {line.split(",")[0]: dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]}
    assert set(table) == {"near (given)", "both (given)", "vectors (given)", "vsepp"}
    asked = ~near.own
    expected = agreement(near.scores[:, asked], near.experts[asked], near.captions[asked])
    assert float(table["near (given)"]["tau"]) == pytest.approx(expected.over_all.value, abs=5e-4)
    assert float(table["vectors (given)"]["tau within"]) > 0.8  # as near ones, but for what rounds differently
    assert float(table["both (given)"]["tau"]) < 0 < float(table["near (given)"]["tau"])
    assert table["both (given)"]["i2t judged mAP@R"] == table["near (given)"]["i2t judged mAP@R"]
    assert table["near (given)"]["t2i whole R@5"] == "100.0"
    shown = (folder / "tables" / "judged.md").read_text()
    assert "42 pairs of 7 captions by experts, 42 by the crowd; 12 of them are right" in shown
    assert "Left out: 1 damaged lines, 1 judgements of what was not ranked." in shown
    written = store.judged_path(keys["vsepp"]).stat().st_mtime_ns
    again = run("--only", "vsepp", *options, *common)
    assert "judged  vsepp" not in again.output
    assert store.judged_path(keys["vsepp"]).stat().st_mtime_ns == written
    text = (people / EXPERTS).read_text().replace("\t4\t4\t4", "\t4\t4\t3", 1)
    (people / EXPERTS).write_text(text)
    assert "judged  vsepp" in run("--only", "vsepp", *options, *common).output


def test_judgements_that_cannot_be_read_are_refused_before_anything_is_run(data_folder, people, tmp_path):
    common = ["--data", str(data_folder), "--results", str(tmp_path / "results"), "--only=vsepp", "--timing-rounds=0"]
    text = (people / EXPERTS).read_text().replace("\t4\t4\t4", "\t4\t4\t5", 1)
    (people / EXPERTS).write_text(text)
    for folder, says in ((people, f"{EXPERTS}, line 1: need an image"), (tmp_path, f"{EXPERTS}: no such file")):
        found = run(f"--judgements={folder}", *common)
        assert found.exit_code == 2
        assert says in found.stderr
        assert len(found.stderr.splitlines()) == 1
        assert not (tmp_path / "results" / "full-zoo").exists()


def test_ensembles_and_weights_on_other_data_stand_beside_people_too(data_folder, split, people, tmp_path):
    results = tmp_path / "results"
    common = ["--data", str(data_folder), "--results", str(results), f"--judgements={people}"]
    rows = ["--only", "scan:t2i-avg,scan:i2t-lse", "--timing-rounds=0", "--seeds", "0", *SMALL]
    assert run(*rows, *common).exit_code == 0
    store = Store(results / "full-zoo")
    stored = {record.label: store.judged(record.key) for record in store.records()}
    both, one, other = stored["scan*"], stored["scan:t2i-avg"], stored["scan:i2t-lse"]
    assert both is not None
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(both.scores, (one.scores + other.scores) / 2, rtol=1e-6)

    more = tmp_path / "more.json"
    more.write_text(f'{{"t2i": {{"{split.caption_ids[0]}": ["{split.images.ids[0]}"]}}}}')
    found = run("--evaluate", str(store.folder), "--only", "scan:t2i-avg", "--truths", str(more), *common)
    assert found.exit_code == 0, found.output
    assert "judged  scan:t2i-avg seed 0: Kendall's tau with experts" in found.output
    assert "truths  scan:t2i-avg seed 0: more t2i mAP@R" in found.output
    here = Store(results / "evaluated-zoo")
    (record,) = here.records()
    again = here.judged(record.key)
    assert again is not None
    np.testing.assert_allclose(again.scores, one.scores, rtol=1e-5)
    assert here.extended(record.key) is not None
    table = (here.folder / "tables" / "judged.md").read_text()
    assert "| scan:t2i-avg" in table
    assert "judged" not in run("--evaluate", str(store.folder), "--only", "scan:t2i-avg", *common[:4]).output
