"""Each span that a request starts ends, and it starts one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from embedding_contract import names
from embedding_http.flow import Reply
from embedding_sidecar import errors
from embedding_sidecar.api import byte_budget
from embedding_sidecar.api.embeddings import Embeddings
from embedding_sidecar.telemetry import metrics


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

    def __init__(self, *, is_ready=True):
        self.spans = Spans()
        unused: Any = None
        cached_answers = SimpleNamespace(known=lambda _: None)
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
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": names.PATH_EMBEDDINGS,
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        }
        head = self.endpoint.head(scope)
        assert head is not None
        result = self.endpoint.at_once(head, body)
        if isinstance(result, Reply):
            return result.status
        return asyncio.run(self.task(scope, body, result))

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
