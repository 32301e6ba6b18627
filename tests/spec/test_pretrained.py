"""What `--row NAME=MODEL` may say, and the one line it gets where it may not."""

from __future__ import annotations

import json

import pytest

from harness.spec import methods, needs, pretrained, registry, suites
from harness.spec.job import Data, SpecError

OFFERS = frozenset({"fragments", "tokens", "strings", "pixels"})


@pytest.fixture(autouse=True)
def no_rows():
    yield
    pretrained.choose()


@pytest.fixture
def folder(tmp_path):
    """Of a class, or of whatever is written as its configuration."""

    def made(config, name="model"):
        (tmp_path / name).mkdir()
        text = json.dumps({"architectures": [config]}) if config in pretrained.KINDS else config
        (tmp_path / name / "config.json").write_text(text)
        return tmp_path / name

    return made


def chosen(folder, options="", name="mine", device="cpu"):
    request = pretrained.parsed(",".join(filter(None, [f"{name}={folder}", options])))
    return pretrained.pretrained(request, folder, set(methods.methods()), device)


def test_a_class_says_which_options_there_are(folder):
    blip = chosen(folder("BlipForImageTextRetrieval"), "k=7,k_t2i=3,pairs=1.5M")
    assert dict(blip.options) == {
        "precision": "fp32", "prompt": "", "pairs": 1_500_000, "score": "itm", "mark": "enc", "k_i2t": 7, "k_t2i": 3,
    }  # fmt: skip
    clip = chosen(folder("CLIPModel", "clip"), device="cuda:1")
    assert dict(clip.options) == {"precision": "fp16", "prompt": "", "pairs": 0, "head": "none"}
    assert (blip.family, clip.family) == ("interactive", "independent")


def test_embeddings_alone_are_an_independent_row(folder):
    row = chosen(folder("Blip2ForImageTextRetrieval"), "score=itc")
    assert row.family == "independent"
    assert "k_i2t" not in dict(row.options)


def test_identity_is_what_the_folder_holds(folder):
    one, other = folder("CLIPModel"), folder("CLIPModel", "other")
    first, second = chosen(one), chosen(other, name="another")
    assert first.identity == second.identity
    (other / "model.safetensors").write_bytes(b"weights")
    assert chosen(other).identity != first.identity


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ("BertModel", "", "names no class of model"),
        (
            '{"architectures": ["GPT2"]}',
            "",
            "the class 'GPT2', of which no row can be made; known: CLIPModel",
        ),
        ('{"architectures": ["ClipModel"]}', "", "no row can be made; did you mean CLIPModel"),
        ('{"architectures": []}', "", "names no class of model"),
        ('{"architectures": "CLIPModel"}', "", "names no class of model"),
        ("[" * 100_000, "", "names no class of model"),
        ("CLIPModel", "k=3", "k_i2t means nothing to CLIPModel"),
        ("CLIPModel", "score=itc", "score means nothing to CLIPModel"),
        ("ViltForImageAndTextRetrieval", "head=probe", "head means nothing to Vilt"),
        ("BlipForImageTextRetrieval", "score=itc,k=3", "k_i2t means nothing where score=itc"),
        ("BlipForImageTextRetrieval", "k=0", "k must be a whole number from 1, got '0'"),
        ("BlipForImageTextRetrieval", "k=ten", "k must be a whole number from 1, got 'ten'"),
        ("Blip2ForImageTextRetrieval", "mark=enc", "mark means nothing to Blip2ForImageTextRetrieval"),
        ("CLIPModel", "pairs=many", "pairs must be a number such as 400M, got 'many'"),
        ("CLIPModel", "head=prob", "head must be one of none, probe, got 'prob'"),
        ("CLIPModel", "hed=probe", "has no option 'hed'; did you mean head"),
        ("CLIPModel", "head=none,head=probe", "head is given twice"),
        ("CLIPModel", "probe", "has no option 'probe'"),
    ],
)
def test_what_cannot_be_is_one_line(folder, config, options, said):
    with pytest.raises(SpecError) as refused:
        chosen(folder(config), options)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_must_be_its_own(folder):
    here = folder("CLIPModel")
    for name in ("", "a b", "-x", "x" * 41):
        with pytest.raises(SpecError, match="--row takes NAME=FILE or NAME=MODEL"):
            chosen(here, name=name)
    with pytest.raises(SpecError, match="another row or method has that name"):
        chosen(here, name="vsepp")


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    with pytest.raises(SpecError, match=r"has no config.json, it is no folder of a transformers model"):
        chosen(tmp_path)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("a=owner/name", True),
        ("a=owner/name,head=probe", True),
        ("a=b.npz", False),
        ("a=b/c.npz", False),
        ("a=b", False),
    ],
)
def test_models_are_told_from_files(text, model, tmp_path):
    assert pretrained.is_model(text) is model
    assert pretrained.is_model(f"a={tmp_path}")


def test_chosen_rows_are_methods_but_in_no_suite(folder):
    before = registry.labels()
    pretrained.choose(
        [chosen(folder("CLIPModel"), name="clip"), chosen(folder("CLIPModel", "p"), "head=probe", "probe")]
    )
    assert registry.labels() == before
    asked = suites.asked("smoke", Data(), rows=["clip", "probe"], seeds=[3, 4])
    seeds = [(job.model.label, job.settings.seed) for job in asked.rows if job.model.pretrained]
    assert seeds == [("clip", 3), ("probe", 3), ("probe", 4)]  # no seed changes a row that trains nothing
    assert [job.model.label for job in suites.asked("smoke", Data(), only=["clip"], rows=["clip"]).jobs] == ["clip"]
    model = registry.model("clip")
    assert model.pretrained.startswith("CLIPModel ")
    assert registry.current(model)
    pretrained.choose()
    assert registry.current(model)  # its records are read when nobody names the folder


def test_a_row_that_reads_pictures_is_left_out_where_there_are_none(folder):
    pretrained.choose([chosen(folder("CLIPModel"), name="clip")])
    asked = suites.asked("smoke", Data(name="mine"), rows=["clip"], only=["vsepp", "clip"])
    left, lines = needs.served(asked, OFFERS - {"pixels"})
    assert lines == ["Left out: clip needs pixels, which mine does not have"]
    assert {job.model.label for job in left.jobs} == {"vsepp"}
    assert needs.served(asked, OFFERS) == (asked, [])
