"""A real API server asks the operator about pods, through a certificate that it made itself."""

import json
import os
import ssl
import sys
import time
import urllib.request

import pytest
import yaml

from embedding_contract import names
from embedding_operator import skipped_pods
from tests.parts import daemons, kubectl, ports
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

SYSTEM = "webhook-system"
CONFIGURATION = "webhook-test"
CONTAINER = {"name": "app", "image": "registry.example/app:1"}
UNVERIFIED = ssl._create_unverified_context()


class Operator:
    """`embedding-operator run` with a webhook. The API server finds it by a Service.

    It has an account of its own, whose requests are in the audit log.
    """

    def __init__(self, api_server, folder):
        self._daemons = daemons.Daemons(folder)
        self.webhook_port, health_port, metrics_port = (ports.free() for _ in range(3))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(account(api_server, folder)),
            "OPERATOR_NAMESPACE": SYSTEM,
            "WEBHOOK_CONFIGURATION": CONFIGURATION,
            "WEBHOOK_SERVICE": "webhook",
            "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder / "certificate"),
            "WEBHOOK_PORT": str(self.webhook_port),
            "HEALTH_PORT": str(health_port),
            "METRICS_PORT": str(metrics_port),
        }

    def start(self):
        command = [sys.executable, "-m", "embedding_operator", "run"]
        ready = daemons.answers("127.0.0.1", self.webhook_port)
        self._daemons.start("operator", command, ready=ready, environment=self._environment)

    def stop(self):
        self._daemons.stop()

    def review(self, pod, *, namespace):
        """Ask as an API server does, or whoever else."""
        review = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "r",
                "operation": "CREATE",
                "namespace": namespace,
                "userInfo": {},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "object": pod,
            },
        }
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.webhook_port}/inject", data=json.dumps(review).encode()
        )
        with urllib.request.urlopen(request, context=UNVERIFIED, timeout=10) as answer:
            return json.load(answer)

    def log(self):
        return self._daemons.log("operator").read_text(encoding="utf-8")


def account(api_server, folder):
    """The kubeconfig of a ServiceAccount that may do everything."""
    api_server.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "operator", "namespace": SYSTEM},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": SYSTEM},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": SYSTEM}],
        },
    )
    token = api_server("create", "token", "operator", "-n", SYSTEM).strip()
    config = yaml.safe_load(api_server.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def reads(api_server):
    """How often the operator has read what a review could ask for."""
    log = api_server.kubeconfig.parent / "log" / "audit.log"
    entries = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return sum(
        entry["user"]["username"] == f"system:serviceaccount:{SYSTEM}:operator"
        and entry["verb"] in {"get", "list"}
        and entry.get("objectRef", {}).get("resource", "version")
        in {"version", "namespaces", names.PLURAL, "pods"}
        for entry in entries
    )


def configuration(port):
    """As the chart has it; the name of this machine stands in for a Service's pods."""
    service = {"name": "webhook", "namespace": SYSTEM, "path": "/inject", "port": port}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [
            {
                "name": "inject.embedding.agenticverz.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": service},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {names.LABEL_INJECTION: "enabled"}},
                "failurePolicy": "Ignore",
                "timeoutSeconds": 3,
                "reinvocationPolicy": "IfNeeded",
                "sideEffects": "NoneOnDryRun",
            }
        ],
    }


@pytest.fixture(scope="module")
def operator(api_server, tmp_path_factory):
    running = Operator(api_server, tmp_path_factory.mktemp("operator"))
    port = running.webhook_port
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "webhook", "namespace": SYSTEM},
            "spec": {
                "type": "ExternalName",
                "externalName": "localhost",
                "ports": [{"port": port}],
            },
        },
        configuration(port),
    )
    running.start()
    trusted = ("get", "mutatingwebhookconfiguration", CONFIGURATION, "-o", "yaml")
    wait(lambda: "caBundle" in api_server(*trusted), "a trusted authority", last=running.log)
    yield running
    running.stop()
    api_server("delete", "mutatingwebhookconfiguration", CONFIGURATION)


@pytest.fixture
def shop(api_server, namespace, operator):
    """A namespace that is enabled, with a policy for all of its pods."""
    api_server("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        },
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": namespace},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "local",
                        "type": "OpenAICompatible",
                        "model": "e5",
                        "baseURL": "http://model.example/v1",
                    }
                ],
            },
        },
    )
    return namespace


def create(api_server, namespace, *, metadata=None, options=(), **spec):
    """A bare pod, as the API server answers `kubectl create`."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "bare-", "namespace": namespace, **(metadata or {})},
        "spec": {"containers": [CONTAINER], **spec},
    }
    command = ("create", "-f", "-", "-o", "json", *options)
    return json.loads(api_server(*command, stdin=json.dumps(pod)))


def deploy(api_server, namespace, **spec):
    labels = {"app": "search"}
    api_server.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "search", "namespace": namespace},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [CONTAINER], **spec},
                },
            },
        }
    )


def sidecars(pod):
    return [
        c["name"] for c in pod["spec"].get("initContainers", []) if c["name"] == names.CONTAINER
    ]


def test_a_bare_pod_gets_the_sidecar(api_server, shop):
    pod = create(api_server, shop)
    assert sidecars(pod) == [names.CONTAINER]
    assert pod["metadata"]["labels"][names.LABEL_INJECTED] == "search"


def test_pods_that_a_controller_makes_get_it_too(api_server, shop):
    deploy(api_server, shop)

    def pods():
        return api_server.get("pods", "-n", shop, "-l", "app=search")["items"]

    wait(lambda: len(pods()) == 2, "two pods")
    assert [sidecars(pod) for pod in pods()] == [[names.CONTAINER]] * 2


def test_a_namespace_that_is_not_enabled_is_left_alone(api_server, namespace, operator):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
    )
    assert sidecars(create(api_server, namespace)) == []


def test_who_applies_a_pod_that_gets_none_is_told_why(api_server, shop):
    with pytest.raises(kubectl.KubectlError, match=r"Warning: .*'serach'.* is not in this"):
        create(
            api_server,
            shop,
            metadata={"labels": {names.LABEL_POLICY: "serach"}},
            options=("--warnings-as-errors",),
        )


def test_a_dry_run_shows_the_sidecar(api_server, shop):
    assert sidecars(create(api_server, shop, options=("--dry-run=server",))) == [names.CONTAINER]


def events(api_server, namespace):
    """Kind and reason of those about pods without sidecar, and the message."""
    found = api_server.get("events", "-n", namespace)["items"]
    return [
        (it["involvedObject"]["kind"], it["reason"], it["message"])
        for it in found
        if it["reason"].startswith("EmbeddingSidecar")
    ]


def test_event_of_the_policy_says_which_controllers_pods_get_none_and_why(api_server, shop):
    deploy(api_server, shop, hostNetwork=True)

    def told():
        return [
            message
            for kind, reason, message in events(api_server, shop)
            if (kind, reason) == (names.KIND, "EmbeddingSidecarHostNetwork")
        ]

    wait(told, "an event", last=lambda: events(api_server, shop))
    assert told()[0].startswith("ReplicaSet search-")


def test_a_policy_that_is_asked_for_and_not_there_is_told_of_the_namespace(api_server, shop):
    create(api_server, shop, metadata={"labels": {names.LABEL_POLICY: "serach"}})

    def told():
        return [it[:2] for it in events(api_server, shop)]

    wait(lambda: ("Namespace", "EmbeddingSidecarPolicyNotFound") in told(), "an event", last=told)


def test_forged_reviews_make_no_event_about_what_is_not_there(api_server, shop, operator):
    """D7: any pod may send reviews, that name whatever it likes."""
    for number in range(150):
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True, "uid": "u"}
        pod = {
            "metadata": {
                "generateName": "x-",
                "namespace": shop,
                "ownerReferences": [owner | {"name": f"forged-{number}"}],
            },
            "spec": {"containers": [CONTAINER], "hostNetwork": True},
        }
        assert operator.review(pod, namespace=shop)["response"]["allowed"]
    wait(lambda: events(api_server, shop), "an event")
    time.sleep(1)  # what would be written more
    found = events(api_server, shop)
    assert {kind for kind, _, _ in found} == {names.KIND}
    assert len(found) <= skipped_pods.MOST_OF_A_NAMESPACE


def test_a_review_reads_nothing_of_the_api_server(api_server, shop, operator):
    pod = {"metadata": {"generateName": "x-"}, "spec": {"containers": [CONTAINER]}}
    operator.review(pod | {"metadata": {"namespace": shop}}, namespace=shop)
    before = reads(api_server)
    assert before
    for _ in range(50):
        operator.review(pod | {"metadata": {"namespace": shop}}, namespace=shop)
    assert reads(api_server) - before == 0


def test_without_the_operator_pods_start_and_with_it_again_they_are_covered(
    api_server, shop, operator
):
    operator.stop()
    try:
        assert sidecars(create(api_server, shop)) == []
    finally:
        operator.start()
    assert sidecars(create(api_server, shop)) == [names.CONTAINER]


def test_no_answer_was_a_failure(api_server, shop, operator):
    create(api_server, shop)
    assert "is created without a sidecar" not in operator.log()
    assert "Traceback" not in operator.log()
