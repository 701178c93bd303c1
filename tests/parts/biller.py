"""The stand-in provider as a program that bills: `python -m tests.parts.biller PORT LOG`.

A line of the log is the time of this machine in seconds since 1970 and the tokens of one request
that was read and not refused, written before it is answered. So whoever dies, the log tells what
was billed. What is too long for a model is refused, which costs nothing.
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
            tokens = answer["usage"]["total_tokens"]
            os.write(self._log, b"%.6f %d\n" % (time.time(), tokens))
        await asyncio.sleep(random.uniform(0, LONGEST_ANSWER_SECONDS))
        raw = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})


def main(port: int, path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    uvicorn.run(
        Biller(log), host="127.0.0.1", port=port, lifespan="off", log_level="warning", ws="none"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
