"""A sidecar that follows the files an operator writes, as kubelet puts them into a pod."""

import dataclasses
import json
import signal
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from embedding_contract import document, fingerprint, names
from tests.fakes import provider
from tests.parts import sidecar

pytestmark = pytest.mark.integration

KEY_FILE = names.secret_provider_key("main")


class Files:
    """The two mounted directories."""

    def __init__(self, folder: Path, url: str) -> None:
        self.document = folder / "policy" / names.DOCUMENT_KEY
        self.secrets = folder / "secrets"
        self.document.parent.mkdir()
        self.secrets.mkdir()
        self.policy = document.PolicyDocument(
            namespace="shop",
            name="main",
            providers=(
                document.Provider(
                    name="main",
                    kind="OpenAI",
                    model="text-embedding-3-small",
                    base_url=f"{url}/v1",
                    aliases=("small",),
                    dimensions=8,
                    api_key_file=KEY_FILE,
                ),
            ),
        )

    def write(self, text: str | None = None, **changes) -> str:
        """Swap the document in one step, as kubelet does; what was written."""
        self.policy = dataclasses.replace(self.policy, **changes)
        text = document.dump(self.policy) if text is None else text
        new = self.document.with_name("..new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.document)
        return text

    def write_secrets(self, **secrets: str) -> None:
        """Swap each secret's file."""
        for name, value in secrets.items():
            new = self.secrets / "..new"
            new.write_text(value, encoding="utf-8")
            new.replace(self.secrets / name.replace("_", "-"))


@pytest.fixture
def files(tmp_path, provider_url):
    return Files(tmp_path, provider_url)


@pytest.fixture
def following(start, files):
    def start_one():
        running = start("--document", files.document, "--secrets", files.secrets)
        return running.wait()

    return start_one


def ready(files) -> None:
    files.write()
    files.write_secrets(api_token=sidecar.TOKEN, **{KEY_FILE: provider.KEY})


def until_in_force(running: sidecar.Sidecar, text: str) -> None:
    wanted = fingerprint.of_document(text.encode())
    sidecar.wait_until(lambda: running.page(names.PATH_HEALTH)["document"] == wanted)


def test_api_without_document_says_so_and_heals(following, files):
    running = following()
    refused = running.embed("x")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "policy_not_loaded"
    assert str(files.document) in refused.json()["error"]["message"]
    assert running.page(names.PATH_HEALTH)["status"] == "unavailable"
    ready(files)
    sidecar.wait_until(lambda: running.embed("x").is_success)


def test_token_opens_pages_before_there_is_document(following, files):
    files.write_secrets(api_token=sidecar.TOKEN)
    running = following()
    # The operator tells by it a sidecar without a document from one that cannot be asked.
    assert running.admin.get(names.PATH_CONFIG).status_code == 503


def test_key_that_has_not_come_yet_is_named(following, files):
    files.write()
    running = following()
    refused = running.embed("x")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "provider_key_missing"
    assert KEY_FILE in refused.json()["error"]["message"]
    ready(files)
    sidecar.wait_until(lambda: running.embed("x").is_success)


def test_rotated_key_is_used_without_restart(following, files, stand_in):
    ready(files)
    running = following()
    assert running.embed("one").is_success
    stand_in.key = "sk-rotated"
    files.write_secrets(**{KEY_FILE: "sk-rotated\n"})
    sidecar.wait_until(lambda: running.embed("two").is_success)
    # What was cached before is served on, and nothing was forgotten.
    assert running.embed("one").headers["x-embedding-cache"] == "hit"


def test_changed_policy_is_in_force_and_said_to_be(following, files):
    ready(files)
    running = following()
    text = files.write(quota=document.Quota(daily_requests=7))
    until_in_force(running, text)
    assert running.page(names.PATH_QUOTA)["daily_quota"] == 7
    secrets = {path.name: path.read_bytes() for path in files.secrets.iterdir()}
    config = running.page(names.PATH_CONFIG)
    assert config["policy"] == {"namespace": "shop", "name": "main"}
    assert config["secrets_fingerprint"] == fingerprint.of_secrets(
        secrets, token=sidecar.TOKEN.encode()
    )


def test_stats_say_what_was_saved_at_present_price(following, files):
    ready(files)
    running = following()
    running.embed("one", "two")
    running.embed("one", "two", "one")
    told = running.page(names.PATH_CACHE_STATS)
    assert (told["hits"], told["misses"]) == ({"memory": 2, "redis": 0}, 2)
    assert told["memory"]["entries"] == 2
    assert told["memory"]["bytes"] > 0
    assert told["money_saved"] is None
    (priced,) = files.policy.providers
    priced = dataclasses.replace(priced, price_per_million_tokens="0.02")
    until_in_force(running, files.write(providers=(priced,)))
    told = running.page(names.PATH_CACHE_STATS)
    exact = Decimal(told["tokens_saved"]) * Decimal("0.00000002")
    assert told["tokens_saved"] > 0
    assert Decimal(told["money_saved"]) == exact
    assert "E" not in told["money_saved"]
    counted = f'aos_embedding_tokens_saved_total{{model="{priced.model}"}}'
    assert f"{counted} {told['tokens_saved']}.0" in running.admin.get("/metrics").text


def test_spent_day_stays_spent_when_other_parts_of_policy_change(following, files):
    ready(files)
    files.write(quota=document.Quota(daily_requests=1))
    running = following()
    assert running.embed("one").is_success
    until_in_force(running, files.write(cache=document.Cache(ttl_seconds=60)))
    assert running.embed("two").status_code == 429


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"version": 2}',
        json.dumps({"version": 1, "requires": ["time-travel"]}),
        "unknown type",
    ],
)
def test_document_that_cannot_be_used_changes_nothing(following, files, text):
    ready(files)
    running = following()
    if text == "unknown type":
        strange = dataclasses.replace(files.policy.providers[0], kind="Oracle")
        text = document.dump(dataclasses.replace(files.policy, providers=(strange,)))
    files.write(text)
    sidecar.wait_until(lambda: running.page(names.PATH_CONFIG)["rejected"])
    assert running.embed("x").is_success
    assert running.page(names.PATH_HEALTH)["status"] == "degraded"
    assert "aos_embedding_policy_rejected 1.0" in running.admin.get("/metrics").text
    healed = files.write(quota=document.Quota(daily_requests=5))
    until_in_force(running, healed)
    assert running.page(names.PATH_CONFIG)["rejected"] is None
    assert running.said().count("cannot be used") == 1


def test_first_document_that_cannot_be_used_is_reason_given(following, files):
    files.write("{")
    refused = following().embed("x")
    assert refused.status_code == 503
    assert "not JSON" in refused.json()["error"]["message"]


def test_vanished_document_changes_nothing(following, files):
    ready(files)
    running = following()
    before = running.page(names.PATH_CONFIG)
    files.document.unlink()
    files.write_secrets(another="so that something is seen to change")
    sidecar.wait_until(
        lambda: (
            running.page(names.PATH_CONFIG)["secrets_fingerprint"] != before["secrets_fingerprint"]
        )
    )
    after = running.page(names.PATH_CONFIG)
    assert after | {"secrets_fingerprint": ""} == before | {"secrets_fingerprint": ""}
    assert running.embed("x").is_success


def test_alias_means_its_model_and_pinned_dimensions_stay(following, files):
    ready(files)
    running = following()
    answer = running.embed("x", model="small")
    assert answer.json()["model"] == "text-embedding-3-small"
    assert answer.headers["x-embedding-space"] == "openai/text-embedding-3-small@8"
    refused = running.embed("x", dimensions=16)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")


def test_no_secret_and_no_text_is_logged(following, files):
    ready(files)
    files.write(log_level="debug")
    running = following()
    running.embed("a very private text")
    files.write("{")
    sidecar.wait_until(lambda: running.page(names.PATH_CONFIG)["rejected"])
    assert running.stop() == 0
    lines = [json.loads(line) for line in running.said().splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    for secret in (provider.KEY, sidecar.TOKEN, "a very private text"):
        assert secret not in running.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sidecar_ends_with_0_on_signal(following, files, number):
    ready(files)
    assert following().stop(number) == 0


def test_running_request_is_finished_before_exit(following, files, stand_in):
    ready(files)
    stand_in.delay_seconds = 1.0
    running = following()
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        body = json.dumps({"model": "small", "input": "x"}).encode()
        head = (
            f"POST {names.PATH_EMBEDDINGS} HTTP/1.1\r\nhost: [::1]\r\ncontent-length: {len(body)}"
        )
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        sidecar.wait_until(lambda: stand_in.calls)
        running.process.send_signal(signal.SIGTERM)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert running.stop() == 0


def run(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).parent / "embedding-sidecar"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMBEDDING_DAILY_QUOTA", "many"),
        ("REDIS_URL", "redis://:secretpw@redis/0?ssl_cert_reqs=none"),
    ],
)
def test_wrong_value_stops_start(name, value):
    ended = run(**{"OPENAI_API_KEY": "sk-1", name: value})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"embedding-sidecar: {name}: ")
    assert "Traceback" not in ended.stderr
    assert "secretpw" not in ended.stderr


def test_taken_port_stops_start():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(OPENAI_API_KEY="sk-1", EMBEDDING_PORT=str(port))
    assert ended.returncode == 2
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr
