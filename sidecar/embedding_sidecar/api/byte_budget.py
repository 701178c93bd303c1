"""Bounds the bytes that large requests hold at once; they wait in the order in which they came.

A pod's memory is bounded, and what requests hold of it grows with their number: texts, answers of
providers, vectors (decision 017). A request reserves all the bytes it will hold before it holds
them, and releases them at its end, so no request waits for bytes while others wait for those that
it holds. Small requests reserve nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api

LEAST_BODIES_BYTES: Final = 8 * 2**20
"""Bytes of bodies at once; parsed, and as requests to providers, they take 2 to 3 times that."""
LEAST_VECTORS_BYTES: Final = 18 * 2**20
"""Bytes of vectors at once: one of the largest batches, of 1536 numbers each."""
VECTORS_FOR_BODIES: Final = 9
"""The ratio of the budget of vectors to that of bodies; a text is shorter than its vector."""
_USED: Final = 0.9
"""Share of the memory limit; the kernel's memory for the connections counts too."""
_ALWAYS_BYTES: Final = 110 * 2**20
"""The program takes 52 MiB, writes that Redis has not acknowledged 16, an answer being read 34; the
rest is for memory that the allocator cannot use again."""
_TAKEN: Final = 1.6
"""Memory for each reserved byte: the vector in base64, as bytes and in the command to Redis."""
SMALL_BODY_BYTES: Final = 64 * 2**10
"""Bytes of a body that are buffered anyway; 8,191 tokens of text hardly ever exceed them."""
SMALL_BYTES: Final = 256 * 2**10
"""Bytes of vectors that need no reservation: 28 of 1536 numbers, 300 of 64."""
RETRY_AFTER_SECONDS: Final = 1.0
"""A refused caller may retry soon: it waits for its byte budget again, which costs nothing.
OpenAI's SDKs retry twice, after the time in a 503 or half a second."""
UNKNOWN_NUMBERS: Final = 4096
"""Assumed for a model that has made no vector yet; hardly any makes longer ones."""
BESIDE_VECTOR_BYTES: Final = 1024
"""Bytes of an item's key, its entry and the objects they are made of."""
BYTES_PER_NUMBER: Final = 4


class ByteBudget:
    """A number of bytes; a request that needs more gets all of them, alone."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.free_bytes = most_bytes
        self._waiting: deque[tuple[Callable[[], int], asyncio.Future[int]]] = deque()

    def resize(self, most_bytes: int) -> None:
        """Set the size; reservations stay, so `free_bytes` may be negative for a while."""
        self.free_bytes += most_bytes - self.most_bytes
        self.most_bytes = most_bytes
        self._let_in()

    async def take(self, size_bytes: Callable[[], int]) -> int:
        """Wait for so many bytes, behind earlier callers; returns how many `give_back` releases.

        `size_bytes` is called when its turn comes, as the size may be known better by then.
        """
        admitted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, admitted))
        self._let_in()
        try:
            return await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                # The caller behind it may be first now.
                self._let_in()
            else:
                self.give_back(admitted.result())
            raise

    def give_back(self, size_bytes: int) -> None:
        """Release bytes for the next caller."""
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
    """The budgets of bodies and of vectors in a process with this memory limit."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self.bodies = ByteBudget(LEAST_BODIES_BYTES)
        self.vectors = ByteBudget(LEAST_VECTORS_BYTES)

    def fit(self, cache_bytes: int) -> None:
        """Resize both to the memory that a cache of this size leaves."""
        size = vectors_bytes(self._memory_bytes, cache_bytes=cache_bytes)
        if size != self.vectors.most_bytes:
            self.vectors.resize(size)
            self.bodies.resize(max(size // VECTORS_FOR_BODIES, LEAST_BODIES_BYTES))


def vectors_bytes(memory_bytes: int, *, cache_bytes: int) -> int:
    """The budget of vectors in a process with this memory limit and a cache of this size.

    It is the memory that the cache and the program leave, as measured (decision 017).
    """
    left = memory_bytes * _USED - _ALWAYS_BYTES - cache_bytes
    return max(int(left / _TAKEN), LEAST_VECTORS_BYTES)


class Sizes:
    """Estimates of the bytes that requests will hold, before they are answered."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        """Numbers of a vector by the model's name; a policy allows few models."""

    def vector_bytes(self, ask: provider_api.Ask) -> int:
        """Bytes of one vector."""
        numbers = ask.dimensions or self._numbers.get(ask.model, UNKNOWN_NUMBERS)
        return numbers * BYTES_PER_NUMBER

    def held_bytes(self, ask: provider_api.Ask) -> int:
        """Bytes of all vectors, at most: as base64, in which a provider sends them."""
        return len(ask.items) * (self.vector_bytes(ask) * 4 // 3 + BESIDE_VECTOR_BYTES)

    def learn(self, ask: provider_api.Ask, vector: bytes) -> None:
        """Remember how long the vectors of the request's model are."""
        if ask.dimensions is None:
            self._numbers[ask.model] = len(vector) // BYTES_PER_NUMBER


class ByteReservation:
    """The bytes that one request reserves, until it is closed.

    It waits for `patience_seconds` at most in all, and has waited for `waited_seconds`.
    """

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self.waited_seconds = 0.0
        self._taken: list[tuple[ByteBudget, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._taken:
            self.close()

    async def take(self, budget: ByteBudget, size_bytes: Callable[[], int]) -> None:
        """Reserve bytes, as soon as so many are free.

        Raises:
            errors.Unavailable: they were not free in time.
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

    def close(self) -> None:
        """Release all of them."""
        taken, self._taken = self._taken, []
        for budget, size in taken:
            budget.give_back(size)
