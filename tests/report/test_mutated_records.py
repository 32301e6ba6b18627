"""Whatever becomes of one stored file, a report works or says in one line which file is wrong."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.record import ACCURACIES, AskedRecord, Concepts, IndexRecord, RecordError, RerankRecord
from harness.report.figures import gather
from harness.report.outputs import texts
from harness.report.read.groups import collect
from harness.report.tables.comparison import left_out_lines
from tests.report.conftest import MACHINE, Maker, filled
from tests.report.tables.test_judged import judged

EXAMPLES = int(os.environ.get("HARNESS_FUZZ_EXAMPLES", "200"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.sampled_from([-1, 0, 1, 11, 10**6, 2**31, 2**62])
SHAPES = st.sampled_from([(), (0,), (1,), (12,), (30,), (12, 1), (2, 2), (1, 2, 2)])
TYPES = st.sampled_from(["i1", "i4", "i8", "u8", "f4", "f8", "?", "U3", "c8", "M8[s]", "V4"])
LISTED = "{'descr': '<i4', 'fortran_order': False, 'shape': %s, }"
HEADERS = st.sampled_from(  # of .npy files, of shapes that no array has, or that no machine holds
    [
        LISTED % "(-3,)",
        LISTED % f"({'9' * 30},)",
        LISTED % "(4611686018427387904, 4)",
        LISTED % ("(" * 5000),
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<i4', 'shape': (1,), }",
        "[]" + " " * 20_000,
        "",
    ]
)
FUZZ = settings(
    max_examples=max(1, EXAMPLES // 2),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
    phases=[Phase.generate],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A record of every kind there is."""
    make = filled(Maker(tmp_path_factory.mktemp("stored") / "full-scenes"))
    jobs = [make.job(label) for label in ("vsepp", "vsepp+selfalign", "scan:t2i-lse")]
    first, own, last = (job.key for job in jobs)
    ks = [1, 12]
    accuracy = {name: [5.0, 9.0] for name in ACCURACIES}
    samples = {"t2i_retrieve": [[0.1], [0.1]], "t2i_rerank": [[0.2], [0.3]]}
    pair = RerankRecord(
        f"{first}-{last}", "vsepp", "scan:t2i-lse", MACHINE, {"images": 12}, ks,
        accuracy, [5, 5], samples,
    )  # fmt: skip
    make.store.save_rerank(pair)
    entry = {"items": 9, "index": "exact", "setting": "", "recall": 1.0, "p50_ms": 0.2, "samples_ms": [0.2]}
    make.store.save_index(
        IndexRecord(first, "vsepp", MACHINE, "12 real images", 10, [entry | {"build_s": 0.1, "bytes": 99, "note": ""}])  # type: ignore[list-item]
    )
    cost = make.store.cost(first)
    record, ranks = make.store.record(own), make.store.ranks(own)
    assert cost is not None
    assert record is not None
    gallery = {
        "items": 1000,
        "p50_ms": 0.5,
        "p95_ms": 0.6,
        "p99_ms": 0.7,
        "measured": True,
        "limit_ms": 0.4,
        "note": "",
    }
    single = {"query_encode_ms": [1.0], "flops": {"image": 2e6}, "law": {"residual": 0.25}}
    make.store.save_cost(replace(cost, galleries=[gallery | {"limit_ms": 0.4}], **single))  # type: ignore[list-item]
    rounded = {"rsum": 100.0, "tied_queries": 1, "changed_i2t": 0.5, "changed_t2i": 0.5}
    traced = {
        "step_ms": 2.0,
        "outside_ms": 1.0,
        "parts": {"loss": 0.5},
        "top": [{"name": "mm", "calls": 1.0, "ms": 1.0}],
    }
    history = [{"epoch": place, "dev_rsum": 50.0 + place, "seconds": 1.0} for place in range(2)]
    more = {"fp32": rounded, "operators": {"train": traced}, "history": history, "best_epoch": 1}
    make.store.save(replace(record, **more), ranks, concepts())
    make.store.save_judged(own, judged(0))
    question = {"name": "margin", "question": "Which margin?", "base": first, "arms": [["0.1", own]]}
    make.store.save_asked(AskedRecord("0" * 16, "full", False, [first, own, last], [question], [{"settings.lr": 0.1}]))
    read_all(make.folder)
    return make.folder


def concepts() -> Concepts:
    """One caption of two words, one prototype."""
    one, two = np.zeros(1, np.int32), np.zeros((1, 2), np.int32)
    return Concepts(
        one, np.array([["a", ""]]), two, np.zeros((1, 2), np.float32), two, two, one, one, np.array([["a"]]),
        np.ones((1, 1), np.int32), np.zeros((1, 1, 2), np.int32), np.zeros((1, 1), np.float32), np.array(1, np.int32),
    )  # fmt: skip


def read_all(folder: Path) -> None:
    """Everything the tables and figures say of a folder, and the concepts, which a page alone reads."""
    groups = collect(folder)
    for group in groups:
        left_out_lines(group)
    texts(folder, groups)
    gather.sketched(groups)  # what figures are made of, nothing is drawn
    store = Maker(folder).store
    for path in (folder / "concepts").iterdir():
        store.concepts(path.stem)


def refusal(folder: Path) -> str:
    """What a report refuses, "" where it is read; what else goes wrong is a fault and comes through."""
    try:
        read_all(folder)
    except RecordError as error:
        return str(error)
    return ""


def read_changed(folder: Path, path: Path, after: bytes) -> None:
    """Raises AssertionError where what is refused is more than one line, or does not name a file."""
    before = path.read_bytes()
    path.write_bytes(after)
    try:
        said = refusal(folder)
    finally:
        path.write_bytes(before)
    assert said.isprintable()
    assert not said or any(f"{kind.name}/" in said for kind in folder.iterdir())


def places(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return ([path] if path else []) + [place for name, own in inner for place in places(own, (*path, name))]


@FUZZ
@given(draw=st.data())
def test_one_changed_field_is_read_or_refused_in_one_line(folder, draw):
    path = draw.draw(st.sampled_from(sorted(folder.glob("*/*.json"))))
    stored = json.loads(path.read_text())
    *outer, last = draw.draw(st.sampled_from(places(stored)))
    at = stored
    for name in outer:
        at = at[name]
    if draw.draw(st.integers(0, 3)):
        at[last] = draw.draw(VALUES)
    else:
        del at[last]
    read_changed(folder, path, json.dumps(stored).encode())


@FUZZ
@given(draw=st.data())
def test_one_changed_array_is_read_or_refused_in_one_line(folder, draw):
    path = draw.draw(st.sampled_from(sorted(folder.glob("*/*.npz"))))
    with np.load(path) as stored:
        arrays: dict[str, Any] = dict(stored)
    name = draw.draw(st.sampled_from(sorted(arrays)))
    change = draw.draw(st.sampled_from(["value", "array", "header", "gone", "new", "bytes"]))
    if change == "value" and arrays[name].size:
        array = arrays[name].astype(draw.draw(st.sampled_from(["i8", "f8"]))) if name != "words" else arrays[name]
        array = array if array.dtype.kind in "if" else array.copy()
        array.flat[draw.draw(st.integers(0, array.size - 1))] = draw.draw(NUMBERS)
        arrays[name] = array
    if change in ("array", "new"):
        arrays["colour" if change == "new" else name] = np.ones(draw.draw(SHAPES), draw.draw(TYPES))
    if change == "gone":
        del arrays[name]
    if change == "header":
        arrays[name] = draw.draw(HEADERS)
    after = zipped(arrays)
    if change == "bytes":
        place = draw.draw(st.integers(0, len(after) - 1))
        after = after[:place] + draw.draw(st.binary(max_size=3)) + after[place + draw.draw(st.integers(0, 3)) :]
    read_changed(folder, path, after)


def zipped(arrays: Mapping[str, Any]) -> bytes:
    """As an npz file; text in place of an array is the header of one of four bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, array in arrays.items():
            part = io.BytesIO()
            if isinstance(array, str):
                part.write(b"\x93NUMPY\x02\x00" + len(array).to_bytes(4, "little") + array.encode() + bytes(4))
            else:
                np.lib.format.write_array(part, array)
            file.writestr(f"{name}.npy", part.getvalue())
    return made.getvalue()
