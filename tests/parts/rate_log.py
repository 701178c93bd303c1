"""The stand-in provider as a program that writes down who comes when, and may lie about usage:

    python -m tests.parts.rate_log PORT LOG [dishonest]

A line of the log is the time of this machine in seconds since 1970, the model, the tokens of one
request and its first word, written when the request was read and before it is answered. A
`dishonest` provider says nothing, less than nothing, or a giant number of what it billed, in one
answer of three.
"""

import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tests.fakes import provider

LIES: tuple[dict[str, int], ...] = (
    {},
    {"prompt_tokens": -7, "total_tokens": -7},
    {"prompt_tokens": 1, "total_tokens": 10**18},
)


@dataclass(frozen=True)
class Line:
    at: float
    model: str
    tokens: int
    word: str


def lines(log: Path) -> list[Line]:
    """All that has been asked so far, in the order in which it came."""
    found = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    return [Line(float(at), model, int(tokens), word) for at, model, tokens, word in found]


def most_in_a_minute(found: list[Line], *, seconds: float = 60.0) -> tuple[int, int]:
    """The most requests and the most tokens of any window of a minute."""
    most_requests = most_tokens = first = tokens = 0
    in_order = sorted(found, key=lambda line: line.at)
    for number, line in enumerate(in_order):
        tokens += line.tokens
        while in_order[first].at <= line.at - seconds:
            tokens -= in_order[first].tokens
            first += 1
        most_requests = max(most_requests, number - first + 1)
        most_tokens = max(most_tokens, tokens)
    return most_requests, most_tokens


class Recorder:
    def __init__(self, log: int, *, dishonest: bool) -> None:
        self._log = log
        self._dishonest = dishonest
        self._stand_in = provider.StandIn(key=None)

    async def __call__(self, scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        came = time.time()
        asked = json.loads(body)
        status, _, answer = self._stand_in.answer(scope["path"], {}, body)
        self._stand_in.calls.clear()
        tokens = answer["usage"]["total_tokens"] if status == 200 else 0
        word = asked["input"][0].split()[0]
        os.write(self._log, f"{came:.6f} {asked['model']} {tokens} {word}\n".encode())
        if self._dishonest and random.random() < 1 / 3:
            answer["usage"] = random.choice(LIES)
        raw = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})


def main(port: int, path: str, *words: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    recorder = Recorder(log, dishonest="dishonest" in words)
    uvicorn.run(
        recorder, host="127.0.0.1", port=port, lifespan="off", log_level="warning", ws="none"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
