"""Models whose end is announced, in a policy's status and metric."""

from datetime import UTC, datetime

from embedding_operator.kube import conditions
from embedding_operator.status import policy_status, retirements
from tests.parts import policies

KEY = {"secretKeyRef": {"name": "keys", "key": "K"}}
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def voyage(model, name="voyage"):
    return {"name": name, "type": "Voyage", "model": model, "apiKey": KEY}


def test_end_is_beginning_of_vendors_day():
    (found,) = retirements.of(policies.parsed(providers=[voyage("voyage-3.5")]))
    assert datetime.fromtimestamp(found.unix_seconds, UTC) == datetime(2027, 12, 1, tzinfo=UTC)
    assert (found.provider, found.model) == ("voyage", "voyage-3.5")


def test_first_end_comes_first():
    wanted = policies.parsed(providers=[voyage("voyage-code-3", "code"), voyage("voyage-3-large")])
    assert [it.model for it in retirements.of(wanted)] == ["voyage-3-large", "voyage-code-3"]


def test_model_without_announced_end_has_no_condition():
    wanted = policies.parsed(providers=[voyage("voyage-4"), policies.compatible("voyage-3.5")])
    assert retirements.of(wanted) == ()
    assert retirements.verdict(()) is None


def test_condition_names_model_day_and_source_and_leaves_ready_alone():
    wanted = policies.parsed(providers=[voyage("voyage-3.5")])
    status = policy_status.build(
        policy=wanted, generation=1, facts=policy_status.Facts(), previous={}, now=NOW
    )
    (found,) = [it for it in status["conditions"] if it["type"] == "ModelRetires"]
    assert found["status"] == "True"
    assert "Voyage/voyage-3.5 of provider voyage on 2027-12-01" in found["message"]
    assert "docs.voyageai.com" in found["message"]
    assert retirements.CONDITION not in policy_status.DECISIVE
    assert retirements.CONDITION in conditions.AMISS
