"""What users do to a namespace, a step from one world to another: data, all of it in `STEPS`."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embedding_contract import names
from tests.parts import vault
from tests.parts.kubectl import Kubectl

Object = dict[str, Any]

_KINDS: Final = {names.KIND: "embpol", names.INDEX_KIND: "embidx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What users have put into a namespace and, by path below the namespace's, into Vault."""

    objects: tuple[Object, ...] = ()
    vault: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def has_index(self) -> bool:
        return any(it["kind"] == names.INDEX_KIND for it in self.objects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of a user, and the change that takes it back."""

    name: str
    before: World
    after: World

    @property
    def has_index(self) -> bool:
        return self.before.has_index or self.after.has_index


class Place:
    """A namespace, in which steps are taken."""

    def __init__(self, asked: Kubectl, server: vault.Vault, namespace: str) -> None:
        self._asked = asked
        self._server = server
        self.namespace = namespace
        self.world = World()
        self.has_rights = False
        labels = {names.LABEL_INJECTION: "enabled"}
        self._asked.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": namespace, "labels": labels},
            },
            # Controllers of workloads make no pods, which no kubelet would run.
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "no-pods", "namespace": namespace},
                "spec": {"hard": {"count/pods": "0"}},
            },
        )

    def put(self, world: World) -> None:
        """Make it so: what is new is applied, what is no longer there is deleted."""
        instead_of, self.world = self.world, world
        for path, values in world.vault.items():
            if instead_of.vault.get(path) != values:
                self._server.write(f"{self.namespace}/{path}", **values)
        changed = [it for it in world.objects if it not in instead_of.objects]
        if changed:
            self._asked.apply(*map(self._here, changed))
        kept = {_name(it) for it in world.objects}
        for it in instead_of.objects:
            if _name(it) not in kept:
                self._asked("delete", *_name(it), "-n", self.namespace, "--wait=false")

    def _here(self, given: Object) -> Object:
        """The object in this namespace, whose name its references to Vault take."""
        made = copy.deepcopy(given)
        made["metadata"]["namespace"] = self.namespace
        for reference in _vault_references(made):
            reference["path"] = f"{self.namespace}/{reference['path']}"
        return made


def _vault_references(found: Any) -> Iterator[Object]:
    if isinstance(found, list):
        for it in found:
            yield from _vault_references(it)
    elif isinstance(found, dict):
        for key, value in found.items():
            if key == "vault" and "path" in value:
                yield value
            else:
                yield from _vault_references(value)


def _name(it: Object) -> tuple[str, str]:
    return _KINDS.get(it["kind"], it["kind"].lower()), it["metadata"]["name"]


def _secret(name: str, **values: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": values,
    }


def _of_vault(path: str, key: str) -> Object:
    return {"vault": {"mount": "secret", "path": path, "key": key}}


def _policy(*providers: Object, synced: str, requests: int) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "search"}},
            "providers": list(providers),
            "failover": {"enabled": False},  # as the two have no space in common
            "quota": {"daily": {"requests": requests}},
            "secrets": [
                {
                    "name": synced,
                    "vault": {"mount": "secret", "path": "database"},
                    "deletionPolicy": "Delete",
                    "keys": [{"key": "password", "as": "PASSWORD"}],
                }
            ],
        },
    }


def _provider(name: str, kind: str, model: str, key: Object) -> Object:
    return {"name": name, "type": kind, "model": model, "apiKey": key}


_OPENAI: Final = _provider("openai", "OpenAI", "text-embedding-3-small", _of_vault("keys", "KEY"))
_VOYAGE: Final = _provider(
    "voyage", "Voyage", "voyage-4", {"secretKeyRef": {"name": "keys", "key": "VOYAGE"}}
)
_KEYS: Final = _secret("keys", VOYAGE="voyage-key-of-a-fault-test-1")
_DATABASE: Final = _secret("database", dsn="postgresql://worker:password-of-faults@nowhere/x")
_VAULT: Final = {
    "keys": {"KEY": "openai-key-of-a-fault-test-1"},
    "database": {"password": "password-of-a-fault-test-1"},
}
_POLICY: Final = _policy(_OPENAI, _VOYAGE, synced="synced", requests=100)
_EDITED: Final = _policy(_VOYAGE, synced="renamed", requests=200)


def _index(**more: Any) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.INDEX_KIND,
        "metadata": {"name": "articles"},
        "spec": {
            "policyRef": {"name": "search"},
            "database": {"dsnSecretRef": {"name": "database", "key": "dsn"}},
            "table": {"name": "articles", "keyColumns": ["id"], "textColumns": ["body"]},
            "target": {"model": "voyage-4", "dimensions": 1024, "column": "embedding"},
            **more,
        },
    }


_RESIZED_POLICY: Final[Object] = {
    **_POLICY,
    "spec": {**_POLICY["spec"], "sidecar": {"resources": {"requests": {"cpu": "60m"}}}},
}

_BARE: Final = World(objects=(_KEYS, _DATABASE), vault=_VAULT)
_OBEYED: Final = World(objects=(*_BARE.objects, _POLICY), vault=_VAULT)
_INDEXED: Final = World(objects=(*_OBEYED.objects, _index()), vault=_VAULT)
RESIZED: Final = World(objects=(*_BARE.objects, _RESIZED_POLICY), vault=_VAULT)
"""As `policy` ends, but for what new pods get."""

STEPS: Final[tuple[Step, ...]] = (
    Step(name="policy", before=_BARE, after=_OBEYED),
    Step(
        name="edited policy",
        before=_OBEYED,
        after=World(objects=(*_BARE.objects, _EDITED), vault=_VAULT),
    ),
    Step(
        name="rotated Secret",
        before=_OBEYED,
        after=World(
            objects=(_secret("keys", VOYAGE="voyage-key-of-a-fault-test-2"), _DATABASE, _POLICY),
            vault=_VAULT,
        ),
    ),
    Step(
        name="rotated Vault",
        before=_OBEYED,
        after=World(
            objects=_OBEYED.objects,
            vault={
                "keys": {"KEY": "openai-key-of-a-fault-test-2"},
                "database": {"password": "password-of-a-fault-test-2"},
            },
        ),
    ),
    Step(name="index", before=_OBEYED, after=_INDEXED),
    Step(
        name="edited index",
        before=_INDEXED,
        after=World(
            objects=(*_OBEYED.objects, _index(limits={"batchRows": 8}, search={"replicas": 3})),
            vault=_VAULT,
        ),
    ),
    Step(name="index with its policy", before=_BARE, after=_INDEXED),
)
