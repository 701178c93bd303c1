"""The status of a ClusterEmbeddingProvider, out of facts."""

from datetime import UTC, datetime, timedelta

import pytest

from embedding_operator.errors import Problem
from embedding_operator.status import class_status
from embedding_operator.status.class_status import Facts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def build(facts, *, previous=None, now=NOW, generation=1):
    return class_status.build(facts, generation=generation, previous=previous or {}, now=now)


def said(status):
    return {it["type"]: (it["status"], it["reason"]) for it in status["conditions"]}


@pytest.mark.parametrize(
    ("facts", "ready", "key"),
    [
        (Facts(), ("True", "Ready"), ("True", "Available")),
        (Facts(needs_key=False), ("True", "Ready"), ("True", "NoKeyNeeded")),
        (
            Facts(key=Problem("SecretMissing", "there is no Secret openai")),
            ("False", "SecretMissing"),
            ("False", "SecretMissing"),
        ),
        (Facts(pending="secret/openai"), ("Unknown", "NotReadYet"), ("Unknown", "NotReadYet")),
        (
            Facts(refused_for=Problem("PriceUnknown", "no price")),
            ("False", "PriceUnknown"),
            ("Unknown", "NotAccepted"),
        ),
    ],
)
def test_ready_sums_up_acceptance_and_key(facts, ready, key):
    found = said(build(facts))
    assert (found["Ready"], found["KeyAvailable"]) == (ready, key)


def test_condition_stays_as_it_was_until_path_is_polled():
    before = build(Facts())
    after = build(Facts(pending="secret/openai"), previous=before, now=NOW + timedelta(hours=1))
    assert after == before
    changed = build(Facts(pending="secret/openai"), previous=before, generation=2)
    assert said(changed)["KeyAvailable"] == ("Unknown", "NotReadYet")


def test_counts_are_told():
    status = build(Facts(policies=3, namespaces=2, refused=1))
    assert (status["policies"], status["namespaces"], status["refused"]) == (3, 2, 1)
