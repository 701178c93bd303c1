"""Unmodified clients of five languages with real sidecars: each case of tests.parts.clients.

A client's program is started once and asks all its cases; each test looks at one. Between program
and sidecar is a relay that keeps what the client sent, so that no case is asked in name only.
"""

import dataclasses
import functools
import itertools
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


@dataclasses.dataclass(frozen=True)
class Stage:
    """The provider, and ports of sidecars by `(before Voyage, with a quota)`."""

    provider: provider.StandIn
    ports: dict[tuple[bool, bool], int]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidecars")
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text(provider.KEY, encoding="utf-8")
    stand_in = provider.StandIn()
    running = {}
    with sidecar.served(stand_in.app()) as url:
        for is_voyage, has_quota in itertools.product((False, True), (False, True)):
            file = folder / f"{is_voyage}-{has_quota}.json"
            written = policy(url, is_voyage=is_voyage, daily_requests=None if has_quota else 0)
            file.write_text(document.dump(written), encoding="utf-8")
            running[is_voyage, has_quota] = sidecar.Sidecar(
                *("--document", file, "--secrets", secrets),
                environment={},
                log=file.with_suffix(".log"),
            )
        yield Stage(stand_in, {of: one.wait().port for of, one in running.items()})
        for one in running.values():
            one.stop(signal.SIGTERM, signal.SIGINT)
            assert "Traceback" not in one.said()


def policy(url, *, is_voyage, daily_requests):
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
        quota=document.Quota(daily_requests=daily_requests),
        cache=document.Cache(memory_max_bytes=2**24),
    )


@pytest.fixture(scope="module")
def ran(stage):
    """Runs a client's program, once before each sidecar that it asks."""

    @functools.cache
    def run(name, language):
        (client,) = (it for it in CLIENTS if (it.name, it.language) == (name, language))
        command = client_programs.command(client.language, client.program)
        runs = [
            asked(
                command,
                client.requests(has_quota=has_quota),
                port=stage.ports[client.is_voyage, has_quota],
            )
            for has_quota in (True, False)
        ]
        (runtime,) = {said["runtime"] for said, _ in runs}
        return Ran(
            version=clients.locked(client) or runtime.removeprefix("v").removeprefix("go"),
            outcomes={it["case"]: it for said, _ in runs for it in said["outcomes"]},
            sent=[sent for _, all_sent in runs for sent in all_sent],
        )

    return run


def asked(command, requests, *, port):
    """What a program prints of these requests, and what it sent over each connection."""
    with relay.relayed(port, keeps=True) as between:
        url = f"http://127.0.0.1:{between.port}/v1"
        done = subprocess.run(
            command,
            input=json.dumps(requests),
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
    return json.loads(done.stdout.splitlines()[-1]), [bytes(it) for it in between.sent]


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
        if chosen(CASES[case])
    ]


@pytest.mark.parametrize(("client", "case"), each(lambda case: case.refusal is None))
def test_client_gets_vectors_of_provider(client, case, found, record_row):
    outcome = found.outcomes[case]
    assert "vectors" in outcome, outcome
    assert [bits(vector) for vector in outcome["vectors"]] == expected(client, case)
    wire = CASES[case].wire
    if wire is not None:
        assert any(re.search(wire, sent) for sent in found.connections_of(client, case))
    if case == "repeated":
        assert len(found.connections_of(client, case)) <= clients.MOST_CONNECTIONS
    record_row(row(client, found.version, asked=CASES[case].asked, result=EQUAL))


@pytest.mark.parametrize(("client", "case"), each(lambda case: case.refusal is not None))
def test_refusal_is_clients_own_error(client, case, found, stage, record_row):
    refusal = CASES[case].refusal
    assert refusal is not None
    refused = found.outcomes[case].get("error")
    assert refused is not None, found.outcomes[case]
    own = client.refused.get(case)
    if own is not None:
        assert refused["type"] == own
    told = {name: getattr(refusal, name) for name in client.shows}
    assert {name: refused[name] for name in client.shows} == told
    assert refusal.words in refused["message"]
    (text,) = client.inputs(case)
    sent = b"".join(found.connections_of(client, case))
    assert sent.count(text.encode()) == (1 if CASES[case].has_quota else client.tries)
    assert not [call for call in stage.provider.calls if text in call.body["input"]]
    shown = ", ".join(["our message", *(f"{name} {value}" for name, value in told.items())])
    result = f"`{own}`: {shown}" if own is not None else shown
    record_row(row(client, found.version, asked=CASES[case].asked, result=result))


@pytest.mark.parametrize(
    ("client", "what"),
    [
        pytest.param(client, what, id=f"{client.language.value}-{client.name}")
        for client in CLIENTS
        for what in client.sends
    ],
)
def test_extras_that_client_sends_by_itself_are_answered(client, what, found, record_row):
    (connection,) = found.connections_of(client, "one")
    assert re.search(client.sends[what], connection)
    vectors = found.outcomes["one"].get("vectors", [])
    assert [bits(vector) for vector in vectors] == expected(client, "one")
    record_row(row(client, found.version, asked=what, result=EQUAL))
