"""The Prometheus operator with a Prometheus on a node, from images made here.

All are built from their Go modules: Debian's Prometheus is compiled without discovery of Kubernetes
targets.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any, Final

from dev import cluster
from dev.cluster import images
from tests.parts import kubectl

NAMESPACE: Final = "monitoring"
URL: Final = f"http://prometheus-operated.{NAMESPACE}.svc.cluster.local:9090"
OPERATOR_IMAGE: Final = "localhost/prometheus-operator:1"
PROMETHEUS_IMAGE: Final = "localhost/prometheus:1"
_OPERATOR_DOCKERFILE: Final = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY operator /bin/operator
COPY prometheus-config-reloader /bin/prometheus-config-reloader
USER 65534
ENTRYPOINT ["/bin/operator"]
"""
_PROMETHEUS_DOCKERFILE: Final = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY prometheus /bin/prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
"""
_VERSION: Final = "v3.5.0"
"""The newest that this operator knows, by which it chooses arguments; the program is newer."""
_SECURITY: Final = {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534}

Object = dict[str, Any]


def install(asked: kubectl.Kubectl, *, node: str, folder: Path) -> None:
    """Bring all of it onto a node, and wait until Prometheus answers."""
    for archive in _images(folder):
        images.load(archive, name=node)
    for file in sorted(cluster.artifact("prometheus-operator-crds").glob("*.yaml")):
        asked.define(file)
    asked.apply(_object("v1", "Namespace", NAMESPACE, namespaced=False))
    asked.apply(*_operator(), *_account("prometheus", _SCRAPES))
    asked("rollout", "status", "deployment/prometheus-operator", "-n", NAMESPACE, "--timeout=120s")
    asked.apply(prometheus())
    asked(
        *("wait", "--for=condition=Available", "prometheus/main", "-n", NAMESPACE),
        "--timeout=180s",
        timeout=200,
    )


def remove(asked: kubectl.Kubectl) -> None:
    """Delete all of it but its kinds."""
    asked("delete", "namespace", NAMESPACE, timeout=180)


def stop_operator(asked: kubectl.Kubectl) -> None:
    """End the Prometheus operator, which would mend what is broken by hand; wait for its end."""
    asked("scale", "deployment/prometheus-operator", "-n", NAMESPACE, "--replicas=0")
    asked(
        *("wait", "--for=delete", "pod", "-l", "app=prometheus-operator", "-n", NAMESPACE),
        "--timeout=90s",
    )


def delete_rules(asked: kubectl.Kubectl) -> None:
    """Delete the ConfigMap of rule files that the Prometheus operator wrote.

    One without a file takes its place: where a ConfigMap is only gone, a running Prometheus was
    seen to go on with the rules that it had.
    """
    asked("delete", "configmap", "prometheus-main-rulefiles-0", "-n", NAMESPACE)
    asked("create", "configmap", "prometheus-main-rulefiles-0", "-n", NAMESPACE)


def stop_prometheus(asked: kubectl.Kubectl) -> None:
    """End Prometheus, whose operator has ended; wait for its end."""
    asked("scale", "statefulset/prometheus-main", "-n", NAMESPACE, "--replicas=0")
    asked("wait", "--for=delete", "pod/prometheus-main-0", "-n", NAMESPACE, "--timeout=90s")


def groups(asked: kubectl.Kubectl) -> set[str]:
    """The names of the rule groups that Prometheus itself lists."""
    service = f"/api/v1/namespaces/{NAMESPACE}/services/prometheus-operated:web"
    answer = json.loads(asked("get", "--raw", f"{service}/proxy/api/v1/rules"))
    return {it["name"] for it in answer["data"]["groups"]}


def refresh_volumes(asked: kubectl.Kubectl) -> None:
    """Make kubelet write the pod's ConfigMaps now: it does so whenever the pod changes."""
    asked(
        *("annotate", "pod", "prometheus-main-0", "-n", NAMESPACE, "--overwrite"),
        f"refreshed={time.monotonic_ns()}",
    )


def prometheus(*, rule_selector: Object | None = None) -> Object:
    """The Prometheus; it takes every rule unless a selector says otherwise."""
    everything: Object = {}
    made = _object("monitoring.coreos.com/v1", "Prometheus", "main")
    made["spec"] = {
        "image": PROMETHEUS_IMAGE,
        "imagePullPolicy": "Never",
        "version": _VERSION,
        "replicas": 1,
        "serviceAccountName": "prometheus",
        "ruleSelector": everything if rule_selector is None else rule_selector,
        "ruleNamespaceSelector": everything,
        "podMonitorSelector": everything,
        "podMonitorNamespaceSelector": everything,
        "scrapeInterval": "5s",
        "securityContext": _SECURITY,
    }
    return made


def _images(folder: Path) -> list[Path]:
    programs = {
        "operator": cluster.artifact("prometheus-operator"),
        "prometheus-config-reloader": cluster.artifact("prometheus-config-reloader"),
        "prometheus": cluster.artifact("prometheus"),
    }
    context = folder / "context"
    context.mkdir(parents=True)
    for name, program in programs.items():
        shutil.copyfile(program, context / name)
        (context / name).chmod(0o755)
    made = []
    for image, text in (
        (OPERATOR_IMAGE, _OPERATOR_DOCKERFILE),
        (PROMETHEUS_IMAGE, _PROMETHEUS_DOCKERFILE),
    ):
        dockerfile = folder / f"{image.rpartition('/')[2].replace(':', '-')}.Dockerfile"
        dockerfile.write_text(text, encoding="utf-8")
        made.append(images.build(image, file=dockerfile, context=context))
    return made


_EVERYTHING: Final = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
_SCRAPES: Final = [
    {
        "apiGroups": [""],
        "resources": ["pods", "services", "endpoints"],
        "verbs": ["get", "list", "watch"],
    }
]


def _operator() -> list[Object]:
    labels = {"app": "prometheus-operator"}
    deployment = _object("apps/v1", "Deployment", "prometheus-operator")
    container = {
        "name": "operator",
        "image": OPERATOR_IMAGE,
        "imagePullPolicy": "Never",
        "args": [f"--prometheus-config-reloader={OPERATOR_IMAGE}"],
    }
    deployment["spec"] = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"serviceAccountName": "prometheus-operator", "containers": [container]},
        },
    }
    return [*_account("prometheus-operator", _EVERYTHING), deployment]


def _account(name: str, rules: list[Object]) -> list[Object]:
    role = _object("rbac.authorization.k8s.io/v1", "ClusterRole", name, namespaced=False)
    binding = _object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", name, namespaced=False)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
    return [
        _object("v1", "ServiceAccount", name),
        {**role, "rules": rules},
        {**binding, "roleRef": reference, "subjects": [subject]},
    ]


def _object(version: str, kind: str, name: str, *, namespaced: bool = True) -> Object:
    metadata = {"name": name, **({"namespace": NAMESPACE} if namespaced else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
