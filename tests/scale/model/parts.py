"""Measured values of the model, as a file of `tests/scale/results` for each command that ran."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.scale import results
from tests.scale.model.formulas import Values

_PREFIX: Final = "model-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Values that were measured together, by quantity and size; `load` as that began."""

    name: str
    machine: str
    date: str
    commit: str
    load: float
    values: Mapping[str, Mapping[int, float]]

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{_PREFIX}{self.name}.json"


def write(part: Part) -> None:
    """Replace the last one."""
    text = json.dumps(dataclasses.asdict(part), indent=1)
    (results.FOLDER / part.file).write_text(f"{text}\n", encoding="utf-8")


def read_all() -> list[Part]:
    """All that there are, by name."""
    files = sorted(results.FOLDER.glob(f"{_PREFIX}*.json"))
    return [parse(it.read_text(encoding="utf-8")) for it in files]


def parse(text: str) -> Part:
    """A part from what `write` wrote."""
    found = json.loads(text)
    values = found.pop("values")
    return Part(
        values={
            name: {int(size): value for size, value in by_size.items()}
            for name, by_size in values.items()
        },
        **found,
    )


def values(found: Sequence[Part]) -> Values:
    """The values of all."""
    merged: dict[str, dict[int, float]] = {}
    for part in found:
        for name, by_size in part.values.items():
            merged.setdefault(name, {}).update(by_size)
    return merged
