"""Is a file known by all it holds, and is what was kept of it never believed once the file has changed?"""

import os
from pathlib import Path

import pytest

from harness import contents


@pytest.fixture(autouse=True)
def everything_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "KEPT_FROM", 0)
    monkeypatch.setattr(contents, "SETTLED_NS", -(10**18))
    contents._of_settled.cache_clear()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read, real = [], contents._hashed
    monkeypatch.setattr(contents, "_hashed", lambda path: read.append(path) or real(path))
    return read


def test_a_kept_hash_spares_the_reading_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"one")
    read = counted(monkeypatch)
    first = contents.digest(tmp_path / "f")
    contents._of_settled.cache_clear()  # as a new process would begin
    assert contents.digest(tmp_path / "f") == first
    assert len(read) == 1


def test_same_size_and_time_are_not_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    before, first = path.stat(), contents.digest(path)
    (tmp_path / "g").write_bytes(b"two")  # another inode under the same name, and the old times
    (tmp_path / "g").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert contents.digest(path) != first


@pytest.mark.parametrize("broken", ["[]", "{", '{"stamp": 3}', "[" * 100_000])
def test_a_broken_cache_is_not_believed(tmp_path: Path, broken: str) -> None:
    (tmp_path / "f").write_bytes(b"one")
    first = contents.digest(tmp_path / "f")
    (entry,) = (tmp_path / "cache").rglob("*.json")
    entry.write_text(broken)
    contents._of_settled.cache_clear()
    assert contents.digest(tmp_path / "f") == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "f" / "no folder"))
    assert contents.digest(tmp_path / "f") == contents._hashed(tmp_path / "f")


def test_a_folder_is_its_files_and_their_names(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "in").mkdir(parents=True)
        (tmp_path / place / "in" / "f").write_bytes(b"one")
    assert contents.digest(tmp_path / "a") == contents.digest(tmp_path / "b")
    (tmp_path / "b" / "in" / "f").rename(tmp_path / "b" / "f")
    assert contents.digest(tmp_path / "a") != contents.digest(tmp_path / "b")
