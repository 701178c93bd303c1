"""The chart's roles for the operator of a test: its account, and what the audit log says of it.

Every operator and every reconcile of the tests acts as this account, so that a right that the chart
does not give fails the test that needs it.
"""

import functools
import json
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import kubernetes
import yaml

from embedding_operator.kube import client
from tests.parts import helm
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE
from tests.parts.kubectl import Kubectl

NAME: Final = "embedding-operator"
USER: Final = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{NAME}"
"""The account's name in the audit log."""
CONFIGURATION: Final = f"{NAME}.{SYSTEM_NAMESPACE}.embedding.agenticverz.io"
"""The webhook configuration that it may change."""
INJECTS: Final = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
"""An API server with this kind can inject by itself."""
TOKEN_TIME: Final = "4h"
_KINDS: Final = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"}
_SOME_NAMESPACE: Final = "some-namespace"
_VALUES: Final = {
    "vault": {"address": "https://vault.example", "serviceAccounts": ["another", "nobody"]},
    "rollouts": {"enabled": True},
    "vectors": {"enabled": True, "namespaces": [_SOME_NAMESPACE]},
}
"""All that gives a right."""

Object = dict[str, Any]
Grant = tuple[str, str, str]
"""API group, resource (and subresource), verb."""


@functools.cache
def _rendered() -> tuple[Object, ...]:
    """The objects with the rights of both ways of injection, as while one replaces the other."""
    found = {_place(it): it for it in _of_way("webhook")}
    for it in _of_way("policy"):
        known = found.setdefault(_place(it), it)
        rules = known.get("rules", [])
        rules += [rule for rule in it.get("rules", ()) if rule not in rules]
    return tuple(found.values())


def _of_way(injected_by: str) -> Iterator[Object]:
    text = helm.Helm()(
        *("template", NAME, str(ROOT / "charts" / NAME), "-n", SYSTEM_NAMESPACE, "-f", "-"),
        f"--api-versions={INJECTS}",
        stdin=json.dumps({**_VALUES, "injection": {"by": injected_by}}),
    )
    yield from (it for it in yaml.safe_load_all(text) if it and it["kind"] in _KINDS)


def _place(it: Object) -> tuple[str, str, str]:
    return it["kind"], it["metadata"].get("namespace", ""), it["metadata"]["name"]


def granted() -> set[Grant]:
    """Each right that the chart gives its operator."""
    return {
        (group, resource, verb)
        for role in _rendered()
        if "Role" in role["kind"] and not _is_for_people(role)
        for rule in role.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def grant(asked: Kubectl) -> None:
    """Give the account its rights on an API server, those in namespaces of indexes aside."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
    asked.apply(
        namespace,
        *(
            it
            for it in _rendered()
            if it["metadata"].get("namespace") != _SOME_NAMESPACE and not _is_for_people(it)
        ),
    )
    AUDIT.follow(asked.kubeconfig.parent / "log")


def grant_in(asked: Kubectl, namespace: str) -> None:
    """Give it the rights that it has where indexes run."""
    text = yaml.safe_dump_all(
        it for it in _rendered() if it["metadata"].get("namespace") == _SOME_NAMESPACE
    )
    asked.apply(*yaml.safe_load_all(text.replace(_SOME_NAMESPACE, namespace)))


def bindings() -> tuple[Object, ...]:
    """The bindings that give the account its rights, those in namespaces of indexes aside."""
    return tuple(
        it
        for it in _rendered()
        if it["kind"].endswith("Binding")
        and it["metadata"].get("namespace") != _SOME_NAMESPACE
        and not _is_for_people(it)
    )


def kubeconfig(asked: Kubectl, folder: Path, *, name: str = NAME) -> Path:
    """The account's kubeconfig for the server that an administrator asks, or another account's."""
    grant(asked)
    token = asked("create", "token", name, "-n", SYSTEM_NAMESPACE, f"--duration={TOKEN_TIME}")
    config = yaml.safe_load(asked.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token.strip()}}]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "operator.kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


@functools.cache
def connect(administrator: Path) -> client.KubeClient:
    """The operator's client, for the server of an administrator's kubeconfig."""
    file = kubeconfig(Kubectl(administrator), administrator.parent)
    return client.KubeClient(kubernetes.config.new_client_from_config(str(file)))


class Audit:
    """What the account has asked of each followed API server, and what it was refused."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}
        self.used: set[Grant] = set()
        self.answered = 0

    def follow(self, folder: Path) -> None:
        """Read the audit log of this folder of logs from now on."""
        self._read.setdefault(folder / "audit.log", 0)

    def refusals(self) -> list[str]:
        """Requests that roles refused since the last call."""
        return [
            f"{it['verb']} {it['requestURI']}"
            for file in list(self._read)
            for it in self._new(file)
            if it["annotations"].get("authorization.k8s.io/decision") == "forbid"
        ]

    def _new(self, file: Path) -> Iterator[Object]:
        if not file.exists():
            del self._read[file]  # its server has gone
            return
        with file.open("rb") as log:
            log.seek(self._read[file])
            for line in log:
                if not line.endswith(b"\n"):
                    break  # half written
                self._read[file] += len(line)
                if USER.encode() in line:
                    entry = json.loads(line)
                    if entry["user"]["username"] == USER and "responseStatus" in entry:
                        self.answered += 1
                        self.used |= grants(entry)
                        yield {"annotations": {}, **entry}


AUDIT: Final = Audit()


def unused(used: Iterable[Grant]) -> set[Grant]:
    """Rights that nothing has used, but those that only an admission plugin looks at."""
    return granted() - set(used) - TO_ADOPT


TO_ADOPT: Final[set[Grant]] = {("", "configmaps", "delete"), ("batch", "cronjobs", "delete")}
"""OwnerReferencesPermissionEnforcement looks at them, and no request has them
(test_field_clusters.py, C9, has the plugin on)."""


def grants(entry: Object) -> set[Grant]:
    """The rights that a request needed; server-side apply that creates needs that one too."""
    about = entry.get("objectRef")
    if about is None:
        return set()
    subresource = f"/{about['subresource']}" if "subresource" in about else ""
    verbs = {entry["verb"]}
    if entry["verb"] == "patch" and entry["responseStatus"]["code"] == HTTPStatus.CREATED:
        verbs.add("create")
    return {(about.get("apiGroup", ""), about["resource"] + subresource, verb) for verb in verbs}


def _is_for_people(role: Object) -> bool:
    return any("aggregate-to" in key for key in role["metadata"].get("labels", {}))
