"""Conditions: types, polarity and reasons; reasons of events are those of conditions.

A pair of status and reason, or a reason alone, is what one place in the sources says; the type
stands with it where the same place says it.
"""

import re
from collections.abc import Iterator

from tests.golden import held, sources, subjects

_CAMEL_CASE = re.compile(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*")
_STATUSES = ("True", "False", "Unknown")
_ANY = "*"


def texts() -> held.Texts:
    """One file of conditions, and one of all words in CamelCase, wherever they are said."""
    words = (it for it in sources.literals() if _CAMEL_CASE.fullmatch(it))
    return {
        "conditions.txt": held.lines((*_types(), *_told(), *_reasons())),
        "camel-case-words.txt": held.lines(words),
    }


def _types() -> Iterator[str]:
    kinds = {kind for kinds, _, _ in _places() for kind in kinds}
    for kind in kinds | subjects.TYPES_OF_MONITORING:
        bad = [it for it in _STATUSES if subjects.is_bad(kind, it)]
        yield f"type {kind}: bad where {', '.join(bad)}"


def _told() -> Iterator[str]:
    for kinds, statuses, reasons in _places():
        if kinds or statuses:
            for kind in kinds or {_ANY}:
                for status in statuses or {_ANY}:
                    for reason in filter(None, reasons):
                        yield f"condition {kind} {status} {reason}"
        else:
            for reason in filter(None, reasons):
                yield f"reason {reason} (problem)"


def _reasons() -> Iterator[str]:
    """By the keyword `reason`, of errors and of events."""
    for call in sources.calls():
        for reason in sources.values(sources.argument(call, "reason"), module=call.module):
            if isinstance(reason, str) and _CAMEL_CASE.fullmatch(reason):
                yield f"reason {reason} (error or event)"


def _places() -> Iterator[tuple[frozenset[str], frozenset[str], frozenset[str]]]:
    for call in sources.calls():
        if call.name not in subjects.TELLS_CONDITIONS:
            continue
        kinds, statuses, reasons = (
            frozenset()
            if place is None
            else sources.values(sources.argument(call, place), module=call.module)
            for place in subjects.TELLS_CONDITIONS[call.name]
        )
        yield kinds, statuses, reasons
