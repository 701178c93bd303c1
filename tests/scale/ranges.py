"""`tests/scale/ranges.yaml`: the aim of each figure, and what fails a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.scale import generator
from tests.scale.figures import FIGURES, Result, median

_FIELDS: Final = ("aim", "allowed")


class InvalidRangesError(ValueError):
    """The file is not valid; the text begins with its name and the entry's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """At most so much of a figure: `aim` is written into the page, beyond `allowed` a run fails."""

    figure: str
    aim: float | None
    allowed: float | None

    def verdict(self, result: Result) -> str:
        """`met` or `missed`, by the median of the rounds; empty without an aim or a value."""
        values = FIGURES[self.figure].values(result)
        if self.aim is None or not values:
            return ""
        return "met" if median(values) <= self.aim else "missed"

    def breach(self, result: Result) -> str | None:
        """What is beyond `allowed`; None where nothing is."""
        figure = FIGURES[self.figure]
        values = figure.values(result)
        if self.allowed is None or (values and median(values) <= self.allowed):
            return None
        found = figure.shown(median(values)) if values else "not measured"
        return (
            f"{result.generator.file}: {self.figure}: {found}, of {figure.shown(self.allowed)}"
            " allowed"
        )


def read(file: Path = generator.RANGES) -> dict[str, tuple[Range, ...]]:
    """The ranges by the generator's name.

    Raises:
        InvalidRangesError: the file is not valid.
    """
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {
        name: tuple(
            _range(f"{file.name}: {name}.{figure}", figure, it) for figure, it in of.items()
        )
        for name, of in found.items()
    }


def _range(place: str, figure: str, found: Any) -> Range:
    if figure not in FIGURES:
        raise InvalidRangesError(f"{place} is no figure; there are {', '.join(FIGURES)}")
    if not isinstance(found, dict) or not found or found.keys() - set(_FIELDS):
        raise InvalidRangesError(f"{place}: give {' and '.join(_FIELDS)}, one or both")
    for name, value in found.items():
        if type(value) not in (int, float):
            raise InvalidRangesError(f"{place}.{name}: {value!r} is no number")
    if "allowed" in found and FIGURES[figure].is_time:
        raise InvalidRangesError(
            f"{place}.allowed: a time is of its machine; allow a ratio instead"
        )
    return Range(figure=figure, aim=found.get("aim"), allowed=found.get("allowed"))
