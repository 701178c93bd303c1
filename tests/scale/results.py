"""The last result of each generator, as a file of `tests/scale/results`."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

from tests.scale import generator
from tests.scale.figures import Result, Round

FOLDER: Final = generator.FOLDER / "results"


def write(result: Result) -> None:
    """Replace the last one. A round is a line."""
    found = dataclasses.asdict(result)
    rounds = ",\n".join(map(json.dumps, found.pop("rounds")))
    text = f'{json.dumps(found)[:-1]}, "rounds": [\n{rounds}\n]}}\n'
    _file(result.generator.name).write_text(text, encoding="utf-8")


def read_all() -> list[Result]:
    """All that there are, small ones first."""
    files = map(_file, generator.names())
    return [parse(it.read_text(encoding="utf-8")) for it in files if it.exists()]


def parse(text: str) -> Result:
    """A result from what `write` wrote."""
    found = json.loads(text)
    rounds = tuple(_round(it) for it in found.pop("rounds"))
    wanted = generator.Generator(**found.pop("generator"))
    return Result(generator=wanted, rounds=rounds, **found)


def _round(found: dict[str, Any]) -> Round:
    lists = {key: tuple(it) for key, it in found.items() if isinstance(it, list)}
    return Round(**{**found, **lists})


def _file(name: str) -> Path:
    return FOLDER / f"{name}.json"
