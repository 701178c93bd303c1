"""What a sidecar writes into Redis: keys, the layout of entries, generations, counters, leases.

Pods of two versions share a Redis while a rollout is under way, and entries outlive it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.golden import held, recorded_redis, running, subjects
from tests.parts.sidecar import TOKEN, Sidecar, wait_until

_ASKED: tuple[dict[str, Any], ...] = (
    {"input": "a text"},
    {"input": "a text", "model": "default"},
    {"input": [1, 2, 3]},
    {"input": "a text", "dimensions": 3},
    {"input": "a text", "user": "u"},
)
_QUOTED = re.compile(r"'([a-zA-Z_:. ]+)'")
_RANDOM = re.compile(r"(?<!text )(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
_TIME = re.compile(r"@[0-9]+")
_SECRET = bytes(range(32))


def texts() -> held.Texts:
    """One file."""
    with running.usual() as (sidecar, recorder):
        _use(sidecar, recorder)
        own = list(recorder.commands)
    shared = {"ttlSeconds": 60, "redisURLFile": "cache-redis-url", "shared": "catalogue"}
    with running.usual(cache=shared) as (sidecar, recorder):
        sidecar.embed("a text", model="small").raise_for_status()
        wait_until(lambda: _written(recorder))
        of_many = list(recorder.commands)
    return {
        "redis.txt": held.lines(
            (
                *_entry(),
                *(line for it in own for line in _command(it)),
                *(f"shared: {line}" for it in of_many if it[0] == b"SET" for line in _command(it)),
            )
        )
    }


def _use(sidecar: Sidecar, recorder: recorded_redis.Recorder) -> None:
    for asked in _ASKED:
        answer = sidecar.http.post("/v1/embeddings", json={"model": "small", **asked})
        answer.raise_for_status()
    wait_until(lambda: len(_written(recorder)) >= len({_key_of(it) for it in _ASKED}))
    wait_until(lambda: any(it[0] == b"INFO" for it in recorder.commands))
    token = {"authorization": f"Bearer {TOKEN}"}
    for body in ({"model": "small"}, {"input": "a text"}, {}):
        path = "/api/v1/embedding/cache"
        sidecar.http.request("DELETE", path, json=body, headers=token).raise_for_status()


def _key_of(asked: dict[str, Any]) -> str:
    """What tells keys apart in `_ASKED`: names of the model and of the user do not."""
    return str({key: it for key, it in asked.items() if key not in ("model", "user")})


def _written(recorder: recorded_redis.Recorder) -> set[bytes]:
    return {it[1] for it in recorder.commands if it[0] == b"SET"}


def _entry() -> Iterator[str]:
    """The bytes of fixed entries; an authenticated one holds salt and nonce, here counted up."""
    yield f"entry with a checksum: {subjects.entry_bytes(key='a key').hex()}"
    yield f"entry with a MAC: {subjects.entry_bytes(key='a key', secret=_SECRET).hex()}"


def _command(command: recorded_redis.Command) -> Iterator[str]:
    name = command[0].decode()
    if name in ("CLIENT", "EVALSHA"):
        return  # The library's own, and the digest of a script that is held below.
    if name == "EVAL":
        yield from _script(command)
    elif name == "SET":
        key, value, *rest = command[1:]
        words = " ".join(it.decode() for it in rest)
        yield f"SET {_masked(key)} <format {value[0]}, {len(value)} bytes> {words}"
    elif name == "MGET":
        # Whatever is asked at once goes together.
        yield from (f"MGET {_masked(key)}" for key in command[1:])
    elif name == "UNLINK":
        yield from (f"UNLINK {_masked(key)}" for key in command[1:])
    else:
        yield f"{name} {' '.join(repr(_masked(it)) for it in command[1:])}"


def _script(command: recorded_redis.Command) -> Iterator[str]:
    script, count, key, *words = command[1:]
    if b"TIME" in script:
        name = "claim"
        yield f"script claim: {len(words)} words after {count.decode()} key {_masked(key)}"
        if words[1] == b"1":
            yield f"script claim: the first has {' '.join(repr(_masked(it)) for it in words)}"
    else:
        name = "generations"
        yield f"script generations: {_masked(key)} {_of_generations(script, words)}"
    for word in _QUOTED.findall(script.decode()):
        yield f"script {name}: has the word {word!r}"


def _of_generations(script: bytes, words: Sequence[bytes]) -> list[str]:
    """The words of the script; names that it is to drop come in no order."""
    said = [_masked(it) for it in words]
    dropped = int(words[0]) if b"HDEL" in script else 0
    return [*said[:1], *sorted(said[1 : 1 + dropped]), *said[1 + dropped :]]


def _masked(word: bytes) -> str:
    return _TIME.sub("@TIME", _RANDOM.sub("RANDOM", word.decode()))
