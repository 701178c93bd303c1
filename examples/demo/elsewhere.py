"""`make demo CLUSTER=current`: the demo on a cluster of the reader's own.

It touches nothing that it did not make: each object that it would create must be absent before,
and `down` removes what carries the label of this demo alone. The kubeconfig is copied for the one
context that was named, so that a later change of the current context changes nothing here.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dev import cluster
from dev.cluster import current
from tests.parts import helm, installation, kubectl

LABEL = "embedding.agenticverz.io/demo"
NAMESPACES = (installation.SYSTEM_NAMESPACE, "platform", "models", "shop")
RELEASE = "embedding-operator"
REVIEWER = "vault-reviewer"
"""The ClusterRoleBinding by which the demo's Vault checks tokens."""
CHART = installation.ROOT / "charts" / "embedding-operator"
RUN = "elsewhere.json"
"""The file of the demo's folder that says which run made what stands in the cluster."""
DEFINITIONS = (
    "embeddingpolicies",
    "embeddingindexes",
    "embeddinginjections",
    "clusterembeddingproviders",
)
GROUP = "embedding.agenticverz.io"


class RefusedError(cluster.Failure):
    """The demo would have to guess, or to touch what it did not make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the environment says; nothing of it is guessed."""

    context: str
    registry: str
    tag: str
    host_address: str


def choice(environment: Mapping[str, str], *, current_context: str) -> Choice:
    """The cluster, the registry and this machine's address for pods.

    Raises:
        RefusedError: one of them is not named, or the context is not the current one.
    """
    context = environment.get("CONTEXT", "")
    if context != current_context:
        raise RefusedError(
            f"CONTEXT={context} is not the current context of the kubeconfig: to run the demo there"
            f" say CONTEXT={current_context or '(none is set)'}"
        )
    for name, meaning in (
        ("CONTEXT", "the kubeconfig has no current context"),
        ("REGISTRY", "the registry that has the images, such as localhost:5001 (`make push`)"),
        (
            "CLUSTER_HOST_ADDRESS",
            "this machine's address for pods, where Redis, Vault and the model of the demo listen",
        ),
    ):
        if not environment.get(name):
            raise RefusedError(f"{name} is not set: {meaning}")
    return Choice(
        context=context,
        registry=environment["REGISTRY"].rstrip("/"),
        tag=environment.get("TAG") or "dev",
        host_address=environment["CLUSTER_HOST_ADDRESS"],
    )


def open_cluster(folder: Path) -> installation.Installation:
    """The named cluster, once nothing of the demo's is somebody else's; its namespaces are made.

    Raises:
        RefusedError: see `choice`; or the cluster has objects that the demo would make.
        current.NoContextError: there is no kubeconfig.
    """
    used = kubectl.Kubectl(current.kubeconfig())
    named = used("config", "view", "--output=jsonpath={.current-context}").strip()
    chosen = choice(os.environ, current_context=named)
    folder.mkdir(parents=True, exist_ok=True)
    pinned = folder / "kubeconfig"
    text = used("config", "view", "--minify", "--flatten", f"--context={chosen.context}")
    pinned.touch(mode=0o600)
    pinned.write_text(text, encoding="utf-8")
    there = replace(cluster.up(form="node"), kubeconfig=pinned, host_address=chosen.host_address)
    run = _run_of(folder)
    product = installation.Installation(there, folder, registry=chosen.registry, tag=chosen.tag)
    if found := foreign(product, run):
        raise RefusedError(
            f"the cluster of {chosen.context} has what the demo would make, and the demo did not"
            f" make it: {', '.join(found)}"
        )
    for name in NAMESPACES:
        if not product.kubectl("get", "namespace", name, "--ignore-not-found").strip():
            _create(product.kubectl, "v1", "Namespace", name, run)
    return product


def foreign(product: installation.Installation, run: str) -> list[str]:
    """The objects that the demo would make and that stand there without its label."""
    rendered = product.helm(
        *("template", RELEASE, str(CHART), "--namespace", installation.SYSTEM_NAMESPACE),
        *("--values", "-"),
        stdin=json.dumps(product.values()),
    )
    ours = [
        *({"kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES),
        {"kind": "ClusterRoleBinding", "metadata": {"name": REVIEWER}},
        *(it for it in yaml.safe_load_all(rendered) if it),
    ]
    of_run = _labelled(product.kubectl, "namespaces", run)
    released = f"namespace/{installation.SYSTEM_NAMESPACE}" in of_run
    found = []
    for wanted in ours:
        kind, name = wanted["kind"].lower(), wanted["metadata"]["name"]
        if "namespace" in wanted["metadata"]:
            continue  # in a namespace of the demo's own
        seen = product.kubectl(
            "get", kind, name, "--ignore-not-found", "--output=json", "--show-managed-fields=false"
        )
        metadata = json.loads(seen)["metadata"] if seen.strip() else {}
        if not metadata or (metadata.get("labels") or {}).get(LABEL) == run:
            continue
        if released and _is_of_release(metadata):
            continue
        found.append(f"{kind}/{name}")
    return found


def mark(product: installation.Installation) -> None:
    """Label what stands outside the demo's namespaces, so that `remove` knows it again."""
    run = _run_of(product.parts.folder)
    names = [f"customresourcedefinition/{it}.{GROUP}" for it in DEFINITIONS]
    product.kubectl("label", "--overwrite", *names, f"{LABEL}={run}")


def mark_reviewer(product: installation.Installation) -> None:
    """As `mark`, for the binding of the demo's Vault."""
    run = _run_of(product.parts.folder)
    product.kubectl("label", "--overwrite", f"clusterrolebinding/{REVIEWER}", f"{LABEL}={run}")


def is_up(folder: Path) -> bool:
    """True if a demo of this folder stands in a cluster of the reader's own."""
    return (folder / RUN).exists()


def remove(folder: Path) -> list[str]:
    """Remove from the cluster what this demo made; what is left there, in words."""
    asked = kubectl.Kubectl(folder / "kubeconfig")
    run = _run_of(folder)
    own = [it.partition("/")[2] for it in _labelled(asked, "namespaces", run)]
    left: list[str] = []
    # The operator ends last, so that what it owns is gone by then.
    for name in own:
        if name != installation.SYSTEM_NAMESPACE:
            asked("delete", "namespace", name, "--wait", "--timeout=120s", timeout=180)
    if installation.SYSTEM_NAMESPACE in own:
        charts = helm.Helm(folder / "kubeconfig")
        where = ("--namespace", installation.SYSTEM_NAMESPACE)
        charts("uninstall", RELEASE, *where, "--ignore-not-found", "--wait")
        asked("delete", "namespace", installation.SYSTEM_NAMESPACE, "--wait", "--timeout=120s")
    for definition in _labelled(asked, "customresourcedefinitions", run):
        name = definition.partition("/")[2]
        if asked("get", name, "--all-namespaces", "--output=name").strip():
            left.append(f"{name}, as there are objects of it that the demo did not make")
        else:
            asked("delete", "customresourcedefinition", name)
    for binding in _labelled(asked, "clusterrolebindings", run):
        asked("delete", "clusterrolebinding", binding.partition("/")[2])
    return left


def _create(asked: kubectl.Kubectl, version: str, kind: str, name: str, run: str) -> None:
    """Create, which fails where somebody was faster; apply would take theirs over."""
    made: dict[str, Any] = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": {LABEL: run}},
    }
    asked("create", "-f", "-", stdin=json.dumps(made))


def _labelled(asked: kubectl.Kubectl, plural: str, run: str) -> list[str]:
    said = asked("get", plural, f"--selector={LABEL}={run}", "--output=name")
    return said.split()


def _is_of_release(metadata: Mapping[str, Any]) -> bool:
    annotations = metadata.get("annotations") or {}
    wanted = (RELEASE, installation.SYSTEM_NAMESPACE)
    found = tuple(annotations.get(f"meta.helm.sh/release-{it}") for it in ("name", "namespace"))
    return found == wanted


def _run_of(folder: Path) -> str:
    file = folder / RUN
    if not file.exists():
        file.write_text(json.dumps({"run": secrets.token_hex(8)}), encoding="utf-8")
    found: str = json.loads(file.read_text(encoding="utf-8"))["run"]
    return found
