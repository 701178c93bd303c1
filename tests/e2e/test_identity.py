"""A policy whose provider is called by the pods' identity, on a real kubelet.

Entra is not reached from here: a pod that gets as far as its name has read the ServiceAccount token
that kubelet wrote.
"""

import base64
import json
from typing import Any

import pytest
import yaml

from embedding_contract import names
from tests.fakes import entra
from tests.parts import installation

pytestmark = pytest.mark.node

NAME = "federated"
PYTHON = "/opt/venv/bin/python"
READ = f"print(open({names.AZURE_TOKEN_PATH!r}).read())"


def policy() -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(
        (installation.EXAMPLES / "policy.yaml").read_text(encoding="utf-8")
    )
    written["metadata"]["name"] = NAME
    written["spec"]["podSelector"] = {"matchLabels": {"embeddings": NAME}}
    return written


def by_identity() -> dict[str, Any]:
    written = policy()
    azure = {
        "name": "azure",
        "type": "AzureOpenAI",
        "model": "text-embedding-3-small",
        "baseURL": "https://azure.invalid",
        "azure": {
            "deployment": "embeddings",
            "tenantID": entra.TENANT,
            "clientID": entra.CLIENT,
            "authority": "https://login.invalid",
        },
    }
    written["spec"]["providers"] = [azure, *written["spec"]["providers"]]
    written["spec"]["failover"] = {"acrossSpaces": True}
    return written


def start(shop, name: str) -> None:
    shop.kubectl.apply(installation.application_pod(name, labels={"embeddings": NAME}))
    shop.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", "shop", "--timeout=90s")


def reached(status: dict[str, Any]) -> tuple[str, str]:
    found = installation.Installation.condition(status, "ProvidersReached")
    return found.get("reason", ""), found.get("message", "")


def test_pod_reads_token_of_its_serviceaccount_and_older_one_is_outdated(shop):
    shop.kubectl.apply(policy())
    shop.wait_for_policy("Accepted", name=NAME)
    start(shop, "older")
    shop.kubectl.apply(by_identity())
    status = shop.wait_for_status(lambda it: reached(it)[0] == "IdentityMissing", name=NAME)
    assert "azure: identity_missing in 1 of 1 pods" in reached(status)[1]
    assert status["pods"]["outdated"] == 1
    shop.kubectl("delete", "pod", "older", "-n", "shop", "--wait")
    start(shop, "newer")
    status = shop.wait_for_status(lambda it: reached(it)[0] == "IdentityUnreachable", name=NAME)
    assert "azure.authority gives no answer" in reached(status)[1]
    assert status["pods"].get("outdated", 0) == 0

    within = ("exec", "newer", "-n", "shop", "-c", names.CONTAINER, "--", PYTHON, "-c", READ)
    claims = shop.kubectl(*within).strip().split(".")[1]
    read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert read["aud"] == [names.AZURE_AUDIENCE]
    assert read["sub"] == "system:serviceaccount:shop:default"
    (container,) = shop.kubectl.get("pod", "newer", "-n", "shop")["spec"]["containers"]
    mounted = [it["name"] for it in container.get("volumeMounts", [])]
    assert names.VOLUME_IDENTITY not in mounted
    # The other providers of the policy need no identity.
    assert shop.ask("vector", "by another provider", pod="pod/newer")
    shop.kubectl("delete", "embpol", NAME, "-n", "shop")
    shop.kubectl("delete", "pod", "newer", "-n", "shop", "--wait")
