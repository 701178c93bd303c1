"""Servers that speak Redis's protocol, and send arbitrary replies."""

import asyncio
import contextlib

import hiredis


class Strange:
    """A server that takes each command apart and answers as it is told, connection by connection.

    An answer of None is one that never comes.
    """

    def __init__(self, *behaviours) -> None:
        self._behaviours = iter(behaviours)
        self._tasks: list[asyncio.Task[None] | None] = []
        self.accepted = 0

    async def _serve(self, reader, writer) -> None:
        self.accepted += 1
        behaviour = next(self._behaviours)
        parser = hiredis.Reader()
        self._tasks.append(asyncio.current_task())
        try:
            while data := await reader.read(2**16):
                parser.feed(data)
                while words := parser.gets():
                    answer = b"+OK\r\n" if words[0] == b"CLIENT" else await behaviour(words)
                    if answer is not None:
                        writer.write(answer)
        except (ConnectionError, asyncio.CancelledError):
            # The end of either side.
            return
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def serving(self):
        """Its URL."""
        made = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"redis://127.0.0.1:{made.sockets[0].getsockname()[1]}/0?protocol=2"
        finally:
            made.close()
            for task in filter(None, self._tasks):
                task.cancel()
            await asyncio.gather(*filter(None, self._tasks))


async def silent(words) -> None:
    """Not a word."""
