"""Names that others write or read: environment, labels, annotations, headers, paths, files."""

import re

from tests.golden import held, sources, subjects

_PATTERNS = {
    "environment": re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+"),
    "label, annotation or file": re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+/[A-Za-z-]+"),
    "header": re.compile(r"x-[a-z-]+"),
    "path": re.compile(r"/[a-z0-9./{}_-]{2,}"),
    "key in Redis": re.compile(r"aos:\S+"),
}


def texts() -> held.Texts:
    """One file of constants that programs share, one of words wherever they are said."""
    said = (f"{value!r}" for value in subjects.said_names().values())
    made = (f"made of NAME: {it}" for it in subjects.said_files())
    words = (
        f"{kind}: {word}"
        for kind, pattern in _PATTERNS.items()
        for word in sources.literals()
        if pattern.fullmatch(word)
    )
    return {
        "shared-names.txt": held.lines((*said, *made)),
        "words-of-the-sources.txt": held.lines(words),
    }
