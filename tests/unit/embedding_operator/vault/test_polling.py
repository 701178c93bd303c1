"""One read per identity, path and interval for all policies; and the cost of failures."""

import pytest

from embedding_operator import vault
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.vault import access_rules, connections, kv, reading, sessions
from embedding_operator.vault.failures import Scope, VaultReadError

RULES = access_rules.parse([{"namespace": "*", "mount": "secret", "path": "*"}])
SETTINGS = vault.Settings(address="http://127.0.0.1:1", poll_seconds=60, retry_seconds=1)
SEARCH, MAIL = ObjectKey("shop", "search"), ObjectKey("shop", "mail")
SENTINEL = "s3cr3t"

SEALED = VaultReadError("VaultSealed", "sealed", scope=Scope.SERVER)
REFUSED = VaultReadError("LoginRefused", "refused", scope=Scope.IDENTITY, final=True)
SLOW = VaultReadError("VaultSlow", "slow", answered=False)
NO_ACCOUNT = VaultReadError("ServiceAccountMissing", "nobody", scope=Scope.IDENTITY, answered=False)
FAILING = VaultReadError("VaultFailing", "failing")
FORBIDDEN = VaultReadError("VaultForbidden", "forbidden", final=True)
DELETED = VaultReadError("VersionDeleted", "deleted", gone=True)


def address(path="keys", role="reader", namespace="shop") -> vault.Address:
    return vault.Address(vault.Identity(namespace, "embedding-vault", role), "secret", path)


def content(value: str, version: int = 1) -> reading.Content:
    stamp = kv.Stamp(version, "2026-01-01T00:00:00Z", "", destroyed=False)
    return reading.Content(values={"KEY": value.encode()}, stamp=stamp)


class Vault(reading.Reader):
    """What stands at paths, and how often each was asked for."""

    def __init__(self) -> None:
        self.holds: dict[str, reading.Content | VaultReadError] = {}
        self.asked: list[str] = []
        self.patience: list[float] = []
        self.forgotten: list[vault.Identity] = []

    def read(self, address, *, known, patience_seconds):
        self.asked.append(address.path)
        self.patience.append(patience_seconds)
        found = self.holds.get(address.path, content("one"))
        if isinstance(found, VaultReadError):
            raise found
        return found

    def forget(self, identity):
        self.forgotten.append(identity)


class Polling:
    """A poller whose threads are played by the test, under a clock of its own."""

    def __init__(self, **settings) -> None:
        self.now = 0.0
        self.vault = Vault()
        self.told: list[ObjectKey] = []
        self.poller = vault.Poller(
            reader=self.vault,
            settings=SETTINGS,
            rules=settings.get("rules", RULES),
            changed=self.told.append,
            clock=lambda: self.now,
        )

    def run(self, seconds: float) -> None:
        """All looks that become due in so many seconds."""
        until = self.now + seconds
        queue = self.poller._queue
        while True:
            due = min(queue._due.values(), default=float("inf"))
            if due > until:
                self.now = until
                return
            self.now = max(self.now, due)
            key = queue.take()
            assert key is not None
            again = self.poller.poll(key)
            queue.done(key, failed=False)
            if again is not None:
                queue.add(key, after_seconds=again)

    def follow(self, *paths, policy=SEARCH):
        self.poller.follow(policy, frozenset(map(address, paths)))

    def problem(self, path="keys") -> str | None:
        found = self.poller.read(address(path)).problem
        return found.reason if found else None

    def value(self, path="keys") -> bytes | None:
        values = self.poller.read(address(path)).values
        return values["KEY"] if values else None


def test_look_under_way_when_its_last_policy_goes_leaves_no_login(monkeypatch):
    run = Polling()
    run.follow("keys")
    signed_in = run.vault.read

    def read(*where, **how):
        run.follow()
        return signed_in(*where, **how)

    monkeypatch.setattr(run.vault, "read", read)
    run.run(0)
    identity = address().identity
    assert run.vault.forgotten == [identity, identity]  # again, after the look has signed in
    assert run.told == []
    run.run(600)
    assert run.vault.asked == ["keys"]


@pytest.mark.parametrize(("asked_seconds", "waits_seconds"), [(7, 7), (3600, 60)])
def test_vault_is_not_asked_before_it_wants_to_be_nor_later_than_interval(
    asked_seconds, waits_seconds
):
    run = Polling()
    run.follow("keys")
    run.vault.holds["keys"] = VaultReadError("VaultBusy", "busy", retry_after_seconds=asked_seconds)
    run.run(waits_seconds - 0.001)
    assert run.vault.asked == ["keys"]
    run.run(0.001)
    assert run.vault.asked == ["keys", "keys"]


def test_value_is_pending_until_first_read_and_no_caller_waits():
    run = Polling()
    run.follow("keys")
    assert run.poller.read(address()).pending
    assert run.vault.asked == []
    run.run(0)
    assert run.value() == b"one"
    assert run.told == [SEARCH]


def test_one_look_serves_all_policies_of_identity():
    run = Polling()
    run.follow("keys")
    run.follow("keys", policy=MAIL)
    run.run(0)
    assert run.vault.asked == ["keys"]
    assert set(run.told) == {SEARCH, MAIL}


def test_another_identity_has_looks_of_its_own():
    run = Polling()
    run.poller.follow(SEARCH, frozenset({address(), address(role="other")}))
    run.run(0)
    assert run.vault.asked == ["keys", "keys"]


def test_unchanged_value_is_not_told():
    run = Polling()
    run.follow("keys")
    run.run(600)
    assert 10 <= len(run.vault.asked) <= 14
    assert run.told == [SEARCH]


def test_paths_that_were_first_looked_at_together_part_at_once():
    run = Polling()
    paths = [f"path-{number}" for number in range(100)]
    run.follow(*paths)
    run.run(0)
    assert len(run.vault.asked) == 100
    run.run(30)
    assert 120 <= len(run.vault.asked) <= 190
    run.run(30)
    assert set(run.vault.asked[100:]) == set(paths), "none waits longer than the interval"


def test_polls_gather_in_rounds_of_interval():
    run = Polling()
    run.now = 0.4
    run.follow(*(f"path-{number}" for number in range(500)))
    run.run(0)
    due = set(run.poller._queue._due.values())
    assert len(due) > 30
    assert all(it == pytest.approx(round(it)) and 1 <= it <= 60 for it in due)


def test_another_value_is_told_to_those_who_use_it():
    run = Polling()
    run.follow("keys")
    run.follow("other", policy=MAIL)
    run.run(0)
    run.told.clear()
    run.vault.holds["keys"] = content("two", 2)
    run.run(60)
    assert run.value() == b"two"
    assert run.poller.read(address()).version == 2
    assert run.told == [SEARCH]


def test_failing_path_backs_off_to_interval_of_good_one():
    run = Polling()
    run.follow("keys")
    run.vault.holds["keys"] = FAILING
    run.run(4)
    assert 3 <= len(run.vault.asked) <= 5
    run.run(596)
    asked = len(run.vault.asked)
    assert asked <= 30
    run.run(60)
    assert len(run.vault.asked) > asked
    assert run.told == [SEARCH], "and told once"


@pytest.mark.parametrize("failure", [SEALED, SLOW, FAILING])
def test_last_good_values_are_kept_while_vault_cannot_be_read(failure):
    run = Polling()
    run.follow("keys")
    run.run(0)
    run.vault.holds["keys"] = failure
    run.run(60)
    assert run.problem() == failure.reason
    assert run.value() == b"one"
    run.vault.holds["keys"] = content("two", 2)
    run.run(60)
    assert (run.problem(), run.value()) == (None, b"two")


@pytest.mark.parametrize("failure", [FORBIDDEN, REFUSED, DELETED])
def test_value_that_vault_denies_is_forgotten(failure):
    run = Polling()
    run.follow("keys")
    run.run(0)
    run.vault.holds["keys"] = failure
    run.run(60)
    assert run.problem() == failure.reason
    assert run.value() is None
    assert run.poller.read(address()).gone is failure.gone


def test_sealed_vault_is_asked_once_per_step_and_not_once_per_path():
    run = Polling()
    paths = [f"path-{number}" for number in range(50)]
    run.follow(*paths)
    run.run(60)
    before = len(run.vault.asked)
    run.vault.holds |= dict.fromkeys(paths, SEALED)
    run.run(600)
    assert len(run.vault.asked) - before <= 30
    assert {run.problem(path) for path in paths} == {"VaultSealed"}


def test_return_of_vault_reaches_all_paths_after_one_step():
    run = Polling()
    paths = [f"path-{number}" for number in range(50)]
    run.vault.holds |= dict.fromkeys(paths, SEALED)
    run.follow(*paths)
    run.run(3)
    run.vault.holds.clear()
    run.run(4)
    assert {run.problem(path) for path in paths} == {None}


def test_first_success_after_outage_reads_all_paths_at_once():
    run = Polling()
    paths = [f"path-{number}" for number in range(50)]
    run.vault.holds |= dict.fromkeys(paths, SEALED)
    run.follow(*paths)
    run.run(300)
    run.vault.holds.clear()
    run.poller.refresh([address("path-7")])
    run.run(0)
    assert {run.problem(path) for path in paths} == {None}


def test_refused_login_is_tried_once_per_step_and_stops_no_other_identity():
    run = Polling()
    paths = [f"path-{number}" for number in range(20)]
    run.vault.holds |= dict.fromkeys(paths, REFUSED)
    theirs = address("theirs", role="other")
    run.poller.follow(SEARCH, frozenset(map(address, paths)))
    run.poller.follow(MAIL, frozenset({theirs}))
    run.run(600)
    asked = run.vault.asked
    assert len([path for path in asked if path != "theirs"]) <= 30
    assert asked.count("theirs") >= 10
    assert run.poller.read(theirs).problem is None


def test_one_path_that_hangs_does_not_stop_others():
    run = Polling()
    run.follow("hangs", "keys")
    run.run(0)
    run.vault.holds["hangs"] = SLOW
    run.run(600)
    assert run.problem("hangs") == "VaultSlow"
    assert run.problem("keys") is None
    assert run.vault.asked.count("keys") >= 10


def test_two_paths_that_hang_with_no_answer_in_between_are_vaults_fault():
    run = Polling()
    paths = [f"path-{number}" for number in range(20)]
    run.vault.holds |= dict.fromkeys(paths, SLOW)
    run.follow(*paths)
    run.run(0)
    assert len(run.vault.asked) == 2
    assert {run.problem(path) for path in paths} == {"VaultSlow"}


def test_paths_of_one_namespace_that_hang_do_not_stop_others():
    """A tenant whose own engine hangs: field.md, D1, of another client of ours."""
    run = Polling()
    theirs = address("keys", namespace="mail")
    run.poller.follow(MAIL, frozenset({theirs}))
    run.run(0)
    paths = [f"path-{number}" for number in range(20)]
    run.vault.holds |= dict.fromkeys(paths, SLOW)
    run.follow(*paths)
    run.run(0)
    assert {run.problem(path) for path in paths} == {"VaultSlow"}
    assert run.poller.read(theirs).problem is None
    run.run(600)
    assert run.poller.read(theirs).problem is None
    assert run.vault.asked.count("keys") >= 10


def test_one_namespace_holds_half_of_workers_at_most():
    run = Polling()
    run.follow(*(f"path-{number}" for number in range(20)))
    theirs = address("keys", namespace="mail")
    run.poller.follow(MAIL, frozenset({theirs}))
    taken = [run.poller._queue.take() for _ in range(SETTINGS.concurrency // 2 + 1)]
    assert theirs in taken


@pytest.mark.parametrize("silence", [SLOW, NO_ACCOUNT])
def test_unanswered_read_is_no_sign_that_vault_is_back(silence):
    run = Polling()
    paths = [f"path-{number}" for number in range(20)]
    run.vault.holds |= dict.fromkeys(paths, SEALED)
    run.follow(*paths)
    other = address("other", role="other")
    run.poller.follow(MAIL, frozenset({other}))
    run.vault.holds["other"] = silence
    run.run(300)
    before = len(run.vault.asked)
    run.poller.refresh([other])
    run.run(0)
    assert run.vault.asked[before:] == ["other"]
    assert {run.problem(path) for path in paths} <= {"VaultSealed", "VaultSlow"}


def test_refresh_looks_at_once_and_once_whatever_backoff():
    run = Polling()
    run.follow("keys")
    run.vault.holds["keys"] = SEALED
    run.run(300)
    run.vault.holds.clear()
    before = len(run.vault.asked)
    run.poller.refresh([address(), address()])
    run.run(0)
    assert len(run.vault.asked) == before + 1
    assert run.value() == b"one"


def test_refresh_of_what_nobody_follows_asks_nobody():
    run = Polling()
    run.poller.refresh([address()])
    run.run(600)
    assert run.vault.asked == []


def test_login_is_not_made_anew_sooner_than_step_of_path_that_is_forbidden():
    run = Polling()
    run.follow("keys")
    run.vault.holds["keys"] = FORBIDDEN
    run.run(600)
    assert run.vault.patience[:4] == [1, 2, 4, 8]
    assert run.vault.patience[-1] == 60


def test_path_outside_guard_is_never_asked_for():
    rules = access_rules.parse(
        [{"namespace": "shop", "mount": "secret", "path": "{{namespace}}/*"}]
    )
    run = Polling(rules=rules)
    run.follow("bank/keys")
    run.run(600)
    assert run.vault.asked == []
    assert run.problem("bank/keys") == "PathNotAllowed"


def test_path_without_followers_is_forgotten():
    run = Polling()
    for number in range(100):
        run.follow(f"path-{number}")
        run.run(30)
    assert len(run.poller._watched) == 1
    run.poller.follow(SEARCH, frozenset())
    run.run(600)
    assert run.vault.forgotten == [address().identity]
    assert not run.poller._watched
    assert not run.poller._followed
    assert not run.poller._identities
    assert len(run.poller._queue) == 0


def test_path_that_another_policy_still_follows_stays():
    run = Polling()
    run.follow("keys")
    run.follow("keys", policy=MAIL)
    run.run(0)
    run.follow()
    assert run.value() == b"one"
    assert run.vault.forgotten == []


def test_values_and_tokens_are_masked_in_repr():
    client = connections.Client(address="http://127.0.0.1:9", timeout_seconds=1, token=SENTINEL)
    session = sessions.Session(
        serial=1,
        vault=client,
        since=0,
        lease_seconds=1,
        renewable=False,
        renew_at=1,
        expires_at=1,
    )
    known = vault.Reading(values={"KEY": SENTINEL.encode()})
    for held in (session, known, content(SENTINEL), kv.State({"KEY": SENTINEL})):
        assert SENTINEL not in repr(held)
