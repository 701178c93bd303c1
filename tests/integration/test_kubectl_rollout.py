"""`kubectl embedding rollout` on a real API server with real controllers, and no node."""

import subprocess

import pytest
import yaml

from embedding_contract import names
from tests.integration.test_kubectl_plugin import Plugin
from tests.integration.test_synced_secrets import PROVIDER
from tests.parts import reconciling
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

LABELS = {"app": "search"}


def template(name, *, injected):
    """With the sidecar in the template, a dry run gives a pod with it, as injection does."""
    pod = {
        "metadata": {"labels": {**LABELS, "name": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "app:1"}],
        },
    }
    return reconciling.injected(pod, policy="search") if injected else pod


def workload(namespace, name, *, kind="Deployment", injected=True, **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"name": name}},
            "template": template(name, injected=injected),
            **spec,
        },
    }


class Shop:
    def __init__(self, user, namespace, plugin):
        self.user = user
        self.namespace = namespace
        self.plugin = plugin

    def rollout(self, *arguments, code=0):
        return self.plugin("embedding", "rollout", "-n", self.namespace, *arguments, code=code)

    def start(self, made):
        """A workload whose pod is there; its sidecar, if it has one, is an older one then."""
        self.user.apply(made)
        name = f"{made['metadata']['name']}-"

        def pods():
            found = self.user.get("pods", "-n", self.namespace)["items"]
            return [
                it["metadata"]["name"] for it in found if it["metadata"]["name"].startswith(name)
            ]

        wait(lambda: len(pods()) == 1, f"a pod of {name}")
        older = f"{names.ANNOTATION_SIDECAR_HASH}=0123456789abcdef.01234567"
        self.user("annotate", "pod", *pods(), "-n", self.namespace, "--overwrite", older)

        def is_counted():
            status = self.user.get(made["kind"], name[:-1], "-n", self.namespace).get("status", {})
            return status.get("updatedReplicas") == 1

        wait(is_counted, f"the status of {name}")

    def bare(self, name):
        pod = template(name, injected=False)
        metadata = {**pod["metadata"], "name": name, "namespace": self.namespace}
        self.user.apply({**pod, "apiVersion": "v1", "kind": "Pod", "metadata": metadata})

    def restarted(self, name, kind="deployment"):
        found = self.user.get(kind, name, "-n", self.namespace)
        annotations = found["spec"]["template"]["metadata"].get("annotations") or {}
        return "kubectl.kubernetes.io/restartedAt" in annotations


@pytest.fixture
def shop(api_server, namespace, tmp_path):
    reconciling.wait_for_default_account(api_server, namespace)
    api_server("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    api_server.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": LABELS}, "providers": [PROVIDER]},
        }
    )
    return Shop(api_server, namespace, Plugin(api_server.kubeconfig, tmp_path))


def test_look_shows_all_and_restarts_nothing(shop):
    shop.start(workload(shop.namespace, "web"))
    shop.start(workload(shop.namespace, "db", kind="StatefulSet", serviceName="db"))
    shop.start(workload(shop.namespace, "paused"))
    shop.user("rollout", "pause", "deployment/paused", "-n", shop.namespace)
    shop.start(workload(shop.namespace, "late", injected=False))
    shop.bare("alone")
    lines = shop.rollout("--dry-run").splitlines()
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert said["Deployment/web"] == (
        "1/1 1 older sidecar restart: rolling, maxUnavailable 25%, maxSurge 25%"
    )
    assert said["StatefulSet/db"] == "1/1 1 older sidecar restart: one pod after another"
    assert "kubectl rollout resume deployment/paused" in said["Deployment/paused"]
    assert "would get no sidecar: the operator does not answer" in said["Deployment/late"]
    assert "delete and create it anew" in said["Pod/alone"]
    assert not shop.restarted("web")


def test_restart_needs_yes_and_touches_those_only_that_it_helps(shop):
    shop.start(workload(shop.namespace, "web"))
    shop.start(workload(shop.namespace, "late", injected=False))
    before = shop.user.get("deployment", "web", "-n", shop.namespace)
    assert "Nothing is restarted." in shop.rollout(code=1)
    assert not shop.restarted("web")
    assert "deployment/web restarted" in shop.rollout("search", "--yes")
    after = shop.user.get("deployment", "web", "-n", shop.namespace)
    assert shop.restarted("web")
    assert not shop.restarted("late")
    del after["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"]
    assert after["spec"] == before["spec"]
    # The old pod stays until the new one runs.
    assert "being replaced already" in shop.rollout("--yes")


def test_answer_yes_restarts(shop):
    shop.start(workload(shop.namespace, "web"))
    done = subprocess.run(
        ["kubectl", "embedding", "rollout", "-n", shop.namespace],
        env=shop.plugin.environment,
        input="y\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Restart this workload? [y/N] " in done.stdout
    assert shop.restarted("web")


def test_role_edit_is_enough(shop, api_server, tmp_path):
    shop.start(workload(shop.namespace, "web"))
    where = ("-n", shop.namespace)
    shop.user("create", "serviceaccount", "dev", *where)
    account = f"--serviceaccount={shop.namespace}:dev"
    shop.user("create", "rolebinding", "dev", "--clusterrole=edit", account, *where)
    # The chart aggregates it to the role edit.
    shop.user("create", "role", "read", "--verb=get,list", "--resource=embeddingpolicies", *where)
    shop.user("create", "rolebinding", "read", "--role=read", account, *where)
    config = yaml.safe_load(api_server.kubeconfig.read_text(encoding="utf-8"))
    token = shop.user("create", "token", "dev", *where).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    shop.plugin = Plugin(file, tmp_path)
    assert "deployment/web restarted" in shop.rollout("--yes")
    assert shop.restarted("web")


def test_pod_that_is_refused_is_reason_to_restart_nothing(shop):
    shop.start(workload(shop.namespace, "web"))
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    shop.user("label", "namespace", shop.namespace, restricted)
    said = shop.rollout("--yes")
    assert "the API server refuses a new pod: " in said
    assert not shop.restarted("web")


def test_namespace_without_late_pods_is_said(shop):
    assert shop.rollout() == "All selected pods have today's sidecar.\n"
    assert "there is no EmbeddingPolicy other" in shop.rollout("other", code=2)
    shop.user("label", "namespace", shop.namespace, f"{names.LABEL_INJECTION}-")
    assert f"has no label {names.LABEL_INJECTION}=enabled" in shop.rollout(code=2)
