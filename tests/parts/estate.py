"""Many policies as a large cluster holds them, each with synced Secrets or with none.

The last of a policy's paths is its namespace's, the others are its own. Each namespace asks Vault
as a ServiceAccount of its own; one role serves all, with a policy that is templated by namespace.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import kubernetes

from dev import cluster as api_cluster
from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import charted, reconciling, vault
from tests.parts.arrivals import KEY, Arrivals, Place
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE
from tests.parts.kubectl import Kubectl

SECRETS_PER_POLICY = 3
CRD = ROOT / "crds" / "embeddingpolicies.yaml"
_THREADS = 8

T = TypeVar("T")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How many requests one server answered, by what was asked."""

    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def writes(self) -> dict[str, int]:
        """Those of an API server that are no reads."""
        reads = ("get ", "list ", "watch ")
        return {what: it for what, it in self.counts.items() if not what.startswith(reads)}

    @property
    def reads(self) -> dict[str, int]:
        """Those of an API server that read an object or list some."""
        return {what: it for what, it in self.counts.items() if what.startswith(("get ", "list "))}

    def since(self, before: "Asked") -> "Asked":
        """What was asked after `before`."""
        grown = {key: it - before.counts.get(key, 0) for key, it in self.counts.items()}
        return Asked(counts={key: it for key, it in grown.items() if it})


class Estate:
    """All of it, on one API server and one OpenBao. Nothing is there before `build`.

    With `secrets_per_policy` of 0 no policy names a Vault, and `server` is None.
    """

    def __init__(
        self,
        asked: Kubectl,
        server: vault.Vault | None,
        *,
        policies: int,
        namespaces: int,
        secrets_per_policy: int = SECRETS_PER_POLICY,
    ) -> None:
        self.asked = asked
        self._vault = server
        self._secrets_per_policy = secrets_per_policy
        self.objects = reconciling.connect(asked.kubeconfig)
        self._values = iter(range(10**9))
        self.namespaces = tuple(f"tenant-{number:03d}" for number in range(namespaces))
        self.policies = tuple(
            (self.namespaces[number % namespaces], f"policy-{number:04d}")
            for number in range(policies)
        )

    @property
    def cluster(self) -> str:
        """The name of its control plane."""
        return self.asked.kubeconfig.parent.name

    @property
    def secrets(self) -> int:
        """How many Secrets are to be synced."""
        return len(self.policies) * self._secrets_per_policy

    @property
    def paths(self) -> list[Place]:
        """Every path once."""
        own = [
            (space, f"{name}/{number}")
            for space, name in self.policies
            for number in range(self._secrets_per_policy - 1)
        ]
        shared = self.namespaces if self._secrets_per_policy else ()
        return own + [(space, "shared") for space in shared]

    def secret_of(self, path: Place) -> Place:
        """The Secret that a path of one policy fills."""
        return path[0], path[1].replace("/", "-")

    def values(self) -> Object:
        """Values of the chart for an operator that serves it."""
        if self._vault is None:
            return {}
        return {
            "vault": {
                "address": self._served_by.address,
                "allowInsecureHTTP": True,
                "allowed": [{"namespace": "*", "mount": "secret", "path": "{{namespace}}/*"}],
            }
        }

    def logins(self) -> int:
        """How often somebody has signed in to Vault by Kubernetes auth, or set that up."""
        return self.vault_asked().counts.get("update_auth_kubernetes", 0)

    def build(self) -> None:
        """Namespaces, their accounts, Vault's role and paths, and the policies."""
        create = self.objects.create
        _all(
            lambda name: create(kinds.NAMESPACE, None, {"metadata": {"name": name}}),
            self.namespaces,
        )
        if self._vault is not None:
            self._trust()
            account = {"metadata": {"name": "embedding-vault"}}
            _all(lambda name: create(kinds.SERVICE_ACCOUNT, name, account), self.namespaces)
            _all(self.write, self.paths)
        count = self._secrets_per_policy
        _all(
            lambda it: create(kinds.POLICY, it[0], policy(*it, secrets=count)),
            self.policies,
        )

    @property
    def _served_by(self) -> vault.Vault:
        if self._vault is None:
            raise AssertionError("no policy of this estate names a Vault")
        return self._vault

    def write(self, path: Place) -> str:
        """A new version of a path; its value."""
        value = f"value-{next(self._values)}"
        self._served_by.write("/".join(path), **{KEY: value})
        return value

    def refresh(self, policy: Place, word: str) -> None:
        """Ask for a look at Vault by the policy's annotation."""
        kubernetes.client.CustomObjectsApi(self._client()).patch_namespaced_custom_object(
            names.GROUP,
            names.VERSION,
            policy[0],
            names.PLURAL,
            policy[1],
            {"metadata": {"annotations": {names.ANNOTATION_REFRESH: word}}},
        )

    def unsynced(self) -> list[Place]:
        """The policies whose condition SecretsSynced is not True."""
        return [
            (it["metadata"]["namespace"], it["metadata"]["name"])
            for it in self.objects.find(kinds.POLICY)
            if not any(
                condition["type"] == "SecretsSynced" and condition["status"] == "True"
                for condition in (it.get("status") or {}).get("conditions", ())
            )
        ]

    def vault_asked(self) -> Asked:
        """What OpenBao has answered since it started, by its own telemetry."""
        return Asked(
            counts={
                name.removeprefix("vault_route_").removesuffix("__count"): int(value)
                for name, value in self._served_by.telemetry().items()
                if name.startswith("vault_route_")
                and name.endswith("__count")
                and "_rollback_" not in name  # it asks itself
            }
        )

    def api_asked(self) -> Asked:
        """What the API server has answered to the operator, by its audit log."""
        counts: dict[str, int] = {}
        for file in (self.asked.kubeconfig.parent / "log").glob("audit*.log"):
            with file.open(encoding="utf-8") as lines:
                for entry in map(json.loads, lines):
                    if entry["user"]["username"] != charted.USER or entry["stage"] == "Panic":
                        continue
                    # A watch is counted when it ends, and each other request once.
                    if entry["stage"] != "ResponseComplete":
                        continue
                    about = entry.get("objectRef", {})
                    what = "/".join(
                        about[part] for part in ("resource", "subresource") if part in about
                    )
                    key = f"{entry['verb']} {what or 'discovery'}"
                    counts[key] = counts.get(key, 0) + 1
        return Asked(counts=counts)

    @contextmanager
    def watched(self) -> Iterator[Arrivals]:
        """When which value came to which Secret, from now on."""
        arrivals = Arrivals(self.asked.kubeconfig)
        try:
            yield arrivals
        finally:
            arrivals.close()

    def _client(self) -> Any:
        return kubernetes.config.new_client_from_config(str(self.asked.kubeconfig))

    def _trust(self) -> None:
        self._served_by.trust(self.asked, namespace=SYSTEM_NAMESPACE)
        client = self._served_by.client()
        accessor = client.sys.list_auth_methods()["kubernetes/"]["accessor"]
        space = f"{{{{identity.entity.aliases.{accessor}.metadata.service_account_namespace}}}}"
        client.sys.create_or_update_policy(
            "tenants",
            "\n".join(
                f'path "secret/{part}/{space}/*" {{ capabilities = ["read"] }}'
                for part in ("data", "metadata")
            ),
        )
        client.auth.kubernetes.create_role(
            "tenants",
            bound_service_account_names=["embedding-vault"],
            bound_service_account_namespaces=["*"],
            audience="vault",
            policies=["tenants"],
            ttl="1h",
        )


@contextmanager
def standing(
    folder: Path,
    *,
    policies: int,
    namespaces: int,
    secrets_per_policy: int = SECRETS_PER_POLICY,
) -> Iterator[tuple[Estate, charted.Operator]]:
    """A whole estate on servers of its own, and an operator that has not been started yet.

    `folder` holds what runs beside the API server, each with its Daemons.
    """
    api = api_cluster.up(form="control-plane", name=f"estate-{os.getpid()}", owner_pid=os.getpid())
    server = vault.Vault(folder / "vault") if secrets_per_policy else None
    operator: charted.Operator | None = None
    try:
        if server is not None:
            server.start()
        asked = Kubectl(api.kubeconfig)
        built = Estate(
            asked,
            server,
            policies=policies,
            namespaces=namespaces,
            secrets_per_policy=secrets_per_policy,
        )
        charted.install(asked, built.values())
        asked.wait_until_served(CRD)
        built.build()
        operator = charted.Operator(asked, folder / "operator")
        yield built, operator
    finally:
        if operator is not None:
            operator.stop()
        if server is not None:
            server.stop()
        api_cluster.down(api.name)


def policy(namespace: str, name: str, *, secrets: int = SECRETS_PER_POLICY) -> Object:
    """A policy with so many synced Secrets."""
    found: Object = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "podSelector": {"matchLabels": {"app": name}},
            "providers": [
                {
                    "name": "local",
                    "type": "OpenAICompatible",
                    "model": "e5",
                    "baseURL": "http://e5.models.svc:8080/v1",
                }
            ],
        },
    }
    if secrets:
        own = [f"{name}/{number}" for number in range(secrets - 1)]
        paths = {path.replace("/", "-"): path for path in own} | {f"{name}-shared": "shared"}
        found["spec"]["vault"] = {"role": "tenants"}
        found["spec"]["secrets"] = [
            {"name": secret, "vault": {"mount": "secret", "path": f"{namespace}/{path}"}}
            for secret, path in paths.items()
        ]
    return found


def _all(do: Callable[[T], object], items: Iterable[T]) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(do, items):
            pass
