"""Writes of one turn of the event loop go out together."""

import asyncio
import functools

from embedding_http.flow import WriteCoalescer


def test_first_of_turn_is_sent_at_once_and_others_when_it_is_over():
    async def go():
        writes = WriteCoalescer()
        sent: list[str] = []
        for name in "abc":
            writes.send(functools.partial(sent.append, name))
        before = list(sent)
        await asyncio.sleep(0)
        after = list(sent)
        writes.send(functools.partial(sent.append, "d"))
        return before, after, sent

    assert asyncio.run(go()) == (["a"], ["a", "b", "c"], ["a", "b", "c", "d"])


def test_failing_send_keeps_no_other_back(caplog):
    async def go():
        writes = WriteCoalescer()
        sent: list[str] = []
        writes.send(functools.partial(sent.append, "first"))
        writes.send(lambda: 1 / 0)
        writes.send(functools.partial(sent.append, "last"))
        await asyncio.sleep(0)
        return sent

    assert asyncio.run(go()) == ["first", "last"]
    assert "ZeroDivisionError" in caplog.text
