"""MOUNT/PATH: the part that is the mount, and that no other reading is possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.migration import target
from embedding_operator.migration.refusal import Refused
from embedding_operator.vault import access_rules

KV2 = {"type": "kv", "options": {"version": "2"}}
MOUNTS = {"agenticverz/": KV2, "team/": KV2, "team/kv/": KV2, "teams/": KV2}


def test_example_lies_on_longest_mount():
    assert target.longest("agenticverz/external-integrations", MOUNTS) == "agenticverz"
    where = target.Target("agenticverz", "external-integrations", 2)
    assert str(where) == "agenticverz/external-integrations"


LONGEST = {"team/kv/a": "team/kv", "team/kvs/a": "team", "team/kv": "team", "teams/kv/a": "teams"}


@pytest.mark.parametrize("to", LONGEST)
def test_longest_mount_wins_and_only_whole_segments_count(to):
    assert target.longest(to, MOUNTS) == LONGEST[to]


@pytest.mark.parametrize("to", ["other/a", "tea/m", "agenticverz2/a"])
def test_path_on_no_mount_is_refused_with_mounts_there_are(to):
    with pytest.raises(Refused, match="agenticverz/, team/, team/kv/, teams/"):
        target.longest(to, MOUNTS)


def test_token_that_sees_no_mount_is_told_so():
    with pytest.raises(Refused, match=r"\(none\)"):
        target.longest("a/b", {})


@pytest.mark.parametrize("mount", ["team/kv", "team/kv/"])
def test_given_mount_must_begin_path(mount):
    assert target.given("team/kv/a", mount) == "team/kv"
    for to in ("team/kvs/a", "team/kv", "other/a"):
        with pytest.raises(Refused, match="--mount"):
            target.given(to, mount)


@pytest.mark.parametrize("mount", ["", "/"])
def test_empty_mount_is_refused(mount):
    with pytest.raises(Refused, match="--mount"):
        target.given("team/kv/a", mount)


TRICKS = [
    "",
    "mount",
    "mount/",
    "/mount/path",
    "mount//path",
    "mount/path/",
    "mount/./path",
    "mount/../path",
    "mount/..",
    "../mount/path",
    "mount/.hidden",
    "mount/%2e%2e/path",
    "mount/%2Fpath",
    "mount/path%00",
    "mount/path?version=1",
    "mount/path#fragment",
    "mount/path;x",
    "mount/path\\..",
    "mount/pa th",
    "mount/path\n",
    "mount/\npath",
    "mount/path\0",
    "mount/-path",
    "mount/päth",
    "mount/p\u2024\u2024/x",
    "mount/\uff0e\uff0e/x",
    "mount/{{namespace}}",
    "mount/*",
    "http://host/mount/path",
    "mount:path/x",
    "mount/~root",
]


@pytest.mark.parametrize("to", TRICKS)
def test_path_that_could_mean_another_is_refused(to):
    with pytest.raises(Refused, match="--to"):
        target.plain(to)


ALL = access_rules.parse([{"namespace": "*", "mount": "mount", "path": "*"}])


@given(st.from_regex(r"[A-Za-z0-9_.%/ä~-]{1,12}", fullmatch=True))
def test_only_paths_that_can_be_synced_can_be_migrated(path):
    synced = ALL.refusal(namespace="shop", mount="mount", path=path) is None
    try:
        target.plain(f"mount/{path}")
    except Refused:
        assert not synced
    else:
        assert synced
