"""A node's cgroup is made for each kind of hierarchy, and goes with all that is below it."""

import pytest

from dev.cluster import cgroups


def _files(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def version_1(tmp_path):
    _files(tmp_path / "cpuset", cgroup__procs="", cpuset__cpus="0-1\n", cpuset__mems="0\n")
    _files(tmp_path / "memory", cgroup__procs="")
    (tmp_path / "not-a-hierarchy").mkdir()
    return tmp_path


def test_version_1_has_one_in_each_hierarchy(version_1):
    cgroups.create("n", root=version_1)
    made = sorted(str(p.relative_to(version_1)) for p in version_1.glob("*/embedding-operator-n"))
    assert made == ["cpuset/embedding-operator-n", "memory/embedding-operator-n"]


def test_cpuset_is_filled_or_nothing_could_enter_it(version_1):
    cgroups.create("n", root=version_1)
    group = version_1 / "cpuset/embedding-operator-n"
    assert (group / "cpuset.cpus").read_text() == "0-1\n"
    assert (group / "cpuset.mems").read_text() == "0\n"


def test_cgroup_is_removed_with_all_below_it(version_1):
    below = version_1 / "memory/embedding-operator-n/kubepods/pod1"
    below.mkdir(parents=True)
    cgroups.remove("n", root=version_1)
    cgroups.remove("n", root=version_1)
    assert list(version_1.glob("*/embedding-operator-n")) == []


def test_one_still_in_use_is_told(version_1, monkeypatch):
    monkeypatch.setattr(cgroups, "EMPTY_SECONDS", 0)
    cgroups.create("n", root=version_1)  # its files cannot be removed, like a busy group
    with pytest.raises(cgroups.OccupiedError, match="still in use"):
        cgroups.remove("n", root=version_1)


def test_version_2_is_one_hierarchy(tmp_path):
    _files(tmp_path, cgroup__controllers="cpu memory", cgroup__procs="")
    assert cgroups.hierarchies(tmp_path) == [tmp_path]
