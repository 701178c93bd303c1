"""The status of a policy, from the facts observed."""

import copy
from datetime import UTC, datetime, timedelta, timezone

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.errors import Problem
from embedding_operator.kube import conditions
from embedding_operator.status import config_in_force, policy_status, secret_status
from embedding_operator.status.quota_status import LiveQuota
from tests.conftest import CRD
from tests.parts import policies

THEN = datetime(2026, 1, 1, 10, tzinfo=UTC)
NOW = THEN + timedelta(hours=1)
POLICY = policies.parsed()
QUOTA = LiveQuota(
    used=3,
    limit=5,
    reset_at=datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))),
    exact=True,
    exact_reason="",
)
COVERED = policy_status.Coverage(matching=2, covered=2)
GOOD = policy_status.Facts(
    coverage=COVERED,
    force=config_in_force.Force(in_force=2, keys_told=2, failures_told=2),
    quota=QUOTA,
    document_fingerprint="0123456789abcdef",
)
SILENT = Problem(config_in_force.NO_ANSWER, "pod a reset the connection")
SEALED = Problem("VaultSealed", "Vault is sealed (503); secret/shop key OPENAI")


def troubled(*problems):
    return secret_status.Secrets(problems=problems)


def facts(**changed):
    values = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    return policy_status.Facts(**{**values, **changed})


def build(seen=GOOD, *, previous=None, now=NOW, policy=POLICY, generation=3):
    return policy_status.build(
        policy=policy, generation=generation, facts=seen, previous=previous or {}, now=now
    )


def condition(kind, seen=GOOD, **more):
    (found,) = [entry for entry in build(seen, **more)["conditions"] if entry["type"] == kind]
    return found


def verdict(kind, seen=GOOD, **more):
    found = condition(kind, seen, **more)
    return found["status"], found["reason"]


def test_all_is_well():
    made = build()
    verdicts = {entry["type"]: entry["status"] for entry in made["conditions"]}
    assert verdicts.pop("KeyRefused") == "False"
    assert set(verdicts.values()) == {"True"}
    assert made["conditions"][0]["type"] == "Ready"
    assert made["pods"]["summary"] == "2/2"
    assert made["quota"] == {
        "used": 3,
        "limit": 5,
        "resetAt": "2026-01-02T00:00:00Z",
        "summary": "3/5",
    }
    assert made["provider"] == "OpenAI/text-embedding-3-large"
    assert made["document"] == {"fingerprint": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("kind", "seen", "expected"),
    [
        ("Accepted", facts(refused=Problem("SpacesDiffer", "m")), ("False", "SpacesDiffer")),
        ("SecretsSynced", facts(secrets=troubled(SEALED)), ("False", "VaultSealed")),
        ("InjectionSupported", facts(injection=Problem("TooOld", "m")), ("False", "TooOld")),
        (
            "ConfigInForce",
            facts(force=config_in_force.Force(in_force=1, behind=("pod b has an older document",))),
            ("False", "SidecarsBehind"),
        ),
        (
            "ConfigInForce",
            facts(force=config_in_force.Force(in_force=1, unknown=(SILENT,))),
            ("Unknown", "SidecarsSilent"),
        ),
    ],
)
def test_deciding_condition_makes_policy_not_ready(kind, seen, expected):
    assert verdict(kind, seen) == expected
    assert verdict("Ready", seen) == expected
    assert condition("Ready", seen)["message"] == condition(kind, seen)["message"]


@pytest.mark.parametrize(
    ("kind", "seen", "expected"),
    [
        (
            "PodsCovered",
            facts(coverage=policy_status.Coverage(matching=3, covered=2, missing=("c",))),
            ("False", "PodsMissing"),
        ),
        (
            "PodsCovered",
            facts(coverage=policy_status.Coverage(matching=2, covered=2, bypassing=1)),
            ("False", "PodsBypassing"),
        ),
        (
            "MonitoringApplied",
            facts(monitoring=Problem("CRDsAbsent", "m")),
            ("False", "CRDsAbsent"),
        ),
        ("QuotaExact", facts(quota=None), ("Unknown", "NotAsked")),
    ],
)
def test_informing_condition_leaves_policy_ready(kind, seen, expected):
    assert verdict(kind, seen) == expected
    assert verdict("Ready", seen) == ("True", "Ready")


REFUSED = config_in_force.Force(in_force=3, keys_told=3, keys_refused={"openai": 1, "voyage": 3})


def test_refused_key_is_told_by_provider_and_makes_policy_not_ready():
    seen = facts(force=REFUSED)
    found = condition("KeyRefused", seen)
    assert (found["status"], found["reason"]) == ("True", "KeyRefused")
    assert "Provider openai rejects its newest API key in 1 of 3 pods" in found["message"]
    assert "provider voyage rejects its newest API key in 3 of 3 pods" in found["message"]
    assert verdict("Ready", seen) == ("False", "KeyRefused")
    assert condition("Ready", seen)["message"] == found["message"]


def test_refused_key_is_warning_and_its_end_is_none():
    first, second = build(), build(facts(force=REFUSED))
    told = {it.type: it.is_bad for it in policy_status.changes(first, second)}
    assert told == {"Ready": True, "KeyRefused": True}
    ended = {it.type: it.is_bad for it in policy_status.changes(second, first)}
    assert ended == {"Ready": False, "KeyRefused": False}


def test_whether_keys_are_refused_is_unknown_where_nobody_tells():
    silent = facts(force=config_in_force.Force(unknown=(SILENT, SILENT)))
    assert verdict("KeyRefused", silent) == ("Unknown", "SidecarsSilent")
    assert verdict("KeyRefused", facts(force=config_in_force.Force())) == ("False", "NoPods")
    one_tells = facts(force=config_in_force.Force(in_force=1, unknown=(SILENT,), keys_told=1))
    assert verdict("KeyRefused", one_tells) == ("False", "NotRefused")


def test_sidecars_too_old_to_tell_of_their_keys_leave_policy_ready():
    old = facts(force=config_in_force.Force(in_force=2))
    assert verdict("KeyRefused", old) == ("Unknown", "SidecarsSilent")
    assert verdict("Ready", old) == ("True", "Ready")


def test_unknown_pods_are_named_after_false_ones():
    outdated = Problem(config_in_force.OUTDATED, "pod b runs an old sidecar")
    lying = Problem(config_in_force.UNPROVEN, "pod c sent an answer with a wrong proof")
    seen = facts(force=config_in_force.Force(in_force=1, unknown=(SILENT, outdated, lying)))
    assert verdict("ConfigInForce", seen) == ("Unknown", "SidecarsUnproven")
    assert condition("ConfigInForce", seen)["message"] == (
        "3 of 4 sidecars do not prove which policy they obey: pod c sent an answer with a wrong"
        " proof; pod b runs an old sidecar; pod a reset the connection."
    )


def test_pods_with_false_answers_are_named_beside_pods_behind():
    lying = Problem(config_in_force.UNPROVEN, "pod c sent an answer with a wrong proof")
    seen = facts(force=config_in_force.Force(behind=("pod b has older keys",), unknown=(lying,)))
    message = condition("ConfigInForce", seen)["message"]
    assert "pod b has older keys; pod c sent an answer with a wrong proof" in message


def test_1000_silent_pods_make_short_message():
    silent = tuple(
        Problem(config_in_force.NO_ANSWER, f"pod {number} is silent") for number in range(1000)
    )
    message = condition("ConfigInForce", facts(force=config_in_force.Force(unknown=silent)))[
        "message"
    ]
    assert message.endswith("; and 990 more.")


ASKING = facts(force=config_in_force.Force(in_force=1, pending=1))


def test_pods_that_have_not_been_asked_yet_change_nothing_that_was_seen():
    before = build()
    assert build(ASKING, previous=before) == before


def test_observation_of_older_generation_is_not_told_of_newer():
    before = build()
    made = build(ASKING, previous=before, generation=8)
    found = {entry["type"]: entry for entry in made["conditions"]}
    assert (found["ConfigInForce"]["status"], found["ConfigInForce"]["reason"]) == (
        "Unknown",
        "NotAsked",
    )


def test_first_not_asked_state_is_no_event():
    told = [it.type for it in policy_status.changes(build(), build(ASKING, generation=8))]
    assert told == []


def test_false_condition_outranks_unknown_one():
    unknown = config_in_force.Force(in_force=1, unknown=(SILENT,))
    assert verdict("Ready", facts(force=unknown, injection=Problem("TooOld", "m"))) == (
        "False",
        "TooOld",
    )


def test_policy_without_pods_is_in_force():
    seen = facts(coverage=policy_status.Coverage(), force=config_in_force.Force())
    assert verdict("ConfigInForce", seen) == ("True", "NoPods")
    assert verdict("PodsCovered", seen) == ("True", "NoPods")
    assert verdict("Ready", seen) == ("True", "Ready")


def test_policy_that_cannot_be_read_has_status_too():
    seen = policy_status.Facts(refused=Problem("Invalid", "spec.quota: is missing"))
    made = build(seen, policy=None)
    assert "provider" not in made
    assert verdict("Accepted", seen, policy=None) == ("False", "Invalid")


def test_unreadable_policy_keeps_only_what_was_seen():
    before, seen = (
        build(),
        policy_status.Facts(refused=Problem("Invalid", "spec.quota: is missing")),
    )
    made = build(seen, policy=None, previous=before)
    said = {entry["type"]: entry["status"] for entry in made["conditions"]}
    assert said.pop("Ready") == "False"
    assert said.pop("Accepted") == "False"
    assert set(said.values()) == {"Unknown"}
    assert {entry["type"] for entry in made["conditions"]} == {
        entry["type"] for entry in before["conditions"]
    }
    for kept in ("pods", "document", "quota"):
        assert made[kept] == before[kept]


def test_policy_without_document_is_not_in_force():
    refused = Problem("SpacesDiffer", "m")
    assert verdict("ConfigInForce", facts(refused=refused, stale=True)) == ("False", "NotAccepted")
    assert verdict("Ready", facts(refused=refused, stale=True)) == ("False", "SpacesDiffer")


def test_every_problem_is_told_up_to_few():
    problems = tuple(Problem("KeyMissing", f"secret/shop has no key K{i}") for i in range(7))
    message = condition("SecretsSynced", facts(secrets=troubled(*problems)))["message"]
    assert "K0" in message
    assert "K4" in message
    assert "K5" not in message
    assert "2 more" in message


def test_names_of_missing_pods_are_told_up_to_ten():
    missing = tuple(f"pod-{i}" for i in range(12))
    seen = facts(coverage=policy_status.Coverage(matching=14, covered=2, missing=missing))
    assert build(seen)["pods"]["missing"] == list(missing[:10])
    assert "pod-10" not in condition("PodsCovered", seen)["message"]


def test_overlap_is_there_for_loser_alone():
    seen = facts(coverage=policy_status.Coverage(matching=2, covered=2, lost_to="older"))
    assert verdict("Overlap", seen) == ("True", "OlderPolicyWins")
    assert "older" in condition("Overlap", seen)["message"]
    assert "Overlap" not in {entry["type"] for entry in build()["conditions"]}


def test_limit_without_shared_store_is_per_pod():
    alone = policies.parsed(
        quota={"daily": {"requests": 5}, "unlimited": False, "onStoreLoss": "Deny"},
        cache={"ttlSeconds": 5, "memory": {"maxBytes": 5}},
    )
    assert verdict("QuotaExact", policy=alone) == ("False", "NoSharedStore")


def test_store_that_may_forget_is_said_to():
    forgets = LiveQuota(
        used=1, limit=5, reset_at=NOW, exact=False, exact_reason="StoreMayForget: appendfsync is no"
    )
    found = condition("QuotaExact", facts(quota=forgets))
    assert (found["status"], found["reason"]) == ("False", "StoreMayForget")
    assert found["message"] == "appendfsync is no"


def test_unlimited_quota_shows_what_is_used():
    lifted = policies.parsed(
        quota={"daily": {"requests": 10_000}, "unlimited": True, "onStoreLoss": "Deny"}
    )
    made = build(policy=lifted)["quota"]
    assert made["summary"] == "3/unlimited"
    assert "limit" not in made


def test_quota_nobody_can_tell_stays_as_it_was():
    before = build()
    assert build(facts(quota=None), previous=before)["quota"] == before["quota"]
    assert "quota" not in build(facts(quota=None))


def times(made):
    return {entry["type"]: entry["lastTransitionTime"] for entry in made["conditions"]}


def test_same_facts_make_same_status_at_any_time():
    first = build(now=THEN)
    assert build(previous=first, now=NOW) == first


def test_only_flipped_status_has_new_time():
    first = build(now=THEN)
    flipped = times(build(facts(secrets=troubled(SEALED)), previous=first, now=NOW))
    changed = {kind for kind, time in flipped.items() if time == "2026-01-01T11:00:00Z"}
    assert changed == {"Ready", "SecretsSynced"}


def test_new_reason_alone_keeps_time():
    first = build(facts(secrets=troubled(SEALED)), now=THEN)
    second = build(facts(secrets=troubled(Problem("KeyMissing", "m"))), previous=first, now=NOW)
    assert times(second) == times(first)


def test_first_good_status_is_no_news():
    assert policy_status.changes({}, build()) == []


def test_news_is_what_has_another_status_or_reason():
    first = build()
    second = build(facts(secrets=troubled(SEALED)), previous=first)
    assert {found.type for found in policy_status.changes(first, second)} == {
        "Ready",
        "SecretsSynced",
    }
    third = build(facts(secrets=troubled(Problem("KeyMissing", "m"))), previous=second)
    assert {found.reason for found in policy_status.changes(second, third)} == {"KeyMissing"}
    assert policy_status.changes(third, third) == []


def properties(section):
    definition = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][section]


def unknown(made, schema, path=""):
    """Fields of a status that the resource does not have, which the API server would drop."""
    if isinstance(made, list):
        return [found for item in made for found in unknown(item, schema["items"], f"{path}[]")]
    if not isinstance(made, dict):
        return []
    there = schema.get("properties", {})
    lost = [f"{path}.{key}" for key in made if key not in there]
    return lost + [
        found
        for key, inner in made.items()
        if key in there
        for found in unknown(inner, there[key], f"{path}.{key}")
    ]


def test_pending_read_of_vault_is_no_event():
    asked = facts(secrets=secret_status.Secrets(pending=("secret/app",)))
    first = build(asked)
    assert policy_status.changes({}, first) == []
    assert policy_status.changes(first, build(previous=first)) == []
    troubles = policy_status.changes(first, build(facts(secrets=troubled(SEALED)), previous=first))
    assert {found.type for found in troubles} == {"Ready", "SecretsSynced"}


def test_resource_has_place_for_all_that_is_said():
    source = secret_status.Source(secret="app", path="secret/app", version=3, changed_at=THEN)
    seen = facts(
        coverage=policy_status.Coverage(matching=3, covered=2, missing=("c",), lost_to="older"),
        secrets=secret_status.Secrets(sources=(source,)),
        refreshed="now",
        environment_since="2026-01-01T10:00:00Z",
        covering=covering(),
        alert_test={
            "value": "1",
            "time": "2026-01-01T10:00:00Z",
            "result": "Delivered",
            "message": "m",
            "receivers": ["hook"],
        },
    )
    made = build(seen)
    assert unknown(made, properties("status")) == []
    assert set(made) == set(properties("status")["properties"])


def test_environment_that_was_made_anew_is_as_old_as_first():
    first = policy_status.environment_since({}, created_at="2026-01-01T10:00:00Z")
    made = build(facts(environment_since=first))
    for created_at in ("2026-01-01T11:00:00Z", None):
        assert policy_status.environment_since(made, created_at=created_at) == first
    assert policy_status.environment_since({}, created_at=None) is None


def merged(target, patch):
    """RFC 7386, section 2, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    made = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merged(made.get(key), value)
    return made


VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
STATUSES = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@given(STATUSES, STATUSES)
def test_merge_patch_turns_one_status_into_other(previous, wanted):
    assert merged(previous, conditions.merge_patch(previous, wanted)) == wanted


@given(STATUSES)
def test_unchanged_status_is_not_written(same):
    assert conditions.merge_patch(same, copy.deepcopy(same)) == {}


def test_providers_guarded_is_no_part_of_ready_and_needs_no_policy():
    guards = conditions.Verdict("False", "NotGuarded", "both are off")
    seen = facts(guards=guards)
    assert verdict("ProvidersGuarded", seen) == ("False", "NotGuarded")
    assert condition("ProvidersGuarded", seen)["message"] == "both are off"
    assert verdict("Ready", seen) == ("True", "Ready")
    assert "ProvidersGuarded" not in policy_status.TOLD
    refused = policy_status.Facts(refused=Problem("Invalid", "m"), guards=guards)
    assert verdict("ProvidersGuarded", refused, policy=None) == ("False", "NotGuarded")


PROOFS = {
    "RulesLoaded": conditions.Verdict("False", "NotLoaded", "0 of 1"),
    "Scraped": conditions.Verdict("Unknown", "NotConfigured", "none"),
}


def test_monitoring_conditions_inform_and_do_not_decide_ready():
    seen = facts(proofs=PROOFS)
    assert verdict("RulesLoaded", seen) == ("False", "NotLoaded")
    assert verdict("Scraped", seen) == ("Unknown", "NotConfigured")
    assert verdict("Ready", seen) == ("True", "Ready")


def test_missing_rules_are_event_and_missing_servers_are_not():
    previous = build(
        facts(proofs={"RulesLoaded": conditions.Verdict("Unknown", "NotConfigured", "")})
    )
    assert [it.reason for it in policy_status.changes({}, previous)] == []
    told = policy_status.changes(previous, build(facts(proofs=PROOFS), previous=previous))
    assert [(it.type, it.reason) for it in told] == [("RulesLoaded", "NotLoaded")]


def test_test_alert_is_told_and_kept():
    test = {"value": "1", "time": "2026-01-01T10:00:00Z", "result": "Running", "message": "m"}
    made = build(facts(alert_test=test))
    assert made["alertTest"] == test
    assert build(previous=made, policy=None)["alertTest"] == test


def test_alert_that_is_left_out_is_named_and_touches_nothing_else():
    refused = (
        Problem("ExpressionRefused", "spec.alerts.additional[Own] is ignored: expr x"),
        Problem("LabelRefused", "spec.alerts.additional[Other] is ignored: the label y"),
    )
    seen = facts(alerts_refused=refused)
    assert verdict("AlertsAccepted", seen) == ("False", "ExpressionRefused")
    message = condition("AlertsAccepted", seen)["message"]
    assert "additional[Own]" in message
    assert "additional[Other]" in message
    assert verdict("Ready", seen) == ("True", "Ready")


def test_alerts_that_are_off_are_accepted():
    off = policies.parsed(alerts={"enabled": False})
    assert verdict("AlertsAccepted", policy=off) == ("True", "AlertsOff")


# --- since when each new pod should be covered


def covering(previous=None, *, selector=None, is_possible=True, now=NOW):
    return policy_status.covering(
        previous or {}, selector=selector or {}, is_possible=is_possible, now=now
    )


def test_pods_that_were_missed_make_ready_false_and_are_named():
    """C1: until they are gone; older ones do not touch Ready."""
    older = policy_status.Coverage(matching=3, covered=1, missing=("a", "b"))
    assert verdict("Ready", facts(coverage=older)) == ("True", "Ready")
    missed = policy_status.Coverage(matching=3, covered=1, missing=("a", "b"), missed=("b",))
    assert verdict("Ready", facts(coverage=missed)) == ("False", "PodsMissed")
    assert verdict("PodsCovered", facts(coverage=missed)) == ("False", "PodsMissed")
    message = condition("Ready", facts(coverage=missed))["message"]
    assert message.startswith("1 of 3 ")
    assert message.endswith(": b.")


def test_deciding_condition_outranks_missed_pods():
    missed = policy_status.Coverage(matching=1, missing=("b",), missed=("b",))
    found = facts(coverage=missed, secrets=troubled(SEALED))
    assert verdict("Ready", found) == ("False", "VaultSealed")


def test_covering_begins_once_and_stays():
    first = covering()
    assert first == policy_status.Covering("2026-01-01T11:00:03Z", first.selector)
    previous = build(facts(covering=first))
    assert covering(previous, now=NOW + timedelta(days=1)) == first


def test_covering_ends_with_what_it_needs_and_begins_anew():
    """C1, a sibling: pods of a namespace that was not enabled for a while are nobody's to miss."""
    previous = build(facts(covering=covering()))
    assert covering(previous, is_possible=False) is None
    assert "covering" not in build(facts(covering=None), previous=previous)


def test_another_selector_begins_anew():
    """C1, a sibling: pods that were not selected when they were made are not missed."""
    previous = build(facts(covering=covering()))
    other = covering(previous, selector={"matchLabels": {"app": "x"}}, now=NOW + timedelta(hours=1))
    assert other is not None
    assert other.since == "2026-01-01T12:00:03Z"


def test_bypassing_says_of_each_pod_why():
    """C2 and C14."""
    coverage = policy_status.Coverage(
        matching=3, covered=3, bypassing=2, detours=("a: container x ...",)
    )
    told = condition("PodsCovered", facts(coverage=coverage))["message"]
    assert "a: container x ...; 1 started before" in told


@pytest.mark.parametrize(
    ("word", "reason", "cause"),
    [
        ("identity_refused_aadsts90002", "IdentityRefused", "does not know azure.tenantID"),
        ("identity_refused_aadsts700016", "IdentityRefused", "not know azure.clientID"),
        ("identity_refused_aadsts700213", "IdentityRefused", "no federated credential with"),
        ("identity_refused_aadsts70025", "IdentityRefused", "no federated credential at all"),
        ("identity_refused_aadsts700024", "IdentityRefused", "outside its time"),
        ("identity_refused_aadsts1", "IdentityRefused", "azure.tenantID and azure.clientID"),
        ("identity_refused", "IdentityRefused", "azure.tenantID and azure.clientID"),
        ("identity_unreachable", "IdentityUnreachable", "azure.authority"),
        ("identity_missing", "IdentityMissing", "restart pods"),
        ("identity_denied", "IdentityDenied", "Cognitive Services OpenAI User"),
    ],
)
def test_problem_of_identity_names_field_and_cause(word, reason, cause):
    force = config_in_force.Force(in_force=3, failures_told=3, failures={("azure", word): 2})
    found = config_in_force.reach_verdict(force, generation=1, previous={})
    assert (found.status, found.reason) == ("False", reason)
    assert found.message.startswith(f"azure: {word} in 2 of 3 pods. ")
    assert cause in found.message
    assert len(found.message) < 600


def test_causes_of_failed_providers_are_condition_apart_from_ready():
    """B8: the cause, in the sidecar's word."""
    failures = {("main", "certificate_untrusted"): 2, ("other", "name_unknown"): 1}
    force = config_in_force.Force(in_force=3, keys_told=3, failures_told=3, failures=failures)
    found = condition("ProvidersReached", facts(force=force))
    assert (found["status"], found["reason"]) == ("False", "CertificateUntrusted")
    assert "main: certificate_untrusted in 2 of 3 pods" in found["message"]
    assert verdict("Ready", facts(force=force)) == ("True", "Ready")
    older = config_in_force.Force(in_force=3, keys_told=3)
    assert verdict("ProvidersReached", facts(force=older)) == ("Unknown", "NotTold")


def test_missing_pull_secrets_are_named_and_do_not_change_ready():
    def found(missing):
        verdict = policy_status.pull_secrets_verdict(missing)
        listed = build(facts(pull_secrets=verdict))["conditions"]
        return {it["type"]: it for it in listed}

    lacking = found(["registry", "mirror"])
    assert lacking["PullSecretsFound"]["status"] == "False"
    assert "registry, mirror" in lacking["PullSecretsFound"]["message"]
    assert lacking["Ready"]["status"] == "True"
    assert found([])["PullSecretsFound"]["status"] == "True"
    assert "PullSecretsFound" not in {it["type"] for it in build()["conditions"]}
