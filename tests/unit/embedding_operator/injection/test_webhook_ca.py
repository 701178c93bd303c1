"""The Secret, the file and the webhook's configuration are as they should be, and agree."""

import base64
import copy
import threading
from datetime import UTC, datetime, timedelta

import pytest

from embedding_operator import errors
from embedding_operator.injection import certificates, webhook_ca
from embedding_operator.kube import kinds

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """An API server's Secrets and webhook configurations, with resource versions."""

    def __init__(self, *, configured=True):
        self.objects = {}
        self.version = 0
        self.applied = []
        self.before_write = lambda: None
        if configured:
            webhooks = [{"name": "inject.example", "clientConfig": {"service": {}}}]
            self._put(kinds.WEBHOOK, {"metadata": {"name": "hook"}, "webhooks": webhooks})

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
    return webhook_ca.WebhookCA(
        objects=server, place=place(folder), may_write=lambda: may_write, clock=lambda: now
    )


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


def test_replica_without_lease_reads_what_holder_wrote(tmp_path):
    server = Server()
    waiting = made(server, tmp_path / "waiting", may_write=False)
    with pytest.raises(errors.Unavailable, match="holds the Lease"):
        waiting.check()
    assert server.objects.keys() == Server().objects.keys()
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
