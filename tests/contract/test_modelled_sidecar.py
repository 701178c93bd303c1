"""A real sidecar and the model of it in runs of `make scale` tell the operator the same."""

import asyncio

import pytest

from embedding_contract import document, fingerprint, formats, names
from embedding_operator import errors
from embedding_operator.sidecars import config_request, targets
from tests.parts import answering, sidecar
from tests.scale import sidecars

pytestmark = pytest.mark.integration

ADDRESS = "127.0.0.1"
UID = "uid-1"
TEXT = document.dump(
    document.PolicyDocument(
        namespace="shop",
        name="search",
        providers=(
            document.Provider(
                name="p",
                kind="OpenAICompatible",
                model="e5",
                base_url="http://model.example/v1",
                api_key_file=None,
            ),
        ),
        quota=document.Quota(daily_requests=None),
    )
)
ENTRIES = {names.SECRET_API_TOKEN: sidecar.TOKEN.encode(), names.SECRET_CACHE_KEY: b"0" * 64}


@pytest.fixture(scope="module", params=["real", "model"])
def port(request, tmp_path_factory):
    """Where a sidecar tells what it obeys."""
    folder = tmp_path_factory.mktemp(request.param)
    yield from real(folder) if request.param == "real" else model()


def real(folder):
    (folder / "policy.json").write_text(TEXT)
    (folder / "secrets").mkdir()
    for name, value in ENTRIES.items():
        (folder / "secrets" / name).write_bytes(value)
    running = sidecar.Sidecar(
        *("--document", folder / "policy.json", "--secrets", folder / "secrets"),
        environment={names.ENV_POD_UID: UID},
        log=folder / "log",
    )
    try:
        running.wait()
        sidecar.wait_until(lambda: running.admin.get(names.PATH_CONFIG).is_success)
        yield running.admin_port
    finally:
        running.stop()


def model():
    mounted = sidecars.Mounted(
        document=TEXT,
        secrets=fingerprint.of_secrets(ENTRIES, token=sidecar.TOKEN.encode()),
        token=sidecar.TOKEN,
    )
    with answering.answering() as there:
        there.at(ADDRESS, sidecars.sidecar(mounted, uid=UID))
        yield there.port


def asked(port, *, uid=UID, token=sidecar.TOKEN):
    pod = targets.Pod(namespace="shop", name="pod-1", uid=uid, address=ADDRESS)
    return asyncio.run(config_request.Client(port=port).in_force(pod, token=token))


def test_sidecar_tells_its_document_and_secrets(port):
    found = asked(port)
    assert found.document == fingerprint.of_document(TEXT.encode())
    assert found.secrets == fingerprint.of_secrets(ENTRIES, token=sidecar.TOKEN.encode())
    assert (found.rejected, found.keys_refused, found.failures) == (None, frozenset(), frozenset())
    assert found.format == formats.CURRENT


@pytest.mark.parametrize("wrong", [{"uid": "uid-2"}, {"token": "another"}])
def test_sidecar_rejects_proof_for_other_pod_or_token(port, wrong):
    found = asked(port, **wrong)
    assert isinstance(found, errors.Problem)
    assert "rejected the operator's proof" in found.message
