"""A reconcile on a real API server: the objects afterwards, whatever happened in between."""

import base64
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import cluster as throwaway
from embedding_contract import fingerprint, names
from embedding_operator import errors, sidecars
from embedding_operator.cli import preview
from embedding_operator.kube import kinds
from embedding_operator.render import secrets
from embedding_operator.status import quota_status
from tests.parts import kubectl, reconciling

pytestmark = pytest.mark.cluster

EVERYTHING = Path(__file__).parents[1] / "contract" / "cases" / "good" / "everything.yaml"
KEYS = "secret/shop/embeddings"
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "search"}},
        "providers": [
            {
                "name": "openai",
                "type": "OpenAI",
                "model": "text-embedding-3-small",
                "apiKey": {"vault": {"mount": "secret", "path": "shop/embeddings", "key": "KEY"}},
            }
        ],
        "secrets": [
            {
                "name": "database",
                "vault": {"mount": "secret", "path": "shop/database"},
                "keys": [{"key": "password", "as": "PASSWORD"}],
            }
        ],
    },
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "search-1", "labels": {"app": "search"}},
    "spec": {"containers": [{"name": "app", "image": "app:1"}]},
}


@pytest.fixture(scope="session")
def monitored(api_server: kubectl.Kubectl) -> kubectl.Kubectl:
    """The API server, with the kinds of the Prometheus operator."""
    folder = throwaway.artifact("prometheus-operator-crds")
    for plural in ("prometheusrules", "podmonitors"):
        api_server.define(folder / f"monitoring.coreos.com_{plural}.yaml")
    return api_server


@pytest.fixture
def user(monitored: kubectl.Kubectl, namespace: str) -> kubectl.Kubectl:
    monitored("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    return monitored


@pytest.fixture
def run(user: kubectl.Kubectl, namespace: str) -> reconciling.Reconciling:
    """A reconciler whose Vault holds what POLICY asks for; POLICY is applied."""
    made = reconciling.Reconciling(reconciling.connect(user.kubeconfig), namespace)
    made.store.paths = {KEYS: {"KEY": b"sk-1"}, "secret/shop/database": {"password": b"pw-1"}}
    apply(user, namespace, POLICY)
    return made


def apply(user, namespace, *objects):
    user.apply(*({**it, "metadata": {**it["metadata"], "namespace": namespace}} for it in objects))


def edited(**spec):
    return {**POLICY, "spec": {**POLICY["spec"], **spec}}


def held(run, name) -> dict[str, bytes]:
    return secrets.decode(run.get(kinds.SECRET, name))


def test_one_run_makes_everything_and_says_so(run):
    assert run("search") is None
    assert set(run.owned("search")) == {
        "ConfigMap/embedding-search-environment",
        "ConfigMap/embedding-search-document",
        "Secret/embedding-search",
        "Secret/database",
        "PrometheusRule/embedding-search",
        "PodMonitor/embedding-search",
    }
    owned = held(run, "embedding-search")
    assert owned["provider-openai"] == b"sk-1"
    assert len(owned["api-token"]) >= 32
    assert len(owned["cache-key"]) == 64
    assert held(run, "database") == {"PASSWORD": b"pw-1"}
    ready = run.condition("search", "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Ready")
    assert run.condition("search", "ConfigInForce")["reason"] == "NoPods"


def test_columns_show_what_status_says(run, user, namespace):
    run("search")
    shown = user("get", "embpol", "-n", namespace).splitlines()
    assert shown[0].split() == [
        "NAME",
        "READY",
        "REASON",
        "PROVIDER",
        "QUOTA",
        "PODS",
        "SECRETS",
        "AGE",
    ]
    assert shown[1].split()[:4] == ["search", "True", "Ready", "OpenAI/text-embedding-3-small"]


def test_object_in_desired_state_is_not_written_again(run):
    run("search")
    policy = run.get(kinds.POLICY, "search")
    before = run.owned("search")
    told = list(run.events.told)
    for _ in range(3):
        run("search")
    run.restart()
    run("search")
    assert run.get(kinds.POLICY, "search") == policy
    assert run.owned("search") == before
    assert run.events.told == told
    assert run.drifted == []


def test_policy_that_says_everything_is_as_stable(run, user, namespace):
    policy = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))
    apply(user, namespace, policy)
    name = policy["metadata"]["name"]
    run(name)
    before = (run.get(kinds.POLICY, name), run.owned(name))
    run.restart()
    run(name)
    assert (run.get(kinds.POLICY, name), run.owned(name)) == before


def test_render_without_cluster_equals_applied_objects(run, tmp_path):
    run("search")
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(POLICY), encoding="utf-8")
    policies = preview.read(file, namespace=run.namespace)
    rendered = {
        f"{it['kind']}/{it['metadata']['name']}": it
        for it in yaml.safe_load_all(preview.objects(policies))
    }
    applied = run.owned("search")
    assert set(rendered) == set(applied)
    for key, wanted in rendered.items():
        found = applied[key]
        assert wanted["metadata"]["labels"] == found["metadata"]["labels"]
        for part in ("data", "spec"):
            assert wanted.get(part) == (None if key.startswith("Secret/") else found.get(part))
        assert set(wanted.get("stringData", ())) == set(
            found["data"] if key.startswith("Secret/") else ()
        )


DRIFTS = {
    "a changed document": (
        *("patch", "configmap", "embedding-search-document"),
        *("-p", '{"data": {"document.json": "{}"}}'),
    ),
    "an entry too many in the environment": (
        *("patch", "configmap", "embedding-search-environment"),
        *("-p", '{"data": {"OPENAI_LOG": "debug"}}'),
    ),
    "a changed key": (
        *("patch", "secret", "embedding-search"),
        *("-p", '{"data": {"provider-openai": "eA=="}}'),
    ),
    "a removed label": ("label", "secret", "database", f"{names.LABEL_POLICY}-"),
    "a changed rule": (
        *("patch", "prometheusrule", "embedding-search", "--type=json"),
        *("-p", '[{"op": "remove", "path": "/spec/groups/0/rules/0"}]'),
    ),
    "a deleted Secret": ("delete", "secret", "database"),
    "a deleted document": ("delete", "configmap", "embedding-search-document"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_repaired_and_counted(run, user, namespace, drift):
    run("search")
    before = {key: reconciling.settled(it) for key, it in run.owned("search").items()}
    user(*DRIFTS[drift], "-n", namespace)
    assert {key: reconciling.settled(it) for key, it in run.owned("search").items()} != before
    run("search")
    assert {key: reconciling.settled(it) for key, it in run.owned("search").items()} == before
    assert len(run.drifted) == 1


def test_api_token_is_made_once(run):
    run("search")
    token = held(run, "embedding-search")["api-token"]
    run.restart()
    run.store.paths[KEYS] = {"KEY": b"sk-2"}
    run("search")
    assert held(run, "embedding-search")["api-token"] == token


def test_cache_key_is_made_once_and_outlives_api_token(run, user, namespace):
    run("search")
    before = held(run, "embedding-search")
    assert re.fullmatch(rb"[0-9a-f]{64}", before["cache-key"])
    patch = '{"data":{"api-token":null}}'
    user("patch", "secret", "embedding-search", "-n", namespace, "--type=merge", "-p", patch)
    run.restart()
    run("search")
    after = held(run, "embedding-search")
    assert after["api-token"] != before["api-token"]
    assert after["cache-key"] == before["cache-key"]


@pytest.mark.parametrize("nonsense", [b"", b"00", b"A" * 64, b"g" * 64, b"0" * 63 + b"\n"])
def test_cache_key_that_is_none_is_made_anew(run, user, namespace, nonsense):
    run("search")
    encoded = base64.b64encode(nonsense).decode()
    patch = json.dumps({"data": {"cache-key": encoded}})
    user("patch", "secret", "embedding-search", "-n", namespace, "--type=merge", "-p", patch)
    run("search")
    assert re.fullmatch(rb"[0-9a-f]{64}", held(run, "embedding-search")["cache-key"])


def test_cache_keys_of_two_policies_differ(run, user, namespace):
    other = {**POLICY, "metadata": {"name": "other"}, "spec": {**POLICY["spec"], "secrets": []}}
    apply(user, namespace, other)
    run("search")
    run("other")
    assert held(run, "embedding-search")["cache-key"] != held(run, "embedding-other")["cache-key"]


def test_label_that_others_added_stays(run, user, namespace):
    run("search")
    user("label", "secret", "database", "-n", namespace, "team=search")
    run("search")
    assert run.get(kinds.SECRET, "database")["metadata"]["labels"]["team"] == "search"


def test_second_owner_that_others_added_stays(run, user, namespace):
    run("search")
    user("create", "configmap", "theirs", "-n", namespace)
    uid = user.get("configmap", "theirs", "-n", namespace)["metadata"]["uid"]
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": uid}
    patch = json.dumps([{"op": "add", "path": "/metadata/ownerReferences/-", "value": theirs}])
    user("patch", "secret", "database", "-n", namespace, "--type=json", "-p", patch)
    run("search")
    assert theirs in run.get(kinds.SECRET, "database")["metadata"]["ownerReferences"]
    assert run.drifted == []


def test_rotated_key_reaches_secret(run):
    run("search")
    run.store.paths[KEYS] = {"KEY": b"sk-2"}
    run("search")
    assert held(run, "embedding-search")["provider-openai"] == b"sk-2"
    assert run.drifted == []


def test_secret_that_vault_cannot_give_stays_and_is_named(run):
    run("search")
    sealed = errors.Problem("VaultSealed", f"Vault is sealed; {KEYS}")
    run.store.paths = {KEYS: sealed, "secret/shop/database": sealed}
    again = run("search")
    assert again is not None
    assert again < 60
    assert held(run, "embedding-search")["provider-openai"] == b"sk-1"
    assert held(run, "database") == {"PASSWORD": b"pw-1"}
    for kind in ("SecretsSynced", "Ready"):
        found = run.condition("search", kind)
        assert (found["status"], found["reason"]) == ("False", "VaultSealed")
        assert KEYS in found["message"]


def test_policy_applied_while_vault_is_sealed_heals_by_itself(run):
    sealed = errors.Problem("VaultSealed", f"Vault is sealed; {KEYS}")
    kept, run.store.paths = run.store.paths, {KEYS: sealed, "secret/shop/database": sealed}
    run("search")
    assert set(held(run, "embedding-search")) == {"api-token", "cache-key"}
    run.get(kinds.CONFIG_MAP, "embedding-search-environment")
    run.get(kinds.CONFIG_MAP, "embedding-search-document")
    run.store.paths = kept
    run("search")
    assert run.condition("search", "Ready")["status"] == "True"


def test_key_that_is_missing_in_vault_is_named(run):
    run.store.paths[KEYS] = {"OTHER": b"sk"}
    run("search")
    found = run.condition("search", "SecretsSynced")
    assert found["reason"] == "KeyMissing"
    assert "no key KEY at secret/shop/embeddings" in found["message"]


def test_key_may_come_from_secret_of_namespace(run, user, namespace):
    provider = {
        **POLICY["spec"]["providers"][0],
        "apiKey": {"secretKeyRef": {"name": "keys", "key": "openai"}},
    }
    apply(user, namespace, edited(providers=[provider], secrets=[]))
    run("search")
    found = run.condition("search", "SecretsSynced")
    assert found["reason"] == "SecretMissing"
    assert "Secret keys" in found["message"]
    user("create", "secret", "generic", "keys", "--from-literal=openai=sk-9\n", "-n", namespace)
    run("search")
    assert held(run, "embedding-search")["provider-openai"] == b"sk-9\n"
    assert run.condition("search", "Ready")["status"] == "True"


def test_secret_of_somebody_else_is_not_touched(run, user, namespace):
    user("create", "secret", "generic", "database", "--from-literal=theirs=1", "-n", namespace)
    before = run.get(kinds.SECRET, "database")
    run("search")
    assert run.get(kinds.SECRET, "database") == before
    found = run.condition("search", "SecretsSynced")
    assert found["reason"] == "ForeignObject"
    assert "Secret database belongs to" in found["message"]
    assert held(run, "embedding-search")["provider-openai"] == b"sk-1"


def test_secret_of_another_policy_is_not_touched(run, user, namespace):
    run("search")
    apply(user, namespace, {**POLICY, "metadata": {"name": "other"}})
    before = run.get(kinds.SECRET, "database")
    run("other")
    assert run.get(kinds.SECRET, "database") == before
    assert "belongs to EmbeddingPolicy search" in run.condition("other", "SecretsSynced")["message"]


@pytest.mark.parametrize("was_away", [False, True])
def test_objects_that_lost_their_policy_are_taken_up_by_next_of_its_name(
    run, user, namespace, was_away
):
    """C9; a sibling: the operator was away meanwhile, and knows nothing of before."""
    run("search")
    token = held(run, "embedding-search")["api-token"]
    user("delete", "embpol", "search", "-n", namespace, "--cascade=orphan")
    # The garbage collector orphans what it knows; kinds that are new to it, up to 30 s later.
    deadline = time.monotonic() + 90
    while any(it["metadata"].get("ownerReferences") for it in run.owned("search").values()):
        assert time.monotonic() < deadline, "the garbage collector left an owner that has gone"
        time.sleep(0.2)
    apply(user, namespace, POLICY)
    if was_away:
        run.restart()
    run("search")
    assert run.condition("search", "Ready")["status"] == "True"
    assert held(run, "embedding-search")["api-token"] == token
    uid = run.get(kinds.POLICY, "search")["metadata"]["uid"]
    for found in run.owned("search").values():
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [uid]


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_owner_that_was_taken_off_is_put_back(run, user, namespace, kind):
    """C9, a sibling: as where a backup was put back, which leaves owners out."""
    run("search")
    patch = json.dumps({"metadata": {"ownerReferences": None}})
    found = [it for it in run.owned("search") if it.startswith(f"{kind}/")]
    assert found
    for it in found:
        user("patch", it, "-n", namespace, "--type=merge", "-p", patch)
    run("search")
    uid = run.get(kinds.POLICY, "search")["metadata"]["uid"]
    owned = run.owned("search")
    for it in found:
        assert [owner["uid"] for owner in owned[it]["metadata"]["ownerReferences"]] == [uid]


def test_policy_that_cannot_be_obeyed_leaves_last_good_document(run, user, namespace):
    run("search")
    before = run.get(kinds.CONFIG_MAP, "embedding-search-document")
    keys = held(run, "embedding-search")
    backup = {
        "name": "voyage",
        "type": "Voyage",
        "model": "voyage-3-lite",
        "apiKey": {"secretKeyRef": {"name": "keys", "key": "voyage"}},
    }
    apply(user, namespace, edited(providers=[*POLICY["spec"]["providers"], backup]))
    run("search")
    found = run.condition("search", "Accepted")
    assert (found["status"], found["reason"]) == ("False", "SpacesDiffer")
    assert found["observedGeneration"] == 2
    assert run.get(kinds.CONFIG_MAP, "embedding-search-document") == before
    assert held(run, "embedding-search") == keys


def test_policy_without_alerts_has_no_monitoring_objects(run, user, namespace):
    run("search")
    apply(user, namespace, edited(alerts={"enabled": False}))
    run("search")
    kinds = {key.partition("/")[0] for key in run.owned("search")}
    assert kinds == {"ConfigMap", "Secret"}


class Unmonitored:
    """An API server without the Prometheus operator's kinds."""

    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)

    def serves(self, kind):
        return kind not in {kinds.PROMETHEUS_RULE, kinds.POD_MONITOR}


def test_monitoring_comes_when_its_kinds_come(run):
    run.restart(Unmonitored(run.subject))
    run("search")
    found = run.condition("search", "MonitoringApplied")
    assert (found["status"], found["reason"]) == ("False", "CRDsAbsent")
    assert run.condition("search", "Ready")["status"] == "True"
    run.restart()
    run("search")
    assert run.condition("search", "MonitoringApplied")["status"] == "True"


def test_deleted_policy_takes_its_objects_along(run, user, namespace):
    run("search")
    user("delete", "embpol", "search", "-n", namespace)
    assert run("search") is None
    wait_until(lambda: not run.owned("search"))


def test_crash_at_any_write_is_healed_by_next_run(run, user, namespace):
    run("search")
    wanted = {key: reconciling.settled(it) for key, it in run.owned("search").items()}
    conditions = [
        (it["type"], it["status"], it["reason"]) for it in run.status("search")["conditions"]
    ]
    for after in (False, True):
        at = 0
        while True:
            at += 1
            user("delete", "embpol", "search", "-n", namespace, "--cascade=foreground")
            assert run.owned("search") == {}
            apply(user, namespace, POLICY)
            counted = reconciling.Crashing(run.subject, at=at, after=after)
            run.restart(counted)
            try:
                run("search")
            except reconciling.CrashError:
                run.restart()
                run("search")
            found = {key: reconciling.settled(it) for key, it in run.owned("search").items()}
            assert found == wanted
            assert [
                (it["type"], it["status"], it["reason"])
                for it in run.status("search")["conditions"]
            ] == conditions
            if counted.writes < at:
                break
        assert at > len(wanted)


# --- pods


def wait_until(check, seconds=20):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def create_pod(user, namespace, pod, *, address="10.1.1.1", **seen):
    """A pod that runs, as far as the API server knows."""
    reconciling.wait_for_default_account(user, namespace)
    apply(user, namespace, pod)
    name = pod["metadata"]["name"]
    status = json.dumps({"status": {"phase": "Running", "podIP": address, **seen}})
    user("patch", "pod", name, "-n", namespace, "--subresource=status", "-p", status)


def wanted_of(run) -> sidecars.InForce:
    """What a sidecar reports that obeys what stands in the cluster."""
    document = run.get(kinds.CONFIG_MAP, "embedding-search-document")["data"]["document.json"]
    entries = held(run, "embedding-search")
    return sidecars.InForce(
        document=fingerprint.of_document(document.encode()),
        secrets=fingerprint.of_secrets(entries, token=entries["api-token"]),
        rejected=None,
    )


def started(moment):
    """What a kubelet says of an application that runs since then."""
    app = {"name": "app", "image": "app:1", "imageID": "", "ready": True, "restartCount": 0}
    return {"containerStatuses": [{**app, "state": {"running": {"startedAt": moment}}}]}


def test_restored_environment_makes_no_pod_bypass_sidecar(run, user, namespace):
    def created_at():
        found = run.get(kinds.CONFIG_MAP, "embedding-search-environment")
        return found["metadata"]["creationTimestamp"]

    run("search")
    since = created_at()
    with_sidecar = reconciling.injected(POD, policy="search")
    create_pod(user, namespace, with_sidecar, **started(since))
    deadline = time.monotonic() + 20
    while created_at() == since:  # which tells seconds
        assert time.monotonic() < deadline
        user("delete", "configmap", "embedding-search-environment", "-n", namespace)
        run("search")
    run.restart()
    run("search")
    assert run.status("search")["environmentSince"] == since
    assert run.status("search")["pods"]["bypassing"] == 0


def test_application_older_than_environment_bypasses_sidecar(run, user, namespace):
    with_sidecar = reconciling.injected(POD, policy="search")
    create_pod(user, namespace, with_sidecar, **started("2026-01-01T00:00:00Z"))
    run("search")
    run("search")
    assert run.status("search")["pods"]["bypassing"] == 1
    assert run.condition("search", "PodsCovered")["reason"] == "PodsBypassing"


def test_pod_that_runs_without_its_sidecar_is_named(run, user, namespace):
    create_pod(user, namespace, POD)
    run("search")
    assert run.status("search")["pods"]["missing"] == ["search-1"]
    assert run.status("search")["pods"]["summary"] == "0/1"
    assert run.condition("search", "PodsCovered")["reason"] == "PodsMissed"


def test_configuration_is_in_force_when_sidecar_says_so(run, user, namespace):
    create_pod(user, namespace, reconciling.injected(POD, policy="search"))
    assert run("search") is None
    assert run.condition("search", "ConfigInForce")["status"] == "Unknown"
    assert "search-1 cannot be asked" in run.condition("search", "ConfigInForce")["message"]
    run.asks.obeys["10.1.1.1"] = sidecars.InForce(document="", secrets="", rejected=None)
    run("search")
    assert run.condition("search", "ConfigInForce")["status"] == "False"
    run.asks.obeys["10.1.1.1"] = wanted_of(run)
    assert run("search") is None
    assert run.condition("search", "ConfigInForce")["status"] == "True"
    assert run.status("search")["pods"]["inForce"] == 1
    assert run.condition("search", "Ready")["status"] == "True"
    assert run.asks.tokens == {held(run, "embedding-search")["api-token"].decode()}


def test_refused_document_is_told_with_sidecars_reason(run, user, namespace):
    create_pod(user, namespace, reconciling.injected(POD, policy="search"))
    run.asks.obeys["10.1.1.1"] = sidecars.InForce(
        document="old", secrets="old", rejected="requires: this sidecar lacks grants"
    )
    run("search")
    found = run.condition("search", "ConfigInForce")
    assert found["status"] == "False"
    assert "search-1 requires: this sidecar lacks grants" in found["message"]


def test_day_of_sidecar_is_in_status(run, user, namespace):
    create_pod(user, namespace, reconciling.injected(POD, policy="search"))
    run.asks.obeys["10.1.1.1"] = sidecars.InForce(document="", secrets="", rejected=None)
    run.asks.days["10.1.1.1"] = quota_status.LiveQuota(
        used=42,
        limit=10_000,
        reset_at=datetime(2026, 1, 2, tzinfo=UTC),
        exact=True,
        exact_reason="",
    )
    run("search")
    assert run.status("search")["quota"] == {
        "used": 42,
        "limit": 10_000,
        "resetAt": "2026-01-02T00:00:00Z",
        "summary": "42/10000",
    }


def test_limits_of_sidecar_are_in_status_and_exceeded_ones_are_observed(run, user, namespace):
    priced = [{**POLICY["spec"]["providers"][0], "pricePerMillionTokens": "0.02"}]
    quota = {"mode": "Observe", "monthly": {"tokens": 5, "cost": "25.00"}}
    apply(user, namespace, edited(providers=priced, quota=quota))
    create_pod(user, namespace, reconciling.injected(POD, policy="search"))
    run.asks.obeys["10.1.1.1"] = sidecars.InForce(document="", secrets="", rejected=None)
    ends = datetime(2026, 2, 1, tzinfo=UTC)
    money = quota_status.LiveLimit(
        period="month", unit="cost", limit="25.00", used="25.000001", reserved="0", reset_at=ends
    )
    tokens = quota_status.LiveLimit(
        period="month", unit="tokens", limit=5, used=5, reserved=0, reset_at=ends
    )
    run.asks.days["10.1.1.1"] = quota_status.LiveQuota(
        used=42,
        limit=10_000,
        reset_at=datetime(2026, 1, 2, tzinfo=UTC),
        exact=True,
        exact_reason="",
        mode="Observe",
        limits=(tokens, money),
    )
    run("search")
    told = run.status("search")["quota"]
    assert told["mode"] == "Observe"
    assert [(it["unit"], it["limit"], it["used"]) for it in told["limits"]] == [
        ("tokens", 5, 5),
        ("cost", "25.00", "25.000001"),
    ]
    found = run.condition("search", "QuotaObserved")
    assert (found["status"], found["reason"]) == ("True", "LimitExceeded")
    assert "cost of the month: 25.000001 of 25.00" in found["message"]
    assert "tokens" not in found["message"]
    apply(user, namespace, edited(providers=priced, quota={**quota, "mode": "Enforce"}))
    run("search")
    assert "QuotaObserved" not in {it["type"] for it in run.status("search")["conditions"]}


def test_limit_of_cost_without_price_leaves_last_good_document(run, user, namespace):
    run("search")
    before = run.get(kinds.CONFIG_MAP, "embedding-search-document")
    unpriced = [{**POLICY["spec"]["providers"][0], "model": "new"}]
    apply(user, namespace, edited(providers=unpriced, quota={"monthly": {"cost": "25.00"}}))
    run("search")
    found = run.condition("search", "Accepted")
    assert (found["status"], found["reason"]) == ("False", "PriceUnknown")
    assert "spec.providers[0].pricePerMillionTokens" in found["message"]
    assert run.get(kinds.CONFIG_MAP, "embedding-search-document") == before


def test_younger_of_two_policies_says_that_it_lost(run, user, namespace):
    run("search")
    time.sleep(1.1)  # creation times have whole seconds
    apply(user, namespace, {**POLICY, "metadata": {"name": "a-younger-one"}})
    create_pod(user, namespace, POD)
    run("a-younger-one")
    found = run.condition("a-younger-one", "Overlap")
    assert found["status"] == "True"
    assert "search" in found["message"]
    run("search")
    assert run.status("search")["pods"]["missing"] == ["search-1"]
    assert "Overlap" not in {it["type"] for it in run.status("search")["conditions"]}


def test_no_secret_value_is_in_status_or_event(run):
    run("search")
    run.store.paths[KEYS] = {"OTHER": b"sk-1"}
    run("search")
    owned = held(run, "embedding-search")
    values = {b"sk-1", b"pw-1", owned["api-token"], owned["cache-key"]}
    written = repr(run.get(kinds.POLICY, "search")) + repr(run.events.told)
    for value in values:
        assert value.decode() not in written
        assert base64.b64encode(value).decode() not in written


def test_condition_that_changed_is_told_once(run):
    run.store.paths[KEYS] = errors.Problem("VaultSealed", f"Vault is sealed; {KEYS}")
    for _ in range(3):
        run("search")
    warnings = [told for told in run.events.told if told.startswith("Warning VaultSealed")]
    assert len(warnings) <= 2  # SecretsSynced, and Ready
    assert any("SecretsSynced=False" in told for told in warnings)
