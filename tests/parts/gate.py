"""A provider that wants a key: an embedding model behind a door that is counted.

The model server of the demo and of the node tests accepts anybody. This stands before it, as a paid
provider does: a bearer key from a file, read at every request, or 401 in OpenAI's form; every call
that was let through is a line of JSON in a log. It also streams a canned chat answer, so that
pass-through has something to stream.

    python -m tests.parts.gate --host H --port P --keys FILE --log FILE [--model-url URL]

Without a model's address the vectors are those of tests/fakes/provider.py, which take no time: for
load that is about anything but a model.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes import provider
from tests.parts import daemons, ports

WORDS = ("A", " vector", " is", " a", " direction", " with", " a", " length", ".")


def fingerprint(key: str) -> str:
    """Eight hexadecimal digits that tell two keys apart in the log."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def application(*, model_url: str | None, keys: Path, log: Path) -> Starlette:
    """The ASGI application. `keys` holds one accepted key a line."""
    client = httpx2.AsyncClient(base_url=model_url or "", timeout=30)
    stand_in = provider.StandIn(key=None)

    async def ask_model(path: str, body: bytes) -> Response:
        if model_url is None:
            status, _, made = stand_in.answer(path, {}, body)
            stand_in.calls.clear()
            return JSONResponse(made, status)
        answer = await client.post("/v1/embeddings", content=body)
        return Response(answer.content, answer.status_code, media_type="application/json")

    def refusal(request: Request) -> Response | None:
        _, _, key = request.headers.get("authorization", "").partition(" ")
        if key and key in keys.read_text(encoding="utf-8").split():
            return None
        error = {
            "message": "Incorrect API key provided.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
        return JSONResponse({"error": error}, 401)

    def record(request: Request, status: int, items: int) -> None:
        _, _, key = request.headers.get("authorization", "").partition(" ")
        line = {
            "time": time.time(),
            "path": request.url.path,
            "status": status,
            "items": items,
            "key": fingerprint(key),
        }
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    async def embeddings(request: Request) -> Response:
        refused = refusal(request)
        if refused is not None:
            record(request, refused.status_code, 0)
            return refused
        body = await request.body()
        answer = await ask_model(request.url.path, body)
        texts = json.loads(body)["input"]
        record(request, answer.status_code, 1 if isinstance(texts, str) else len(texts))
        return answer

    async def chat(request: Request) -> Response:
        refused = refusal(request)
        record(request, refused.status_code if refused else 200, 0)
        return refused or StreamingResponse(chat_chunks(), media_type="text/event-stream")

    routes = [
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]
    return Starlette(routes=routes)


class Gate:
    """This program as a process without a model; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._daemons = daemons.Daemons(folder)
        self._keys, self._calls = folder / "keys", folder / "calls.jsonl"
        self.port = ports.free()
        self.accept(())
        self.start()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._daemons.pid("gate")

    def start(self) -> None:
        """Start it on the keys that it had."""
        command: list[str | Path] = [sys.executable, "-m", "tests.parts.gate"]
        command += ["--port", str(self.port), "--keys", self._keys]
        self._daemons.start(
            "gate",
            [*command, "--log", self._calls],
            ready=daemons.answers("127.0.0.1", self.port),
            environment={"PYTHONPATH": ":".join(sys.path)},
        )

    def kill(self) -> None:
        """End it without a word."""
        self._daemons.stop()

    def accept(self, keys: Iterable[str]) -> None:
        """Take these keys from now on."""
        fresh = self._keys.with_suffix(".new")
        fresh.write_text("\n".join(keys), encoding="utf-8")
        fresh.rename(self._keys)

    def lines(self) -> list[dict[str, Any]]:
        """The calls that it answered."""
        if not self._calls.exists():
            return []
        # A process that was killed may have written half a line.
        text = self._calls.read_text(encoding="utf-8").splitlines()
        return [json.loads(it) for it in text if it.endswith("}")]


async def chat_chunks() -> AsyncIterator[str]:
    """A streamed chat completion in OpenAI's form, a word every 20 ms."""
    for word in WORDS:
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": "canned",
            "choices": [choice],
        }
        yield f"data: {json.dumps(chunk)}\n\n"
        await asyncio.sleep(0.02)
    yield "data: [DONE]\n\n"


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-url")
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    app = application(model_url=options.model_url, keys=options.keys, log=options.log)
    uvicorn.run(app, host=options.host, port=options.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
