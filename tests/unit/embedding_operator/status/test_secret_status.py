"""The status of secrets: versions, times and reasons, and nothing that changes by itself."""

from datetime import UTC, datetime

from embedding_operator.errors import Problem
from embedding_operator.status import secret_status

THEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def source(secret="app", path="secret/app", **more):
    return secret_status.Source(secret=secret, path=path, **more)


def part(*sources, previous=None, poll_seconds=60.0):
    seen = secret_status.Secrets(sources=sources, poll_seconds=poll_seconds)
    return secret_status.part(seen, previous=previous or {})


def verdict(*problems, previous=None, generation=3, **more):
    seen = secret_status.Secrets(problems=problems, **more)
    return secret_status.verdict(seen, generation=generation, previous=previous or {})


def test_policy_without_vault_says_nothing_of_it():
    assert part() == {}


def test_each_path_has_its_version_and_when_it_was_written():
    made = part(
        source(version=3, changed_at=NOW), source("mail", "secret/mail", version=1, changed_at=THEN)
    )
    assert made == {
        "summary": "2/2",
        "versions": "app=3, mail=1",
        "lastChanged": "2026-01-02T03:04:05Z",
        "nextCheckWithinSeconds": 60,
        "paths": [
            {
                "secret": "app",
                "path": "secret/app",
                "version": 3,
                "lastChanged": "2026-01-02T03:04:05Z",
            },
            {
                "secret": "mail",
                "path": "secret/mail",
                "version": 1,
                "lastChanged": "2026-01-01T00:00:00Z",
            },
        ],
    }


def test_unreadable_secret_is_not_counted_and_keeps_last_version():
    before = part(source(version=3, changed_at=NOW))
    made = part(source(is_good=False), previous={"secrets": before})
    assert made["summary"] == "0/1"
    assert made["paths"] == before["paths"]


def test_last_count_stays_until_all_secrets_are_read():
    before = {"secrets": part(source(), source("mail", "secret/mail"))}
    looked, yet = source(version=1), source("mail", "secret/mail", is_good=None)
    assert part(looked, yet, previous=before)["summary"] == "2/2"
    assert part(looked, yet)["summary"] == "1/2"
    assert part(yet, previous=before)["summary"] == "0/1"


def test_interval_below_second_is_told_as_one():
    assert part(source(), poll_seconds=0.1)["nextCheckWithinSeconds"] == 1


def test_path_that_is_read_whole_is_named_with_reason():
    message = verdict(sources=(source(whole="metadata is forbidden"), source())).message
    assert "secret/app (metadata is forbidden)" in message


def test_condition_of_same_generation_stays_until_first_read():
    condition = {
        "type": "SecretsSynced",
        "status": "True",
        "reason": "Synced",
        "message": "m",
        "observedGeneration": 3,
    }
    previous = {"conditions": [condition]}
    pending = ("secret/app",)
    assert verdict(pending=pending, previous=previous) == ("True", "Synced", "m")
    asked = verdict(pending=pending, previous=previous, generation=4)
    assert asked[:2] == ("Unknown", "NotReadYet")
    assert "secret/app" in asked.message
    assert verdict(pending=pending)[:2] == ("Unknown", "NotReadYet")


def test_problem_is_told_even_while_other_paths_are_not_looked_at_yet():
    assert verdict(Problem("KeyMissing", "m"), pending=("secret/app",)).reason == "KeyMissing"


def test_refusal_of_guard_comes_first():
    found = verdict(Problem("KeyMissing", "no K"), Problem("PathNotAllowed", "not secret/bank"))
    assert found.reason == "PathNotAllowed"
    assert found.message == "not secret/bank; no K. Values already in a Secret stay."


def test_value_from_secret_of_operator_is_not_said_to_stay():
    found = verdict(Problem("KeyMissing", "no K"), Problem("SecretOfOperator", "embedding-b"))
    assert found.reason == "SecretOfOperator"
    assert found.message == "embedding-b; no K. Other values already in a Secret stay."


def test_deleted_secret_is_named():
    found = verdict(Problem("VersionDeleted", "it is deleted"), deleted=("app",))
    assert found.message == (
        "it is deleted. Deleted by deletionPolicy: app. Other values already in a Secret stay."
    )
