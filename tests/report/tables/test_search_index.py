"""The table of approximate search says what was stored, and why where nothing was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import IndexRecord, RecordError
from harness.report import outputs
from harness.report.read.groups import collect

EXACT = {
    "items": 1000,
    "index": "exact",
    "setting": "",
    "recall": 1.0,
    "p50_ms": 0.25,
    "samples_ms": [0.25] * 3,
    "build_s": 0.0,
    "bytes": 256_000,
    "note": "",
}
GIVEN_UP = EXACT | {"index": "faiss hnsw", "note": "time: not built after 60 s", "samples_ms": []}
GIVEN_UP |= dict.fromkeys(("recall", "p50_ms", "build_s", "bytes"))


def stored_index(key: str, entries: list) -> IndexRecord:
    return IndexRecord(key, "vsepp", {"device": "abacus", "threads": 2}, "7 real images", 10, entries)


def test_a_line_for_every_search_and_a_note_for_what_is_missing(stored):
    key = stored.job("vsepp").key
    stored.store.save_index(stored_index(key, [EXACT, GIVEN_UP]))
    texts = outputs.texts(stored.folder, collect(stored.folder))
    assert texts["approximate-search.csv"].splitlines() == [
        "method,items,index,setting,recall,ms/query,queries,build s,bytes/item",
        "vsepp,1000,exact,,1.000,0.250,3,0,256",
        "vsepp,1000,faiss hnsw,,,,,,",
    ]
    shown = texts["approximate-search.md"]
    assert "- vsepp, 1,000 items, faiss hnsw: time: not built after 60 s." in shown
    assert "- Recall is that of the first 10 images, relative to exact search. Galleries: 7 real images." in shown
    assert "device abacus, threads 2" in shown


def test_no_table_where_nothing_was_indexed(stored):
    assert not [name for name in outputs.texts(stored.folder, collect(stored.folder)) if "approximate" in name]


def test_a_damaged_index_is_refused_by_name(stored):
    key = stored.job("vsepp").key
    stored.store.save_index(stored_index(key, [{"items": 1000}]))
    with pytest.raises(RecordError, match=f"indexes/{key}.json: entries.0: has unknown or missing fields: build_s"):
        outputs.texts(stored.folder, collect(stored.folder))


def test_an_index_of_another_row_is_refused(stored):
    key = stored.job("vsepp").key
    stored.store.save_index(replace(stored_index(key, [EXACT]), label="vsrn"))
    with pytest.raises(RecordError, match=f"indexes/{key}.json: label must be vsepp, got vsrn"):
        outputs.texts(stored.folder, collect(stored.folder))


def test_an_index_comes_back_as_it_was_and_goes_with_its_weights(stored):
    job = stored.job("vsepp")
    index = stored_index(job.key, [EXACT])
    stored.store.save_index(index)
    assert stored.store.index(job.key) == index
    stored.add(job, None)  # trained again
    assert stored.store.index(job.key) is None
