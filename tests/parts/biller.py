"""The stand-in provider as a program that bills: `python -m tests.parts.biller PORT LOG`.

A line of the log is the time of this machine in seconds since 1970, the tokens of one request that
was read and not refused, and the tokens that its answer leads a caller to count; it is written
before the answer. So whoever dies, the log tells what was billed. What is too long for a model is
refused, which costs nothing. Some answers are dishonest: their usage is absent, negative or giant,
and a caller should count the bound of the request.
"""

import asyncio
import json
import os
import random
import sys
import time

import uvicorn

from tests.fakes import provider

LONGEST_ANSWER_SECONDS = 0.02
DISHONEST = 0.2
"""The share of answers that tell no usage to believe."""
USAGES: tuple[object, ...] = ({}, None, -1, -(10**12), 10**9, 10**18, 1e300, "7")
_AROUND_TEXT = 8
"""Tokens that a sidecar reserves beyond the bytes of a text."""


class Biller:
    def __init__(self, log: int) -> None:
        self._log = log
        self._stand_in = provider.StandIn(key=None)

    async def __call__(self, scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        status, _, answer = self._stand_in.answer(scope["path"], {}, body)
        self._stand_in.calls.clear()
        if status == 200:
            tokens = counted = answer["usage"]["total_tokens"]
            if random.random() < DISHONEST:
                answer["usage"] = _usage()
                texts = json.loads(body)["input"]
                counted = sum(len(text.encode()) + _AROUND_TEXT for text in texts)
            os.write(self._log, b"%.6f %d %d\n" % (time.time(), tokens, counted))
        await asyncio.sleep(random.uniform(0, LONGEST_ANSWER_SECONDS))
        raw = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})


def _usage() -> object:
    """A usage that is no number of tokens of any request."""
    said = random.choice(USAGES)
    return said if isinstance(said, dict) or said is None else {"total_tokens": said}


def main(port: int, path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    uvicorn.run(
        Biller(log), host="127.0.0.1", port=port, lifespan="off", log_level="warning", ws="none"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
