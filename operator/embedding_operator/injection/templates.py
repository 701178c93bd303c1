"""Tables of an object's fields, of which a value and a CEL expression are made: pure.

A table is JSON with two additions: a `Term`, known only for a pod, and an entry or item `Only`
where a term is true.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Term:
    """The value of this term."""

    name: str


@dataclass(frozen=True, slots=True)
class Only:
    """An entry of an object or an item of a list, there only if the term is true."""

    term: str
    value: Any


def fill(table: Any, terms: Mapping[str, Any]) -> Any:
    """The value of a table with these terms."""
    match table:
        case Term(name):
            return terms[name]
        case dict():
            return {key: fill(_value(it), terms) for key, it in table.items() if _has(it, terms)}
        case list():
            return [fill(_value(it), terms) for it in table if _has(it, terms)]
        case _:
            return table


def express(table: Any, terms: Mapping[str, str]) -> str:
    """A CEL expression for the value of a table; terms are expressions.

    Kubernetes' CEL has no maps or lists of mixed types, so that each value of a map is `dyn`.
    """
    match table:
        case Term(name):
            return terms[name]
        case dict():
            return "{" + ", ".join(_entry(key, it, terms) for key, it in table.items()) + "}"
        case list():
            return _list(table, terms)
        case _:
            return json.dumps(table)


def _entry(key: str, value: Any, terms: Mapping[str, str]) -> str:
    text = f"dyn({express(_value(value), terms)})"
    if isinstance(value, Only):
        given = terms[value.term]
        return f"?{json.dumps(key)}: {given} ? optional.of({text}) : optional.none()"
    return f"{json.dumps(key)}: {text}"


def _list(items: list[Any], terms: Mapping[str, str]) -> str:
    always = [express(it, terms) for it in items if not isinstance(it, Only)]
    others = [
        f"({terms[it.term]} ? [{express(it.value, terms)}] : [])"
        for it in items
        if isinstance(it, Only)
    ]
    if any(not isinstance(it, Only) for it in items[len(always) :]):
        raise ValueError("items that may be absent must be the last of their list")
    return " + ".join([f"[{', '.join(always)}]", *others])


def _value(entry: Any) -> Any:
    return entry.value if isinstance(entry, Only) else entry


def _has(entry: Any, terms: Mapping[str, Any]) -> bool:
    return not isinstance(entry, Only) or bool(terms[entry.term])
