"""Answers of a real sidecar whose provider has limits per minute, over a real Redis."""

import time

import pytest

from embedding_contract import names
from embedding_sidecar.rate.window import BUCKET_MS, WINDOW_MS
from tests.parts import sidecar
from tests.parts.rate_fire import Fire

pytestmark = pytest.mark.integration


@pytest.fixture
def fire(tmp_path):
    made = []

    def begin(**more) -> Fire:
        made.append(Fire(tmp_path, pods=2, requests=1, request_seconds=2.0, **more))
        return made[-1]

    yield begin
    for it in made:
        it.end()


def test_call_beyond_minute_of_all_pods_is_429_with_true_retry_after(fire):
    one, other = fire().pods
    assert one.embed("a").status_code == 200
    began = time.monotonic()
    refused = other.embed("b")
    took = time.monotonic() - began
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-embedding-attempts"] == "0"
    assert took > 1.5
    wait = int(refused.headers["retry-after"])
    assert (WINDOW_MS - BUCKET_MS) / 1000 - took - 2 <= wait <= (WINDOW_MS + BUCKET_MS) / 1000
    shown = other.page(names.PATH_CONFIG)["providers"][0]["rate"]
    assert shown == {"requests_per_minute": 1, "tokens_per_minute": None}
    exposed = other.admin.get(names.PATH_METRICS).text
    assert 'aos_embedding_rate_wait_seconds_count{provider="provider-0"}' not in exposed


def test_observed_minute_refuses_nothing_and_is_told(fire):
    one, other = fire(observes=True).pods
    answers = [one.embed("a"), other.embed("b"), one.embed("c")]
    assert [it.status_code for it in answers] == [200] * 3
    assert "x-embedding-quota-observed" not in answers[0].headers
    told = 'aos_embedding_quota_observed_total{period="minute",unit="requests"} 1.0'

    def is_told() -> bool:
        exposed = [it.admin.get(names.PATH_METRICS).text for it in (one, other)]
        return all(told in text for text in exposed)

    # A call that is only observed does not wait until it is counted.
    sidecar.wait_until(is_told)
