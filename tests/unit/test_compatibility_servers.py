"""docs/compatibility.md names each real server as it is pinned, and each that is played."""

import pytest

from tests.parts import compatibility, exchanges, model_servers
from tests.parts.compatibility import BY_REFERENCE, RUN, Section

PLAYED = exchanges.servers()


@pytest.fixture(scope="module")
def lines():
    text = compatibility.PAGE.read_text(encoding="utf-8")
    return compatibility.versions(text, Section.SERVERS)


def test_page_names_each_real_server_by_version_that_is_pinned(lines):
    assert {line for line in lines if line[2] == RUN} == {
        (name, version, RUN) for name, version in model_servers.pinned()
    }


def test_page_names_each_server_that_is_played_and_no_other(lines):
    assert {line for line in lines if line[2] == BY_REFERENCE} == {
        (server.name, server.version, BY_REFERENCE) for server in PLAYED
    }


@pytest.mark.parametrize("file", sorted(model_servers.FOLDER.glob("*.txt")), ids=lambda it: it.stem)
def test_each_package_of_environment_is_pinned_by_its_hash(file):
    entries = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    assert entries
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries if entry.strip())


@pytest.mark.parametrize("server", PLAYED, ids=lambda it: it.file)
def test_each_exchange_has_reference_and_is_played_by_case(server):
    assert all(it.source.startswith("https://") for it in server.exchanges)
    assert all(it.seen.startswith("20") for it in server.exchanges)
    named = {name for case in server.cases for name in case.told.get("played", ())}
    assert {it.name for it in server.exchanges} == named


def test_all_servers_that_are_to_be_played_are():
    assert [it.file for it in PLAYED] == [
        "azure-openai-v1",
        "azure-openai",
        "azure",
        "bedrock-cohere",
        "bedrock-titan",
        "cohere-v2",
        "cohere",
        "dashscope",
        "gemini-native",
        "gemini",
        "jina-native",
        "jina",
        "lm-studio",
        "mistral-native",
        "mistral",
        "nim",
        "ollama",
        "tei",
        "vllm",
    ]
