"""Policies and indexes that Hypothesis makes of their schemas, and walks of several of them.

`NAMESPACE` in a value stands for the namespace in which a walk takes place.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

from embedding_contract import names
from embedding_operator.policy import crd_schema
from tests.parts.schema_values import Values

Object = dict[str, Any]

NAMESPACE = "NAMESPACE"
POLICY, INDEX = "search", "articles"
CLASS = "platform"
"""A ClusterEmbeddingProvider that every policy may use."""
SECRET = "values"
"""A Secret of the application, and a path of Vault, with these keys."""
SECRET_KEYS = ("ONE", "TWO")
MISSING = "missing"
STEPS = 3
COLUMNS = ("id", "body", "title", "vector")

_WORDS = st.sampled_from(["one", "two", "three"])
_VAULT_MOUNT = st.sampled_from(["secret", MISSING])
_VAULT_PATH = st.sampled_from([f"{NAMESPACE}/{SECRET}", f"{NAMESPACE}/{MISSING}", "others/value"])
_KEY = st.sampled_from([*SECRET_KEYS, MISSING])
_SECRET_NAME = st.sampled_from([SECRET, MISSING])
_URL = st.sampled_from(["http://e5.models.svc:8080/v1", "https://models.example/v1/"])
_REDIS_URL = st.sampled_from(["redis://redis.example:6379/0", "redis+cluster://a.example:1"])
_TEMPLATE = st.sampled_from(
    ["{{ .ONE }}", "{{ .TWO | b64enc }}", "{{ .missing }}", "{{ broken", "text"]
)
_EXPRESSION = st.sampled_from(
    [f'sum(up{{namespace="{NAMESPACE}"}}) == 0', 'up{namespace="kube-system"}', "sum("]
)
_COLUMN = st.sampled_from(COLUMNS)
_TABLE = st.sampled_from(["articles", "vectors"])
_MODEL = st.sampled_from(
    ["text-embedding-3-small", "voyage-4", "e5", "amazon.titan-embed-text-v2:0"]
)


def _key_of(path: str) -> dict[str, st.SearchStrategy[Any]]:
    """Where a value comes from: a key of Vault, or of a Secret."""
    return {
        f"{path}.vault.mount": _VAULT_MOUNT,
        f"{path}.vault.path": _VAULT_PATH,
        f"{path}.vault.key": _KEY,
        f"{path}.secretKeyRef.name": _SECRET_NAME,
        f"{path}.secretKeyRef.key": _KEY,
    }


_POLICY_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "podSelector": st.sampled_from([{}, {"matchLabels": {"app": "shop"}}, {"matchLabels": {}}]),
    "providers[].name": _WORDS,
    "providers[].ref": st.sampled_from([CLASS, MISSING]),
    "providers[].model": _MODEL,
    "providers[].aliases[]": _WORDS,
    "providers[].space": _WORDS,
    "providers[].region": st.just("eu-central-1"),
    "providers[].baseURL": _URL,
    "providers[].azure.authority": st.just("https://login.example"),
    **_key_of("providers[].apiKey"),
    **_key_of("cache.redis"),
    "cache.redis.url": _REDIS_URL,
    **_key_of("quota.redis"),
    "quota.redis.url": _REDIS_URL,
    "passthrough.baseURL": _URL,
    "secrets[].name": st.sampled_from(["app", "whole", SECRET]),
    "secrets[].vault.mount": _VAULT_MOUNT,
    "secrets[].vault.path": _VAULT_PATH,
    "secrets[].keys[].key": _KEY,
    "secrets[].template.data.*": _TEMPLATE,
    "alerts.additional[].expr": _EXPRESSION,
    "sidecar.resources.requests.cpu": st.sampled_from(["50m", 1]),
    "sidecar.resources.requests.memory": st.sampled_from(["64Mi", "96Mi"]),
    "sidecar.resources.limits.cpu": st.sampled_from([1, "2"]),
    "sidecar.resources.limits.memory": st.sampled_from(["128Mi", "1Gi"]),
    "vault.serviceAccountName": st.sampled_from(["embedding-vault", "another"]),
}
_INDEX_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "policyRef.name": st.sampled_from([POLICY, MISSING]),
    "database.dsnSecretRef.name": _SECRET_NAME,
    "database.dsnSecretRef.key": _KEY,
    "database.caSecretRef.name": _SECRET_NAME,
    "database.caSecretRef.key": _KEY,
    "table.name": _TABLE,
    "table.keyColumns[]": _COLUMN,
    "table.textColumns[]": _COLUMN,
    "target.model": _MODEL,
    "failoverTarget.model": _MODEL,
    "rows": st.just([]),
    "schedule": st.sampled_from(["@hourly", "*/5 * * * *", "61 * * * *"]),
    "search.resources": st.just({}),
    "search.filterColumns[]": _COLUMN,
    "search.returnColumns[]": _COLUMN,
    **{f"{it}.table": _TABLE for it in ("target", "failoverTarget")},
    **{f"{it}.column": _COLUMN for it in ("target", "failoverTarget")},
}


def _consistent(provider: Object) -> Object:
    """A provider whose fields fit its type, as most rules of the resource are about that."""
    if "ref" in provider:
        kept = ("ref", "name", "model", "aliases", "weight", "limits", "timeouts")
        return {key: it for key, it in provider.items() if key in kept}
    made = {"name": "one", "type": "OpenAICompatible", "model": "e5", **provider}
    wanted = {"AzureOpenAI": "azure", "Bedrock": "region"}.get(made["type"])
    for name in {"azure", "region"} - {wanted}:
        made.pop(name, None)
    if wanted == "azure":
        deployed = {"deployment": "embeddings", **made.get("azure", {})}
        by_identity = {"tenantID", "clientID"} <= deployed.keys()
        made["azure"] = {
            key: it
            for key, it in deployed.items()
            if by_identity or key not in ("tenantID", "clientID")
        }
        if by_identity:
            made.pop("apiKey", None)
            return {"baseURL": "https://models.example", **made}
    if wanted == "region":
        made |= {"region": "eu-central-1", "model": "amazon.titan-embed-text-v2:0"}
    if made["type"] in ("OpenAICompatible", "AzureOpenAI"):
        made.setdefault("baseURL", "http://e5.models.svc:8080/v1")
    if made["type"] != "OpenAICompatible":
        made.setdefault("apiKey", {"secretKeyRef": {"name": SECRET, "key": "ONE"}})
    return made


def _distinct(providers: list[Object]) -> list[Object]:
    """Providers with a name each, and without aliases that another has."""
    known, taken = set[str](), {it.get("model") for it in providers}
    for provider in providers:
        name = provider.get("name") or provider["ref"]
        if name in known:
            provider["name"] = f"{name}-{len(known)}"
        known.add(provider.get("name") or provider["ref"])
        if "aliases" in provider:
            provider["aliases"] = [it for it in provider["aliases"] if it not in taken]
            taken.update(provider["aliases"])
    return providers


def _typed(entry: Object) -> Object:
    """A Secret's entry whose type asks for no keys that it lacks."""
    if "keys" in entry or "template" in entry:
        entry.pop("type", None)
    return entry


def _spec(kind: str) -> Mapping[str, Any]:
    version = crd_schema.load(kind)["spec"]["versions"][0]
    found: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


POLICIES = Values(
    given=_POLICY_FIELDS,
    repairs={"providers[]": _consistent, "providers": _distinct, "secrets[]": _typed},
).of(_spec(names.KIND))
INDEXES = Values(given=_INDEX_FIELDS, repairs={}).of(_spec(names.INDEX_KIND))


@dataclass(frozen=True, slots=True)
class Step:
    """A policy's spec, and an index's where there is one; the operator may be hurried past it."""

    policy: Object
    index: Object | None
    is_awaited: bool

    def objects(self, namespace: str) -> dict[str, Object]:
        """The objects in a namespace, by kind."""
        made = {names.KIND: _object(names.KIND, POLICY, self.policy)}
        if self.index is not None:
            made[names.INDEX_KIND] = _object(names.INDEX_KIND, INDEX, self.index)
        placed: dict[str, Object] = json.loads(json.dumps(made).replace(NAMESPACE, namespace))
        for it in placed.values():
            it["metadata"]["namespace"] = namespace
        return placed


@dataclass(frozen=True, slots=True)
class Walk:
    """Steps of one policy, the last of which is where a fresh one begins."""

    steps: Sequence[Step]

    def __repr__(self) -> str:
        """The walk as documents of YAML, to be applied one after the other."""
        return "\n" + "".join(
            f"--- # step {number}{'' if step.is_awaited else ', not awaited'}\n"
            + yaml.safe_dump_all(step.objects(NAMESPACE.lower()).values(), sort_keys=False)
            for number, step in enumerate(self.steps, 1)
        )


@st.composite
def walks(draw: st.DrawFn, is_admitted: Callable[[Object], bool]) -> Walk:
    """Walks of three steps, of policies and indexes that an API server admits."""

    def admitted(kind: str, name: str, specs: st.SearchStrategy[Any]) -> Object:
        made: Object = draw(specs.filter(lambda spec: is_admitted(_object(kind, name, spec))))
        return made

    def step() -> Step:
        policy = admitted(names.KIND, POLICY, POLICIES)
        index = admitted(names.INDEX_KIND, INDEX, INDEXES) if draw(st.booleans()) else None
        return Step(policy, index, is_awaited=draw(st.booleans()))

    return Walk([step() for _ in range(STEPS)])


def moved_keys(walk: Walk) -> frozenset[str]:
    """Entries of the owned Secret for providers that no earlier step called in the same place."""
    *before, last = (_called(step.policy) for step in walk.steps)
    known = {called for them in before for called in them.items()}
    return frozenset(entry for entry, place in last.items() if (entry, place) not in known)


def _called(policy: Object) -> dict[str, tuple[str, str]]:
    """Type and address of the providers, by the entry of their key; those of classes have none."""
    return {
        names.secret_provider_key(it["name"]): (it["type"], it.get("baseURL", "").rstrip("/"))
        for it in policy["providers"]
        if "ref" not in it
    }


def _object(kind: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
