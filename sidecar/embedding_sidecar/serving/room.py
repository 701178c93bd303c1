"""Room for what large requests hold: so many bytes at once, and who came first goes first.

A pod's memory is bounded, and what requests hold of it grows with their number: texts, answers of
providers, vectors (decision 017). A request takes room for all it will hold before it holds it, and
gives it back at its end, so nobody waits for room while others wait for what it holds. Small ones
pass by.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from embedding_sidecar import errors, provider

BODIES_BYTES: Final = 8 * 2**20
"""Of bodies at once; what is read of one, and asked of providers, is two to three times that."""
VECTORS_BYTES: Final = 18 * 2**20
"""Of vectors at once: one of the largest batches, of 1536 numbers each. In the chart's 192 MiB the
program has 52, the cache 32, what Redis has not acknowledged 16 and an answer while it is read 34;
what is left is for what the allocator cannot use again. Two such batches at once take 30 more."""
SMALL_BODY_BYTES: Final = 64 * 2**10
"""What uvicorn has read of a body anyway, and 8,191 tokens of text hardly ever exceed."""
SMALL_BYTES: Final = 256 * 2**10
"""Of vectors: 28 of 1536 numbers, 300 of 64."""
UNKNOWN_NUMBERS: Final = 4096
"""Of a vector of a model that has made none yet; hardly any has longer ones."""
BESIDE_VECTOR_BYTES: Final = 1024
"""For an item: its key, its entry and the objects they are made of."""
_BYTES_PER_NUMBER: Final = 4


class Room:
    """So many bytes; who asks for more gets all of it, alone."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.free_bytes = most_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size_bytes: int) -> int:
        """Wait for so much room, behind who came before; how much it is, to be given back."""
        size = min(size_bytes, self.most_bytes)
        if not self._waiting and size <= self.free_bytes:
            self.free_bytes -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Who was behind it may be first now.
                self._let_in()
            else:
                self.give_back(size)
            raise
        return size

    def give_back(self, size_bytes: int) -> None:
        """What was taken is free for the next."""
        self.free_bytes += size_bytes
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if size > self.free_bytes:
                    return
                self.free_bytes -= size
                turn.set_result(None)
            self._waiting.popleft()


class Sizes:
    """How much requests will hold, as far as that can be told before they are answered."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        """Of a vector, by the model's name; what a policy allows, so they are few."""

    def vector_bytes(self, ask: provider.Ask) -> int:
        """Of one vector."""
        numbers = ask.dimensions or self._numbers.get(ask.model, UNKNOWN_NUMBERS)
        return numbers * _BYTES_PER_NUMBER

    def held_bytes(self, ask: provider.Ask) -> int:
        """Of all vectors, at most: as base64, in which a provider says them."""
        return len(ask.items) * (self.vector_bytes(ask) * 4 // 3 + BESIDE_VECTOR_BYTES)

    def learn(self, ask: provider.Ask, vector: bytes) -> None:
        """A request was answered with vectors like this one."""
        if ask.dimensions is None:
            self._numbers[ask.model] = len(vector) // _BYTES_PER_NUMBER


class Stay:
    """What one request takes of rooms, until it leaves.

    It waits for `patience_seconds` at most in all, and has waited for `waited_seconds`.
    """

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self.waited_seconds = 0.0
        self._taken: list[tuple[Room, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    async def take(self, room: Room, size_bytes: int) -> None:
        """Take room, as soon as there is.

        Raises:
            errors.Unavailable: there was none in time.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        try:
            async with asyncio.timeout(self._patience_seconds - self.waited_seconds):
                self._taken.append((room, await room.take(size_bytes)))
        except TimeoutError:
            raise errors.Unavailable(
                "Requests before this one took too long; there is no room for one of its size.",
                code="all_providers_failed",
                status=502,
            ) from None
        finally:
            self.waited_seconds += loop.time() - came

    def leave(self) -> None:
        """Give all of it back."""
        taken, self._taken = self._taken, []
        for room, size in taken:
            room.give_back(size)
