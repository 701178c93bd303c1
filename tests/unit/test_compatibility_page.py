"""docs/compatibility.md names each client as the lock files of tests/clients pin it."""

import re

import pytest

from tests.parts import client_programs, clients, compatibility
from tests.parts.compatibility import Section

NAMES = {(client.name, client.language.value) for client in clients.CLIENTS}


@pytest.fixture(scope="module")
def text():
    return compatibility.PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lines(text):
    return compatibility.versions(text, Section.CLIENTS)


@pytest.mark.parametrize(
    "client", [pytest.param(it, id=f"{it.language.value}-{it.name}") for it in clients.CLIENTS]
)
def test_page_names_each_client_by_version_that_is_locked(client, lines):
    kind = client.language.value
    version = clients.locked(client)
    if version is None:
        assert [line for line in lines if (line[0], line[2]) == (client.name, kind)]
    else:
        assert (client.name, version, kind) in lines


def test_page_names_no_client_that_is_not_tested(lines):
    assert {(name, kind) for name, _, kind in lines} == NAMES


def test_each_line_of_client_was_run(text):
    assert compatibility.NOT_RUN not in text.partition("## Clients")[2].partition("\n## ")[0]


@pytest.mark.parametrize("client", clients.CLIENTS, ids=lambda it: it.program)
def test_each_client_is_asked_what_all_must_answer(client):
    assert {"one", "many", "dimensions", "unknown"} <= set(client.cases)


@pytest.mark.parametrize("language", client_programs.Language)
def test_each_language_has_clients(language):
    assert [it for it in clients.CLIENTS if it.language is language]


@pytest.mark.parametrize("client", clients.CLIENTS, ids=lambda it: it.program)
def test_no_text_of_client_is_asked_twice(client):
    texts = [str(item) for case in client.cases for item in client.inputs(case)]
    assert len(set(texts)) == len(texts)


def test_versions_in_locks_are_whole():
    for client in clients.CLIENTS:
        version = clients.locked(client)
        assert version is None or re.fullmatch(r"\d+(\.\d+)+", version)


def test_sections_of_other_commands_survive_new_page_in_their_order():
    old = compatibility.with_section("# What works\n", compatibility.KUBERNETES, "a table\n")
    old = compatibility.with_section(old, compatibility.REDIS, "another\n")
    new = compatibility.with_sections_of("# What works now\n", old)
    assert new == (
        "# What works now\n\n## Redis and Valkey\n\nanother\n\n## Kubernetes\n\na table\n"
    )
    assert compatibility.with_section(new, compatibility.REDIS, "newer\n") == new.replace(
        "another", "newer"
    )
    assert compatibility.with_sections_of("# What works\n", "# No sections\n") == "# What works\n"
