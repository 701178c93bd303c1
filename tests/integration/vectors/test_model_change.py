"""A model changed while applications search: no answer fails, and none is of two spaces."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from embedding_contract import names
from embedding_contract.document import Index
from embedding_contract.index_document import Limits, Search
from tests.parts import filling, ports, search_load, searching
from tests.parts.sidecar import wait_until

SMALL = "public.docs.small"
LARGE = "public.docs.large"
QUERIES = [f"text {number}" for number in range(1, 5)] + [f"query {number}" for number in range(4)]


class Rows:
    """The rows of the table, and every text that each has had."""

    def __init__(self, texts: filling.Texts, *, count: int) -> None:
        self._texts = texts
        self.had = {number: {f"text {number}"} for number in range(count)}
        texts.insert({number: f"text {number}" for number in range(count)})

    def change(self, said: str, *, every: int) -> None:
        """Write other texts, and a new row; forget another row."""
        server = self._texts.server
        for number in range(5, len(self.had), every):
            self.had[number].add(f"{said} {number}")
        server.execute(
            "UPDATE docs SET body = %s || id WHERE id >= 5 AND (id - 5) %% %s = 0",
            (f"{said} ", every),
        )
        new = len(self.had)
        self.had[new] = {f"{said} {new}"}
        self._texts.insert({new: f"{said} {new}"})
        server.execute("DELETE FROM docs WHERE id = %s", (new - 2,))


@pytest.fixture
def searched(texts) -> Any:
    """Starts a search pod of the index; the sidecar forwards searches to it."""
    pods: list[searching.SearchPod] = []

    def start() -> searching.SearchPod:
        assert texts.sidecar is not None
        port = ports.free()
        served = Index(name=texts.index.name, uid=texts.index.uid, url=f"http://127.0.0.1:{port}")
        texts.write_policy(dataclasses.replace(texts.policy, indexes=(served,)))
        pod = searching.SearchPod(
            texts.folder / "pod",
            document=texts.index,
            dsn=texts.dsn,
            sidecar_port=texts.sidecar.port,
            port=port,
        )
        pods.append(pod)
        return pod

    yield start
    for pod in pods:
        pod.stop()


def changes_its_model_under_load(
    texts: filling.Texts,
    searched: Callable[[], searching.SearchPod],
    *,
    rows: int,
    say,
    trigger: bool = True,
) -> None:
    small, large = texts.small, texts.large
    texts.write(search=Search(return_columns=("body",)))
    kept = Rows(texts, count=rows)
    assert texts.run() == 0, texts.said()
    pod = searched()
    assert texts.sidecar is not None
    asked = texts.sidecar
    wait_until(lambda: _answers_by_vectors(asked))
    # Batches alone: a search whose query is not embedded in time is answered by text.
    texts.stand_in.delay_seconds, texts.stand_in.delay_from_texts = 0.5, 2
    with search_load.running(asked, QUERIES) as load:
        load.goes_on()
        texts.write(target=large, trigger=trigger)
        pod.obey(texts.index)
        worker = texts.start()
        wait_until(lambda: texts.phases().get(LARGE) == "Filling")
        wait_until(lambda: texts.counts(LARGE)[1] >= rows // 4)
        kept.change("changed while it fills", every=10)
        worker.kill()
        worker.wait()
        assert texts.phases() == {SMALL: "Switched", LARGE: "Filling"}
        half = texts.true_counts(LARGE)[1]
        assert 0 < half < rows  # of those that were done, some have changed
        kept.change("changed while nobody fills", every=7)
        assert {it.space for it in load.goes_on()} == {small.space}
        worker = texts.start()
        wait_until(lambda: texts.true_counts(LARGE)[1] > half)
        kept.change("changed as it goes on", every=9)
        assert texts.phases() == {SMALL: "Switched", LARGE: "Filling"}
        assert worker.wait(filling.ENDED_SECONDS) == 0, texts.said()
        assert texts.phases() == {SMALL: "Retired", LARGE: "Switched"}
        # Written until the switch, and every change came before it.
        assert texts.wrong(small) == texts.wrong(large) == []
        wait_until(lambda: load.answers()[-1].space == large.space)
        kept.change("changed after the switch", every=11)
        assert texts.run() == 0, texts.said()
        assert texts.wrong(large) == []
        assert {it.space for it in load.goes_on()} == {large.space}
    answers = load.answers()
    faults = search_load.faults(answers, targets=(small, large), texts=kept.had)
    assert not faults, faults[:3]
    is_new = [it.space == large.space for it in answers]
    say(
        f"{small.dimensions} to {large.dimensions} dimensions, {rows} rows: {len(answers)} searches"
        f" answered, {is_new.count(False)} by the old target and {is_new.count(True)} by the new"
    )
    first_new = min(it.ended for it in answers if it.space == large.space)
    assert [it for it in answers if it.space == small.space and it.began > first_new] == []
    ((switched,),) = texts.server.execute(
        "SELECT extract(epoch FROM filled_at)::float8 FROM embedding_target WHERE target = %s",
        (LARGE,),
    )
    assert first_new > switched


def _answers_by_vectors(asked) -> bool:
    answer = asked.http.post(names.PATH_SEARCH, json={"query": "text 1", "k": 1})
    return bool(answer.is_success and answer.json()["mode"] == "vector")


@pytest.mark.integration
@pytest.mark.parametrize("trigger", [True, False])
def test_changed_model_fails_no_search_and_mixes_no_spaces(texts, searched, say, trigger):
    changes_its_model_under_load(texts, searched, rows=100, say=say, trigger=trigger)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_384_dimensions_become_3072_under_load(texts, searched, say):
    texts.use_dimensions(384, 3072)
    texts.write(limits=Limits(batch_rows=64))
    changes_its_model_under_load(texts, searched, rows=1_000, say=say)
