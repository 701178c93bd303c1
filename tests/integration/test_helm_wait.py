"""`helm install --wait` of a team's chart waits for what the operator says of its objects."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_contract import names
from tests.parts import helm, operating, vault
from tests.parts.indexes import CASES

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

SHORT = "8s"
"""Longer than a first reconcile takes, in which a wrong object would be taken for ready."""
PATIENT = "60s"

Object = dict[str, Any]


@pytest.fixture(scope="module")
def operator(tmp_path_factory, api_server):
    with vault.running(tmp_path_factory.mktemp("vault")) as server:
        made = operating.Operator(tmp_path_factory.mktemp("op"), api_server.kubeconfig, server)
        made.environment["RESYNC_SECONDS"] = "1"
        made.start()
        yield made
        made.stop()


def policy(**spec: Any) -> Object:
    provider = {
        "name": "local",
        "type": "OpenAICompatible",
        "model": "e5",
        "baseURL": "http://model.example/v1",
        "apiKey": {"secretKeyRef": {"name": "keys", "key": "KEY"}},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "search"},
        "spec": {"podSelector": {}, "providers": [provider], **spec},
    }


def secret() -> Object:
    metadata = {"name": "keys"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"KEY": "k"}}


def chart(folder: Path, *objects: Object) -> Path:
    """A chart of a team's own with these objects."""
    templates = folder / "templates"
    templates.mkdir(parents=True)
    about = {"apiVersion": "v2", "name": "shop", "version": "1.0.0"}
    (folder / "Chart.yaml").write_text(json.dumps(about), encoding="utf-8")
    (templates / "all.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    return folder


def install(api_server, folder: Path, *, namespace: str, seconds: str) -> None:
    helm.Helm(api_server.kubeconfig)(
        *("install", "shop", str(folder), "-n", namespace, "--wait", "--timeout", seconds)
    )


def test_policy_with_unreadable_key_fails_installation_and_says_why(
    api_server, namespace, operator, tmp_path, say
):
    folder = chart(tmp_path / "wrong", policy())
    with pytest.raises(helm.HelmError) as failed:
        install(api_server, folder, namespace=namespace, seconds=SHORT)
    for word in ("EmbeddingPolicy", "search", "Secret", "keys"):
        assert word in failed.value.said
    told = next(it for it in failed.value.said.splitlines() if "EmbeddingPolicy" in it)
    say(f"helm install --wait of an unreadable key: {told}")
    listed = json.loads(helm.Helm(api_server.kubeconfig)("list", "-n", namespace, "-o", "json"))
    assert [it["status"] for it in listed] == ["failed"]


def test_policy_with_its_key_lets_installation_succeed(api_server, namespace, operator, tmp_path):
    folder = chart(tmp_path / "right", policy(), secret())
    install(api_server, folder, namespace=namespace, seconds=PATIENT)
    status = api_server.get("embpol", "search", "-n", namespace)["status"]
    assert status["observedGeneration"] == 1
    ready = next(it for it in status["conditions"] if it["type"] == "Ready")
    assert ready["status"] == "True"


@pytest.mark.parametrize("plural", ["embpol", "embidx", "cembp"])
def test_new_object_is_not_ready_before_operator_has_seen_it(api_server, namespace, plural):
    """Without the status by default, kstatus takes an object without conditions for ready."""
    cases = {"embpol": "good", "embidx": "index-good", "cembp": "class-good"}
    raw = yaml.safe_load((CASES / cases[plural] / "smallest.yaml").read_text("utf-8"))
    name = f"new-{namespace}"
    raw["metadata"] = {"name": name} | ({} if plural == "cembp" else {"namespace": namespace})
    api_server.apply(raw)
    try:
        status = api_server.get(plural, name, "-n", namespace)["status"]
        assert status == {"observedGeneration": 0} or "conditions" in status
    finally:
        api_server("delete", plural, name, "-n", namespace)
