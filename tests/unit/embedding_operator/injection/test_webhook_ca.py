"""The Secret, the file and the webhook's configuration are as they should be, and agree."""

import base64
import copy
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator import errors
from embedding_operator.injection import certificates, webhook_ca
from embedding_operator.kube import kinds
from tests.parts import waiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """An API server's Secrets and webhook configurations, with resource versions."""

    def __init__(self, *, configured=True):
        self.objects = {}
        self.version = 0
        self.applied = []
        self.before_write = lambda: None
        self.account = None
        if configured:
            webhooks = [{"name": "inject.example", "clientConfig": {"service": {}}}]
            self._put(kinds.WEBHOOK, {"metadata": {"name": "hook"}, "webhooks": webhooks})

    def own_account(self):
        return self.account

    def get(self, kind, namespace, name):
        return copy.deepcopy(self.objects.get((kind.plural, name)))

    def create(self, kind, namespace, body):
        self._interfere()
        if (kind.plural, body["metadata"]["name"]) in self.objects:
            raise errors.Conflict("exists")
        return self._put(kind, body)

    def replace(self, kind, namespace, body):
        self._interfere()
        stored = self.objects[kind.plural, body["metadata"]["name"]]
        if stored["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise errors.Conflict("changed")
        return self._put(kind, body)

    def apply(self, desired, *, manager):
        self.applied.append(manager)
        stored = self.objects[kinds.WEBHOOK.plural, desired["metadata"]["name"]]
        by_name = {webhook["name"]: webhook for webhook in stored["webhooks"]}
        for webhook in desired["webhooks"]:
            by_name[webhook["name"]]["clientConfig"] |= webhook["clientConfig"]
        return stored

    def _interfere(self):
        first, self.before_write = self.before_write, lambda: None
        first()

    def _put(self, kind, body):
        self.version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind.plural, body["metadata"]["name"]] = stored
        return stored

    @property
    def secret(self):
        return self.objects["secrets", "certificate"]

    @property
    def authority(self):
        (webhook,) = self.objects[kinds.WEBHOOK.plural, "hook"]["webhooks"]
        return base64.b64decode(webhook["clientConfig"]["caBundle"])


def place(folder):
    return webhook_ca.Place(
        namespace="system",
        secret="certificate",
        service="embedding-operator",
        configuration="hook",
        directory=folder,
    )


def made(server, folder, *, now=NOW, may_write=True):
    objects: Any = server if may_write else Fenced(server)
    return webhook_ca.WebhookCA(
        objects=objects,
        free=server,
        place=place(folder),
        may_write=lambda: may_write,
        clock=lambda: now,
    )


class Fenced:
    """The client of a replica without the Lease: it reads."""

    def __init__(self, server):
        self.get = server.get


def served(folder):
    return (folder / "webhook.pem").read_bytes()


def test_first_check_makes_all_three_and_they_belong_together(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    data = {key: base64.b64decode(value) for key, value in server.secret["data"].items()}
    assert served(tmp_path) == data["tls.crt"] + data["tls.key"]
    assert server.authority == data["ca.crt"]
    assert server.secret["type"] == "kubernetes.io/tls"


def test_file_is_its_owners_only(tmp_path):
    made(Server(), tmp_path / "new").check()
    assert (tmp_path / "new" / "webhook.pem").stat().st_mode & 0o777 == 0o600


def test_replica_without_lease_makes_missing_secret_and_tells_nobody(tmp_path):
    server = Server()
    made(server, tmp_path / "waiting", may_write=False).check()
    assert served(tmp_path / "waiting") == base64.b64decode(
        server.secret["data"]["tls.crt"]
    ) + base64.b64decode(server.secret["data"]["tls.key"])
    assert server.applied == []
    made(server, tmp_path / "holder").check()
    assert served(tmp_path / "holder") == served(tmp_path / "waiting")
    assert server.authority == base64.b64decode(server.secret["data"]["ca.crt"])


def test_replica_without_lease_reads_what_another_made_first(tmp_path):
    server = Server()
    server.before_write = made(server, tmp_path / "holder").check
    made(server, tmp_path / "waiting", may_write=False).check()
    assert served(tmp_path / "waiting") == served(tmp_path / "holder")


def test_replica_without_lease_reads_what_holder_wrote(tmp_path):
    server = Server()
    made(server, tmp_path / "holder").check()
    before = server.version, list(server.applied)
    made(server, tmp_path / "waiting", now=NOW + timedelta(days=3650), may_write=False).check()
    assert served(tmp_path / "waiting") == served(tmp_path / "holder")
    assert (server.version, server.applied) == before


def test_second_check_writes_nothing(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    before = server.version, list(server.applied), (tmp_path / "webhook.pem").stat().st_mtime_ns
    made(server, tmp_path, now=NOW + timedelta(days=1)).check()
    after = server.version, server.applied, (tmp_path / "webhook.pem").stat().st_mtime_ns
    assert after == before


def test_certificate_that_is_due_is_replaced_and_authority_stays(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    first, authority = served(tmp_path), server.authority
    made(server, tmp_path, now=NOW + timedelta(days=70)).check()
    assert served(tmp_path) != first
    assert server.authority == authority


def test_authority_that_upgrade_took_out_is_put_back(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    authority = server.authority
    (webhook,) = server.objects[kinds.WEBHOOK.plural, "hook"]["webhooks"]
    webhook["clientConfig"] = {"service": {"name": "embedding-operator"}}
    made(server, tmp_path).check()
    assert server.authority == authority
    assert webhook["clientConfig"]["service"] == {"name": "embedding-operator"}


@pytest.mark.parametrize("days", [0, 70])
def test_two_replicas_at_same_time_serve_same(tmp_path, days):
    server = Server()
    now = NOW + timedelta(days=days)
    if days:
        made(server, tmp_path / "before").check()
    one, other = (made(server, tmp_path / name, now=now) for name in ("one", "other"))
    server.before_write = other.check
    one.check()
    assert served(tmp_path / "one") == served(tmp_path / "other")


def test_secret_that_holds_nonsense_is_made_anew(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    server.secret["data"] = {"tls.crt": "", "tls.key": ""}
    made(server, tmp_path).check()
    assert server.authority == base64.b64decode(server.secret["data"]["ca.crt"])


def test_failing_api_server_is_told_of(tmp_path):
    class Away(Server):
        def create(self, kind, namespace, body):
            raise errors.Unavailable("away", reason="APIServerAway")

    with pytest.raises(errors.Unavailable, match="away"):
        made(Away(), tmp_path).check()


def test_configuration_that_is_not_there_yet_stops_nothing(tmp_path, monkeypatch):
    """The file is served meanwhile, and the check comes again until the authority is told."""
    monkeypatch.setattr(webhook_ca, "RETRY_SECONDS", 0.01)
    server, later = Server(configured=False), Server()
    stopping = threading.Event()
    running = threading.Thread(target=made(server, tmp_path).run, args=(stopping,))
    running.start()
    while not (tmp_path / "webhook.pem").exists():
        stopping.wait(0.01)
    assert server.applied == []
    server.objects |= later.objects
    while not server.applied:
        stopping.wait(0.01)
    stopping.set()
    running.join(10)
    assert not running.is_alive()


def test_service_is_known_by_names_that_api_server_asks_for(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    bundle = webhook_ca._read(server.secret)
    hosts = (
        "embedding-operator.system.svc",
        "embedding-operator.system.svc.cluster.local",
    )
    assert certificates.plan(bundle, hosts=hosts, now=NOW) == "keep"


AUTHORITY_DUE = NOW + timedelta(days=7 * 365)
ACCOUNT = kinds.Account(namespace="system", name="operator", uid="uid-1")


def test_new_authority_is_told_before_certificate_of_it_is_served(tmp_path):
    """The API server trusts both meanwhile, as another replica serves the former's."""
    server = Server()
    made(server, tmp_path).check()
    before, authority = served(tmp_path), server.authority
    later = made(server, tmp_path, now=AUTHORITY_DUE)
    with pytest.raises(errors.Unavailable, match="told of a new authority"):
        later.check()
    assert served(tmp_path) == before
    assert authority in server.authority
    assert server.authority != authority
    later.check()
    assert served(tmp_path) != before


def test_other_replica_goes_over_to_new_authority_at_its_next_check(tmp_path):
    server = Server()
    one, other = (made(server, tmp_path / it) for it in ("one", "other"))
    one.check()
    other.check()
    later = made(server, tmp_path / "one", now=AUTHORITY_DUE)
    with pytest.raises(errors.Unavailable):
        later.check()
    later.check()
    assert served(tmp_path / "one") != served(tmp_path / "other")
    made(server, tmp_path / "other", now=AUTHORITY_DUE).check()
    assert served(tmp_path / "one") == served(tmp_path / "other")


def test_former_authority_is_dropped_when_it_has_ended(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    first = server.authority
    with pytest.raises(errors.Unavailable):
        made(server, tmp_path, now=AUTHORITY_DUE).check()
    made(server, tmp_path, now=AUTHORITY_DUE).check()
    made(server, tmp_path, now=NOW + timedelta(days=3_700)).check()
    assert first not in server.authority


def test_secret_that_was_deleted_ends_trust_in_its_authority(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    first = server.authority
    del server.objects["secrets", "certificate"]
    made(server, tmp_path).check()
    assert first not in server.authority


def test_replica_that_does_not_issue_serves_what_holder_issued(tmp_path):
    server = Server()
    reading = made(server, tmp_path / "other", may_write=False)
    made(server, tmp_path / "one").check()
    reading.check()
    assert served(tmp_path / "one") == served(tmp_path / "other")
    version = server.version
    made(server, tmp_path / "other", now=NOW + timedelta(days=70), may_write=False).check()
    assert server.version == version


def test_certificate_that_is_due_is_renewed_without_waiting_for_next_check(tmp_path, monkeypatch):
    monkeypatch.setattr(webhook_ca, "LOOK_SECONDS", 0.01)
    server, now = Server(), [NOW]
    objects: Any = server
    kept = webhook_ca.WebhookCA(
        objects=objects,
        free=objects,
        place=place(tmp_path),
        may_write=lambda: True,
        clock=lambda: now[0],
    )
    stopping = threading.Event()
    running = threading.Thread(target=kept.run, args=(stopping,))
    running.start()
    while not server.applied:
        stopping.wait(0.01)
    first = served(tmp_path)
    now[0] += timedelta(days=100)
    try:
        waiting.eventually(lambda: served(tmp_path) != first)
    finally:
        stopping.set()
        running.join(10)
    assert not running.is_alive()


def test_authority_is_told_as_soon_as_replica_gets_lease(tmp_path, monkeypatch):
    """A replica looks first before it holds the Lease; a minute later many pods have no sidecar."""
    monkeypatch.setattr(webhook_ca, "LOOK_SECONDS", 0.01)
    server, holds = Server(), threading.Event()
    objects: Any = server
    kept = webhook_ca.WebhookCA(
        objects=objects, free=objects, place=place(tmp_path), may_write=holds.is_set
    )
    stopping = threading.Event()
    running = threading.Thread(target=kept.run, args=(stopping,))
    running.start()
    try:
        waiting.eventually((tmp_path / "webhook.pem").exists)
        assert server.applied == []
        holds.set()
        waiting.eventually(lambda: server.applied)
    finally:
        stopping.set()
        running.join(10)
    assert server.authority


def test_secret_goes_with_operators_account(tmp_path):
    server = Server()
    made(server, tmp_path).check()
    assert "ownerReferences" not in server.secret["metadata"]
    authority = server.authority
    server.account = ACCOUNT
    made(server, tmp_path).check()
    (owner,) = server.secret["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "name": "operator",
        "uid": "uid-1",
    }
    assert server.authority == authority
    version = server.version
    made(server, tmp_path).check()
    assert server.version == version


@pytest.mark.parametrize("account", [ACCOUNT._replace(namespace="elsewhere"), None])
def test_account_of_another_namespace_owns_nothing(tmp_path, account):
    server = Server()
    server.account = account
    made(server, tmp_path).check()
    assert "ownerReferences" not in server.secret["metadata"]


def test_account_that_may_not_be_asked_for_stops_nothing(tmp_path):
    class Hardened(Server):
        def own_account(self):
            raise errors.Denied("selfsubjectreviews")

    server = Hardened()
    made(server, tmp_path).check()
    assert served(tmp_path)
