"""ARCHITECTURE.md agrees with the import-linter's contracts and with the folders."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PYPROJECT["tool"]["importlinter"]["contracts"]
PACKAGES = [ROOT / it for it in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
ROW = re.compile(r"\| `(embedding_[\w.]+)` \| ([^|]+) \| (?:`([^`|]+)`)? *\|")


def layers_on_page():
    """Container to its layers, top first; none where the row says none."""
    rows = [ROW.fullmatch(line) for line in PAGE.splitlines() if line.startswith("| `embedding_")]
    assert None not in rows, "a row of the table of packages is not of its form"
    found = {it[1]: tuple(map(modules, (it[3] or "").split(" > "))) for it in rows if it}
    assert len(found) == len(rows), "a package stands twice"
    return {name: layers for name, layers in found.items() if layers != (frozenset(),)}


def modules(layer):
    return frozenset(re.findall(r"\w+", layer))


def packages_on_page():
    return {match[1] for line in PAGE.splitlines() if (match := ROW.fullmatch(line))}


def test_architecture_page_names_exactly_layers_of_linter():
    contracts = {
        container: tuple(modules(layer) for layer in it["layers"])
        for it in CONTRACTS
        if it["type"] == "layers"
        for container in it["containers"]
    }
    assert layers_on_page() == contracts


def test_architecture_page_names_each_package_and_no_other():
    folders = {
        ".".join(file.parent.relative_to(package.parent).parts)
        for package in PACKAGES
        for file in package.rglob("__init__.py")
    }
    assert packages_on_page() == folders


def test_architecture_page_names_exactly_other_contracts_of_linter():
    listed = PAGE.partition("Besides the layers:\n")[2].strip().partition("\n\n")[0]
    names = {line.removeprefix("- ").removesuffix(".") for line in listed.splitlines()}
    assert names == {it["name"] for it in CONTRACTS if it["type"] != "layers"}


def test_architecture_page_names_files_that_exist():
    named = set(re.findall(r"`([\w./-]+(?:\.py|/))`", PAGE))
    roots = (ROOT, *PACKAGES)
    assert {it for it in named if not any((root / it).exists() for root in roots)} == set()
    assert len(named) > 40
