"""A container's memory limit, as the files of its cgroup give it."""

import pytest

from embedding_sidecar import memory_limit

V1 = "memory/memory.limit_in_bytes"
V2 = "memory.max"


def limit(folder, **files):
    for name, content in files.items():
        file = folder / {"v1": V1, "v2": V2}[name]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return memory_limit.limit_bytes(folder)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_limit_is_read_of_either_version(tmp_path, version):
    assert limit(tmp_path, **{version: b"201326592\n"}) == 192 * 2**20


def test_version_two_comes_first(tmp_path):
    assert limit(tmp_path, v1=b"9223372036854771712\n", v2=b"201326592\n") == 192 * 2**20


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"v2": b"max\n"},
        {"v1": b"9223372036854771712\n"},
        {"v2": b""},
        {"v2": b"0\n"},
        {"v2": b"\xff\n"},
        {"v2": b"much"},
    ],
)
def test_memory_without_limit_is_that_of_chart(tmp_path, files):
    assert limit(tmp_path, **files) == memory_limit.DEFAULT_BYTES


def test_folder_in_place_of_file_is_no_limit(tmp_path):
    (tmp_path / V2).mkdir()
    assert memory_limit.limit_bytes(tmp_path) == memory_limit.DEFAULT_BYTES
