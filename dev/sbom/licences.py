"""The licences that our images may carry: `licences.toml`, and nothing else."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import license_expression

from dev.sbom.contents import Package

FILE: Final = Path(__file__).with_name("licences.toml")


@dataclass(frozen=True, slots=True)
class Listed:
    """`allowed` are SPDX identifiers; the rest are expressions by package or by what one says."""

    allowed: frozenset[str]
    said: Mapping[str, str]
    pypi: Mapping[str, str]
    deb: Mapping[str, str]


def read(file: Path = FILE) -> Listed:
    """The list of the repository."""
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    return Listed(frozenset(raw["allowed"]), raw["said"], raw["pypi"], raw["deb"])


def expression(package: Package, listed: Listed) -> str | None:
    """The SPDX expression of a package: as the list says, else as it says itself; None if nobody.

    Debian's packages say nothing that a program could read, so each is on the list.
    """
    if package.kind == "deb":
        return listed.deb.get(package.name)
    if (named := listed.pypi.get(package.name)) is not None:
        return named
    for said in package.said:
        if said in listed.said:
            return listed.said[said]
        if not _unknown(said):
            return said
    return None


def objections(packages: Iterable[Package], listed: Listed) -> list[str]:
    """Why a package may not be in an image, a line for each that may not."""
    found = []
    for package in packages:
        name = f"{package.kind} {package.name} {package.version}"
        said = expression(package, listed)
        if said is None:
            found.append(f"{name}: no licence is known; it says {list(package.said) or 'nothing'}")
        elif _unknown(said):
            found.append(f"{name}: {said} is no SPDX expression")
        elif not _permitted(_parsed(said), listed.allowed):
            found.append(f"{name}: {said} is not on the list of {FILE.name}")
    return found


@cache
def _spdx() -> Any:
    return license_expression.get_spdx_licensing()


def _parsed(text: str) -> Any:
    return _spdx().parse(text)


def _unknown(text: str) -> bool:
    try:
        return bool(_spdx().unknown_license_keys(_parsed(text)))
    except (license_expression.ExpressionError, license_expression.ParseError):
        return True


def _permitted(parsed: Any, allowed: frozenset[str]) -> bool:
    """One of alternatives must be allowed, and all of what holds together."""
    if isinstance(parsed, _spdx().OR):
        return any(_permitted(it, allowed) for it in parsed.args)
    if isinstance(parsed, _spdx().AND):
        return all(_permitted(it, allowed) for it in parsed.args)
    return str(parsed) in allowed
