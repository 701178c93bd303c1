"""Objects of tenants cost the operator no memory, whatever they hold (field D3)."""

import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import api_server, arrivals, estate
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

MIB = 1024**2
POLICIES = 8
SPARE_BYTES = 20 * 10**6
TOUCHED = 10
THREADS = 8
TENANT = "tenant-000"
LARGE = {"notes": "n" * (250 * 1024)}
"""An annotation: 256 KiB is the most that an object may have of them."""


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.soak)])
def test_objects_of_tenants_with_every_label_of_ours_take_no_memory(tmp_path, count, say):
    with estate.standing(tmp_path, policies=POLICIES, namespaces=2) as (built, operator):
        tenant = Tenant(built, count)
        tenant.write_policies()
        without, _ = peak(built, operator, tenant)
        tenant.write_all()
        with_them, relisted = peak(built, operator, tenant)
    say(
        f"{count:,} ConfigMaps and as many Secrets of 1 MB; {count:,} ConfigMaps, Secrets, pods "
        f"and namespaces and {count // 5:,} policies with 250 KiB of annotations each: the peak is "
        f"{with_them / MIB:.0f} MiB with them, {without / MIB:.0f} MiB without"
    )
    assert relisted
    assert with_them - without < SPARE_BYTES


def peak(built, operator, tenant):
    """The most bytes that a new operator held: at start, while running, and at a relist.

    And whether it listed again.
    """
    operator.start(RESYNC_SECONDS="2", VAULT_POLL_SECONDS="1")
    try:
        wait(lambda: not built.unsynced(), "all Secrets", timeout_seconds=300, last=operator.log)
        tenant.touch()
        rotate(built)
        lists = listed(built)
        tenant.restart_api_server()
        wait(lambda: listed(built) > lists, "a list after the restart", timeout_seconds=120)
        rotate(built)
        time.sleep(5)
        return operator.most_resident_bytes(), listed(built) > lists
    finally:
        operator.stop()


def rotate(built):
    """Write a key of Vault, and wait until it is in its Secret."""
    path = built.paths[0]
    place = built.secret_of(path)
    value = base64.b64encode(built.write(path).encode()).decode()

    def arrived():
        found = built.objects.get(kinds.SECRET, *place)
        return found["data"][arrivals.KEY] == value

    wait(arrived, "a new value", timeout_seconds=120)


def listed(built):
    """How many lists of ConfigMaps the operator has asked for."""
    return built.api_asked().counts.get("list configmaps", 0)


class Tenant:
    """Writes what a tenant may, into a namespace that has policies."""

    def __init__(self, built, count):
        self._built = built
        self._numbers = range(count)
        self._policies = range(count // 5)
        self._api = api_server.ApiServer(f"estate-{os.getpid()}")
        owner = built.objects.get(kinds.POLICY, *built.policies[0])["metadata"]
        self._owner = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": owner["name"],
            "uid": owner["uid"],
        }
        self._labels = {
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_POLICY: owner["name"],
            names.LABEL_INJECTED: owner["name"],
            names.LABEL_INJECTION: "enabled",
        }

    def restart_api_server(self):
        self._api.stop()
        self._api.start()

    def write_policies(self):
        """Policies of the tenant's own are there in either run: without annotations at first."""
        _all(lambda number: self._create(kinds.POLICY, self._policy(number)), self._policies)

    def write_all(self):
        _all(self._write, self._numbers)
        annotate = self._built.objects.annotate
        _all(lambda number: annotate(kinds.POLICY, TENANT, f"own-{number}", LARGE), self._policies)

    def touch(self):
        """Change some of each kind while the operator watches."""
        for number in self._numbers[:TOUCHED]:
            for kind, name in (
                (kinds.CONFIG_MAP, f"data-{number}"),
                (kinds.SECRET, f"data-{number}"),
                (kinds.CONFIG_MAP, f"notes-{number}"),
                (kinds.SECRET, f"notes-{number}"),
                (kinds.POD, f"notes-{number}"),
                (kinds.POLICY, f"own-{number}"),
            ):
                self._built.objects.annotate(kind, TENANT, name, {"touched": str(time.time())})
            self._built.objects.annotate(
                kinds.NAMESPACE, "", f"notes-{number}", {"touched": str(time.time())}
            )

    def _write(self, number):
        data = base64.b64encode(os.urandom(700 * 1024)).decode()
        self._create(kinds.CONFIG_MAP, self._object(f"data-{number}") | {"data": {"a": data}})
        self._create(kinds.SECRET, self._object(f"data-{number}") | {"data": {"a": data}})
        self._create(kinds.CONFIG_MAP, self._object(f"notes-{number}", annotations=LARGE))
        self._create(kinds.SECRET, self._object(f"notes-{number}", annotations=LARGE))
        pod = self._object(f"notes-{number}", annotations=LARGE)
        containers = [{"name": "app", "image": "app:1"}]
        self._create(kinds.POD, pod | {"spec": {"containers": containers}})
        space = self._object(f"notes-{number}", annotations=LARGE)
        del space["metadata"]["ownerReferences"]
        self._built.objects.create(kinds.NAMESPACE, None, space)

    def _object(self, name, **metadata):
        # Those of odd numbers say that a policy owns them.
        is_odd = int(name.rpartition("-")[2]) % 2
        owners = [self._owner] if is_odd else []
        return {
            "metadata": {
                "name": name,
                "labels": self._labels,
                "ownerReferences": owners,
                **metadata,
            }
        }

    def _policy(self, number):
        made = estate.policy(TENANT, f"own-{number}")
        made["spec"] |= {"podSelector": {"matchLabels": {"app": "none"}}, "secrets": []}
        return made

    def _create(self, kind, body):
        self._built.objects.create(kind, TENANT, body)


def _all(do, numbers):
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(do, numbers):
            pass


@pytest.mark.timeout(600)
def test_watches_go_on_after_cuts_and_restart_with_other_history(tmp_path):
    with estate.standing(tmp_path, policies=2, namespaces=1) as (built, operator):
        api = api_server.ApiServer(f"estate-{os.getpid()}")
        operator.start(RESYNC_SECONDS="3600", VAULT_POLL_SECONDS="3600")
        what = (kinds.CONFIG_MAP, built.policies[0][0])
        name = names.document_configmap(built.policies[0][1])
        wait(lambda: built.objects.get(*what, name), "a document", last=operator.log)
        for _ in range(2):
            api.stop()
            api.start()
            built.objects.delete(document(built, what, name))
            wait(lambda: built.objects.get(*what, name), "it put back", last=operator.log)
        # Deleted while the operator hears nothing, and of which no event will ever tell.
        operator.pause()
        built.objects.delete(document(built, what, name))
        api.stop()
        api.start()
        operator.resume()
        wait(lambda: built.objects.get(*what, name), "it put back", last=operator.log)
        assert operator.healthy()


def document(built, what, name):
    found = built.objects.get(*what, name)
    return found | {"kind": "ConfigMap"}
