"""boundaries.toml lists each private name of a package that our code uses, and no other."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.parts.private_names import Scan, Unpromised, Use

ROOT = Path(__file__).parents[2]
LIST = tomllib.loads(Path(__file__).with_name("boundaries.toml").read_text(encoding="utf-8"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
LOCKED = {
    it["name"]: it.get("version", "")
    for it in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
}
PRODUCT = {"operator": "", "sidecar": "", "vectors": ""}
REQUIREMENTS = [
    Requirement(it)
    for it in (
        *PROJECT["dependencies"],
        *(it for extra in PROJECT["optional-dependencies"].values() for it in extra),
    )
]


def unpromised():
    return {
        name: Unpromised(
            modules=tuple(it["modules"]),
            objects=tuple(it["objects"]),
            documented=frozenset(it["documented"]),
        )
        for name, it in LIST["unpromised"].items()
    }


def listed():
    """The uses that the list allows."""
    owners = {
        **{owner: it["files"] for owner, it in LIST["packages"].items()},
        **LIST["modules"],
    }
    return {
        Use(file=file, name=name, owner=owner)
        for owner, files in owners.items()
        for file, names in files.items()
        for name in names
    }


@pytest.fixture(scope="module")
def found():
    """The uses in the product; one without a known owner has the one that the list gives it."""
    owners = {(it.file, it.name): it.owner for it in listed()}
    return {
        Use(it.file, it.name, it.owner or owners.get((it.file, it.name)))
        for it in Scan(ROOT, PRODUCT, unpromised()).uses()
    }


def comment_above(requirement):
    """The comments that stand in pyproject.toml right above each line of this requirement."""
    name = re.escape(requirement)
    return [
        found["comment"]
        for found in re.finditer(
            rf'(?P<comment>(?: *#.*\n)*) *"{name}[\[<>=~! ]', PYPROJECT, flags=re.MULTILINE
        )
    ]


def next_minor(version):
    major, minor, *_ = version.split(".")
    return f"{major}.{int(minor) + 1}"


def test_private_name_of_another_package_or_module_is_listed(found):
    assert sorted(found - listed(), key=str) == [], (
        "use a promised name, or list it in boundaries.toml"
    )


def test_listed_name_is_used(found):
    assert sorted(listed() - found, key=str) == [], "no longer used: take it from boundaries.toml"


@pytest.mark.parametrize("package", LIST["packages"])
def test_count_of_package_is_that_of_its_names(package):
    it = LIST["packages"][package]
    assert it["count"] == sum(len(names) for names in it["files"].values())
    assert all(names == sorted(set(names)) for names in it["files"].values())


@pytest.mark.parametrize("package", LIST["packages"])
def test_package_with_private_names_is_pinned_below_its_next_minor(package):
    pin = LIST["packages"][package]["pin"]
    assert pin == f"<{next_minor(LOCKED[package])}"
    pinned = [it for it in REQUIREMENTS if canonicalize_name(it.name) == package]
    assert pinned
    for requirement in pinned:
        assert pin in str(requirement.specifier).split(",")
        assert requirement.specifier.contains(LOCKED[package])


def test_requirement_with_upper_bound_is_in_list():
    bounded = {it.name for it in REQUIREMENTS if "<" in str(it.specifier)}
    assert bounded == {*LIST["packages"], *LIST["pinned_otherwise"]}


@pytest.mark.parametrize("package", LIST["packages"])
def test_comment_at_pin_names_what_is_leaned_on(package):
    comments = comment_above(package)
    assert comments
    it = LIST["packages"][package]
    names = {name for names in it["files"].values() for name in names}
    for comment in comments:
        named = set(re.findall(r"\w+", comment))
        assert names <= named or "all listed in tests/unit/boundaries.toml" in comment


def test_modules_of_tests_keep_their_private_names_to_themselves():
    used = Scan(ROOT, {**PRODUCT, "tests": "tests"}, {}).uses()
    assert sorted((it for it in used if str(it.owner).startswith("tests.")), key=str) == []
