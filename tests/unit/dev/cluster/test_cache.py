"""A cache keeps each build under the hash of its inputs."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.cluster import cache


@given(st.lists(st.text(), min_size=1))
def test_same_parts_give_same_key(parts):
    assert cache.content_key(*parts) == cache.content_key(*parts)


@given(st.lists(st.text(), min_size=1), st.integers(min_value=0))
def test_changed_part_changes_key(parts, where):
    changed = list(parts)
    changed[where % len(parts)] += "x"
    assert cache.content_key(*changed) != cache.content_key(*parts)


def test_parts_do_not_run_together():
    assert cache.content_key("ab", "c") != cache.content_key("a", "bc")


def test_folder_counts_with_names_and_bytes_of_its_files(tmp_path):
    (tmp_path / "go.mod").write_text("module a")
    before = cache.content_key(tmp_path)
    (tmp_path / "go.mod").write_text("module b")
    edited = cache.content_key(tmp_path)
    (tmp_path / "go.mod").rename(tmp_path / "go.sum")
    assert len({before, edited, cache.content_key(tmp_path)}) == 3


def test_environment_names_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("EMBEDDING_OPERATOR_CACHE", raising=False)
    assert cache.folder() == tmp_path / "xdg" / "embedding-operator"
    monkeypatch.setenv("EMBEDDING_OPERATOR_CACHE", str(tmp_path / "named"))
    assert cache.folder() == tmp_path / "named"


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EMBEDDING_OPERATOR_CACHE", str(tmp_path))
    return tmp_path


def test_two_concurrent_requests_make_artifact_once(own_cache):
    made = []

    def make(into):
        made.append(into)
        (into / "file").write_text("whole")

    wanted = [
        threading.Thread(target=cache.once, args=(own_cache / "artifacts/a", make))
        for _ in range(4)
    ]
    for thread in wanted:
        thread.start()
    for thread in wanted:
        thread.join()
    assert len(made) == 1
    assert (own_cache / "artifacts/a/file").read_text() == "whole"


def test_artifact_that_failed_half_way_is_not_kept(own_cache):
    def fail(into):
        (into / "half").write_text("")
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        cache.once(own_cache / "artifacts/a", fail)
    assert list((own_cache / "artifacts").iterdir()) == []


def test_artifact_left_half_made_by_killed_process_is_made_again(own_cache):
    left = own_cache / "artifacts/.making-a"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    made = cache.once(own_cache / "artifacts/a", lambda into: (into / "whole").touch())
    assert [p.name for p in made.iterdir()] == ["whole"]


def test_only_newest_are_kept(tmp_path):
    for age, name in enumerate(["newest", "newer", "old", "older"]):
        folder = tmp_path / f"image-{name}"
        folder.mkdir()
        os.utime(folder, (1000 - age, 1000 - age))
    (tmp_path / "other").mkdir()
    cache.prune(tmp_path, "image-*", keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image-newer", "image-newest", "other"]
