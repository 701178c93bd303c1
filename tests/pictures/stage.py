"""What the page is shown with: policies whose status the operator's own code makes of a real run.

Sidecars, Redis and Prometheus are real; what the status says is of what those sidecars answered.
There is no API server: that the page works with one is tested in test_kubectl_console.py.
Policy search is well, catalog has a pod without a sidecar and uses its quota up, assistant lacks
its key.
"""

from datetime import UTC, datetime
from typing import Any, Final

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.policy import crd_schema, policy
from embedding_operator.status import config_in_force, policy_status, quota_status, secret_status
from tests.parts import monitored, sidecar

KEY: Final = {"secretKeyRef": {"name": "provider-keys", "key": "API_KEY"}}
UNCOVERED: Final = "catalog-59f4b-early"

Object = dict[str, Any]


class Policies:
    """In place of the API server: these policies, and nothing else."""

    def __init__(self, policies: list[Object]) -> None:
        self._policies = policies

    def find(self, _: object, namespace: str | None = None, *, selector: str = "") -> list[Object]:
        """All policies, whatever is asked for."""
        return self._policies


def policies(run: monitored.Run) -> list[Object]:
    """The three policies with their status by now."""
    openai = {"name": "openai", "type": "OpenAI", "model": "text-embedding-3-small", "apiKey": KEY}
    voyage = {"name": "voyage", "type": "Voyage", "model": "voyage-3.5", "apiKey": KEY}
    calls = {"search": monitored.SEARCH_CALLS, "catalog": monitored.CATALOG_CALLS}
    search = _policy("search", [openai, voyage], calls=calls["search"])
    catalog = _policy("catalog", [voyage], calls=calls["catalog"])
    assistant = _policy("assistant", [openai], namespace="support")
    missing = errors.Problem(
        "SecretMissing", "providers[0].apiKey: there is no Secret support/provider-keys"
    )
    return [
        _with_status(search, _facts(run.search)),
        _with_status(catalog, _facts((run.catalog,), missing=(UNCOVERED,))),
        _with_status(
            assistant, policy_status.Facts(secrets=secret_status.Secrets(problems=(missing,)))
        ),
    ]


def _policy(
    name: str, providers: list[Object], *, namespace: str = monitored.NAMESPACE, calls: int = 10_000
) -> Object:
    return crd_schema.admit(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace, "generation": 1, "uid": name},
            "spec": {
                "podSelector": {"matchLabels": {"embeddings": name}},
                "providers": providers,
                "failover": {"acrossSpaces": len(providers) > 1},
                "quota": {"daily": {"requests": calls}},
                "cache": {"redis": {"url": "redis://redis.platform:6379"}},
            },
        }
    )


def _facts(
    sidecars: tuple[sidecar.Sidecar, ...], *, missing: tuple[str, ...] = ()
) -> policy_status.Facts:
    """What these sidecars say, as the operator hears it."""
    day = sidecars[0].page(names.PATH_QUOTA)
    refused = [it for one in sidecars for it in one.page(names.PATH_CONFIG)["keys_refused"]]
    return policy_status.Facts(
        coverage=policy_status.Coverage(
            matching=len(sidecars) + len(missing), covered=len(sidecars), missing=missing
        ),
        force=config_in_force.Force(
            in_force=len(sidecars),
            keys_told=len(sidecars),
            keys_refused={name: refused.count(name) for name in refused},
        ),
        quota=quota_status.LiveQuota(
            used=day["current_count"],
            limit=day["daily_quota"],
            reset_at=datetime.fromisoformat(day["reset_at"]),
            exact=day["exact"],
            exact_reason=day["exact_reason"],
        ),
    )


def _with_status(raw: Object, facts: policy_status.Facts) -> Object:
    made = policy_status.build(
        policy=policy.parse(raw), generation=1, facts=facts, previous={}, now=datetime.now(UTC)
    )
    return {**raw, "status": made}
