"""Pods start in namespaces that bound them: LimitRange, ResourceQuota, restricted, a private image.

field.md, C4 and C7: pods were Forbidden or hung with the sidecar that are created without it.
"""

import json

import pytest

from dev.cluster import images, node, records
from embedding_contract import names
from tests.parts import installation, policies, registry
from tests.parts.installation import wait

pytestmark = pytest.mark.node

PORT = 5001
PULL_SECRET = "registry"
LIMITS = {"cpu": "100m", "memory": "128Mi"}


@pytest.fixture
def team(installed, request):
    """A restricted, enabled namespace with a policy, named after its test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].rstrip("-")
    installed.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    names.LABEL_INJECTION: "enabled",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            },
        }
    )
    installed.kubectl.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": name},
            "spec": {
                "podSelector": {},
                "providers": [
                    policies.compatible("local", model="e5", baseURL="http://primary.models.svc/v1")
                ],
            },
        }
    )
    yield name
    installed.kubectl("delete", "namespace", name, "--wait=false")


def create(installed, namespace, name):
    """The example's application as a pod with requests and limits of its own."""
    pod = installation.application_pod(name, namespace=namespace, labels={"app": name})
    (container,) = pod["spec"]["containers"]
    requests = {"cpu": "50m", "memory": "128Mi"}
    container["resources"] = {"requests": requests, "limits": LIMITS}
    installed.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    return installed.kubectl.get("pod", name, "-n", namespace)


def sidecar_of(pod):
    found = [it for it in pod["spec"].get("initContainers", ()) if it["name"] == names.CONTAINER]
    return found[0] if found else None


def ready(installed, namespace, name):
    installed.kubectl(
        "wait", f"pod/{name}", "-n", namespace, "--for=condition=Ready", "--timeout=90s"
    )


def said(installed, namespace, condition="PodsCovered"):
    status = installed.kubectl.get("embpol", "search", "-n", namespace).get("status", {})
    return installation.Installation.condition(status, condition)


def dry_run_has(installed, namespace, check):
    """Until the operator has seen the bounds."""

    def tried():
        pod = installation.application_pod("tried", namespace=namespace, labels={"app": "t"})
        pod["spec"]["containers"][0]["resources"] = {"limits": LIMITS}
        command = ("create", "--dry-run=server", "-o", "json", "-f", "-")
        return check(sidecar_of(json.loads(installed.kubectl(*command, stdin=json.dumps(pod)))))

    wait(tried, "the operator's watch")


def test_pod_runs_with_sidecar_within_limit_range(installed, team):
    item = {
        "type": "Container",
        "max": {"cpu": "250m", "memory": "256Mi"},
        "maxLimitRequestRatio": {"cpu": "10"},
    }
    installed.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "bounds", "namespace": team},
            "spec": {"limits": [item]},
        }
    )
    dry_run_has(installed, team, lambda it: it and it["resources"]["limits"]["cpu"] == "250m")
    pod = create(installed, team, "within")
    assert sidecar_of(pod)["resources"]["limits"]["cpu"] == "250m"
    ready(installed, team, "within")
    wait(lambda: said(installed, team).get("status") == "True", "a covered pod")


def test_pod_runs_without_sidecar_where_quota_is_used_up(installed, team):
    installed.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "team", "namespace": team},
            "spec": {"hard": {"limits.memory": "200Mi"}},
        }
    )
    dry_run_has(installed, team, lambda it: it is None)
    assert sidecar_of(create(installed, team, "without")) is None
    ready(installed, team, "without")
    wait(
        lambda: "without (ResourceQuota)" in said(installed, team).get("message", ""),
        "the pod in the status",
        last=lambda: said(installed, team),
    )


@pytest.fixture
def private(installed, tmp_path_factory):
    """The sidecar's image in a registry that wants a login, as the chart's values say."""
    running = registry.Registry(
        tmp_path_factory.mktemp("registry"),
        host=installed.node.host_address,
        port=PORT,
        private=True,
    )
    running.start()
    try:
        record = records.load(installed.node.name)
        assert record is not None
        node.allow_plain_http(record, running.address)
        archive = images.build(
            installation.SIDECAR.name,
            file=installation.SIDECAR.dockerfile,
            context=installation.ROOT,
        )
        repository = f"{running.address}/private/embedding-sidecar"
        images.push(
            archive,
            installation.SIDECAR.name,
            to=f"{repository}:dev",
            login=registry.LOGIN,
            plain_http=True,
        )
        installed.install_chart(
            sidecarImage={"repository": repository, "tag": "dev"},
            imagePullSecrets=[{"name": PULL_SECRET}],
        )
        yield running
        installed.install_chart()
    finally:
        running.stop()


def test_pod_pulls_sidecar_from_private_registry(installed, private, team):
    wait(
        lambda: said(installed, team, "PullSecretsFound").get("status") == "False",
        "the missing Secret in the status",
        last=lambda: said(installed, team, "PullSecretsFound"),
    )
    installed.kubectl.apply(private.pull_secret(PULL_SECRET, team))
    pod = create(installed, team, "pulled")
    assert sidecar_of(pod)["image"].startswith(f"{private.address}/private/")
    ready(installed, team, "pulled")
    wait(
        lambda: said(installed, team, "PullSecretsFound").get("status") == "True",
        "the Secret in the status",
        last=lambda: said(installed, team, "PullSecretsFound"),
    )
