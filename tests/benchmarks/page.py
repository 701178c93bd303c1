"""docs/benchmarks.md: each command writes its own section, and leaves the others as they are."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that is one in a terminal too; numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [_line(head, widths), _line(["---", *("---:" for _ in head[1:])], widths)]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return f"| {' | '.join(padded)} |"


def write(section: str, text: str, *, command: str) -> None:
    """Put this text into the section of the page, dated, with the command that wrote it."""
    start, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    dated = f"{start}\nWritten by `{command}` on {when}; {machine}.\n\n{text.strip()}\n{end}"
    before = PAGE.read_text(encoding="utf-8")
    head, _, rest = before.partition(start)
    _, _, tail = rest.partition(end)
    if not rest:
        raise ValueError(f"{PAGE} has no section {section}")
    PAGE.write_text(head + dated + tail, encoding="utf-8")


def draw(name: str, svg: str) -> None:
    """Put a chart beside the page."""
    (DOCS / f"benchmarks-{name}.svg").write_text(svg, encoding="utf-8")
