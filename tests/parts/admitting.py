"""The operator's webhook beside an API server on this machine, which asks it by a Service."""

import json
import os
import ssl
import sys
import urllib.request
from typing import Any

from embedding_contract import names
from tests.parts import daemons, kubectl, policies, ports, shipped_roles
from tests.parts.installation import SYSTEM_NAMESPACE

SYSTEM = SYSTEM_NAMESPACE
USER = shipped_roles.USER
"""The operator's name to the API server."""
CONFIGURATION = shipped_roles.CONFIGURATION
CONTAINER = {"name": "app", "image": "registry.example/app:1"}
UNVERIFIED = ssl._create_unverified_context()


class Operator:
    """`embedding-operator run` with a webhook. The API server finds it by a Service.

    It has the chart's account, whose requests are in the audit log.
    """

    def __init__(self, api_server, folder):
        self._daemons = daemons.Daemons(folder)
        self.webhook_port, health_port, metrics_port = (ports.free() for _ in range(3))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(shipped_roles.kubeconfig(api_server, folder)),
            "OPERATOR_NAMESPACE": SYSTEM,
            # As in operating.py.
            "LEADER_ELECTION": "false",
            "WEBHOOK_CONFIGURATION": CONFIGURATION,
            "WEBHOOK_SERVICE": "webhook",
            "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder / "certificate"),
            "WEBHOOK_PORT": str(self.webhook_port),
            "HEALTH_PORT": str(health_port),
            "METRICS_PORT": str(metrics_port),
        }

    def start(self, **settings):
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "embedding_operator", "run"]
        ready = daemons.answers("127.0.0.1", self.webhook_port)
        self._daemons.start(
            "operator", command, ready=ready, environment=self._environment | settings
        )

    def stop(self):
        self._daemons.stop()

    def review(self, pod, *, namespace):
        """Ask as an API server does, or whoever else."""
        return review(self.webhook_port, pod, namespace=namespace)

    def log(self):
        return self._daemons.log("operator").read_text(encoding="utf-8")


def review_of(pod, *, namespace):
    """What an API server asks about a new pod."""
    return {
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


def review(port, pod, *, namespace):
    """Ask the webhook on a port as an API server does, or whoever else; its answer."""
    made = review_of(pod, namespace=namespace)
    url = f"https://127.0.0.1:{port}/inject"
    request = urllib.request.Request(url, data=json.dumps(made).encode())
    with urllib.request.urlopen(request, context=UNVERIFIED, timeout=10) as answer:
        return json.load(answer)


def configuration(port: int) -> dict[str, Any]:
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


def service(port: int) -> dict[str, Any]:
    """The Service of the webhook; the name of this machine stands in for pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "webhook", "namespace": SYSTEM},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }


def lead(asked: kubectl.Kubectl, port: int) -> None:
    """Have the API server ask at this port."""
    asked.apply(service(port), configuration(port))


def is_trusted(asked: kubectl.Kubectl) -> bool:
    """True when the API server knows the authority of the operator's certificate."""
    found = asked("get", "mutatingwebhookconfiguration", CONFIGURATION, "-o", "yaml")
    return "caBundle" in found


def open_shop(asked: kubectl.Kubectl, namespace: str) -> None:
    """Enable a namespace, with a policy for all of its pods."""
    asked("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    asked.apply(
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
                "providers": [policies.LOCAL],
            },
        },
    )


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


def sidecars(pod):
    return [
        c["name"] for c in pod["spec"].get("initContainers", []) if c["name"] == names.CONTAINER
    ]
