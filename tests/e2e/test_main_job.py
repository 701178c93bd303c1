"""An application in a pod, with the SDK it always had, gets its vectors through the sidecar."""

import json
import urllib.request
import uuid

import pytest

from tests.parts import neighbours

pytestmark = pytest.mark.node


def new_text() -> str:
    return f"a text nobody embedded before: {uuid.uuid4()}"


def model_vector(text: str, *, host: str) -> str:
    """What the model itself answers, as base64."""
    url = f"http://{host}:{neighbours.PORTS['model']}/v1/embeddings"
    body = {"model": "multilingual-e5-small", "input": text, "encoding_format": "base64"}
    with urllib.request.urlopen(url, data=json.dumps(body).encode(), timeout=30) as answer:
        vector: str = json.load(answer)["data"][0]["embedding"]
    return vector


def test_pod_carries_sidecar_first_and_is_counted(shop):
    pod = shop.kubectl.get("pod", "-n", "shop", "-l", "app=search")["items"][0]
    assert pod["spec"]["initContainers"][0]["name"] == "embedding-sidecar"
    status = shop.wait_for_policy("PodsCovered")
    assert status["pods"]["summary"] == "1/1"


def test_vectors_are_bit_for_bit_models_own(shop):
    for text in ("plain words", "Überraschung 日本語 🙂", new_text()):
        assert shop.ask("vector", text).strip() == model_vector(text, host=shop.parts.host)


def test_second_call_reaches_no_provider(shop):
    text = new_text()
    shop.ask("vector", text)
    before = len(shop.parts.calls("primary")) + len(shop.parts.calls("backup"))
    first, second = shop.ask("ask", text).splitlines()
    assert "cache hit" in first
    assert "cache hit" in second
    assert len(shop.parts.calls("primary")) + len(shop.parts.calls("backup")) == before


def test_new_text_is_answered_by_backup_while_primary_is_stopped(shop):
    text = new_text()
    shop.parts.stop_provider("primary")
    try:
        before = len(shop.parts.calls("backup"))
        assert shop.ask("vector", text).strip() == model_vector(text, host=shop.parts.host)
        assert len(shop.parts.calls("backup")) == before + 1
    finally:
        shop.parts.start_provider("primary")


def test_streamed_chat_passes_through_with_applications_own_key(shop):
    shop.parts.accept_keys("primary", *shop.parts.keys("primary"), "the-applications-own")
    assert (
        shop.ask("chat", "the-applications-own").strip() == "A vector is a direction with a length."
    )
    assert (
        shop.parts.calls("primary", key="the-applications-own")[-1]["path"]
        == "/v1/chat/completions"
    )


def test_job_with_sidecar_finishes(shop):
    shop.kubectl("delete", "job", "index", "-n", "shop", "--ignore-not-found", "--wait")
    shop.apply_example("job")
    shop.kubectl("wait", "--for=condition=Complete", "job/index", "-n", "shop", "--timeout=90s")
    pod = shop.kubectl.get("pod", "-n", "shop", "-l", "job-name=index")["items"][0]
    assert pod["spec"]["initContainers"][0]["name"] == "embedding-sidecar"
    assert "cache hit" in shop.kubectl("logs", "job/index", "-n", "shop", "-c", "index")


def test_live_quota_reaches_policy_status(shop):
    shop.ask("vector", new_text())
    status = shop.wait_for_status(lambda status: status.get("quota", {}).get("used", 0) > 0)
    assert status["quota"]["limit"] == 1000
