"""Metrics of the three programs: name, type, unit, labels, buckets, and words of labels."""

import re
from collections.abc import Iterator

from tests.golden import held, sources, subjects

_UNITS = ("seconds", "bytes")
_FAMILY = re.compile(r"# TYPE (?P<name>\S+) (?P<kind>\S+)")
_SERIES = re.compile(r"(?P<name>[a-z_]+)(\{(?P<labels>.*)\})? \S+")


def texts() -> held.Texts:
    """One file."""
    return {"metrics.txt": held.lines((*_catalogue(), *_scraped(), *_words()))}


def _catalogue() -> Iterator[str]:
    for program, families in subjects.families().items():
        for name, kind, labels, buckets in families:
            unit = next((it for it in _UNITS if it in name.split("_")), "none")
            yield f"{program}: {name} {kind}, unit {unit}, labels {', '.join(labels) or 'none'}"
            if buckets:
                yield f"{program}: {name} buckets {' '.join(f'{it:g}' for it in buckets)}"


def _scraped() -> Iterator[str]:
    """Not from the catalogue but as a scrape shows them."""
    for program, page in subjects.expositions().items():
        for line in page.splitlines():
            family, series = _FAMILY.match(line), _SERIES.fullmatch(line)
            if family:
                yield f"{program}: scrape {family['name']} {family['kind']}"
            elif series:
                labels = re.sub(r'le="[^"]*"', "le", series["labels"] or "")
                yield f"{program}: series {series['name']} {{{labels}}}"


def _words() -> Iterator[str]:
    """Why a provider failed, as labels and health pages say it."""
    for call in sources.calls():
        if call.name in subjects.TELLS_PROVIDERS_FAILURE:
            found = sources.argument(call, 0)
            for word in sources.values(found, module=call.module):
                yield f"sidecar: word of a provider's failure {word}"
