"""Each span that a request starts ends, and it starts one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from embedding_contract import names
from embedding_http.flow import Reply
from embedding_sidecar import errors
from embedding_sidecar.api import byte_budget
from embedding_sidecar.api.embeddings import Asked, Embeddings
from embedding_sidecar.telemetry import metrics

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": names.PATH_EMBEDDINGS,
    "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
}


class Spans:
    """Starts spans, and keeps what each was ended with."""

    def __init__(self):
        self.ended: list[list[str]] = []

    def request(self, *, traceparent, tracestate):
        ends: list[str] = []
        self.ended.append(ends)
        return SimpleNamespace(
            refused=lambda error: ends.append(error.kind), answered=lambda **_: ends.append("ok")
        )


class World:
    """The endpoint on a runtime that knows no body, or on none yet."""

    def __init__(self, *, is_ready=True, fails=False):
        self.spans = Spans()
        cached_answers = SimpleNamespace(**({} if fails else {"known": lambda _: None}))
        unused: Any = None
        runtime: Any = SimpleNamespace(cached_answers=cached_answers) if is_ready else None

        def now():
            if runtime is None:
                raise errors.Unavailable("No policy.", code="no_policy")
            return runtime

        current: Any = SimpleNamespace(runtime=now, runtime_or_none=lambda: runtime)
        self.endpoint = Embeddings(
            tracer=self.spans, current=current, metrics=metrics.Metrics(), otherwise=unused
        )

    def post(self, body):
        """As a connection does: at once, and by a task where that says nothing."""
        head = self.endpoint.head(SCOPE)
        assert head is not None
        result = self.endpoint.at_once(head, body)
        if isinstance(result, Reply):
            return result.status
        return asyncio.run(self.task(SCOPE, body, result))

    async def task(self, scope, body, asked):
        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        unused: Any = None
        reply = await self.endpoint.respond(scope, receive, unused, asked)
        return reply and reply.status


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"model": 1}', b"x" * (byte_budget.SMALL_BODY_BYTES + 1)]
)
def test_request_handed_to_task_keeps_its_span_and_ends_it_once(body):
    world = World()
    assert world.post(body) == 400
    assert world.spans.ended == [["invalid_request_error"]]


def test_span_ends_where_there_is_no_policy_yet():
    world = World(is_ready=False)
    assert world.post(b'{"model": "m", "input": "a"}') == 503
    assert world.spans.ended == [["server_error"]]


def test_span_of_caller_that_left_during_look_up_ends():
    world = World()
    head = world.endpoint.head(SCOPE)
    assert head is not None
    asked = world.endpoint.at_once(head, b"{")
    assert isinstance(asked, Asked)
    world.endpoint.caller_left(asked)
    assert world.spans.ended == [["server_error"]]


def test_request_that_fails_at_once_in_unforeseen_way_gets_500(caplog):
    world = World(fails=True)
    assert world.post(b'{"model": "m", "input": "a"}') == 500
    assert world.spans.ended == [["server_error"]]
    assert caplog.records[-1].exc_info[0] is AttributeError
