"""Room for what large requests hold: so many bytes at once, and who came first goes first.

A pod's memory is bounded, and what requests hold of it grows with their number: texts, answers of
providers, vectors (decision 017). A request takes room for all it will hold before it holds it, and
gives it back at its end, so nobody waits for room while others wait for what it holds. Small ones
pass by.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api

LEAST_BODIES_BYTES: Final = 8 * 2**20
"""Of bodies at once; what is read of one, and asked of providers, is two to three times that."""
LEAST_VECTORS_BYTES: Final = 18 * 2**20
"""Of vectors at once: one of the largest batches, of 1536 numbers each."""
VECTORS_FOR_BODIES: Final = 9
"""So much more room than bodies have, vectors have; a text is shorter than its vector."""
_USED: Final = 0.9
"""Of what a process may take; what the kernel holds of its connections counts too."""
_ALWAYS_BYTES: Final = 110 * 2**20
"""The program has 52 MiB, what Redis has not acknowledged 16, an answer while it is read 34; what
is left is for what the allocator cannot use again."""
_TAKEN: Final = 1.6
"""For each byte of room in use: of the vector, in base64, as bytes and in what is sent to Redis."""
SMALL_BODY_BYTES: Final = 64 * 2**10
"""What is buffered of a body anyway, and 8,191 tokens of text hardly ever exceed."""
SMALL_BYTES: Final = 256 * 2**10
"""Of vectors: 28 of 1536 numbers, 300 of 64."""
RETRY_AFTER_SECONDS: Final = 1.0
"""Who could not come in may come back soon: it waits for room again, which costs nobody anything.
OpenAI's SDKs come back twice, after what a 503 says or half a second."""
UNKNOWN_NUMBERS: Final = 4096
"""Of a vector of a model that has made none yet; hardly any has longer ones."""
BESIDE_VECTOR_BYTES: Final = 1024
"""For an item: its key, its entry and the objects they are made of."""
BYTES_PER_NUMBER: Final = 4


class ByteBudget:
    """So many bytes; who asks for more gets all of it, alone."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.free_bytes = most_bytes
        self._waiting: deque[tuple[Callable[[], int], asyncio.Future[int]]] = deque()

    def resize(self, most_bytes: int) -> None:
        """Be as large as this; who is in stays, so less than nothing may be free for a while."""
        self.free_bytes += most_bytes - self.most_bytes
        self.most_bytes = most_bytes
        self._let_in()

    async def take(self, size_bytes: Callable[[], int]) -> int:
        """Wait for so much room, behind who came before; how much it is, to be given back.

        It is asked for the size when its turn comes, when that may be known better.
        """
        admitted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, admitted))
        self._let_in()
        try:
            return await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                # Who was behind it may be first now.
                self._let_in()
            else:
                self.give_back(admitted.result())
            raise

    def give_back(self, size_bytes: int) -> None:
        """What was taken is free for the next."""
        self.free_bytes += size_bytes
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, admitted = self._waiting[0]
            if not admitted.cancelled():
                size = min(size_bytes(), self.most_bytes)
                if size > self.free_bytes:
                    return
                self.free_bytes -= size
                admitted.set_result(size)
            self._waiting.popleft()


class ByteBudgets:
    """The room of bodies and the room of vectors in a process that may take so much memory."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self.bodies = ByteBudget(LEAST_BODIES_BYTES)
        self.vectors = ByteBudget(LEAST_VECTORS_BYTES)

    def fit(self, cache_bytes: int) -> None:
        """Be as large as can be beside such a cache."""
        size = vectors_bytes(self._memory_bytes, cache_bytes=cache_bytes)
        if size != self.vectors.most_bytes:
            self.vectors.resize(size)
            self.bodies.resize(max(size // VECTORS_FOR_BODIES, LEAST_BODIES_BYTES))


def vectors_bytes(memory_bytes: int, *, cache_bytes: int) -> int:
    """The room of vectors in a process that may take so much memory, of which its cache has a part.

    What is left beside the cache and what there always is, as measured (decision 017).
    """
    left = memory_bytes * _USED - _ALWAYS_BYTES - cache_bytes
    return max(int(left / _TAKEN), LEAST_VECTORS_BYTES)


class Sizes:
    """How much requests will hold, as far as that can be told before they are answered."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        """Of a vector, by the model's name; what a policy allows, so they are few."""

    def vector_bytes(self, ask: provider_api.Ask) -> int:
        """Of one vector."""
        numbers = ask.dimensions or self._numbers.get(ask.model, UNKNOWN_NUMBERS)
        return numbers * BYTES_PER_NUMBER

    def held_bytes(self, ask: provider_api.Ask) -> int:
        """Of all vectors, at most: as base64, in which a provider says them."""
        return len(ask.items) * (self.vector_bytes(ask) * 4 // 3 + BESIDE_VECTOR_BYTES)

    def learn(self, ask: provider_api.Ask, vector: bytes) -> None:
        """A request was answered with vectors like this one."""
        if ask.dimensions is None:
            self._numbers[ask.model] = len(vector) // BYTES_PER_NUMBER


class ByteReservation:
    """What one request takes of rooms, until it leaves.

    It waits for `patience_seconds` at most in all, and has waited for `waited_seconds`.
    """

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self.waited_seconds = 0.0
        self._taken: list[tuple[ByteBudget, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    async def take(self, budget: ByteBudget, size_bytes: Callable[[], int]) -> None:
        """Take room, as soon as there is.

        Raises:
            errors.Unavailable: there was none in time.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        try:
            async with asyncio.timeout(self._patience_seconds - self.waited_seconds):
                self._taken.append((budget, await budget.take(size_bytes)))
        except TimeoutError:
            raise errors.Unavailable(
                "Requests before this one hold the memory that it needs, and took too long.",
                code="memory_exhausted",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None
        finally:
            self.waited_seconds += loop.time() - came

    def leave(self) -> None:
        """Give all of it back."""
        taken, self._taken = self._taken, []
        for budget, size in taken:
            budget.give_back(size)
