"""A body that is too large or too slow is refused while it is read."""

import asyncio

import pytest

from embedding_sidecar import errors
from embedding_sidecar.api import request_body
from embedding_sidecar.openai_format import openai_json


def receiving(messages):
    """An ASGI receive of these messages, after which nothing more comes."""
    left = iter(messages)

    async def receive():
        message = next(left, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    return receive


def read(*messages):
    """What comes of these messages."""
    return asyncio.run(request_body.read(receiving(messages)))


def part(body, *, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def test_body_in_parts_is_whole():
    assert read(part(b"a"), part(b""), part(b"b", more=False)) == b"ab"


def test_body_too_large_is_refused_before_its_end():
    half = bytes(openai_json.MAX_BODY_BYTES // 2)
    assert len(read(part(half), part(half, more=False))) == openai_json.MAX_BODY_BYTES
    with pytest.raises(errors.Rejected) as refused:
        read(part(half), part(half), part(b"x"))
    assert refused.value.status == 413


def test_body_that_does_not_come_is_refused_in_time(monkeypatch):
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.01)
    with pytest.raises(errors.Rejected) as refused:
        read(part(b"a"))
    assert refused.value.status == 408


def test_caller_that_goes_away_is_no_error_of_ours():
    with pytest.raises(errors.Rejected) as refused:
        read(part(b"a"), {"type": "http.disconnect"})
    assert refused.value.status == 499


def wait_while_there(waiting, *messages):
    asyncio.run(request_body.while_there(receiving(messages), waiting))


def test_failure_of_awaited_work_reaches_caller():
    with pytest.raises(errors.StoreAway):
        wait_while_there(fail())


def test_caller_that_goes_away_is_waited_for_no_longer():
    with pytest.raises(errors.Rejected) as refused:
        wait_while_there(asyncio.sleep(60), part(b"", more=False), {"type": "http.disconnect"})
    assert refused.value.status == 499


async def fail():
    await asyncio.sleep(0)
    raise errors.StoreAway
