"""Programs are pinned, and built by a Go that is new enough."""

import re

import pytest

from dev.cluster import gomodules


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.27 linux/arm64", (1, 27)),
        ("go version devel +abc", ()),
        ("", ()),
    ],
)
def test_version_is_read_from_what_go_says(said, version):
    assert gomodules.version_of(said) == version


def test_unreadable_version_is_too_old():
    assert gomodules.version_of("") < gomodules.MINIMUM_GO


@pytest.mark.parametrize("folder", sorted(gomodules.MODULES.iterdir()), ids=lambda p: p.name)
def test_no_module_asks_for_newer_go_than_we_look_for(folder):
    asked = re.search(r"^go (\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)
    assert asked is not None
    assert gomodules.version_of(f"go{asked[1]}") <= gomodules.MINIMUM_GO


def test_version_in_flags_is_pinned_one():
    pinned = (gomodules.MODULES / "kubernetes/go.mod").read_text()
    assert f"k8s.io/kubernetes {gomodules.KUBERNETES}\n" in pinned


@pytest.mark.parametrize(("minor", "version"), gomodules.EARLIER_KUBERNETES.items())
def test_earlier_minor_says_version_that_is_pinned(minor, version):
    assert version.startswith(f"v{minor}.")
    pinned = (gomodules.MODULES / f"kubernetes-{minor}/go.mod").read_text()
    assert f"k8s.io/kubernetes {version}\n" in pinned
    flags = gomodules.PROGRAMS[f"kube-apiserver-{minor}"].linker_flags
    assert f"gitVersion={version} " in flags
    assert flags.endswith(f"gitMinor={minor.removeprefix('1.')}")
