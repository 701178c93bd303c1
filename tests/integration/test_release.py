"""The life of a Helm release: an upgrade loses nothing, an uninstall keeps policies."""

import json
import os

import pytest

from dev import cluster
from embedding_contract import names
from embedding_operator.injection import webhook_ca
from tests.parts import policies
from tests.parts.helm import Helm
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE
from tests.parts.kubectl import Kubectl

pytestmark = pytest.mark.cluster

NAME = "embedding-operator"
CONFIGURATION = f"{NAME}.{SYSTEM_NAMESPACE}.{names.GROUP}"
DEFINITION = f"{names.PLURAL}.{names.GROUP}"
AUTHORITY = "QXV0aG9yaXR5"
POLICY = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search", "namespace": "default"},
    "spec": {
        "podSelector": {},
        "providers": [policies.LOCAL],
    },
}


class Release:
    """The chart on an API server that nothing else of ours is on."""

    def __init__(self, kubeconfig):
        self.kubectl = Kubectl(kubeconfig)
        self._helm = Helm(kubeconfig)

    def upgrade(self, **values):
        values = {"injection": {"by": "webhook"}, **values}
        chart = str(ROOT / "charts" / NAME)
        where = ("-n", SYSTEM_NAMESPACE, "--create-namespace", "-f", "-")
        self._helm("upgrade", "--install", NAME, chart, *where, stdin=json.dumps(values))
        self.kubectl.wait_until_served(ROOT / "crds" / "embeddingpolicies.yaml")

    def rollback(self):
        self._helm("rollback", NAME, "-n", SYSTEM_NAMESPACE)

    def uninstall(self):
        self._helm("uninstall", NAME, "-n", SYSTEM_NAMESPACE)

    def exists(self, kind, name):
        return bool(self.kubectl("get", kind, name, "--ignore-not-found", "-o", "name"))

    def webhook(self):
        (found,) = self.kubectl.get("mutatingwebhookconfiguration", CONFIGURATION)["webhooks"]
        return found

    def tell_authority(self):
        """As the operator does it."""
        told = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": CONFIGURATION},
            "webhooks": [{"name": self.webhook()["name"], "clientConfig": {"caBundle": AUTHORITY}}],
        }
        manager = f"--field-manager={webhook_ca.FIELD_MANAGER}"
        self.kubectl("apply", "--server-side", manager, "-f", "-", stdin=json.dumps(told))


@pytest.fixture(scope="module")
def release():
    cluster.down_stale()
    name = f"release-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        yield Release(up.kubeconfig)
    finally:
        cluster.down(name)


@pytest.fixture
def installed(release):
    release.upgrade()
    release.tell_authority()
    yield release
    release.uninstall()


def test_upgrade_or_rollback_leaves_authority_in_webhook(installed):
    installed.upgrade(webhook={"timeoutSeconds": 5})
    assert installed.webhook()["timeoutSeconds"] == 5
    assert installed.webhook()["clientConfig"]["caBundle"] == AUTHORITY
    installed.rollback()
    assert installed.webhook()["timeoutSeconds"] == 3
    assert installed.webhook()["clientConfig"]["caBundle"] == AUTHORITY


def test_uninstall_keeps_policies_and_nothing_that_could_stop_pod(release):
    release.upgrade()
    release.kubectl.apply(POLICY)
    release.uninstall()
    assert release.exists("embpol", "search")
    assert not release.exists("mutatingwebhookconfiguration", CONFIGURATION)
    assert not release.exists("clusterrole", NAME)
    assert not release.exists("clusterrolebinding", NAME)


def test_chart_installs_again_over_policies_left_behind(release):
    release.kubectl.apply(POLICY)
    release.upgrade()
    release.uninstall()
    assert release.exists("embpol", "search")


def test_upgrade_brings_newer_definition(installed):
    older = '[{"op": "remove", "path": "/spec/names/shortNames"}]'
    installed.kubectl("patch", "crd", DEFINITION, "--type=json", "-p", older)
    installed.upgrade(logLevel="debug")
    assert installed.kubectl.get("crd", DEFINITION)["spec"]["names"]["shortNames"]


def test_uninstall_without_keep_removes_policies(release):
    release.upgrade(crds={"keep": False})
    release.kubectl.apply(POLICY)
    release.uninstall()
    release.kubectl("wait", "--for=delete", f"crd/{DEFINITION}", "--timeout=30s")
    assert not release.exists("crd", DEFINITION)
