"""Compute the status of a policy from facts: pure, and equal for equal facts.

Conditions have the form of KEP-1623. Nothing depends on the time, so a status is written only when
a fact changes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from embedding_contract import names
from embedding_operator.errors import Problem
from embedding_operator.kube import conditions
from embedding_operator.kube.conditions import Condition, from_problem
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.status import config_in_force, quota_status, retirements, secret_status
from embedding_operator.status.config_in_force import Force
from embedding_operator.status.quota_status import LiveQuota

READY: Final = "Ready"
ALERTS: Final = "AlertsAccepted"
RESIZED: Final = "SidecarsResized"
"""There while a running sidecar has other resources than a new one would get."""
PULL_SECRETS: Final = "PullSecretsFound"
DECISIVE: Final = (
    "Accepted",
    secret_status.CONDITION,
    config_in_force.KEY_REFUSED,
    config_in_force.CONDITION,
    "InjectionSupported",
)
"""The conditions that decide Ready; the others inform."""
TOLD: Final = frozenset(
    {
        *(READY, *DECISIVE, config_in_force.REACHED, "PodsCovered", "MonitoringApplied", ALERTS),
        *("RulesLoaded", "Overlap", PULL_SECRETS, retirements.CONDITION, quota_status.OBSERVED),
        RESIZED,
    }
)
"""The conditions whose changes are recorded as events."""
_NO_NEWS: Final = frozenset(
    {
        *(secret_status.NOT_READ, config_in_force.NOT_ASKED, config_in_force.NOT_TOLD),
        *("NotConfigured", "NotAskedYet"),
    }
)
"""Reasons that mean "not checked yet"."""
_SEEN: Final = (
    *DECISIVE[1:],
    config_in_force.REACHED,
    "PodsCovered",
    "MonitoringApplied",
    ALERTS,
    quota_status.EXACT,
)
"""The conditions that need a look at the cluster."""
MISSING_SHOWN: Final = 10
MISSED: Final = "PodsMissed"
SETTLES_SECONDS: Final = 3
"""The API server learns of a namespace's label by a watch, and has a clock of its own."""
_HEX_DIGITS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The pods that a policy selects.

    `missing` names those without a sidecar, `missed` those of them created when each new pod should
    have got one; `detours` tells why applications in pods with a sidecar do not reach it. `lost_to`
    is another policy that covers pods which this one selects.
    """

    matching: int = 0
    covered: int = 0
    outdated: int = 0
    bypassing: int = 0
    missing: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    detours: tuple[str, ...] = ()
    lost_to: str | None = None


@dataclass(frozen=True, slots=True)
class Covering:
    """The time since when each new pod of a selector should have the sidecar.

    `selector` is a digest of the selector.
    """

    since: str
    selector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All observations of one reconcile.

    `stale`: the newest policy became no document, so that sidecars keep the last good one.
    `refreshed`: the value of the annotation that last requested a poll of Vault.
    `environment_since`: the first creation of the environment ConfigMap.
    `covering`: None if new pods need not have the sidecar.
    `pull_secrets`: None if the chart names none.
    `guards`: the verdict of condition ProvidersGuarded.
    `resizing`: running sidecars that lack the resources of new ones.
    `proofs`: conditions about Prometheus and Alertmanager by type; they inform.
    """

    refused: Problem | None = None
    stale: bool = False
    secrets: secret_status.Secrets = field(default_factory=secret_status.Secrets)
    refreshed: str | None = None
    environment_since: str | None = None
    covering: Covering | None = None
    injection: Problem | None = None
    monitoring: Problem | None = None
    alerts_refused: tuple[Problem, ...] = ()
    coverage: Coverage = Coverage()
    force: Force = field(default_factory=Force)
    quota: LiveQuota | None = None
    document_fingerprint: str | None = None
    pull_secrets: conditions.Verdict | None = None
    guards: conditions.Verdict | None = None
    resizing: Problem | None = None
    proofs: Mapping[str, conditions.Verdict] = field(default_factory=dict)
    alert_test: Mapping[str, Any] | None = None


def build(
    *,
    policy: EmbeddingPolicy | None,
    generation: int,
    facts: Facts,
    previous: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """The status for these facts; unflipped conditions keep the times of `previous`.

    `policy` is None if the object is not valid.
    """
    found = _conditions(policy, facts, generation=generation, previous=previous)
    ready = _ready(found)
    made: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": [
            conditions.stamped(it, generation=generation, previous=previous, now=now)
            for it in (ready, *found)
        ],
        "pods": _pods(facts, previous=previous),
    }
    if policy is None:
        # Nothing was checked: the last observations stay.
        kept = ("pods", "document", "secrets", "environmentSince", "covering", "alertTest")
        made |= {key: previous[key] for key in kept if key in previous}
    else:
        first = policy.providers[0]
        made["provider"] = (
            f"{first.kind}/{first.model}"
            if first.is_complete
            else f"{names.CLASS_KIND}/{first.ref}"
        )
        secrets = secret_status.part(facts.secrets, previous=previous)
        if secrets:
            made["secrets"] = secrets
    asked = {"refreshed": facts.refreshed, "alertTest": facts.alert_test}
    told = {**asked, "environmentSince": facts.environment_since}
    made |= {key: it for key, it in told.items() if it is not None}
    if facts.covering is not None:
        made["covering"] = {"since": facts.covering.since, "selector": facts.covering.selector}
    if facts.document_fingerprint is not None:
        made["document"] = {"fingerprint": facts.document_fingerprint}
    quota = quota_status.part(policy, facts.quota, previous=previous)
    if quota:
        made["quota"] = quota
    return made


def pull_secrets_verdict(missing: Sequence[str]) -> conditions.Verdict:
    """The verdict of PullSecretsFound, for the Secrets that the namespace lacks."""
    if not missing:
        message = "The namespace has each Secret that injected pods name for their images."
        return conditions.Verdict("True", "Found", message)
    message = (
        f"Injected pods name Secrets that the namespace lacks: {', '.join(missing)}. Unless a node"
        " has the sidecar's image already, new pods cannot start; create them."
    )
    return conditions.Verdict("False", "PullSecretMissing", message)


def environment_since(previous: Mapping[str, Any], *, created_at: str | None) -> str | None:
    """The first creation of the environment ConfigMap: pods may have read one deleted since."""
    before: str | None = previous.get("environmentSince")
    return before or created_at


def covering(
    previous: Mapping[str, Any], *, selector: Mapping[str, Any], is_possible: bool, now: datetime
) -> Covering | None:
    """The time since when each new pod should have the sidecar; None if not `is_possible`.

    The previous time stays for the same selector. A new selector starts anew: pods that only it
    selects were not missed before.
    """
    if not is_possible:
        return None
    text = json.dumps(selector, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HEX_DIGITS]
    before = previous.get("covering") or {}
    if before.get("selector") == digest and "since" in before:
        return Covering(before["since"], digest)
    since = (now + timedelta(seconds=SETTLES_SECONDS)).astimezone(UTC)
    return Covering(since.strftime("%Y-%m-%dT%H:%M:%SZ"), digest)


def changes(previous: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Condition]:
    """The conditions to record as events: see `conditions.changes`."""
    return conditions.changes(previous, wanted, no_news=_NO_NEWS)


def _conditions(
    policy: EmbeddingPolicy | None, facts: Facts, *, generation: int, previous: Mapping[str, Any]
) -> list[Condition]:
    guards = [Condition("ProvidersGuarded", *facts.guards)] if facts.guards else []
    accepted = from_problem(
        "Accepted", facts.refused, "Accepted", "The policy is valid and can be applied."
    )
    if policy is None:
        message = "Not checked, as the policy is not valid."
        unseen = [Condition(kind, "Unknown", "NotAccepted", message) for kind in _SEEN]
        return [accepted, *unseen, *guards]
    found = [
        accepted,
        Condition(
            secret_status.CONDITION,
            *secret_status.verdict(facts.secrets, generation=generation, previous=previous),
        ),
        Condition(
            config_in_force.KEY_REFUSED,
            *config_in_force.key_verdict(facts.force, generation=generation, previous=previous),
        ),
        Condition(
            config_in_force.CONDITION,
            *config_in_force.verdict(
                facts.force, stale=facts.stale, generation=generation, previous=previous
            ),
        ),
        Condition(
            config_in_force.REACHED,
            *config_in_force.reach_verdict(facts.force, generation=generation, previous=previous),
        ),
        from_problem(
            "InjectionSupported", facts.injection, "Supported", "New pods get a native sidecar."
        ),
        _covered(facts.coverage),
        from_problem(
            "MonitoringApplied",
            facts.monitoring,
            "Applied",
            "PrometheusRule and PodMonitor match the policy.",
        ),
        _alerts(policy, facts.alerts_refused),
        Condition(quota_status.EXACT, *quota_status.exact_verdict(policy, facts.quota)),
        *guards,
    ]
    if facts.pull_secrets is not None:
        found.append(Condition(PULL_SECRETS, *facts.pull_secrets))
    observed = quota_status.observed_verdict(policy, facts.quota)
    if observed is not None:
        found.append(Condition(quota_status.OBSERVED, *observed))
    retires = retirements.verdict(retirements.of(policy))
    if retires is not None:
        found.append(Condition(retirements.CONDITION, *retires))
    found += [Condition(kind, *verdict) for kind, verdict in facts.proofs.items()]
    if facts.resizing is not None:
        found.append(Condition(RESIZED, "False", facts.resizing.reason, facts.resizing.message))
    if facts.coverage.lost_to is not None:
        message = f"Policy {facts.coverage.lost_to} covers pods that this policy selects too."
        found.append(Condition("Overlap", "True", "OlderPolicyWins", message))
    return found


def _ready(found: Sequence[Condition]) -> Condition:
    decisive = [condition for condition in found if condition.type in DECISIVE]
    for condition in decisive:
        if condition.is_bad:
            return Condition(READY, "False", condition.reason, condition.message)
    missed = next((it for it in found if it.reason == MISSED), None)
    if missed is not None:
        return Condition(READY, "False", missed.reason, missed.message)
    for condition in decisive:
        # A sidecar too old to report its keys obeys the policy all the same.
        if condition.status == "Unknown" and condition.type not in conditions.AMISS:
            return Condition(READY, "Unknown", condition.reason, condition.message)
    return Condition(READY, "True", READY, "The whole policy is in force.")


def _covered(coverage: Coverage) -> Condition:
    if coverage.matching == 0:
        return Condition("PodsCovered", "True", "NoPods", "The policy selects no pod.")
    if coverage.missed:
        message = (
            f"{len(coverage.missed)} of {coverage.matching} selected pods were created without the"
            " sidecar, though the policy was in force; delete them to have them recreated with it:"
            f" {', '.join(coverage.missed[:MISSING_SHOWN])}."
        )
        return Condition("PodsCovered", "False", MISSED, message)
    if coverage.missing:
        message = (
            f"{coverage.covered} of {coverage.matching} selected pods have the sidecar; without it:"
            f" {', '.join(coverage.missing[:MISSING_SHOWN])}."
        )
        return Condition("PodsCovered", "False", "PodsMissing", message)
    if coverage.bypassing:
        message = (
            f"{coverage.bypassing} of {coverage.covered} applications do not use the sidecar:"
            f" {_bypassing(coverage)}."
        )
        return Condition("PodsCovered", "False", "PodsBypassing", message)
    message = f"All {coverage.matching} selected pods have the sidecar."
    return Condition("PodsCovered", "True", "AllCovered", message)


def _bypassing(coverage: Coverage) -> str:
    told = list(coverage.detours[:MISSING_SHOWN])
    others = coverage.bypassing - len(coverage.detours)
    if others > 0:
        told.append(f"{others} started before the sidecar's address was set; restart them")
    return "; ".join(told)


def _alerts(policy: EmbeddingPolicy, refused: tuple[Problem, ...]) -> Condition:
    if refused:
        told = "; ".join(problem.message for problem in refused[: config_in_force.PROBLEMS_SHOWN])
        return Condition(ALERTS, "False", refused[0].reason, f"{told}.")
    if not policy.alerts_enabled:
        return Condition(ALERTS, "True", "AlertsOff", "spec.alerts.enabled is false.")
    return Condition(ALERTS, "True", "Accepted", "All alerts of the policy are rendered.")


def _pods(facts: Facts, *, previous: Mapping[str, Any]) -> dict[str, Any]:
    coverage, in_force = facts.coverage, facts.force.in_force
    if facts.force.pending:  # no fewer than before, until all are asked
        in_force = max(in_force, min(previous.get("pods", {}).get("inForce", 0), coverage.covered))
    return {
        "matching": coverage.matching,
        "covered": coverage.covered,
        "outdated": coverage.outdated,
        "bypassing": coverage.bypassing,
        "inForce": in_force,
        "summary": f"{coverage.covered}/{coverage.matching}",
        "missing": list(coverage.missing[:MISSING_SHOWN]),
    }
