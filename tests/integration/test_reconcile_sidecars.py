"""What the operator wants, and what a real sidecar says it obeys: both must count alike."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from embedding_contract import fingerprint, names
from embedding_operator import definition, policy, sidecars
from embedding_operator.render import configmaps, secrets
from tests.parts import ports
from tests.parts import sidecar as real

pytestmark = pytest.mark.integration

POLICY = policy.parse(
    definition.admit(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": "shop"},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "openai",
                        "type": "OpenAI",
                        "model": "text-embedding-3-small",
                        "apiKey": {"secretKeyRef": {"name": "keys", "key": "openai"}},
                    }
                ],
                "quota": {"daily": {"requests": 7}},
            },
        }
    )
)
VALUES = {
    names.SECRET_API_TOKEN: real.TOKEN.encode(),
    "provider-openai": b"sk-1\n",
    "unrelated": bytes(range(256)),
}
DOCUMENT = configmaps.policy_document(POLICY, policy.to_document(POLICY))["data"]
SECRET = secrets.decode(secrets.owned(POLICY, VALUES))


class Volume:
    """A ConfigMap's or Secret's volume, as kubelet keeps it."""

    def __init__(self, folder):
        self.folder = folder
        self._versions = 0
        folder.mkdir()

    def hold(self, entries):
        """Swap the link `..data` to a new folder in one step."""
        self._versions += 1
        version = self.folder / f"..{self._versions}"
        version.mkdir()
        for name, value in entries.items():
            (version / name).write_bytes(value if isinstance(value, bytes) else value.encode())
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.rename(self.folder / "..data")


@pytest.fixture
def volumes(tmp_path):
    return Volume(tmp_path / "policy"), Volume(tmp_path / "secrets")


@pytest.fixture
def running(volumes, tmp_path):
    """A sidecar that follows both volumes, which are empty at first."""
    document, held = volumes
    started = real.Sidecar(
        *("--document", document.folder / names.DOCUMENT_KEY, "--secrets", held.folder),
        environment={},
        log=tmp_path / "log",
    )
    try:
        yield started.wait()
    finally:
        started.stop()


@pytest.fixture
def asks(running):
    made = sidecars.Sidecars(port=running.admin_port)
    yield made
    made.close()


def in_force(asks):
    return asks.in_force("127.0.0.1", token=real.TOKEN)


def wanted(entries=SECRET):
    text = DOCUMENT[names.DOCUMENT_KEY].encode()
    return sidecars.InForce(
        document=fingerprint.of_document(text),
        secrets=fingerprint.of_secrets(entries, token=entries[names.SECRET_API_TOKEN]),
        rejected=None,
        keys_refused=frozenset(),
    )


def test_a_sidecar_obeys_what_the_operator_wrote_and_says_so_in_the_same_words(asks, volumes):
    document, held = volumes
    assert in_force(asks) is None  # without a token nobody is told anything
    held.hold(SECRET)
    none_yet = sidecars.InForce(document="", secrets="", rejected=None)
    real.wait_until(lambda: in_force(asks) == none_yet)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())


def test_a_new_key_changes_what_it_says(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    rotated = {**SECRET, "provider-openai": b"sk-2"}
    held.hold(rotated)
    real.wait_until(lambda: in_force(asks) == wanted(rotated))
    assert wanted(rotated) != wanted()


def test_a_document_it_cannot_obey_is_told_with_the_reason(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    document.hold({names.DOCUMENT_KEY: '{"version": 2}'})
    real.wait_until(lambda: (in_force(asks) or wanted()).rejected)
    found = in_force(asks)
    assert found.document == wanted().document
    assert "version" in found.rejected


def test_the_day_is_told_with_its_limit(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: asks.quota("127.0.0.1", token=real.TOKEN))
    day = asks.quota("127.0.0.1", token=real.TOKEN)
    assert (day.used, day.limit) == (0, 7)
    assert day.reset_at.tzinfo is not None
    assert not day.exact
    assert day.exact_reason.startswith("NoSharedStore: ")


def test_with_another_token_nothing_is_told(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    assert asks.in_force("127.0.0.1", token="another") is None
    assert asks.quota("127.0.0.1", token="another") is None


def test_vanished_files_change_nothing(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    shutil.rmtree(document.folder)
    assert in_force(asks) == wanted()


def test_who_is_not_there_cannot_be_asked():
    asks = sidecars.Sidecars(port=ports.free())
    assert asks.in_force("127.0.0.1", token="t") is None
    assert asks.in_force("::1", token="t") is None
    asks.close()


CONFIG: dict[str, Any] = {
    "document_fingerprint": "d",
    "secrets_fingerprint": "s",
    "rejected": None,
    "keys_refused": [],
}
DAY = {
    "daily_quota": 10,
    "current_count": 1,
    "reset_at": "2026-01-02T00:00:00Z",
    "exact": True,
    "exact_reason": "",
}
WRONG: tuple[Any, ...] = (-1, ["A name?"], {})
BODIES = [
    *(b"", b"no JSON", b"[]", b'"text"', b"{}", b"\xff"),
    *(json.dumps({**CONFIG, key: value}).encode() for key in CONFIG for value in WRONG),
    *(json.dumps({**DAY, key: value}).encode() for key in DAY if key != "exact" for value in WRONG),
    json.dumps({**CONFIG, "rejected": "x" * 100_000}).encode(),
    json.dumps({**CONFIG, "keys_refused": [f"p-{number}" for number in range(9)]}).encode(),
    json.dumps({**DAY, "current_count": 2**80}).encode(),
    json.dumps({**DAY, "reset_at": "tomorrow"}).encode(),
]


@pytest.mark.parametrize("body", BODIES)
def test_somebody_else_at_the_address_is_no_sidecar(body):
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        asks = sidecars.Sidecars(port=server.server_address[1])
        try:
            assert asks.in_force("127.0.0.1", token="t") is None
            assert asks.quota("127.0.0.1", token="t") is None
        finally:
            asks.close()
            server.shutdown()
            thread.join()
