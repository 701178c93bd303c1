"""A server that speaks as Redis does, as far as a sidecar needs, and notes what it was asked."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hiredis

Command = tuple[bytes, ...]
NOT_KEPT = b"-NOSCRIPT No matching script.\r\n"
DAY = 20_000
CLAIM_WORDS = 31


class Recorder:
    """The commands so far; values are kept, and claims of the quota are granted."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self._values: dict[bytes, bytes] = {}
        self._hashes: dict[bytes, dict[bytes, bytes]] = {}
        self._lock = threading.Lock()

    def answer(self, command: Command) -> bytes:
        """What Redis would say."""
        with self._lock:
            self.commands.append(command)
            answer: Callable[..., Any] = getattr(self, f"_{command[0].decode().lower()}", _ok)
            return _packed(answer(*command[1:]))

    def _client(self, *_: bytes) -> str:
        return "OK"

    def _mget(self, *keys: bytes) -> list[bytes | None]:
        return [self._values.get(key) for key in keys]

    def _set(self, key: bytes, value: bytes, *_: bytes) -> str:
        self._values[key] = value
        return "OK"

    def _evalsha(self, *_: bytes) -> None:
        raise LookupError

    def _hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        return [self._hashes.get(key, {}).get(field) for field in fields]

    def _hlen(self, key: bytes) -> int:
        return len(self._hashes.get(key, {}))

    def _hgetall(self, key: bytes) -> list[bytes]:
        return [word for pair in self._hashes.get(key, {}).items() for word in pair]

    def _config(self, _: bytes, *names: bytes) -> list[bytes]:
        safe = {
            b"maxmemory-policy": b"noeviction",
            b"appendonly": b"yes",
            b"appendfsync": b"always",
        }
        return [word for name in names for word in (name, safe.get(name, b""))]

    def _info(self, *_: bytes) -> bytes:
        return b"role:master\r\nconnected_slaves:0\r\n"

    def _eval(self, script: bytes, _: bytes, key: bytes, *words: bytes) -> Any:
        if b"TIME" in script and len(words) == CLAIM_WORDS:
            return _granted(*words)
        # The scripts of generations take names and values; one begins with what to drop.
        pairs = words
        if b"HDEL" in script:
            dropped = int(words[0])
            pairs = words[1 + dropped :]
        self._hashes.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(words)


def _granted(*words: bytes) -> list[Any]:
    """The claim's reply: all it wants, on day DAY."""
    lease, sequence = words[0], int(words[1])
    floor, spent, want = ([int(it) for it in words[at : at + 3]] for at in (6, 9, 15))
    held = [it + more for it, more in zip(floor, want, strict=True)]
    counted = [*held, *spent]
    return [sequence, DAY, 3_600_000, *held, 0, *counted, lease + b".1", sequence, 0]


def _ok(*_: bytes) -> str:
    return "OK"


def _packed(answer: Any) -> bytes:
    if isinstance(answer, str):
        return f"+{answer}\r\n".encode()
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if isinstance(answer, list):
        return b"*%d\r\n%b" % (len(answer), b"".join(map(_packed, answer)))
    return b"$-1\r\n"


@contextmanager
def recording() -> Iterator[tuple[Recorder, str]]:
    """A recorder and its URL."""
    recorder = Recorder()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            reader = hiredis.Reader()
            while data := self.request.recv(2**16):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    try:
                        answer = recorder.answer(tuple(command))
                    except LookupError:
                        answer = NOT_KEPT
                    self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield recorder, f"redis://127.0.0.1:{server.server_address[1]}/0?protocol=2"
        finally:
            server.shutdown()
            thread.join()
