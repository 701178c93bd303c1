"""A key rotates in Vault while an application asks 50 times a second: no request fails.

The door behind the sidecar has no model, so that it keeps up; it counts, by key. What it took is
printed, and no time is asserted.
"""

import contextlib
import copy
import json
import subprocess
import time
import uuid
from typing import Any

import pytest
import yaml

from dev import cluster
from embedding_contract import names
from tests.parts import installation

pytestmark = pytest.mark.node

DOOR = "quick"
PATH = "shop/rotation"
ENVIRONMENT_PATH = "shop/rotation-environment"
A_SECOND = 50
"""Requests."""
PATIENCE_SECONDS = 60
"""Sidecars are asked, and status is written, within seconds."""

LOAD = f"""
import asyncio, json, sys, time, uuid
import openai

async def main():
    client = openai.AsyncOpenAI(max_retries=0, timeout=30)
    answered, failed, running = 0, [], set()

    async def one():
        nonlocal answered
        try:
            await client.embeddings.create(model="quick", input=f"new {{uuid.uuid4()}}")
            answered += 1
        except openai.OpenAIError as error:
            failed.append(f"{{type(error).__name__}}: {{error}}"[:300])

    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    started, sent = time.monotonic(), 0
    while not over.done():
        # By the clock and not by the answers: a slow answer holds up no other request.
        while sent < (time.monotonic() - started) * {A_SECOND}:
            task = asyncio.create_task(one())
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        await asyncio.sleep(1 / {A_SECOND})
    seconds = time.monotonic() - started
    await asyncio.gather(*running)
    print(json.dumps({{"seconds": seconds, "sent": sent, "answered": answered, "failed": failed}}))

asyncio.run(main())
"""


class Rotating:
    """An application with a policy of its own, whose provider's key a test rotates."""

    def __init__(self, shop: installation.Installation) -> None:
        self.shop = shop
        self.key = self.new_key()
        shop.parts.accept_keys(DOOR, self.key)
        shop.parts.start_provider(DOOR)
        self.write(self.key)
        shop.parts.write_keys(path=ENVIRONMENT_PATH, PASSWORD=self.new_key())
        shop.kubectl.apply(policy())
        # Pods that are created right with their policy may be before what injects them.
        shop.wait_for_policy("Ready", name="rotation")
        shop.kubectl.apply(application("rotation", {"embeddings": "rotation"}))
        shop.kubectl("rollout", "status", "deployment/rotation", "-n", "shop", "--timeout=120s")
        shop.wait_for_policy("ConfigInForce", name="rotation")

    @staticmethod
    def new_key() -> str:
        return f"quick-key-{uuid.uuid4()}"

    def write(self, key: str) -> float:
        """Write it to Vault; when, as the door's clock tells."""
        self.shop.parts.write_keys(path=PATH, KEY=key)
        return time.time()

    def accept(self, *keys: str) -> None:
        self.shop.parts.accept_keys(DOOR, *keys)

    def calls(self, key):
        return self.shop.parts.calls(DOOR, key=key)

    def wait_for_calls(self, key, count=1):
        """So many more calls with this key."""
        before = len(self.calls(key))
        wait(lambda: len(self.calls(key)) >= before + count, f"{count} calls with a key")

    def condition(self, kind):
        return self.shop.condition(self.shop.status("rotation"), kind)

    def wait_for(self, kind, expected):
        wait(lambda: self.condition(kind).get("status") == expected, f"{kind}={expected}")
        return self.condition(kind)

    def containers(self):
        """Which pod it is, and how often its containers were restarted."""
        (pod,) = self.shop.kubectl.get("pods", "-n", "shop", "-l", "app=rotation")["items"]
        seen = pod["status"]["initContainerStatuses"] + pod["status"]["containerStatuses"]
        return pod["metadata"]["uid"], [it["restartCount"] for it in seen]

    @contextlib.contextmanager
    def load(self):
        """The application asks until the end of the block; all it saw is in the list then."""
        command = [
            str(cluster.artifact("kubectl")),
            f"--kubeconfig={self.shop.kubectl.kubeconfig}",
        ]
        command += ["exec", "-i", "deployment/rotation", "-n", "shop", "-c", "search", "--"]
        command += ["/opt/venv/bin/python", "-c", LOAD]
        pipe = subprocess.PIPE
        seen: list[dict[str, Any]] = []
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as asking:
            try:
                yield seen
            finally:
                said, _ = asking.communicate(timeout=PATIENCE_SECONDS)
        seen.append(json.loads(said))


def wait(check, what):
    installation.wait(check, what, timeout_seconds=PATIENCE_SECONDS)


def policy():
    reference = {"vault": {"mount": "secret", "path": PATH, "key": "KEY"}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "rotation", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"embeddings": "rotation"}},
            "vault": {"role": "shop"},
            "quota": {"unlimited": True},
            "providers": [
                {
                    "name": "quick",
                    "type": "OpenAICompatible",
                    "baseURL": "http://quick.models.svc.cluster.local/v1",
                    "model": "quick",
                    "apiKey": reference,
                }
            ],
            "secrets": [
                {
                    "name": "rotation-environment",
                    "vault": {"mount": "secret", "path": ENVIRONMENT_PATH},
                }
            ],
        },
    }


def application(name, labels):
    """The example's Deployment under another name."""
    text = (installation.EXAMPLES / "application.yaml").read_text(encoding="utf-8")
    made = copy.deepcopy(yaml.safe_load(text))
    made["metadata"]["name"] = name
    made["spec"]["selector"]["matchLabels"] = {"app": name}
    made["spec"]["template"]["metadata"]["labels"] = {"app": name, **labels}
    return made


@pytest.fixture(scope="module")
def rotating(shop):
    # It stays: what its containers have said is searched after all the tests.
    return Rotating(shop)


def assert_none_failed(seen):
    (total,) = seen
    rate = total["sent"] / total["seconds"]
    print(f"{total['answered']} of {total['sent']} requests answered, {rate:.0f} a second")
    assert total["failed"] == []
    assert total["answered"] == total["sent"] > 0


def test_no_request_fails_while_key_rotates(rotating):
    old, new = rotating.key, rotating.new_key()
    before = rotating.containers()
    with rotating.load() as seen:
        rotating.wait_for_calls(old, A_SECOND)
        rotating.accept(old, new)
        written = rotating.write(new)
        wait(lambda: rotating.calls(new), "a call with the new key")
        first = rotating.calls(new)[0]["time"]
        # A request that began with the old key ends with it.
        wait(
            lambda: time.time() - rotating.calls(old)[-1]["time"] > 1,
            "the last call with the old key",
        )
        last = rotating.calls(old)[-1]["time"]
        rotating.accept(new)
        rotating.wait_for_calls(new, 2 * A_SECOND)
    print(f"Vault write to first use of the new key: {first - written:.1f} s")
    print(f"Vault write to last use of the old key: {last - written:.1f} s")
    assert_none_failed(seen)
    assert {call["status"] for call in rotating.calls(new)} == {200}
    assert rotating.containers() == before
    rotating.key = new


def test_no_request_fails_while_provider_refuses_new_key(rotating):
    old, wrong, good = rotating.key, rotating.new_key(), rotating.new_key()
    before = rotating.containers()
    rotating.wait_for("KeyRefused", "False")
    with rotating.load() as seen:
        rotating.wait_for_calls(old, A_SECOND)
        written = rotating.write(wrong)
        told = rotating.wait_for("KeyRefused", "True")
        told_at = time.time()
        assert rotating.condition("Ready")["reason"] == "KeyRefused"
        rotating.wait_for_calls(old, 2 * A_SECOND)
        rotating.accept(old, good)
        rotating.write(good)
        rotating.wait_for_calls(good, A_SECOND)
        rotating.wait_for("KeyRefused", "False")
        rotating.accept(good)
        rotating.wait_for_calls(good, A_SECOND)
    print(f"Vault write to KeyRefused: {told_at - written:.1f} s")
    print(f"calls with the refused key: {len(rotating.calls(wrong))}")
    assert_none_failed(seen)
    assert "quick rejects its newest API key in 1 of 1 pods" in told["message"]
    for key in (old, wrong, good):
        assert key not in json.dumps(rotating.shop.status("rotation"))
    rotating.wait_for("Ready", "True")
    assert rotating.containers() == before
    rotating.key = good


def test_application_that_reads_secret_from_its_environment_is_rolled_over(rotating):
    shop = rotating.shop
    made = application("reader", {})
    made["metadata"]["annotations"] = {names.ANNOTATION_RESTART: "true"}
    made["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["envFrom"] = [{"secretRef": {"name": "rotation-environment"}}]
    shop.kubectl.apply(made)
    shop.kubectl("rollout", "status", "deployment/reader", "-n", "shop", "--timeout=120s")

    def password():
        shown = ("exec", "deployment/reader", "-n", "shop", "-c", "search", "--", "printenv")
        return shop.kubectl(*shown, "PASSWORD").strip()

    first, fresh = password(), rotating.new_key()
    assert first
    started = time.monotonic()
    shop.parts.write_keys(path=ENVIRONMENT_PATH, PASSWORD=fresh)

    def rolled_over():
        found = shop.kubectl.get("deployment", "reader", "-n", "shop")
        assert found["status"].get("availableReplicas") == 1
        return names.ANNOTATION_SECRETS in str(found["spec"]["template"]["metadata"])

    wait(rolled_over, "a restart")
    shop.kubectl("rollout", "status", "deployment/reader", "-n", "shop", "--timeout=120s")
    assert password() == fresh
    print(f"Vault write to the environment of new pods {time.monotonic() - started:.1f} s")
    events = shop.kubectl.get("events", "-n", "shop", "--field-selector=reason=SecretChanged")
    (told,) = (it for it in events["items"] if it["involvedObject"]["name"] == "reader")
    assert "rotation-environment" in told["message"]
