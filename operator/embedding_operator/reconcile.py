"""Make one policy so: read what is, apply what should be, see what came of it, and say that.

Level-based: nothing here depends on having seen an event, every step may be repeated, and a crash
between two of them is healed by the next run. What cannot be had is collected into the status; only
an API server that does not answer ends a run early, and then the queue brings it back.
"""

import logging
import re
import secrets as random_secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from embedding_contract import document, fingerprint, names
from embedding_operator import (
    cluster,
    coverage,
    credentials,
    errors,
    injector,
    observation,
    owned,
    policy,
    rollouts,
    selection,
    status,
)
from embedding_operator.render import configmaps, monitoring, secrets
from embedding_operator.workqueue import Key

_LOG = logging.getLogger(__name__)

PROBLEM_SECONDS: Final = 3.0
"""How soon to look again while a key is missing."""
TOKEN_BYTES: Final = 32
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]{32,}")

Object = dict[str, Any]


class Cluster(observation.Nudges, owned.Writes, Protocol):
    """All that a reconcile needs of the API server."""

    def find(
        self, kind: cluster.Kind, namespace: str | None = None, *, selector: str = ""
    ) -> list[Object]:
        """All objects of a kind in a namespace."""
        ...

    def patch_status(self, namespace: str, name: str, patch: Object) -> None:
        """Merge into the status of a policy."""
        ...

    def serves(self, kind: cluster.Kind) -> bool:
        """Whether the API server knows a kind."""
        ...

    def version(self) -> tuple[int, int]:
        """Major and minor of the API server."""
        ...


class Events(Protocol):
    """Tells people what changed."""

    def record(self, about: Object, *, warning: bool, reason: str, message: str) -> None:
        """An event of a policy."""
        ...


@dataclass(frozen=True, slots=True)
class _Applied:
    """What stands in the cluster after applying, and what stood in the way."""

    wanted: observation.Wanted | None
    environment_created_at: str | None
    refused: errors.Problem | None
    stale: bool
    secret_problems: tuple[errors.Problem, ...]
    monitoring: errors.Problem | None
    token: str = field(repr=False)


class Reconciler:
    """The use case. `poll_seconds` is how often a policy that reads Vault is looked at."""

    def __init__(
        self,
        *,
        objects: Cluster,
        store: credentials.SecretStore | None,
        asks: observation.Asks,
        events: Events,
        sidecar: injector.Sidecar,
        poll_seconds: float,
        drifted: Callable[[str], None],
        restarts: rollouts.Rollouts,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = objects
        self._credentials = credentials.Credentials(objects=objects, store=store)
        self._owned = owned.Owned(writes=objects, drifted=drifted)
        self._observer = observation.Observer(asks=asks, nudges=objects)
        self._events = events
        self._restarts = restarts
        self._sidecar = sidecar
        self._poll_seconds = poll_seconds
        self._now = now

    def __call__(self, key: Key) -> float | None:
        """Reconcile one policy; after how many seconds to look again, None for the next event.

        Raises:
            errors.Unavailable: the API server does not answer.
            errors.Denied: it refuses; the message names the permission.
        """
        raw = self._objects.get(cluster.POLICY, key.namespace, key.name)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            # Owner references take the objects along; pods keep their sidecars.
            self._observer.forget(key)
            self._owned.forget(key.namespace, key.name)
            return None
        namespace = self._objects.get(cluster.NAMESPACE, None, key.namespace)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return None  # what is put back into a namespace that goes is refused
        try:
            wanted = policy.parse(raw)
        except errors.InvalidPolicy as error:
            facts = status.Facts(refused=errors.Problem(error.reason, str(error)))
            self._report(raw, None, facts)
            return None
        applied = self._apply(wanted)
        labels = namespace["metadata"].get("labels") or {}
        facts = self._observe(wanted, applied, namespace_labels=labels)
        self._report(raw, wanted, facts)
        restarting = self._restarts.look(wanted.namespace) if wanted.secrets else None
        times = (self._again(wanted, facts), restarting)
        return min((seconds for seconds in times if seconds is not None), default=None)

    # --- apply

    def _apply(self, wanted: policy.EmbeddingPolicy) -> _Applied:
        environment, refused = self._ensure(wanted, configmaps.environment(wanted))
        problems: list[errors.Problem] = []
        made: document.PolicyDocument | None = None
        try:
            made = policy.to_document(wanted)
        except errors.InvalidPolicy as error:
            refused = refused or errors.Problem(error.reason, str(error))
        values, missing = self._owned_values(wanted, keep_all=made is None)
        problems += missing
        secret, foreign = self._ensure(wanted, secrets.owned(wanted, values))
        problems += [foreign] if foreign else []
        text = self._apply_document(wanted, made)
        stale = made is None or isinstance(text, errors.Problem)
        if isinstance(text, errors.Problem):
            refused, text = refused or text, None
        problems += self._apply_synced(wanted)
        held = secrets.decode(secret)
        token = held.get(names.SECRET_API_TOKEN, b"")
        return _Applied(
            wanted=None
            if text is None
            else observation.Wanted(
                document=fingerprint.of_document(text.encode()),
                secrets=fingerprint.of_secrets(held, token=token),
                token=token.decode(),
            ),
            environment_created_at=(environment or {"metadata": {}})["metadata"].get(
                "creationTimestamp"
            ),
            refused=refused,
            stale=stale,
            secret_problems=tuple(problems),
            monitoring=self._apply_monitoring(wanted),
            token=token.decode(),
        )

    def _owned_values(
        self, wanted: policy.EmbeddingPolicy, *, keep_all: bool
    ) -> tuple[dict[str, bytes], tuple[errors.Problem, ...]]:
        """What the owned Secret should hold: what was found, and else what was there before."""
        name = names.owned_secret(wanted.name)
        before = secrets.decode(self._objects.get(cluster.SECRET, wanted.namespace, name))
        found = self._credentials.owned(wanted)
        # While no new document is in force the last good one is, and needs the keys it names.
        named = before.keys() if keep_all else policy.references(wanted).keys()
        kept = {key: before[key] for key in named if key in before}
        token = before.get(names.SECRET_API_TOKEN, b"")
        if not _TOKEN.fullmatch(token):
            token = _new_token()  # the first; or somebody wrote what no header can carry
        return {**kept, **found.values, names.SECRET_API_TOKEN: token}, found.problems

    def _apply_document(
        self, wanted: policy.EmbeddingPolicy, made: document.PolicyDocument | None
    ) -> str | errors.Problem | None:
        """The text of the document that stands in the cluster; None where there is none."""
        if made is not None:
            live, problem = self._ensure(wanted, configmaps.policy_document(wanted, made))
            if problem is not None:
                return problem
        else:
            name = names.document_configmap(wanted.name)
            live = self._objects.get(cluster.CONFIG_MAP, wanted.namespace, name)
        return ((live or {}).get("data") or {}).get(names.DOCUMENT_KEY)

    def _apply_synced(self, wanted: policy.EmbeddingPolicy) -> list[errors.Problem]:
        problems: list[errors.Problem] = []
        for entry in wanted.secrets:
            found = self._credentials.synced(wanted, entry)
            problems += found.problems
            live = self._objects.get(cluster.SECRET, wanted.namespace, entry.name)
            # A key that cannot be had keeps its last good value, if the entry still names it.
            named = set((entry.keys or {}).values())
            kept = {key: it for key, it in secrets.decode(live).items() if key in named}
            if found.problems and not found.values and not entry.keys:
                continue
            values = {**kept, **found.values}
            if values:
                if secrets.decode(live) != values:
                    self._restarts.secret_changes(wanted.namespace)
                _, problem = self._ensure(wanted, secrets.synced(wanted, entry.name, values))
                problems += [problem] if problem else []
        return problems

    def _apply_monitoring(self, wanted: policy.EmbeddingPolicy) -> errors.Problem | None:
        absent = [
            kind.plural
            for kind in (cluster.PROMETHEUS_RULE, cluster.POD_MONITOR)
            if not self._objects.serves(kind)
        ]
        if absent and wanted.alerts_enabled:
            message = f"The API server does not know {' and '.join(absent)}: they are left out."
            return errors.Problem("CRDsAbsent", message)
        for desired in (monitoring.prometheus_rule(wanted), monitoring.pod_monitor(wanted)):
            if not wanted.alerts_enabled:
                self._owned.remove(wanted, desired)
                continue
            _, problem = self._ensure(wanted, desired)
            if problem is not None:
                return problem
        return None

    def _ensure(
        self, wanted: policy.EmbeddingPolicy, desired: Object
    ) -> tuple[Object | None, errors.Problem | None]:
        try:
            return self._owned.ensure(wanted, desired), None
        except errors.Foreign as error:
            return None, errors.Problem("ForeignObject", str(error))
        except errors.Denied as error:
            # One object that the server does not take must not keep the others, or the status.
            return None, errors.Problem("Refused", str(error))

    # --- observe

    def _observe(
        self,
        wanted: policy.EmbeddingPolicy,
        applied: _Applied,
        *,
        namespace_labels: Mapping[str, str],
    ) -> status.Facts:
        objects = self._objects
        version = objects.version()
        among = selection.candidates(objects.find(cluster.POLICY, wanted.namespace))
        pods = objects.find(cluster.POD, wanted.namespace)
        running = [
            pod for pod in coverage.carrying(wanted.name, pods) if not coverage.is_starting(pod)
        ]
        key = (wanted.namespace, wanted.name)
        force = status.Force(unknown=len(running))
        if applied.wanted is not None:
            force = self._observer.force(key, running, applied.wanted)
        return status.Facts(
            refused=applied.refused,
            stale=applied.stale,
            secrets=applied.secret_problems,
            injection=_too_old(version),
            monitoring=applied.monitoring,
            coverage=coverage.of(
                name=wanted.name,
                pods=pods,
                namespace_labels=namespace_labels,
                among=among,
                server_version=version,
                sidecar=self._sidecar,
                environment_created_at=applied.environment_created_at,
            ),
            force=force,
            quota=self._observer.quota(key, token=applied.token),
            document_fingerprint=applied.wanted.document if applied.wanted else None,
        )

    # --- say

    def _report(
        self, raw: Object, wanted: policy.EmbeddingPolicy | None, facts: status.Facts
    ) -> None:
        previous = raw.get("status") or {}
        new = status.build(
            policy=wanted,
            generation=raw["metadata"]["generation"],
            facts=facts,
            previous=previous,
            now=self._now(),
        )
        patch = status.merge_patch(previous, new)
        if not patch:
            return
        metadata = raw["metadata"]
        self._objects.patch_status(metadata["namespace"], metadata["name"], patch)
        for condition in status.changes(previous, new):
            if condition.type in status.TOLD:
                self._events.record(
                    raw,
                    warning=condition.is_bad,
                    reason=condition.reason,
                    message=f"{condition.type}={condition.status}: {condition.message}",
                )

    def _again(self, wanted: policy.EmbeddingPolicy, facts: status.Facts) -> float | None:
        waiting_seconds = self._observer.look_again_seconds((wanted.namespace, wanted.name))
        if waiting_seconds is not None:
            return waiting_seconds
        if facts.secrets:
            return PROBLEM_SECONDS
        uses_vault = wanted.secrets or any(
            isinstance(reference, policy.VaultReference)
            for reference in policy.references(wanted).values()
        )
        return self._poll_seconds if uses_vault else None


def _too_old(version: tuple[int, int]) -> errors.Problem | None:
    if version >= selection.NATIVE_SIDECARS_SINCE:
        return None
    needed = ".".join(map(str, selection.NATIVE_SIDECARS_SINCE))
    return errors.Problem(
        "ServerTooOld", f"Native sidecars need Kubernetes {needed} or newer; no pod is injected."
    )


def _new_token() -> bytes:
    return random_secrets.token_urlsafe(TOKEN_BYTES).encode()
