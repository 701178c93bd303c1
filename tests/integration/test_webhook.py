"""A real API server asks the operator about pods, through a certificate that it made itself."""

import json
import time

import pytest

from embedding_contract import names
from embedding_operator.injection import skipped_pods
from tests.fakes import entra
from tests.parts import admitting, kubectl
from tests.parts.admitting import CONTAINER, create, sidecars
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]


def reads(api_server):
    """How often the operator has read what a review could ask for."""
    log = api_server.kubeconfig.parent / "log" / "audit.log"
    entries = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return sum(
        entry["user"]["username"] == admitting.USER
        and entry["verb"] in {"get", "list"}
        and entry.get("objectRef", {}).get("resource", "version")
        in {"version", "namespaces", names.PLURAL, "pods"}
        for entry in entries
    )


@pytest.fixture(scope="module")
def operator(api_server, tmp_path_factory):
    running = admitting.Operator(api_server, tmp_path_factory.mktemp("operator"))
    admitting.lead(api_server, running.webhook_port)
    running.start()
    wait(lambda: admitting.is_trusted(api_server), "a trusted authority", last=running.log)
    yield running
    running.stop()
    api_server("delete", "mutatingwebhookconfiguration", admitting.CONFIGURATION)


@pytest.fixture
def shop(api_server, namespace, operator):
    """A namespace that is enabled, with a policy for all of its pods."""
    admitting.open_shop(api_server, namespace)
    return namespace


def deploy(api_server, namespace, **spec):
    labels = {"app": "search"}
    api_server.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "search", "namespace": namespace},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [CONTAINER], **spec},
                },
            },
        }
    )


def test_bare_pod_gets_sidecar(api_server, shop):
    pod = create(api_server, shop)
    assert sidecars(pod) == [names.CONTAINER]
    assert pod["metadata"]["labels"][names.LABEL_INJECTED] == "search"


def test_sidecar_alone_gets_token_where_policy_has_identity(api_server, shop):
    azure = {"deployment": "d", "tenantID": entra.TENANT, "clientID": entra.CLIENT}
    api_server.apply(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "search", "namespace": shop},
            "spec": {
                "podSelector": {},
                "providers": [
                    {
                        "name": "azure",
                        "type": "AzureOpenAI",
                        "model": "text-embedding-3-small",
                        "baseURL": "https://shop.openai.azure.com",
                        "azure": azure,
                    }
                ],
            },
        }
    )

    def token():
        volumes = create(api_server, shop)["spec"]["volumes"]
        return [it["projected"] for it in volumes if it["name"] == names.VOLUME_IDENTITY]

    wait(token, "a token for the identity")
    pod = create(api_server, shop)
    asked = {"audience": names.AZURE_AUDIENCE, "expirationSeconds": 3600, "path": "azure"}
    assert token() == [{"defaultMode": 420, "sources": [{"serviceAccountToken": asked}]}]
    mounted = {
        it["name"]: it["mountPath"]
        for kind in ("initContainers", "containers")
        for container in pod["spec"][kind]
        for it in container["volumeMounts"]
        if container["name"] == names.CONTAINER or it["name"] == names.VOLUME_IDENTITY
    }
    assert mounted[names.VOLUME_IDENTITY] == names.IDENTITY_DIRECTORY
    others = [it for it in pod["spec"]["containers"] if it["name"] != names.CONTAINER]
    assert names.VOLUME_IDENTITY not in str(others)


def test_pods_that_controller_makes_get_it_too(api_server, shop):
    deploy(api_server, shop)

    def pods():
        return api_server.get("pods", "-n", shop, "-l", "app=search")["items"]

    wait(lambda: len(pods()) == 2, "two pods")
    assert [sidecars(pod) for pod in pods()] == [[names.CONTAINER]] * 2


def test_namespace_that_is_not_enabled_is_left_alone(api_server, namespace, operator):
    api_server.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
    )
    assert sidecars(create(api_server, namespace)) == []


def test_pod_without_sidecar_warns_its_applier(api_server, shop):
    with pytest.raises(kubectl.KubectlError, match=r"Warning: .*'serach'.* is not in this"):
        create(
            api_server,
            shop,
            metadata={"labels": {names.LABEL_POLICY: "serach"}},
            options=("--warnings-as-errors",),
        )


def test_dry_run_shows_sidecar(api_server, shop):
    assert sidecars(create(api_server, shop, options=("--dry-run=server",))) == [names.CONTAINER]


def events(api_server, namespace):
    """Kind and reason of those about pods without sidecar, and the message."""
    found = api_server.get("events", "-n", namespace)["items"]
    return [
        (it["involvedObject"]["kind"], it["reason"], it["message"])
        for it in found
        if it["reason"].startswith("EmbeddingSidecar")
    ]


def test_event_of_policy_says_which_controllers_pods_get_none_and_why(api_server, shop):
    deploy(api_server, shop, hostNetwork=True)

    def told():
        return [
            message
            for kind, reason, message in events(api_server, shop)
            if (kind, reason) == (names.KIND, "EmbeddingSidecarHostNetwork")
        ]

    wait(told, "an event", last=lambda: events(api_server, shop))
    assert told()[0].startswith("ReplicaSet search-")


def test_policy_that_is_asked_for_and_not_there_is_told_of_namespace(api_server, shop):
    create(api_server, shop, metadata={"labels": {names.LABEL_POLICY: "serach"}})

    def told():
        return [it[:2] for it in events(api_server, shop)]

    wait(lambda: ("Namespace", "EmbeddingSidecarPolicyNotFound") in told(), "an event", last=told)


def test_forged_reviews_make_no_event_about_what_is_not_there(api_server, shop, operator):
    """D7: any pod may send reviews, that name whatever it likes."""
    for number in range(150):
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True, "uid": "u"}
        pod = {
            "metadata": {
                "generateName": "x-",
                "namespace": shop,
                "ownerReferences": [owner | {"name": f"forged-{number}"}],
            },
            "spec": {"containers": [CONTAINER], "hostNetwork": True},
        }
        assert operator.review(pod, namespace=shop)["response"]["allowed"]
    wait(lambda: events(api_server, shop), "an event")
    time.sleep(1)  # what would be written more
    found = events(api_server, shop)
    assert {kind for kind, _, _ in found} == {names.KIND}
    assert len(found) <= skipped_pods.MOST_OF_A_NAMESPACE


def test_review_reads_nothing_of_api_server(api_server, shop, operator):
    pod = {"metadata": {"generateName": "x-"}, "spec": {"containers": [CONTAINER]}}
    operator.review(pod | {"metadata": {"namespace": shop}}, namespace=shop)
    before = reads(api_server)
    assert before
    for _ in range(50):
        operator.review(pod | {"metadata": {"namespace": shop}}, namespace=shop)
    # A watch that ends meanwhile is opened again, and asks for the version.
    assert reads(api_server) - before < 5


def test_pods_start_without_operator_and_are_covered_once_it_returns(api_server, shop, operator):
    operator.stop()
    try:
        assert sidecars(create(api_server, shop)) == []
    finally:
        operator.start()
    assert sidecars(create(api_server, shop)) == [names.CONTAINER]


def test_webhook_counted_no_failed_answer(api_server, shop, operator):
    create(api_server, shop)
    assert "is created without a sidecar" not in operator.log()
    assert "Traceback" not in operator.log()
