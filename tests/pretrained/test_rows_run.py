"""From `--row` to the tables: pictures of drawn scenes, all kinds of rows, refusals in one line."""

from __future__ import annotations

import numpy as np
import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from harness import run
from harness.data import pretrained as hub
from harness.data import sources
from harness.data.judgements import CROWD, EXPERTS
from harness.store import Store
from tests.pretrained import tiny

pytestmark = pytest.mark.usefixtures("same_torch_after")
SMALL = ("--suite", "smoke", "--set", "data.test_images=9", "--set", "data.dev_images=7", "--train-images", "11")
LENGTH = ("--epochs", "1", "--threads", "1", "--workers", "0", "--set", "settings.batch=16")


def door(tmp_path, *options):
    result = CliRunner().invoke(run.app, [*SMALL, *LENGTH, "--results", str(tmp_path), *map(str, options)])
    return result.exit_code, result.output, Store(tmp_path / "smoke-scenes")


def records(store):
    found = [store.record(path.stem) for path in sorted((store.folder / "records").glob("*.json"))]
    return {record.label: record for record in found if record is not None}


@pytest.mark.slow
def test_pretrained_rows_and_the_scale_stand_beside_what_people_said(tmp_path, folder_of):
    ids = sources.find("scenes").load("test").first(9).images.ids
    pairs = [(image, f"{caption}#1") for image in ids for caption in ids]
    people = tmp_path / "people"
    people.mkdir()
    experts = [f"{image}\t{caption}\t1\t{1 + place % 3}\t4\n" for place, (image, caption) in enumerate(pairs)]
    (people / EXPERTS).write_text("".join(experts))
    (people / CROWD).write_text("".join(f"{image}\t{caption}\t0\t0\t3\n" for image, caption in pairs))
    kinds = {"clip": "", "blip": ",k=4", "vilt": ""}
    rows = [part for kind, more in kinds.items() for part in ("--row", f"{kind}={folder_of(kind)}{more}")]
    only = ["--only", ",".join(["chance", *kinds]), "--timing-rounds", "0"]
    code, output, store = door(tmp_path, *only, *rows, "--judgements", people)
    assert code == 0, output
    for label, record in records(store).items():
        stored, ranks = store.judged(record.key), store.ranks(record.key)
        assert stored is not None, label
        own = stored.own
        assert int((~own).sum()) == 72
        if label != "blip":  # whose ranks are those of two stages
            assert np.array_equal(stored.t2i_above[own], ranks.t2i[stored.captions[own]]), label
    table = (store.folder / "tables" / "judged.csv").read_text()
    assert {line.split(",")[0] for line in table.splitlines()[1:]} == {"chance", *kinds}


@pytest.mark.slow
def test_all_kinds_of_rows_stand_in_the_table_with_their_costs(tmp_path, folder_of):
    rows = {
        "clip": f"clip={folder_of('clip')},pairs=400M",
        "siglip": f"siglip={folder_of('siglip')}",
        "blip": f"blip={folder_of('blip')},k=4",
        "views": f"views={folder_of('blip-2')},score=itc",
        "vilt": f"vilt={folder_of('vilt')}",
        "probe": f"probe={folder_of('clip')},head=probe",
    }
    told = [part for row in rows.values() for part in ("--row", row)]
    only = ["--only", ",".join(["vsepp", "chance", *rows])]
    code, output, store = door(tmp_path, *only, *told, "--timing-rounds", "1", "--timing-budget", "0.2")
    assert code == 0, output
    found = records(store)
    assert {label for label, record in found.items() if record.status == "ok"} == {"vsepp", "chance", *rows}
    assert found["clip"].pretraining["pairs"] == 400_000_000
    assert found["siglip"].pretraining["pairs"] is None
    assert (found["clip"].parameters, found["vsepp"].pretraining) == (0, None)
    assert found["probe"].parameters > 0
    assert found["blip"].shortlist["k_i2t"] == 4
    assert 0 <= found["blip"].shortlist["t2i_ceiling"] <= 100
    ranks = store.ranks(found["blip"].key)
    assert ranks.t2i_top.shape == (45, 9)
    assert {int(i) for i in ranks.t2i_top[0]} == set(range(9))
    for label, record in found.items():
        cost = store.cost(record.key)
        assert all(cost.samples_s[stage] for stage in ("encode_images", "encode_texts", "score", "rank")), label
    table = (store.folder / "tables" / "comparison.csv").read_text()
    header, *lines = [line.split(",") for line in table.splitlines()]
    pairs = {line[header.index("method")]: line[header.index("pre-training pairs")] for line in lines}
    assert pairs == dict.fromkeys(rows, "") | {"vsepp": "0", "chance": "", "clip": "400000000"}
    markdown = (store.folder / "tables" / "comparison.md").read_text()
    assert "blip looks closely at 4 captions of an image and 4 images of a caption" in markdown
    again = door(tmp_path, *only, *told, "--timing-rounds", "1", "--timing-budget", "0.2")
    assert "cached  8 of 8 jobs" in again[1]


def test_a_row_alone_runs_alone_and_a_moved_folder_is_the_same_row(tmp_path, folder_of):
    code, output, store = door(
        tmp_path / "one", "--only", "clip", "--row", f"clip={folder_of('clip')}", "--timing-rounds", "0"
    )
    assert code == 0, output
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in folder_of("clip").iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    _, output, other = door(tmp_path / "two", "--only", "clip", "--row", f"clip={moved}", "--timing-rounds", "0")
    assert list(records(store)) == ["clip"]
    assert records(store)["clip"].key == records(other)["clip"].key, output


def test_a_shortlist_beyond_the_gallery_is_refused(tmp_path, folder_of):
    code, output, _ = door(tmp_path, "--only", "blip", "--row", f"blip={folder_of('blip')},k=10")
    assert code == 2
    assert "k_t2i=10 is beyond the gallery of 9 images: say k_t2i=9 or less" in " ".join(output.split())


def test_data_without_pictures_are_refused(tmp_path, folder_of, data_folder):
    options = ("--data", data_folder, "--only", "clip", "--row", f"clip={folder_of('clip')}")
    code, output, _ = door(tmp_path, *options)
    assert code == 2
    assert "Left out: clip needs pixels, which zoo does not have" in " ".join(output.split())


def test_a_hub_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub._trouble.cache_clear()
    code, output, _ = door(tmp_path, "--row", "clip=nobody/nothing")
    hub._trouble.cache_clear()
    assert code == 2
    assert "error: model nobody/nothing cannot be loaded: it is no folder, is not in the hub's cache" in " ".join(
        output.split()
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as CLIPModel"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "cannot be loaded as CLIPModel"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("{"), "cannot be loaded as CLIPModel"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "clip: "),
        (lambda folder: _renamed(folder), "lacks 1 weights of CLIPModel, first text_projection.weight"),
        (lambda folder: _resized(folder), "has other sizes of 1 weights of CLIPModel, first text_projection.weight"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path, damage, said):
    folder = tiny.save("clip", tmp_path / "clip")
    damage(folder)
    code, output, _ = door(tmp_path, "--only", "clip", "--row", f"clip={folder}", "--timing-rounds", "0")
    assert code == 2, output
    assert said in " ".join(output.split())
    assert "Traceback" not in output


def _renamed(folder):
    """A weight goes by another name, as in the weights of another class."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["other.weight"] = weights.pop("text_projection.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _resized(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["text_projection.weight"] = weights["text_projection.weight"][:, :-1].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
