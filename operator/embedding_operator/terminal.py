"""Show untrusted text in a terminal."""

from collections.abc import Iterator, Sequence


def shown(text: str) -> str:
    """The text, quoted and escaped if it holds characters that could control a terminal."""
    return text if text.isprintable() else ascii(text)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each row, with cells of one width for each column; the cells as by `shown`."""
    cells = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()
