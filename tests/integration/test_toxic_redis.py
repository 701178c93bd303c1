"""Toxics between sidecars and Redis: nothing is overspent, and all is well when they are over.

The oracle is the provider: it counts the calls of the day, whatever Redis and sidecars believe.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts import sidecar, toxics

pytestmark = pytest.mark.integration

LIMIT = 60
CALLERS = 8
BEFORE = range(4)
MEANWHILE = range(10, 50)
AFTERWARDS = 100
HEALTHY = {200, 429}
HARMED = {200, 429, 503}
"""503: the quota's store cannot be asked, and the policy says Deny."""


@pytest.fixture
def way(tmp_path) -> Iterator[toxics.Way]:
    store = sidecar.Redis(tmp_path)
    try:
        with toxics.toxiproxy() as api:
            yield toxics.Way(api, "redis", store.port)
    finally:
        store.kill()


def statuses(pods: Sequence[sidecar.Sidecar], texts: range) -> list[int]:
    """The statuses of a request for each text, by the pods in turn."""
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = callers.map(lambda it: pods[it % len(pods)].embed(f"text {it}"), texts)
        return [it.status_code for it in answers]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("toxic", toxics.TABLE, ids=lambda it: it.name)
def test_toxic_before_redis_overspends_nothing(toxic, way, from_environment, stand_in, say):
    url = f"redis://127.0.0.1:{way.port}/0"
    pods = [from_environment(REDIS_URL=url, EMBEDDING_DAILY_QUOTA=str(LIMIT)) for _ in range(2)]
    assert set(statuses(pods, BEFORE)) == {200}
    way.harm(toxic)
    meanwhile = statuses(pods, MEANWHILE)
    assert set(meanwhile) <= (HEALTHY if toxic.is_passable else HARMED)
    way.heal()
    texts = itertools.count(AFTERWARDS, LIMIT)

    def is_used_up() -> bool:
        first = next(texts)
        return set(statuses(pods, range(first, first + LIMIT))) == {429}

    # Only a store that answers again can say so.
    sidecar.wait_until(is_used_up)
    assert len(stand_in.calls) <= LIMIT
    said = f"{meanwhile.count(200)} of {len(meanwhile)} answered meanwhile"
    say(f"Redis {toxic.name}: {said}; {len(stand_in.calls)} of {LIMIT} calls in all, overspent 0")
