"""The effects of faults of Vault: the words of the condition, the content of the Secrets,
how many calls Vault gets, and that the first look after the end of it makes all well again.

A real OpenBao with Kubernetes auth behind a proxy that counts and fails, a real API server, and the
operator's own poller and reconciler with a short interval. `pytest -s` prints the table.
"""

import base64
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator import vault
from embedding_operator.controller.reconciler import Reconciler
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues import workqueue
from embedding_operator.render import secrets
from embedding_operator.vault import access_rules
from tests.parts import fault_proxy, kubectl, read_through, reconciling, shipped_roles
from tests.parts import vault as real
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

POLL_SECONDS = 1.0
WATCHED_SECONDS = 1.5
PATHS = 5
MIB = 1_048_576
OLD, NEW = "sk-old", "sk-new"
KEPT = {"KEY": OLD.encode()}


class World:
    """One namespace with a policy that reads PATHS paths; the first of them gives its key too."""

    def __init__(
        self, user: kubectl.Kubectl, namespace: str, server: real.Vault, proxy: fault_proxy.Proxy
    ) -> None:
        self.user = user
        self.namespace = namespace
        self.server = server
        self.proxy = proxy
        self._objects = reconciling.connect(user.kubeconfig)
        self._subject = shipped_roles.connect(user.kubeconfig)
        self._queue: workqueue.WorkQueue[ObjectKey] = workqueue.WorkQueue()
        self._threads = list[threading.Thread]()
        self._poller: vault.Poller | None = None

    def start(self) -> None:
        """The operator, as far as it has to do with secrets."""
        settings = vault.Settings(
            address=self.proxy.address,
            poll_seconds=POLL_SECONDS,
            retry_seconds=0.2,
            timeout_seconds=0.5,
        )
        self._poller = vault.connect(
            settings=settings,
            rules=access_rules.parse(
                [{"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"}]
            ),
            tokens=self._subject,
            changed=lambda policy: self._queue.add(ObjectKey(*policy)),
        )
        reconciler = Reconciler(
            objects=self._subject,
            seen=read_through.ReadThrough(self._objects),
            store=self._poller,
            asked=reconciling.Sidecars(),
            events=reconciling.Events(),
            sidecar=reconciling.SIDECAR,
            poll_seconds=POLL_SECONDS,
            deadline_seconds=60,
            namespace="embedding-system",
            drifted=lambda _: None,
            restarts=reconciling.no_restarts(self._subject),
            monitoring=reconciling.no_monitoring(),
        )
        self._threads = self._poller.start() + workqueue.work(self._queue, reconciler, workers=1)
        self.user.apply(self._policy())
        self._queue.add(ObjectKey(self.namespace, "search"))

    def stop(self) -> None:
        self._queue.close()
        if self._poller is not None:
            self._poller.close()
        for thread in self._threads:
            thread.join()
        if self.server.client().sys.is_sealed():
            self.server.unseal()

    def path(self, number: int = 0) -> str:
        return f"{self.namespace}/keys-{number}"

    def write(self, value: object = NEW, number: int = 0, key: str = "KEY") -> None:
        self.server.write(self.path(number), **{key: value})

    def condition(self) -> tuple[str, str, str]:
        """Status, reason and message of SecretsSynced."""
        found = self._objects.get(kinds.POLICY, self.namespace, "search") or {}
        for it in found.get("status", {}).get("conditions", []):
            if it["type"] == "SecretsSynced":
                return it["status"], it["reason"], it["message"]
        return "", "", ""

    def summary(self) -> str:
        """Paths that could be read / named."""
        found = self._objects.get(kinds.POLICY, self.namespace, "search") or {}
        text: str = found["status"]["secrets"]["summary"]
        return text

    def held(self, name: str = "app-0") -> dict[str, bytes]:
        """What a Secret holds."""
        return secrets.decode(self._objects.get(kinds.SECRET, self.namespace, name))

    def wait_for(self, reason: str) -> None:
        wait(
            lambda: self.condition()[1] == reason,
            reason,
            timeout_seconds=20,
            last=lambda: (self.condition(), self.proxy.calls[-5:]),
        )

    def _policy(self) -> dict[str, Any]:
        reference = {"mount": "secret", "path": self.path(), "key": "KEY"}
        provider = {
            "name": "openai",
            "type": "OpenAI",
            "model": "m",
            "apiKey": {"vault": reference},
        }
        entries: list[dict[str, Any]] = [
            {"name": f"app-{number}", "vault": {"mount": "secret", "path": self.path(number)}}
            for number in range(PATHS)
        ]
        entries[0]["keys"] = [{"key": "KEY"}]
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": self.namespace},
            "spec": {
                "podSelector": {},
                "vault": {"role": "reader"},
                "providers": [provider],
                "secrets": entries,
            },
        }

    # --- what may be wrong

    def revoke(self) -> None:
        self.server.client().sys.revoke_prefix("auth/kubernetes/login")

    def give_role(self, *policies: str, account: str = "embedding-vault", ttl: str = "1h") -> None:
        self.server.client().auth.kubernetes.create_role(
            "reader",
            bound_service_account_names=[account],
            bound_service_account_namespaces=[self.namespace],
            audience="vault",
            policies=list(policies),
            ttl=ttl,
        )

    def fail(self, status: int, path: str = "") -> None:
        self.proxy.fault = lambda _, asked: status if path in asked else None

    def kept(self):
        return self.server.client().secrets.kv.v2


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`calls`: the most that Vault may get in WATCHED_SECONDS, all paths together."""

    begin: Callable[[World], object]
    reason: str
    said: str
    end: Callable[[World], object]
    calls: int


# Steps near the interval: at most 4 looks of a path in the time that is watched, and what was under
# way when it began. Where a trouble is the server's or the identity's, one look serves for all.
ONE_LOOK = 6
GOOD_PATHS = 4 * (PATHS - 1)


def down(world: World) -> None:
    world.proxy.down()


def back(world: World) -> None:
    world.write()
    world.proxy.back()


def rewrite(world: World) -> None:
    world.write()


def unseal(world: World) -> None:
    world.server.unseal()
    world.write()


def change_role(world: World) -> None:
    world.give_role("default")
    world.revoke()


def give_role_back(world: World) -> None:
    world.give_role("reader")
    world.write()


def rebind_role(world: World) -> None:
    world.give_role("reader", account="another")
    world.revoke()


FAULTS = {
    "down": Fault(
        begin=down, reason="VaultUnreachable", said="cannot be reached", end=back, calls=0
    ),
    "answers nothing": Fault(
        begin=lambda world: world.fail(0),
        reason="VaultUnreachable",
        said="cannot be reached",
        end=back,
        calls=ONE_LOOK,
    ),
    "sealed": Fault(
        begin=lambda world: world.server.seal(),
        reason="VaultSealed",
        said="sealed or in standby (503)",
        end=unseal,
        calls=ONE_LOOK,
    ),
    "slow": Fault(
        begin=lambda world: world.fail(504),
        reason="VaultSlow",
        said="does not answer in time",
        end=back,
        calls=ONE_LOOK,
    ),
    "one path slow": Fault(
        begin=lambda world: world.fail(504, world.path()),
        reason="VaultSlow",
        said="does not answer in time",
        end=back,
        calls=ONE_LOOK + GOOD_PATHS,
    ),
    "rate limit": Fault(
        begin=lambda world: world.fail(429),
        reason="VaultBusy",
        said="rate limit is reached (429)",
        end=back,
        calls=ONE_LOOK * PATHS,
    ),
    "failing": Fault(
        begin=lambda world: world.fail(500),
        reason="VaultFailing",
        said="failed (500)",
        end=back,
        calls=ONE_LOOK * PATHS,
    ),
    "gateway failing": Fault(
        begin=lambda world: world.fail(502),
        reason="VaultUnreachable",
        said="gateway fails (502)",
        end=back,
        calls=ONE_LOOK,
    ),
    "role gives nothing": Fault(
        begin=change_role,
        reason="VaultForbidden",
        said="forbids it (403)",
        end=give_role_back,
        # A look that is forbidden may ask for metadata, values and the engine, sign in, again.
        calls=8 * ONE_LOOK * PATHS,
    ),
    "role is another's": Fault(
        begin=rebind_role,
        reason="LoginRefused",
        said="refuses the login",
        end=give_role_back,
        calls=2 * ONE_LOOK,
    ),
    "path deleted": Fault(
        begin=lambda world: world.server.delete_newest(world.path()),
        reason="VersionDeleted",
        said="is deleted",
        end=rewrite,
        calls=2 * ONE_LOOK + GOOD_PATHS,
    ),
    "version destroyed": Fault(
        begin=lambda world: world.kept().destroy_secret_versions(world.path(), versions=[1]),
        reason="VersionDestroyed",
        said="is destroyed",
        end=rewrite,
        calls=2 * ONE_LOOK + GOOD_PATHS,
    ),
    "path gone": Fault(
        begin=lambda world: world.kept().delete_metadata_and_all_versions(world.path()),
        reason="PathMissing",
        said="there is nothing at",
        end=rewrite,
        calls=2 * ONE_LOOK + GOOD_PATHS,
    ),
    "key missing": Fault(
        begin=lambda world: world.write("x", key="OTHER"),
        reason="KeyMissing",
        said="no key KEY at",
        end=rewrite,
        calls=ONE_LOOK + GOOD_PATHS,
    ),
    "one byte too much": Fault(
        begin=lambda world: world.write("x" * (MIB + 1)),
        reason="KeyUnusable",
        said="bytes",
        end=rewrite,
        calls=ONE_LOOK + GOOD_PATHS,
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[real.Vault]:
    with real.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture
def world(api_server: kubectl.Kubectl, namespace: str, server: real.Vault) -> Iterator[World]:
    """Everything but a started operator."""
    api_server("create", "serviceaccount", "embedding-vault", "-n", namespace)
    server.trust(api_server, namespace=namespace)
    proxy = fault_proxy.Proxy(int(server.address.rpartition(":")[2]))
    made = World(api_server, namespace, server, proxy)
    for number in range(PATHS):
        made.write(OLD, number)
    try:
        yield made
    finally:
        made.stop()
        proxy.down()


@pytest.fixture
def synced(world: World) -> World:
    world.start()
    world.wait_for("Synced")
    return world


def key(world: World) -> bytes | None:
    """The provider's key, as sidecars have it."""
    return world.held(names.owned_secret("search")).get(names.secret_provider_key("openai"))


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_leaves_what_was_there_and_heals(synced, name):
    fault = FAULTS[name]
    fault.begin(synced)
    synced.wait_for(fault.reason)
    wait(lambda: synced.path() in synced.condition()[2], "its path")
    status, _, message = synced.condition()
    assert status == "False"
    assert fault.said in message
    synced.proxy.calls.clear()
    started = time.monotonic()
    time.sleep(WATCHED_SECONDS)
    calls = len(synced.proxy.calls)
    # On a busy machine it is watched for longer.
    assert calls <= fault.calls * (time.monotonic() - started) / WATCHED_SECONDS
    assert synced.held() == KEPT
    assert key(synced) == OLD.encode()
    fault.end(synced)
    synced.wait_for("Synced")
    wait(lambda: synced.held() == {"KEY": NEW.encode()}, "the new value")
    assert key(synced) == NEW.encode()
    print(f"\n| {name} | {fault.reason} | {calls} calls in {WATCHED_SECONDS} s | {message[:90]}")


def test_vault_down_at_start_stops_no_object(world):
    world.proxy.down()
    world.start()
    world.wait_for("VaultUnreachable")
    made = {names.SECRET_API_TOKEN, names.SECRET_CACHE_KEY}
    assert set(world.held(names.owned_secret("search"))) == made
    world.user.get("configmap", names.document_configmap("search"), "-n", world.namespace)
    world.user.get("configmap", names.environment_configmap("search"), "-n", world.namespace)
    world.proxy.back()
    world.wait_for("Synced")
    assert world.held() == KEPT


def test_revoked_token_is_replaced_unnoticed(synced):
    synced.revoke()
    synced.proxy.calls.clear()
    synced.write()
    wait(lambda: synced.held() == {"KEY": NEW.encode()}, "the new value")
    assert synced.condition()[1] == "Synced"
    logins = [path for _, path in synced.proxy.calls if path.endswith("/login")]
    assert len(logins) == 1


def test_expired_token_is_replaced_unnoticed(world):
    world.give_role("reader", ttl="1s")
    world.start()
    world.wait_for("Synced")
    time.sleep(2)
    world.write()
    wait(lambda: world.held() == {"KEY": NEW.encode()}, "the new value")
    assert world.condition()[1] == "Synced"


def test_first_look_after_fault_makes_all_well(synced):
    synced.server.seal()
    synced.wait_for("VaultSealed")
    wait(lambda: synced.summary() == f"0/{PATHS + 1}", "all paths, and the key")
    synced.server.unseal()
    synced.proxy.calls.clear()
    synced.wait_for("Synced")
    looked = [path for _, path in synced.proxy.calls if "/metadata/" in path]
    assert len(looked) <= 2 * PATHS


VALUES = {
    "lines": "-----BEGIN KEY-----\nline\r\n\n-----END KEY-----\n",
    "binary, as Vault keeps it": base64.b64encode(os.urandom(64)).decode(),
    "exactly 1 MiB": "x" * MIB,
}


@pytest.mark.parametrize("value", VALUES)
def test_value_arrives_as_it_is(synced, value):
    synced.write(VALUES[value], number=1)
    wait(lambda: synced.held("app-1") == {"KEY": VALUES[value].encode()}, value)
    assert synced.condition()[1] == "Synced"


def test_one_byte_more_than_secret_takes_leaves_old_one(synced):
    synced.write("x" * (MIB + 1), number=1)
    synced.wait_for("SecretTooLarge")
    message = synced.condition()[2]
    assert synced.path(1) in message
    assert "KEY" in message
    assert synced.held("app-1") == KEPT
    synced.write(NEW, number=1)
    synced.wait_for("Synced")
    assert synced.held("app-1") == {"KEY": NEW.encode()}


def test_unchanged_paths_cost_one_version_read_per_interval(synced):
    wait(lambda: any("/metadata/" in path for _, path in synced.proxy.calls), "a look")
    synced.proxy.calls.clear()
    time.sleep(2 * POLL_SECONDS)
    asked = [path for _, path in synced.proxy.calls]
    assert all("/metadata/" in path for path in asked), "no value is read, nobody signs in"
    assert len(asked) <= 4 * PATHS


def test_refresh_is_obeyed_at_once(synced):
    assert synced._poller is not None
    synced.fail(500)
    synced.wait_for("VaultFailing")
    synced.proxy.back()
    asked = f"{names.ANNOTATION_REFRESH}=now"
    synced.user("annotate", "embpol", "search", "-n", synced.namespace, asked)
    synced._queue.add(ObjectKey(synced.namespace, "search"))
    synced.wait_for("Synced")
