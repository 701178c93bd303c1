"""A licence that is not on the list of the repository may not be in an image."""

import dataclasses

import pytest

from dev.sbom import licences
from dev.sbom.contents import Package

LISTED = licences.Listed(
    allowed=frozenset({"MIT", "Apache-2.0", "GPL-3.0-or-later WITH GCC-exception-3.1"}),
    said={"MIT License": "MIT"},
    pypi={"silent": "Apache-2.0"},
    deb={"bash": "GPL-3.0-or-later", "gcc": "GPL-3.0-or-later WITH GCC-exception-3.1"},
)


def pypi(*said, name="it"):
    return Package(kind="pypi", name=name, version="1", said=said)


def deb(name):
    return Package(kind="deb", name=name, version="1", architecture="amd64")


@pytest.mark.parametrize(
    "package",
    [
        pypi("MIT"),
        pypi("MIT License"),
        pypi("MIT OR GPL-3.0-only"),
        pypi("MIT AND Apache-2.0"),
        pypi("MIT AND (GPL-3.0-only OR Apache-2.0)"),
        pypi("see the file", "MIT License"),
        pypi(name="silent"),
        pypi("GPL-3.0-only", name="silent"),
        deb("gcc"),
    ],
)
def test_listed_licence_may_be_in_image(package):
    assert licences.objections([package], LISTED) == []


@pytest.mark.parametrize(
    ("package", "why"),
    [
        (pypi("AGPL-3.0-only"), "AGPL-3.0-only is not on the list"),
        (pypi("MIT AND AGPL-3.0-only"), "is not on the list"),
        (pypi("GPL-3.0-only OR AGPL-3.0-only"), "is not on the list"),
        (pypi("GPL-3.0-or-later"), "is not on the list"),
        (pypi(), "no licence is known; it says nothing"),
        (pypi("ask us"), r"no licence is known; it says \['ask us'\]"),
        (deb("bash"), "deb bash 1: GPL-3.0-or-later is not on the list"),
        (deb("nano"), "deb nano 1: no licence is known"),
    ],
)
def test_unlisted_licence_is_refused_by_name(package, why):
    found = licences.objections([package], LISTED)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(*found)
    assert len(found) == 1


def test_entry_of_list_that_is_no_licence_is_refused():
    listed = dataclasses.replace(LISTED, deb={"bash": "GPL, I think"})
    (found,) = licences.objections([deb("bash")], listed)
    assert found.endswith("GPL, I think is no SPDX expression")


def test_list_of_repository_is_of_spdx_and_used():
    listed = licences.read()
    named = [Package(kind="deb", name=it, version="1") for it in listed.deb]
    named += [pypi(name=it) for it in listed.pypi]
    assert licences.objections(named, listed) == []
    assert licences.objections([pypi(it) for it in listed.said], listed) == []
    assert licences.objections([pypi(it) for it in listed.allowed], listed) == []
