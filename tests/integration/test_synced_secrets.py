"""Secrets kept in sync with Vault, on a real API server: kept, repaired, deleted, reported."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.render import secrets
from embedding_operator.vault import Reading
from tests.parts import kubectl, reconciling

pytestmark = pytest.mark.cluster

DATABASE = "secret/shop/database"
WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1_048_576
PROVIDER = {
    "name": "local",
    "type": "OpenAICompatible",
    "model": "e5",
    "baseURL": "http://e5.models.svc/v1",
}


def entry(name="database", path="shop/database", **more) -> dict[str, Any]:
    return {"name": name, "vault": {"mount": "secret", "path": path}, **more}


class Gone:
    """What Vault may say of a path that holds nothing."""

    DELETED = Reading(problem=errors.Problem("VersionDeleted", f"{DATABASE} is deleted"), gone=True)
    AWAY = Reading(problem=errors.Problem("VaultSealed", f"Vault is sealed; {DATABASE}"))
    FORBIDDEN = Reading(problem=errors.Problem("VaultForbidden", f"forbidden: {DATABASE}"))


class Run(reconciling.Reconciling):
    """A policy `search` of one namespace, and the Secrets it keeps."""

    def __init__(self, user: kubectl.Kubectl, namespace: str) -> None:
        super().__init__(reconciling.connect(user.kubeconfig), namespace)
        self.user = user
        self.store.paths = {DATABASE: good(password=b"pw-1")}

    def apply(self, *entries: dict[str, Any], **spec: Any) -> None:
        self.user.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": "search", "namespace": self.namespace},
                "spec": {
                    "podSelector": {},
                    "providers": [PROVIDER],
                    "secrets": list(entries),
                    **spec,
                },
            }
        )
        self("search")

    def held(self, name: str = "database") -> dict[str, bytes] | None:
        found = self.objects.get(kinds.SECRET, self.namespace, name)
        return None if found is None else secrets.decode(found)

    def synced(self) -> tuple[str, str]:
        found = self.condition("search", "SecretsSynced")
        return found["status"], found["reason"]

    def message(self) -> str:
        text: str = self.condition("search", "SecretsSynced")["message"]
        return text


def good(version: int = 1, **values: bytes) -> Reading:
    return Reading(values=values, version=version, changed_at=WRITTEN)


@pytest.fixture
def run(api_server: kubectl.Kubectl, namespace: str) -> Run:
    return Run(api_server, namespace)


# --- deletion


@pytest.mark.parametrize("policy", [{}, {"deletionPolicy": "Retain"}])
def test_secret_deleted_in_vault_stays_in_cluster_by_default(run, policy):
    run.apply(entry(**policy))
    run.store.paths[DATABASE] = Gone.DELETED
    run("search")
    assert run.held() == {"password": b"pw-1"}
    assert run.synced() == ("False", "VersionDeleted")
    assert run.message().endswith("Values already in a Secret stay.")


def test_secret_with_deletion_policy_delete_goes_and_comes_back(run):
    run.apply(entry(deletionPolicy="Delete"))
    run.store.paths[DATABASE] = Gone.DELETED
    run("search")
    assert run.held() is None
    assert run.synced() == ("False", "VersionDeleted")
    assert "Deleted by deletionPolicy: database." in run.message()
    run.store.paths[DATABASE] = good(2, password=b"pw-2")
    run("search")
    assert run.held() == {"password": b"pw-2"}
    assert run.synced() == ("True", "Synced")
    assert run.drifted == []


@pytest.mark.parametrize("found", [Gone.AWAY, Gone.FORBIDDEN])
def test_unreadable_secret_is_never_deleted(run, found):
    run.apply(entry(deletionPolicy="Delete"))
    run.store.paths[DATABASE] = found
    run("search")
    assert run.held() == {"password": b"pw-1"}


def test_foreign_secret_is_not_deleted_either(run):
    run.user("create", "secret", "generic", "database", "--from-literal=a=1", "-n", run.namespace)
    run.store.paths[DATABASE] = Gone.DELETED
    run.apply(entry(deletionPolicy="Delete"))
    assert run.held() == {"a": b"1"}


def test_secret_goes_with_its_entry(run):
    run.store.paths["secret/shop/mail"] = good(token=b"t")
    run.apply(entry(), entry("mail", "shop/mail"))
    assert run.held("mail") == {"token": b"t"}
    run.apply(entry())
    assert run.held("mail") is None
    assert run.held() == {"password": b"pw-1"}
    assert run.held("embedding-search") is not None


def test_entry_removed_in_operators_absence_is_cleaned_up(run):
    run.apply(entry())
    run.restart()
    run.apply()
    assert run.held() is None


def test_secret_that_was_given_to_somebody_else_stays_when_its_entry_goes(run):
    run.apply(entry())
    patch = json.dumps({"metadata": {"ownerReferences": None, "labels": {names.LABEL_POLICY: "x"}}})
    run.user("patch", "secret", "database", "-n", run.namespace, "--type=merge", "-p", patch)
    run.apply()
    assert run.held() == {"password": b"pw-1"}


# --- drift


@pytest.mark.parametrize("change", [("delete",), ("patch", "-p", '{"data":{"password":"eA=="}}')])
def test_drift_is_repaired_also_while_vault_is_away(run, change):
    run.apply(entry())
    run.store.paths[DATABASE] = Reading(
        values={"password": b"pw-1"}, problem=Gone.AWAY.problem, version=1, changed_at=WRITTEN
    )
    run.user(change[0], "secret", "database", "-n", run.namespace, *change[1:])
    run("search")
    assert run.held() == {"password": b"pw-1"}
    assert run.drifted == ["Secret"]
    assert run.synced() == ("False", "VaultSealed")


# --- values


VALUES = {
    "lines": b"-----BEGIN-----\nline\r\n\n-----END-----\n",
    "nothing": b"",
    "no text": b"\x00\xff\xfe",
    "base64 that stays so": b"AAEC",
    "exactly as much as a Secret takes": b"x" * MIB,
}


@pytest.mark.parametrize("case", VALUES)
def test_value_is_kept_as_it_is(run, case):
    run.store.paths[DATABASE] = good(password=VALUES[case])
    run.apply(entry())
    assert run.synced() == ("True", "Synced")
    assert run.held() == {"password": VALUES[case]}


@pytest.mark.parametrize("keys", [{}, {"keys": [{"key": "password"}]}])
def test_one_byte_more_leaves_old_secret_and_names_path_and_key(run, keys):
    run.apply(entry(**keys))
    run.store.paths[DATABASE] = good(2, password=b"x" * (MIB + 1))
    run("search")
    assert run.held() == {"password": b"pw-1"}
    assert run.synced() == ("False", "SecretTooLarge")
    for told in (DATABASE, "in key password", str(MIB + 1)):
        assert told in run.message()


def test_key_may_have_another_name_in_secret(run):
    run.store.paths[DATABASE] = good(a=b"1", b=b"2", c=b"3")
    run.apply(entry(keys=[{"key": "a", "as": "A"}, {"key": "b"}]))
    assert run.held() == {"A": b"1", "b": b"2"}


# --- what is told


def test_status_tells_version_last_change_and_next_check_and_no_value(run):
    run.store.paths[DATABASE] = good(3, password=b"pw-s3cr3t")
    run.apply(entry())
    assert run.status("search")["secrets"] == {
        "summary": "1/1",
        "versions": "database=3",
        "lastChanged": "2026-01-01T00:00:00Z",
        "nextCheckWithinSeconds": 60,
        "paths": [
            {
                "secret": "database",
                "path": DATABASE,
                "version": 3,
                "lastChanged": "2026-01-01T00:00:00Z",
            }
        ],
    }
    shown = run.user("get", "embpol", "-n", run.namespace, "-o", "wide").splitlines()
    at = {name: shown[0].index(name) for name in ("SECRETS", "VERSIONS", "CHANGED", "CHECK")}
    row = {name: shown[1][place:].split()[0] for name, place in at.items()}
    assert (row["SECRETS"], row["VERSIONS"], row["CHECK"]) == ("1/1", "database=3", "60")
    assert row["CHANGED"].endswith("d")


def test_status_is_not_written_for_passing_of_time(run):
    run.apply(entry())
    before = run.get(kinds.POLICY, "search")
    for _ in range(3):
        run("search")
    run.store.paths[DATABASE] = Gone.AWAY
    run("search")
    failing = run.get(kinds.POLICY, "search")
    assert failing != before
    for _ in range(3):
        run("search")
    assert run.get(kinds.POLICY, "search") == failing


def test_policy_whose_paths_nobody_has_looked_at_yet_keeps_its_status(run):
    run.apply(entry())
    before = run.get(kinds.POLICY, "search")
    run.restart()
    run.store.paths[DATABASE] = Reading()
    run("search")
    assert run.get(kinds.POLICY, "search") == before
    assert run.held() == {"password": b"pw-1"}
    run.store.paths["secret/shop/mail"] = Reading()
    run.apply(entry(), entry("mail", "shop/mail"))
    assert run.synced() == ("Unknown", "NotReadYet")
    assert run.condition("search", "Ready")["status"] == "Unknown"


def test_refusal_is_event_that_names_rule(run):
    rule = "namespace shop may read secret/shop/*"
    refused = errors.Problem("PathNotAllowed", f"may not read {DATABASE} (vault.allowed: {rule})")
    run.store.paths[DATABASE] = Reading(problem=refused)
    run.apply(entry())
    assert run.synced() == ("False", "PathNotAllowed")
    assert any(it.startswith("Warning PathNotAllowed") and rule in it for it in run.events.told)


def annotate(run, value):
    asked = f"{names.ANNOTATION_REFRESH}={value}"
    run.user("annotate", "embpol", "search", "-n", run.namespace, "--overwrite", asked)
    run("search")


def test_refresh_asks_vault_at_once_and_once(run):
    run.apply(entry())
    assert run.store.refreshed == []
    annotate(run, "now")
    assert run.store.refreshed == [DATABASE]
    assert run.status("search")["refreshed"] == "now"
    run("search")
    run.restart()
    run("search")
    assert run.store.refreshed == [DATABASE]
    annotate(run, "again")
    assert run.store.refreshed == [DATABASE] * 2


def test_problem_is_read_less_and_less_often(run):
    run.store.paths[DATABASE] = Gone.AWAY
    run.apply(entry())
    seconds = 0.0
    run._reconciler._clock = lambda: seconds
    run._reconciler._missing_since.clear()
    waits = []
    for _ in range(40):
        waits.append(run("search"))
        seconds += waits[-1]
    assert waits[0] == 3
    assert waits[-1] == 60
    assert waits == sorted(waits)
