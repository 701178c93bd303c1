"""A provider that costs next to nothing: OpenAI's wire, every vector the same, ready as bytes.

GET /calls tells how many requests it answered, and how many items were in them.

python -m tests.benchmarks.vendor --port P
"""

import argparse
import asyncio
import base64
import functools
import json
import struct
from typing import Any

import orjson
import uvloop

from embedding_http import server
from tests.parts import oracle

DIMENSIONS = 1536


@functools.cache
def answer(items: int, dimensions: int, encoding: str) -> bytes:
    """The body for a request of so many items."""
    numbers = [(at % 251 - 125) / 128 for at in range(dimensions)]
    vector: Any = numbers
    if encoding == "base64":
        vector = base64.b64encode(struct.pack(f"<{dimensions}f", *numbers)).decode()
    rows = [{"object": "embedding", "index": at, "embedding": vector} for at in range(items)]
    usage = {"prompt_tokens": 8 * items, "total_tokens": 8 * items}
    body = {"object": "list", "data": rows, "model": "text-embedding-3-small", "usage": usage}
    return json.dumps(body, separators=(",", ":")).encode()


class Vendor:
    """The ASGI application."""

    def __init__(self) -> None:
        self.calls = 0
        self.items = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        chunks = []
        more = True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = self._answer(scope["method"], b"".join(chunks))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, method: str, body: bytes) -> bytes:
        if method == "GET":
            return orjson.dumps({"calls": self.calls, "items": self.items})
        asked = orjson.loads(body)
        items = len(asked["input"]) if isinstance(asked["input"], list) else 1
        self.calls += 1
        self.items += items
        return answer(
            items,
            asked.get("dimensions") or DIMENSIONS,
            asked.get("encoding_format") or "float",
        )


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    listening = server.listen(given.port, host=server.LOOPBACK)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(oracle.serve(Vendor(), listening))


if __name__ == "__main__":
    main()
