"""The running operator and an EmbeddingIndex: driven by events alone, asked with a proof."""

import base64
import json
import os
from typing import Any

import pytest
import yaml

from embedding_contract import document, index_document, index_report, names
from embedding_operator.indexes import objects
from tests.parts import answering, indexes, indexing, operating, shipped_roles
from tests.parts import vault as real
from tests.parts.indexing import condition
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ADDRESS = f"127.10.{os.getpid() % 250}.1"
NAME = names.index_objects("articles")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with real.running(tmp_path_factory.mktemp("vault")) as started:
        yield started


@pytest.fixture
def operator(tmp_path, api_server, namespace, server):
    made = operating.Operator(tmp_path, api_server.kubeconfig, server)
    made.environment["VECTORS_NAMESPACES"] = namespace
    shipped_roles.grant_in(api_server, namespace)
    api_server("label", "namespace", namespace, f"{names.LABEL_INJECTION}=enabled")
    try:
        made.start()
        yield made
    finally:
        made.stop()


class World:
    """The namespace of an index, as its user sees it, and the pod that a test plays."""

    def __init__(self, kubectl, namespace, operator) -> None:
        self._kubectl = kubectl
        self._operator = operator
        self.namespace = namespace

    def apply(self, *given: dict[str, Any]) -> None:
        self._kubectl.apply(
            *({**it, "metadata": {**it["metadata"], "namespace": self.namespace}} for it in given)
        )

    def index(self, **spec) -> None:
        raw = yaml.safe_load((indexes.CASES / "index-good/smallest.yaml").read_text("utf-8"))
        raw["metadata"] = {"name": "articles"}
        raw["spec"].update(spec)
        self.apply(raw)

    def get(self, *arguments):
        return self._kubectl.get(*arguments, "-n", self.namespace)

    def token(self) -> str:
        data = self.get("secret", names.owned_secret("search"))["data"]
        return base64.b64decode(data[names.SECRET_API_TOKEN]).decode()

    def status(self):
        return self.get("embidx", "articles").get("status", {})

    def data(self, name, key) -> str:
        found: str = self.get("configmap", name)["data"][key]
        return found

    def run_pod(self, name) -> str:
        """A pod that searches; its UID."""
        labels = {names.LABEL_INDEX: "articles", objects.COMPONENT: objects.SEARCH}
        container = {"name": names.VECTORS_CONTAINER, "image": "i"}
        metadata = {"name": name, "labels": labels}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [container]},
            }
        )
        patch = json.dumps({"status": indexing.running(ADDRESS)})
        self._kubectl(
            *("patch", "pod", name, "-n", self.namespace, "--subresource=status"),
            *("--type=merge", "-p", patch),
        )
        uid: str = self.get("pod", name)["metadata"]["uid"]
        return uid

    def seen(self, check, what) -> None:
        wait(check, what, timeout_seconds=60, last=self._operator.log)

    def is_ready(self, expected="True"):
        status = self.status()
        return bool(status) and condition(status, "Ready")[0] == expected


@pytest.fixture
def world(api_server, namespace, operator):
    made = World(api_server, namespace, operator)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "database"},
        "stringData": {"dsn": "postgresql://worker:a-secret-password@nowhere/x"},
    }
    policy = {
        **indexes.POLICY,
        "spec": {**indexes.POLICY["spec"], "providers": indexes.PROVIDERS[:1]},
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    made.apply(account, policy, secret)
    return made


def page(fingerprint: str) -> Any:
    return json.loads(index_report.dump(indexing.report(document=fingerprint)))


def test_index_goes_from_its_definition_to_ready_by_what_its_pods_say(world, operator):
    world.index()
    world.seen(lambda: world.status().get("document"), "a document")
    world.seen(
        lambda: (
            document.parse(
                world.data(names.document_configmap("search"), names.DOCUMENT_KEY)
            ).indexes
        ),
        "the index among what sidecars may search",
    )
    with answering.answering(names.VECTORS_PORT) as there:
        fingerprint = world.status()["document"]
        uid = world.run_pod("search-1")
        pod = answering.Sidecar(
            token=world.token(), uid=uid, pages={names.PATH_INDEX: page(fingerprint)}
        )
        there.at(ADDRESS, pod)
        world.seen(world.is_ready, "an index that is ready")
        assert all(world.token().encode() not in head for head in pod.requests)
        # What it is to obey is another now: the pod is told, and asked until it obeys.
        world.index(limits={"batchRows": 8})
        world.seen(lambda: world.status()["document"] != fingerprint, "another document")
        world.seen(
            lambda: (
                names.ANNOTATION_NUDGE
                in world.get("pod", "search-1")["metadata"].get("annotations", {})
            ),
            "a nudge",
        )
        text = world.data(NAME, names.INDEX_KEY)
        assert index_document.parse(text).limits.batch_rows == 8
    world._kubectl("delete", "embidx", "articles", "-n", world.namespace)
    world.seen(
        lambda: (
            not document.parse(
                world.data(names.document_configmap("search"), names.DOCUMENT_KEY)
            ).indexes
        ),
        "no index to search any more",
    )
    assert "a-secret-password" not in operator.log()


def test_pod_that_does_not_prove_itself_says_nothing_of_index(world):
    world.index()
    world.seen(lambda: world.status().get("document"), "a document")
    with answering.answering(names.VECTORS_PORT) as there:
        world.run_pod("search-1")
        body = json.dumps(page(world.status()["document"])).encode()
        there.at(ADDRESS, answering.sends(answering.rendered(200, body)))
        world.seen(
            lambda: condition(world.status(), "Searchable") == ("False", "SidecarsUnproven"),
            "a pod that is not believed",
        )
    assert "rows" not in world.status()
