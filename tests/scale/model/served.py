"""A Redis of its own, and the time and memory that it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

from embedding_sidecar import errors
from tests.parts import sidecar

ROUNDS: Final = 3
TRIES: Final = 20
Ask = Callable[[], Awaitable[object]]


class Served:
    """A running Redis, as its own INFO tells."""

    def __init__(self, running: sidecar.Redis) -> None:
        self.url = running.url
        self.client = redis.Redis.from_url(running.url)

    def processor_seconds(self) -> float:
        """Time of the main thread, which carries out all commands, on a processor."""
        found = self.client.info("cpu")
        return float(found["used_cpu_sys_main_thread"] + found["used_cpu_user_main_thread"])

    def used_bytes(self) -> int:
        """Memory in use."""
        return int(self.client.info("memory")["used_memory"])

    def connections(self) -> int:
        """Connections of others."""
        return int(self.client.info("clients")["connected_clients"]) - 1

    async def microseconds(self, asks: Sequence[Ask], *, count: int) -> float:
        """Time of the main thread for one of `count` messages, the least of ROUNDS.

        Each of `asks` has one message under way. Programs beside this one make a message dearer,
        never cheaper.
        """
        each = -(-count // len(asks))

        async def run(ask: Ask) -> None:
            for _ in range(each):
                await answered(ask)

        found = []
        for _ in range(ROUNDS):
            before = self.processor_seconds()
            await asyncio.gather(*map(run, asks))
            found.append((self.processor_seconds() - before) / each / len(asks))
        return min(found) * 1e6


async def answered(ask: Ask) -> None:
    """Ask until an answer comes in a sidecar's time; on a busy machine not each one does."""
    for _ in range(TRIES):
        try:
            await ask()
        except errors.StoreAway as cause:
            late = cause
        else:
            return
    raise late


@contextmanager
def served(folder: Path, *, keeps: bool) -> Iterator[Served]:
    """A Redis that syncs each write to its file, as an exact quota needs, or keeps no file."""
    folder.mkdir(parents=True)
    running = sidecar.Redis(folder)
    found = Served(running)
    try:
        found.client.config_set("appendonly", "yes" if keeps else "no")
        yield found
    finally:
        found.client.close()
        running.kill()
