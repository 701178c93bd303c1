"""Mode namespaced: the operator under Roles of its namespaces alone, on a real API server."""

import base64
import json
import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_contract import names
from embedding_operator.injection import certificates
from tests.parts import admitting, daemons, helm, ports, reconciling
from tests.parts.installation import ROOT, wait
from tests.parts.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

RELEASE = "embedding-operator"
OWN, SHOP, BLOG, FOREIGN = "namespaced-operator", "namespaced-shop", "namespaced-blog", "foreign"
USER = f"system:serviceaccount:{OWN}:{RELEASE}"

Object = dict[str, Any]


def rendered() -> list[Object]:
    values = {
        "mode": "namespaced",
        "namespaces": [SHOP, BLOG],
        "crds": {"install": False},
        "rollouts": {"enabled": True},
        "webhook": {"certificates": "provided", "certificateSecret": "tls", "caBundle": "none"},
        "imagePullSecrets": [{"name": "registry"}],
    }
    chart = str(ROOT / "charts" / RELEASE)
    text = helm.Helm()(
        *("template", RELEASE, chart, "-n", OWN, "--no-hooks", "-f", "-"), stdin=json.dumps(values)
    )
    return [it for it in yaml.safe_load_all(text) if it]


class Operator:
    """`embedding-operator run` with what the chart gives it in this mode."""

    def __init__(self, asked: Kubectl, folder: Path) -> None:
        objects = rendered()
        spaces = (OWN, SHOP, BLOG, FOREIGN)
        asked.apply(
            *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": it}} for it in spaces),
            *(it for it in objects if "Role" in it["kind"] or it["kind"] == "ServiceAccount"),
        )
        for space in (SHOP, BLOG, FOREIGN):
            reconciling.wait_for_default_account(asked, space)
        config = yaml.safe_load(asked.kubeconfig.read_text(encoding="utf-8"))
        token = asked("create", "token", RELEASE, "-n", OWN).strip()
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        hosts = (f"{RELEASE}.{OWN}.svc",)
        made = certificates.issue(None, hosts=hosts, now=datetime.now(UTC))
        (folder / "tls.crt").write_bytes(made.certificate)
        (folder / "tls.key").write_bytes(made.key)
        (deployment,) = (it for it in objects if it["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given = {it["name"]: it["value"] for it in container["env"] if "value" in it}
        self.port, health, metrics = (ports.free() for _ in range(3))
        self._daemons = daemons.Daemons(folder)
        environment = given | {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
            "WEBHOOK_CERTIFICATE_DIRECTORY": str(folder),
            "WEBHOOK_PORT": str(self.port),
            "HEALTH_PORT": str(health),
            "METRICS_PORT": str(metrics),
            "RESYNC_SECONDS": "3600",
        }
        self._daemons.start(
            "operator",
            [sys.executable, "-m", "embedding_operator", "run"],
            ready=daemons.answers("127.0.0.1", self.port),
            environment=environment,
        )

    def stop(self) -> None:
        self._daemons.stop()

    def log(self) -> str:
        return self._daemons.log("operator").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def operator(api_server, tmp_path_factory):
    made = Operator(api_server, tmp_path_factory.mktemp("operator"))
    yield made
    made.stop()


def policy(namespace: str, **spec: Any) -> Object:
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
        "metadata": {"name": "search", "namespace": namespace},
        "spec": {"podSelector": {}, "providers": [provider], **spec},
    }


def condition(asked: Kubectl, namespace: str, kind: str) -> tuple[str, str, str]:
    status = asked.get("embpol", "search", "-n", namespace).get("status", {})
    found = next((it for it in status.get("conditions", ()) if it["type"] == kind), None)
    return (found["status"], found["reason"], found["message"]) if found else ("", "", "")


def test_policies_of_watched_namespaces_are_kept_and_no_others(api_server, operator):
    for namespace in (SHOP, BLOG, FOREIGN):
        api_server.apply(policy(namespace))

    def lacks_key(namespace: str) -> bool:
        return condition(api_server, namespace, "SecretsSynced")[1] == "SecretMissing"

    for namespace in (SHOP, BLOG):
        wait(partial(lacks_key, namespace), f"a missing key in {namespace}", last=operator.log)
    # No resync comes: each namespace has a watch of Secrets.
    api_server("create", "secret", "generic", "keys", "-n", BLOG, "--from-literal=KEY=sk-blog")
    wait(
        lambda: condition(api_server, BLOG, "Ready")[0] == "True",
        "a ready policy",
        last=operator.log,
    )
    assert condition(api_server, SHOP, "Ready")[0] == "False"
    assert api_server.get("embpol", "search", "-n", FOREIGN)["status"] == {"observedGeneration": 0}
    listed = api_server.get("configmaps", "-n", FOREIGN, "-l", names.LABEL_POLICY)["items"]
    assert listed == []
    # Deleted in one namespace, it stays in the other.
    api_server("delete", "embpol", "search", "-n", SHOP)
    api_server("delete", "configmap", names.document_configmap("search"), "-n", BLOG)
    wait(
        lambda: api_server.get("configmaps", "-n", BLOG, "-l", names.LABEL_POLICY)["items"][1:],
        "a repaired ConfigMap",
        last=operator.log,
    )


def test_missing_pull_secret_is_named_until_it_is_there(api_server, operator):
    api_server.apply(policy(SHOP))

    def found() -> tuple[str, str, str]:
        return condition(api_server, SHOP, "PullSecretsFound")

    wait(lambda: found()[:2] == ("False", "PullSecretMissing"), "a name", last=operator.log)
    assert " registry." in found()[2]
    api_server("create", "secret", "generic", "registry", "-n", SHOP, "--from-literal=a=b")
    api_server.apply(policy(SHOP, cache={"ttlSeconds": 60}))
    wait(lambda: found()[:2] == ("True", "Found"), "a Secret that was found", last=operator.log)


def test_pod_of_watched_namespace_gets_sidecar_and_pull_secrets(api_server, operator):
    api_server.apply(policy(BLOG))

    def changes(namespace: str) -> dict[str, Any]:
        pod = {
            "metadata": {"name": "app", "namespace": namespace},
            "spec": {"containers": [admitting.CONTAINER]},
        }
        answer = admitting.review(operator.port, pod, namespace=namespace)["response"]
        patch = json.loads(base64.b64decode(answer.get("patch", "W10=")))
        return {it["path"]: it.get("value") for it in patch}

    wait(lambda: "/spec/initContainers" in changes(BLOG), "a sidecar", last=operator.log)
    assert changes(BLOG)["/spec/imagePullSecrets"] == [{"name": "registry"}]
    assert changes(FOREIGN) == {}


def test_operator_of_namespaces_asked_for_nothing_more(api_server, operator):
    log = api_server.kubeconfig.parent / "log" / "audit.log"
    entries = [json.loads(it) for it in log.read_text("utf-8").splitlines() if USER in it]
    mine = [it for it in entries if it["user"]["username"] == USER]
    assert len(mine) > 20
    refused = [
        f"{it['verb']} {it['requestURI']}"
        for it in mine
        if it.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
    ]
    assert refused == []
    asked = [it["objectRef"] for it in mine if "objectRef" in it]
    of_others = {it.get("namespace") for it in asked if it["resource"] != "leases"}
    assert of_others == {SHOP, BLOG}
