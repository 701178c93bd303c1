"""The operator's documents, and those that real sidecars obey: both must count alike."""

import asyncio
import shutil

import pytest

from embedding_contract import fingerprint, names
from embedding_operator import errors, sidecars
from embedding_operator.policy import crd_schema, policy
from embedding_operator.render import configmaps, secrets
from embedding_operator.sidecars import config_request, targets
from embedding_operator.status import quota_status
from tests.fakes import provider
from tests.parts import ports
from tests.parts import sidecar as real
from tests.parts.volumes import Volume

pytestmark = pytest.mark.integration

POLICY = policy.parse(
    crd_schema.admit(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": "shop"},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "openai",
                        "type": "OpenAI",
                        "model": "text-embedding-3-small",
                        "apiKey": {"secretKeyRef": {"name": "keys", "key": "openai"}},
                    }
                ],
                "quota": {"daily": {"requests": 7}},
            },
        }
    )
)
VALUES = {
    names.SECRET_API_TOKEN: real.TOKEN.encode(),
    "provider-openai": b"sk-1\n",
    "unrelated": bytes(range(256)),
}
DOCUMENT = configmaps.policy_document(POLICY, policy.to_document(POLICY))["data"]
SECRET = secrets.decode(secrets.of(POLICY, "own", VALUES))


@pytest.fixture
def volumes(tmp_path):
    return Volume(tmp_path / "policy"), Volume(tmp_path / "secrets")


UID = "5a0d5d1c-97fc-4f6b-9a43-4a5b3c3a8a11"
POD = targets.Pod(namespace="shop", name="search-1", uid=UID, address="127.0.0.1")


@pytest.fixture
def running(volumes, tmp_path):
    """A sidecar that follows both volumes, which are empty at first."""
    document, held = volumes
    started = real.Sidecar(
        *("--document", document.folder / names.DOCUMENT_KEY, "--secrets", held.folder),
        environment={names.ENV_POD_UID: UID},
        log=tmp_path / "log",
    )
    try:
        yield started.wait()
    finally:
        started.stop()


@pytest.fixture
def asks(running):
    return config_request.Client(port=running.admin_port)


def in_force(asks, *, token=real.TOKEN, pod=POD):
    return asyncio.run(asks.in_force(pod, token=token))


def quota(asks, *, token=real.TOKEN):
    return asyncio.run(asks.quota(POD, token=token))


def wanted(entries=SECRET):
    text = DOCUMENT[names.DOCUMENT_KEY].encode()
    return sidecars.InForce(
        document=fingerprint.of_document(text),
        secrets=fingerprint.of_secrets(entries, token=entries[names.SECRET_API_TOKEN]),
        rejected=None,
        keys_refused=frozenset(),
        failures=frozenset(),
    )


def test_sidecar_obeys_what_operator_wrote_and_says_so_in_same_words(asks, volumes):
    document, held = volumes
    # Without a token nobody is told anything.
    assert isinstance(in_force(asks), errors.Problem)
    held.hold(SECRET)
    none_yet = sidecars.InForce(document="", secrets="", rejected=None)
    real.wait_until(lambda: in_force(asks) == none_yet)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())


def test_new_key_changes_what_it_says(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    rotated = {**SECRET, "provider-openai": b"sk-2"}
    held.hold(rotated)
    real.wait_until(lambda: in_force(asks) == wanted(rotated))
    assert wanted(rotated) != wanted()


def test_document_it_cannot_obey_is_told_with_reason(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    document.hold({names.DOCUMENT_KEY: '{"version": 2}'})
    real.wait_until(lambda: getattr(in_force(asks), "rejected", None))
    found = in_force(asks)
    assert found.document == wanted().document
    assert "version" in found.rejected


def test_day_is_told_with_its_limit(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: quota(asks))
    day = quota(asks)
    assert (day.used, day.limit) == (0, 7)
    assert day.reset_at.tzinfo is not None
    assert not day.exact
    assert day.exact_reason.startswith("NoSharedStore: ")


def spending(base_url):
    """A policy that only observes its 2 dollars a month; each token costs one."""
    server = {
        "name": "own",
        "type": "OpenAICompatible",
        "model": "m",
        "baseURL": base_url,
        "pricePerMillionTokens": "1000000",
    }
    quota = {"mode": "Observe", "daily": {"requests": 7}, "monthly": {"cost": "2"}}
    spec = {"podSelector": {}, "providers": [server], "quota": quota}
    metadata = {"name": "search", "namespace": "shop"}
    raw = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
    return policy.parse(crd_schema.admit(raw))


def test_exceeded_month_of_sidecar_reaches_condition_and_status(asks, running, volumes):
    document, held = volumes
    with real.served(provider.StandIn(key=None).app()) as url:
        wanted = spending(f"{url}/extended/v1")

        def observed():
            found = quota_status.observed_verdict(wanted, quota(asks))
            assert found is not None
            return found

        held.hold(SECRET)
        document.hold(configmaps.policy_document(wanted, policy.to_document(wanted))["data"])
        real.wait_until(lambda: quota(asks))
        (calls, money) = quota(asks).limits
        assert (calls.unit, calls.limit, money.unit, money.limit) == ("requests", 7, "cost", "2")
        assert observed().status == "False"
        assert running.embed("one two three", model="m").is_success  # 3 dollars
        real.wait_until(lambda: observed().status == "True")
        assert "cost of the month: 3 of 2" in observed().message
        made = quota_status.part(wanted, quota(asks), previous={})
        assert made["mode"] == "Observe"
        assert [(it["period"], it["unit"], it["used"]) for it in made["limits"]] == [
            ("day", "requests", 1),
            ("month", "cost", "3"),
        ]


def test_sidecar_tells_nothing_for_wrong_token_or_other_pod(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    assert "rejected the operator's proof" in in_force(asks, token="another").message
    assert quota(asks, token="another") is None
    other = targets.Pod(namespace="shop", name="b", uid="another", address="127.0.0.1")
    assert isinstance(in_force(asks, pod=other), errors.Problem)


def test_vanished_files_change_nothing(asks, volumes):
    document, held = volumes
    held.hold(SECRET)
    document.hold(DOCUMENT)
    real.wait_until(lambda: in_force(asks) == wanted())
    shutil.rmtree(document.folder)
    assert in_force(asks) == wanted()


def test_absent_pod_is_reported_as_problem():
    asks = config_request.Client(port=ports.free())
    for address in ("127.0.0.1", "::1"):
        nobody = targets.Pod(namespace="shop", name="search-1", uid=UID, address=address)
        assert isinstance(in_force(asks, pod=nobody), errors.Problem)
