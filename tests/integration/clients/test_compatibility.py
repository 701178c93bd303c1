"""Unmodified clients of five languages before real sidecars: each case of tests.parts.clients.

A client's program is started once and asks all its cases; each test looks at one. Between program
and sidecar is a relay that keeps what the client sent, so that no case is asked in name only.
"""

import dataclasses
import functools
import json
import os
import re
import signal
import subprocess

import pytest

from embedding_contract import document, names
from tests.fakes import provider
from tests.parts import client_programs, clients, relay, sidecar
from tests.parts.clients import CASES, CLIENTS
from tests.parts.compatibility import NOT_RUN, Row, Section
from tests.parts.vectors import bits

pytestmark = [pytest.mark.integration, pytest.mark.compatibility]

PROGRAM_SECONDS = 100
EQUAL = "vectors equal to the provider's own, bit for bit"
_PLAIN = {
    # Of what runs this, nothing but where programs are.
    **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
    # Prices from the package, and nothing told to others: neither is there without a network.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
}


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a program has printed, and what it sent over each connection."""

    version: str
    outcomes: dict[str, dict]
    sent: list[bytes]

    def connections_of(self, client, case):
        """What was sent over each connection that carried a text of the case; not for tokens."""
        carried = [text.encode() for text in client.inputs(case)]
        return [it for it in self.sent if any(text in it for text in carried)]


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """Two sidecars, one before OpenAI and one before Voyage: their ports, by whether Voyage's."""
    folder = tmp_path_factory.mktemp("sidecars")
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text(provider.KEY, encoding="utf-8")
    stand_in = provider.StandIn()
    running = {}
    with sidecar.served(stand_in.app()) as url:
        for is_voyage in (False, True):
            file = folder / f"{is_voyage}.json"
            file.write_text(document.dump(policy(url, is_voyage=is_voyage)), encoding="utf-8")
            running[is_voyage] = sidecar.Sidecar(
                *("--document", file, "--secrets", secrets),
                environment={},
                log=folder / f"{is_voyage}.log",
            ).wait()
        yield {is_voyage: one.port for is_voyage, one in running.items()}
        for one in running.values():
            one.stop(signal.SIGTERM, signal.SIGINT)
            assert "Traceback" not in one.said()


def policy(url, *, is_voyage):
    one = document.Provider(
        name="voyage" if is_voyage else "openai",
        kind="Voyage" if is_voyage else "OpenAI",
        model=clients.VOYAGE_MODEL if is_voyage else clients.OPENAI_MODEL,
        base_url=f"{url}/voyage/v1" if is_voyage else f"{url}/v1",
        api_key_file="key",
    )
    return document.PolicyDocument(
        namespace="tests",
        name="clients",
        providers=(one,),
        quota=document.Quota(daily_requests=None),
        cache=document.Cache(memory_max_bytes=2**24),
    )


@pytest.fixture(scope="module")
def ran(ports):
    """Runs a client's program, once."""

    @functools.cache
    def run(name, language):
        (client,) = (it for it in CLIENTS if (it.name, it.language) == (name, language))
        command = client_programs.command(client.language, client.program)
        with relay.relayed(ports[client.is_voyage], keeps=True) as between:
            url = f"http://127.0.0.1:{between.port}/v1"
            done = subprocess.run(
                command,
                input=json.dumps(client.requests()),
                env={
                    **_PLAIN,
                    names.ENV_BASE_URL: url,
                    names.ENV_BASE_URL_LEGACY: url,
                    names.ENV_API_KEY: names.PLACEHOLDER_KEY,
                },
                capture_output=True,
                text=True,
                timeout=PROGRAM_SECONDS,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        # Some clients print on their own; the document is the last line.
        said = json.loads(done.stdout.splitlines()[-1])
        return Ran(
            version=clients.locked(client) or said["runtime"].removeprefix("v"),
            outcomes={it["case"]: it for it in said["outcomes"]},
            sent=[bytes(it) for it in between.sent],
        )

    return run


@pytest.fixture
def found(client, ran, say, record_row):
    """What a client got. A toolchain that cannot be had is told at the end, and in a row."""
    try:
        return ran(client.name, client.language)
    except client_programs.ToolchainError as error:
        say(f"NOT RUN: {client.name} ({client.language.value}): {error}")
        record_row(row(client, "-", asked="everything", result=f"{NOT_RUN}: {error}"))
        pytest.skip(f"{NOT_RUN}: {error}")


def row(client, version, *, asked, result):
    return Row(
        section=Section.CLIENTS,
        name=client.name,
        version=version,
        kind=client.language.value,
        asked=asked,
        result=result,
    )


def expected(client, case):
    """The bits that the provider makes of each input."""
    dimensions = CASES[case].dimensions or provider.DIMENSIONS
    input_type = "document" if client.is_voyage else None
    return [
        provider.vector(client.model, item, dimensions, input_type) for item in client.inputs(case)
    ]


def each(chosen):
    return [
        pytest.param(client, case, id=f"{client.language.value}-{client.name}-{case}")
        for client in CLIENTS
        for case in client.cases
        if chosen(client, CASES[case])
    ]


@pytest.mark.parametrize(("client", "case"), each(lambda _, case: not case.is_refused))
def test_a_client_gets_the_vectors_of_the_provider(client, case, found, record_row):
    outcome = found.outcomes[case]
    assert "vectors" in outcome, outcome
    assert [bits(vector) for vector in outcome["vectors"]] == expected(client, case)
    wire = CASES[case].wire
    if wire is not None:
        assert any(re.search(wire, sent) for sent in found.connections_of(client, case))
    if case == "repeated":
        assert len(found.connections_of(client, case)) <= clients.MOST_CONNECTIONS
    record_row(row(client, found.version, asked=CASES[case].asked, result=EQUAL))


@pytest.mark.parametrize(("client", "case"), each(lambda _, case: case.is_refused))
def test_a_refusal_is_the_clients_own_error(client, case, found, record_row):
    refused = found.outcomes[case].get("error")
    assert refused is not None, found.outcomes[case]
    if client.refused is not None:
        assert refused["type"] == client.refused
    shown = {name: refused[name] for name in client.shows}
    assert shown == {
        name: {"status": 404, "code": "model_not_found"}[name] for name in client.shows
    }
    for word in (clients.UNKNOWN_MODEL, client.model):
        assert word in refused["message"]
    told = ", ".join(f"{name} {value}" for name, value in shown.items())
    own = f"`{client.refused}`: " if client.refused is not None else ""
    result = f"{own}our message, {told}"
    record_row(row(client, found.version, asked=CASES[case].asked, result=result))


@pytest.mark.parametrize(
    ("client", "what"),
    [
        pytest.param(client, what, id=f"{client.language.value}-{client.name}")
        for client in CLIENTS
        for what in client.sends
    ],
)
def test_what_a_client_sends_of_its_own_accord_is_answered(client, what, found, record_row):
    (connection,) = found.connections_of(client, "one")
    assert re.search(client.sends[what], connection)
    vectors = found.outcomes["one"].get("vectors", [])
    assert [bits(vector) for vector in vectors] == expected(client, "one")
    record_row(row(client, found.version, asked=what, result=EQUAL))
