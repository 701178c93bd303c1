"""A table that the worker fills and searches use, from the first row to a change of its model."""

import concurrent.futures
import dataclasses
import threading

import httpx2
import pytest

from embedding_contract import index_report, names, proof
from embedding_contract.index_document import Target
from tests.fakes import provider
from tests.integration.searches.conftest import TEXTS
from tests.parts import ports, searching, sidecar

pytestmark = pytest.mark.integration

BACKFILL_SECONDS = 90


def large(world: searching.World) -> dict:
    """The policy's providers with a second model, of another space."""
    first = world.policy.providers[0]
    second = dataclasses.replace(first, name="second", model="large", declared_space="tests/large")
    return {"providers": (first, second)}


def filled(world: searching.World) -> None:
    worker = world.pod.backfill()
    assert worker.wait(BACKFILL_SECONDS) == 0, world.pod.said()


def test_filled_table_is_searched_and_changes_model_under_load(make_world):
    document = searching.index(applies_plan=True)
    world = make_world(filled=False, document=document)
    world.files.write(dataclasses.replace(world.policy, **large(world)))
    assert world.search("whales")["reason"] == "no_vectors"
    filled(world)
    sidecar.wait_until(lambda: world.search(TEXTS[3], k=1)["mode"] == "vector")
    report = index_report.parse(
        str(
            world.pod.http.get(
                names.PATH_INDEX, headers={"Authorization": f"Bearer {sidecar.TOKEN}"}
            ).text
        )
    )
    (target,) = report.targets
    assert (target.phase, target.rows, target.done) == ("Switched", 40, 40)
    sidecar.wait_until(lambda: world.pod.metrics()["aos_vector_index_size"] == 40)

    stop, audited = threading.Event(), []

    def ask(lane: int) -> None:
        number = lane
        while not stop.is_set():
            number = (number + 7) % len(TEXTS)
            audited.append((number, world.ask({"query": TEXTS[number], "k": 3})))

    with concurrent.futures.ThreadPoolExecutor(3) as lanes:
        asking = [lanes.submit(ask, lane) for lane in range(3)]
        new = Target(
            model="large",
            dimensions=searching.DIMENSIONS,
            space="tests/large",
            column="embedding_large",
        )
        world.pod.obey(dataclasses.replace(document, target=new))
        try:
            filled(world)
            sidecar.wait_until(lambda: world.search(TEXTS[3], k=1)["space"] == "tests/large")
        finally:
            stop.set()
        for it in asking:
            it.result()
    spaces = set()
    for number, answer in audited:
        assert answer.status_code == 200
        found = answer.json()
        assert (found["mode"], found["reason"]) == ("vector", None)
        spaces.add(found["space"])
        # Each result has the score that its text has in that space, and no other.
        model = found["space"].removeprefix("tests/")
        for one in found["results"]:
            expected = cosine(model, TEXTS[number], one["columns"]["body"])
            assert one["score"] == pytest.approx(expected, abs=1e-4)
    assert spaces == {"tests/small", "tests/large"}
    phases = dict(world.server.execute("SELECT target, phase FROM embedding_target"))
    assert phases == {
        "public.docs.embedding": "Retired",
        "public.docs.embedding_large": "Switched",
    }


def cosine(model: str, one: str, other: str) -> float:
    a = provider.numbers(model, one, searching.DIMENSIONS)
    b = provider.numbers(model, other, searching.DIMENSIONS)
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return float(dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5)


def test_worker_shows_metrics_probes_and_signed_report_while_it_runs(make_world, stand_in):
    world = make_world(filled=False, document=searching.index(applies_plan=True))
    stand_in.delay_seconds = 5
    port = ports.free()
    worker = world.pod.backfill(port=port)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        sidecar.wait_until(lambda: sidecar.listens(port))
        for path in (names.PATH_STARTED, names.PATH_LIVE):
            assert http.get(path).status_code == 200
        assert "aos_memory_backfill_progress_total" in http.get(names.PATH_METRICS).text
        assert http.get(names.PATH_INDEX).status_code == 401

        def signed() -> dict:
            credentials = searching.report_proof()
            answer = http.get(names.PATH_INDEX, headers={"Authorization": credentials.render()})
            assert proof.is_answer_signed(
                sidecar.TOKEN,
                answer.headers[proof.ANSWER_HEADER],
                nonce=credentials.nonce,
                status=200,
                body=answer.content,
            )
            return dict(answer.json())

        sidecar.wait_until(lambda: signed()["targets"])
        assert signed()["targets"][0]["phase"] in ("Planned", "Filling")
        assert http.post(names.PATH_SEARCH, content=b"{}").status_code == 404
    stand_in.delay_seconds = 0
    assert worker.wait(BACKFILL_SECONDS) == 0
