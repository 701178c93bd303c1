"""JSON and YAML as flat lines, so that a diff names the field."""

import json
from collections.abc import Collection, Iterator
from typing import Any


def paths(value: Any, *, left_out: Collection[str] = (), at: str = "") -> Iterator[str]:
    """A line `path = JSON` for each leaf; fields named in `left_out` are skipped wherever."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key not in left_out:
                yield from paths(inner, left_out=left_out, at=f"{at}.{key}" if at else str(key))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from paths(inner, left_out=left_out, at=f"{at}[{number}]")
    else:
        yield f"{at} = {json.dumps(value, ensure_ascii=False)}"


def shape(value: Any, *, at: str = "") -> Iterator[str]:
    """A line `path type` for each leaf, whatever its value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from shape(inner, at=f"{at}.{key}" if at else str(key))
    elif isinstance(value, list) and value:
        yield from shape(value[0], at=f"{at}[]")
    else:
        yield f"{at} {'null' if value is None else type(value).__name__}"
