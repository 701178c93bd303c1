"""What is sent in one turn of the loop."""

import asyncio
import functools

from embedding_sidecar.upstream import write_coalescer


def test_the_first_of_a_turn_is_sent_at_once_and_the_others_when_it_is_over():
    async def go():
        writes = write_coalescer.WriteCoalescer()
        sent: list[str] = []
        for name in "abc":
            writes.send(functools.partial(sent.append, name))
        before = list(sent)
        await asyncio.sleep(0)
        after = list(sent)
        writes.send(functools.partial(sent.append, "d"))
        return before, after, sent

    assert asyncio.run(go()) == (["a"], ["a", "b", "c"], ["a", "b", "c", "d"])


def test_what_cannot_be_sent_keeps_nothing_else_back(caplog):
    async def go():
        writes = write_coalescer.WriteCoalescer()
        sent: list[str] = []
        writes.send(functools.partial(sent.append, "first"))
        writes.send(lambda: 1 / 0)
        writes.send(functools.partial(sent.append, "last"))
        await asyncio.sleep(0)
        return sent

    assert asyncio.run(go()) == ["first", "last"]
    assert "ZeroDivisionError" in caplog.text
