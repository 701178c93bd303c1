"""The progress of a backfill: bars at a terminal, lines elsewhere."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from embedding_contract.index_document import IndexDocument
from embedding_contract.index_report import IndexReport, TargetReport

BAR_SECONDS: Final = 0.5
LINE_SECONDS: Final = 10.0


class Lines:
    """A line for each target at intervals; the same line is not printed twice."""

    every_seconds = LINE_SECONDS

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        """Print one line at once."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def update(self, report: IndexReport) -> None:
        """Print the progress of the targets."""
        lines = [_line(it) for it in report.targets if it.phase != "Retired"]
        lines += [f"{it.reason}: {it.message}" for it in report.problems]
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self.say(line)

    async def follow(self, report: Callable[[], IndexReport]) -> None:
        """Print it repeatedly, until cancelled."""
        while True:
            await asyncio.sleep(self.every_seconds)
            self.update(report())


class Bars(Lines):
    """A bar for each target."""

    every_seconds = BAR_SECONDS

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

    def update(self, report: IndexReport) -> None:
        """Draw the progress of the targets."""
        for target in report.targets:
            if target.phase == "Retired":
                continue
            if target.id not in self._tasks:
                self._tasks[target.id] = self._bars.add_task(target.id, parked="")
            self._bars.update(
                self._tasks[target.id],
                total=max(target.rows - target.parked, target.done),
                completed=target.done,
                parked=f"{target.parked} parked" if target.parked else "",
            )


@contextlib.contextmanager
def shown(document: IndexDocument) -> Iterator[Lines]:
    """Bars on a terminal, lines elsewhere, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[parked]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bars.console.print(f"{document.namespace}/{document.name}", highlight=False, markup=False)
        yield Bars(bars)


def _line(target: TargetReport) -> str:
    rate = f", {target.rows_per_second:g} rows/s" if target.rows_per_second else ""
    end = f", until {target.expected_end}" if target.expected_end else ""
    return (
        f"{target.id}: {target.phase}, {target.done} of {target.rows} rows"
        f"{f', {target.parked} parked' if target.parked else ''}{rate}{end}"
    )
