"""A generator file: how large one run is. `tests/scale/NAME.yaml`."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parent
RANGES: Final = FOLDER / "ranges.yaml"
_LEAST: Final = {"policies": 1, "namespaces": 1, "rounds": 1, "idleSeconds": 1}


class InvalidGeneratorError(ValueError):
    """A generator file is not valid; the text begins with its name and the field's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """What one run makes, and for how long it does what.

    Each policy has `secrets_of_each` Secrets synced from Vault and `pods_of_each` pods. ConfigMaps
    are waited for after `edits_per_second` edits for `edit_seconds`, each of another policy.
    """

    name: str
    policies: int
    namespaces: int
    secrets_of_each: int
    pods_of_each: int
    idle_seconds: int
    edits_per_second: int
    edit_seconds: int
    rounds: int

    @property
    def secrets(self) -> int:
        """All Secrets synced from Vault."""
        return self.policies * self.secrets_of_each

    @property
    def pods(self) -> int:
        """All pods."""
        return self.policies * self.pods_of_each

    @property
    def edits(self) -> int:
        """All edits of a round."""
        return self.edits_per_second * self.edit_seconds

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.yaml"


def names() -> list[str]:
    """Every generator of the folder, small ones first."""
    files = [file for file in FOLDER.glob("*.yaml") if file != RANGES]
    found = [read(file) for file in files]
    return [it.name for it in sorted(found, key=lambda it: (it.policies, it.name))]


def named(name: str) -> Generator:
    """The generator of this name.

    Raises:
        InvalidGeneratorError: there is none, or its file is not valid.
    """
    file = FOLDER / f"{name}.yaml"
    if file == RANGES or not file.is_file():
        raise InvalidGeneratorError(f"{name}: no such generator; there are {', '.join(names())}")
    return read(file)


def read(file: Path) -> Generator:
    """The generator in a file.

    Raises:
        InvalidGeneratorError: the file is not valid.
    """
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise InvalidGeneratorError(f"{file.name}: no fields with values")
    return _parsed(file, found)


def _parsed(file: Path, found: dict[str, Any]) -> Generator:
    known = {_written(it.name): it.name for it in fields(Generator) if it.name != "name"}
    for name in found:
        if name not in known:
            raise InvalidGeneratorError(
                f"{file.name}: {name} is no field; there are {', '.join(known)}"
            )
    for name in known:
        if name not in found:
            raise InvalidGeneratorError(f"{file.name}: {name} is missing")
        value, least = found[name], _LEAST.get(name, 0)
        if type(value) is not int or value < least:
            raise InvalidGeneratorError(
                f"{file.name}: {name}: {value!r} is no whole number of at least {least}"
            )
    made = Generator(name=file.stem, **{known[name]: value for name, value in found.items()})
    if made.namespaces > made.policies:
        raise InvalidGeneratorError(
            f"{file.name}: namespaces: {made.namespaces} are more than there are policies"
        )
    if made.edits > made.policies:
        # An edit is found by its number in the document, which another edit would replace.
        raise InvalidGeneratorError(
            f"{file.name}: editsPerSecond: {made.edits} edits are more than there are policies"
        )
    return made


def _written(name: str) -> str:
    return re.sub("_(.)", lambda found: found[1].upper(), name)
