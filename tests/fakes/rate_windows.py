"""Windows in memory for several pods: the product's own model, with the clock of the test.

`tests/contract/test_rate_windows.py` holds the script in Redis to that model.
"""

import asyncio
from collections.abc import Callable

from embedding_sidecar import errors
from embedding_sidecar.rate.window import BUCKET_MS, Drawn, Message, Window


class FakeWindows:
    """`clock` tells seconds; an answer takes `seconds`; `fault` is raised in place of one.

    With `loses_answers` a message is carried out, and the pod is told that the store is away.
    """

    def __init__(self, clock: Callable[[], float], *, seconds: float = 0.001) -> None:
        self.clock = clock
        self.seconds = seconds
        self.fault: errors.StoreAway | None = None
        self.loses_answers = False
        self.windows: dict[str, Window] = {}
        self.messages: list[Message] = []

    def forget(self) -> None:
        self.windows.clear()

    async def draw(self, message: Message) -> Drawn:
        self.messages.append(message)
        await asyncio.sleep(self.seconds / 2)
        if self.fault is not None:
            raise self.fault
        window = self.windows.setdefault(message.key, Window())
        for bucket, (calls, tokens) in message.returns.items():
            window.give_back(bucket * BUCKET_MS, calls=calls, tokens=tokens)
        drawn = window.draw(message.needs, message.terms, now_ms=int(self.clock() * 1000))
        await asyncio.sleep(self.seconds / 2)
        if self.loses_answers:
            raise errors.StoreAway("TimeoutError")
        return drawn
