"""The ceiling: answers every request with as many bytes, on uvicorn's own protocol.

python -m tests.benchmarks.bare --port P --bytes N
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from embedding_http import server
from tests.parts import oracle


def application(body: bytes) -> Callable[..., Awaitable[None]]:
    """An ASGI application that reads the request and answers `body`."""
    head = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        del scope
        while (await receive()).get("more_body"):
            continue
        await send(head)
        await send({"type": "http.response.body", "body": body})

    return answer


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    given = parser.parse_args()
    listening = server.listen(given.port, host=server.LOOPBACK)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(oracle.serve(application(b"x" * given.bytes), listening))


if __name__ == "__main__":
    main()
