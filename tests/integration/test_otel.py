"""Tracing by OpenTelemetry: a real sidecar exports to a collector over real sockets."""

import concurrent.futures
import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading

import pytest

from embedding_contract import names
from tests.fakes import provider
from tests.parts import otlp, ports, sidecar

pytestmark = pytest.mark.integration

MODEL = "text-embedding-3-small"
REQUEST = f"embeddings {MODEL}"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
DURATION = "gen_ai.client.embeddings.duration"
INPUT_TOKENS = "gen_ai.client.embeddings.operation.input_tokens"


@pytest.fixture
def collector():
    return otlp.Collector()


@pytest.fixture
def traced(from_environment, collector):
    """Starts a sidecar that exports every 50 ms."""
    with sidecar.served(collector.app()) as url:

        def start(**environment):
            return from_environment(
                OTEL_EXPORTER_OTLP_ENDPOINT=url,
                OTEL_BSP_SCHEDULE_DELAY="50",
                OTEL_METRIC_EXPORT_INTERVAL="50",
                **environment,
            )

        yield start


def embed(running, *items, traceparent=CALLER, **more):
    return running.http.post(
        names.PATH_EMBEDDINGS,
        json={"model": MODEL, "input": list(items), **more},
        headers={"traceparent": traceparent},
    )


def spans(collector, name, count=1):
    sidecar.wait_until(lambda: len(collector.named(name)) >= count)
    return collector.named(name)


def ids(traceparent):
    _, trace, span, _ = traceparent.split("-")
    return bytes.fromhex(trace), bytes.fromhex(span)


def test_miss_is_span_below_its_callers_and_call_one_below_that(traced, collector, stand_in):
    assert embed(traced(), "hello there").is_success
    [request] = spans(collector, REQUEST)
    [call] = spans(collector, "POST")
    assert (request.trace_id, request.parent_span_id) == ids(CALLER)
    assert (call.trace_id, call.parent_span_id) == (request.trace_id, request.span_id)
    assert ids(stand_in.calls[0].traceparent) == (call.trace_id, call.span_id)
    assert otlp.attributes(request) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": MODEL,
        "gen_ai.embeddings.dimension.count": provider.DIMENSIONS,
        "gen_ai.usage.input_tokens": 2,
    }
    assert otlp.attributes(call)["server.address"] == "127.0.0.1"


def test_batch_of_several_texts_is_one_span_with_its_call(traced, collector, stand_in):
    assert embed(traced(), "a", "b", "c").is_success
    [request] = spans(collector, REQUEST)
    [call] = spans(collector, "POST")
    assert call.parent_span_id == request.span_id
    assert ids(stand_in.calls[0].traceparent) == (call.trace_id, call.span_id)


def test_hit_has_event_and_no_call(traced, collector):
    running = traced()
    assert embed(running, "a").is_success
    assert embed(running, "a", traceparent=OTHER).is_success
    hit = next(it for it in spans(collector, REQUEST, 2) if it.trace_id == ids(OTHER)[0])
    assert [(it.name, otlp.attributes(it)) for it in hit.events] == [
        ("cache_hit", {"hits": 1, "items": 1})
    ]
    assert len(spans(collector, "POST")) == 1


def test_caller_that_joins_call_is_link_of_its_span(traced, collector, stand_in):
    stand_in.delay_seconds = 1.0
    running = traced()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(embed, running, "a")
        sidecar.wait_until(lambda: stand_in.calls)
        second = pool.submit(embed, running, "a", traceparent=OTHER)
        assert first.result().is_success
        assert second.result().is_success
    [call] = spans(collector, "POST")
    joined = next(it for it in spans(collector, REQUEST, 2) if it.trace_id == ids(OTHER)[0])
    assert [(it.trace_id, it.span_id) for it in call.links] == [(joined.trace_id, joined.span_id)]
    assert call.trace_id == ids(CALLER)[0]


def test_failover_is_event_and_failed_call_error(traced, collector, stand_in):
    running = traced(
        EMBEDDING_FALLBACK_ENABLED="true",
        EMBEDDING_BACKUP_PROVIDER="voyage",
        OPENAI_API_KEY="sk-refused",
    )
    assert embed(running, "a").headers["x-embedding-provider"] == "voyage"
    sidecar.wait_until(lambda: len(collector.named("POST")) == 2)
    [request] = [it for it in collector.spans if it.name.startswith("embeddings")]
    assert [(it.name, otlp.attributes(it)) for it in request.events] == [
        ("failover", {"gen_ai.provider.name": "voyage_ai"})
    ]
    assert otlp.attributes(request)["gen_ai.provider.name"] == "voyage_ai"
    failed = [otlp.attributes(it).get("error.type") for it in collector.named("POST")]
    assert sorted(failed, key=str) == sorted(["key_refused", None], key=str)


def test_refusal_is_event_with_its_code(traced, collector):
    running = traced(EMBEDDING_DAILY_QUOTA="0")
    assert embed(running, "a").status_code == 429
    [request] = spans(collector, "embeddings")
    assert otlp.attributes(request)["error.type"] == "insufficient_quota"
    assert [it.name for it in request.events] == ["refusal"]


def test_code_that_provider_chose_becomes_no_attribute(traced, collector, stand_in):
    words = {"error": {"message": "no", "type": "invalid_request_error", "code": "secret-word"}}
    stand_in.fault = lambda _: (400, {}, words)
    assert embed(traced(), "a").status_code == 400
    [request] = spans(collector, "embeddings")
    assert otlp.attributes(request)["error.type"] == "invalid_request_error"


def test_metrics_have_conventions_names_and_buckets(traced, collector):
    running = traced()
    assert embed(running, "hello there").is_success
    assert embed(running, "hello there").is_success
    sidecar.wait_until(lambda: [it.count for it in collector.metric(DURATION)] == [2])
    [duration] = collector.metric(DURATION)
    assert list(duration.explicit_bounds) == [0.01 * 2**it for it in range(14)]
    [tokens] = collector.metric(INPUT_TOKENS)
    assert (tokens.count, tokens.sum) == (1, 2)
    assert otlp.attributes(tokens)["gen_ai.provider.name"] == "openai"


def test_caller_that_is_not_sampled_is_recorded_in_no_span_and_passed_on(
    traced, collector, stand_in
):
    assert embed(traced(), "a", traceparent=UNSAMPLED).is_success
    sidecar.wait_until(lambda: collector.metric(DURATION))
    assert stand_in.calls[0].traceparent.startswith(UNSAMPLED[:35])
    assert stand_in.calls[0].traceparent.endswith("-00")
    assert collector.spans == []


@pytest.mark.parametrize("traceparent", ["", "00-zz-zz-01", "ff" * 40, "00-0-0-01"])
def test_malformed_traceparent_starts_trace_of_its_own(traced, collector, traceparent):
    running = traced(OTEL_TRACES_SAMPLER="always_on")
    assert embed(running, "a", traceparent=traceparent).is_success
    [request] = spans(collector, REQUEST)
    assert request.parent_span_id == b""


def test_no_text_and_no_vector_is_exported(traced, collector):
    running = traced()
    answer = embed(running, "a very secret sentence")
    [_] = spans(collector, REQUEST)
    sidecar.wait_until(lambda: collector.metric(INPUT_TOKENS))
    assert b"secret" not in collector.raw
    assert str(answer.json()["data"][0]["embedding"][0]).encode() not in collector.raw
    assert provider.KEY.encode() not in collector.raw


def test_collector_that_is_away_costs_no_answer_and_no_end(from_environment):
    running = from_environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{ports.free()}",
        OTEL_BSP_SCHEDULE_DELAY="50",
    )
    assert embed(running, "a").is_success
    assert running.stop() == 0


def test_last_spans_are_exported_before_process_ends(from_environment, collector):
    with sidecar.served(collector.app()) as url:
        running = from_environment(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="60000")
        assert embed(running, "a").is_success
        assert running.stop() == 0
        assert len(collector.named(REQUEST)) == 1
        assert collector.metric(DURATION)[0].count == 1


def test_other_protocol_than_http_stops_start_with_its_name(start):
    running = start(
        OPENAI_API_KEY="x",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
    )
    assert running.process.wait(sidecar.READY_SECONDS) == 2
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf" in running.said()


@pytest.mark.parametrize(
    ("environment", "loaded"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
    ],
    ids=["off", "disabled", "on"],
)
def test_opentelemetry_is_imported_only_where_tracing_is_on(environment, loaded):
    program = (
        "import atexit, json, sys\n"
        "from embedding_sidecar import launch\n"
        "def loaded(): return [it for it in sys.modules if it.startswith('opentelemetry.')]\n"
        "atexit.register(lambda: print(json.dumps(loaded())))\n"
        "sys.argv = ['embedding-sidecar', '--help']\n"
        "launch.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert bool(json.loads(done.stdout.splitlines()[-1])) is loaded


@contextlib.contextmanager
def answering(*pieces, apart_seconds=0.0):
    """A collector that answers with these bytes, whatever it is told; its URL and what it sent."""
    sent, stop = [], threading.Event()

    def answer(client):
        with client, contextlib.suppress(OSError):
            client.recv(65_536)
            for piece in itertools.chain.from_iterable(pieces):
                client.sendall(piece)
                sent.append(len(piece))
                if stop.wait(apart_seconds):
                    return

    def accept(listening):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", sent
        stop.set()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n"


def test_body_of_collectors_answer_is_not_read(from_environment):
    with answering([HEAD], itertools.repeat(b"x" * 2**20, 400)) as (url, sent):
        from_environment(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_METRIC_EXPORT_INTERVAL="50")
        sidecar.wait_until(lambda: sent.count(len(HEAD)) > 3)
        assert sum(sent) < 100 * 2**20


@pytest.mark.parametrize("head", [HEAD, HEAD[:-2] + b"a: "])
def test_collector_that_drips_does_not_hold_end_up(from_environment, head):
    """With a body, and with a head that has no end."""
    drip = itertools.repeat(b"x", 1000)
    with answering([head], drip, apart_seconds=0.1) as (url, sent):
        running = from_environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_METRIC_EXPORT_INTERVAL="50"
        )
        sidecar.wait_until(lambda: sent)
        assert running.stop() == 0
