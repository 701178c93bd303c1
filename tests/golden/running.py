"""A sidecar as its image runs it, with a provider and a Redis that the tests play."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.golden import recorded_redis
from tests.parts.sidecar import TOKEN, Sidecar, served

VECTOR = [0.5, -0.25, 0.125]
CACHE_KEY = "ab" * 32
_FAILURES = {"slow down": 429, "break": 500, "wrong key": 401, "too long": 400}


async def provider(scope: Any, receive: Any, send: Any) -> None:
    """OpenAI's embeddings: a vector for each text, and a failure where the text says so."""
    body = b""
    while (message := await receive()).get("body") or message.get("more_body"):
        body += message["body"]
        if not message.get("more_body"):
            break
    status, answer = 200, {"object": "list", "path": scope["path"]}
    if scope["path"].endswith("/embeddings"):
        status, answer = _embedded(json.loads(body))
    head = {"type": "http.response.start", "status": status}
    await send({**head, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def _embedded(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    for words, status in _FAILURES.items():
        if words in texts:
            error = {"message": words, "type": "provider_error", "param": None, "code": None}
            return status, {"error": error}
    data = [
        {"object": "embedding", "index": number, "embedding": VECTOR}
        for number in range(len(texts))
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return 200, {"object": "list", "model": asked["model"], "data": data, "usage": usage}


@contextmanager
def sidecar(
    folder: Path, *, document: dict[str, Any] | None, secrets: dict[str, str]
) -> Iterator[Sidecar]:
    """A sidecar that obeys this document; None is a file that is not there yet."""
    (folder / "secrets").mkdir()
    for name, value in secrets.items():
        (folder / "secrets" / name).write_text(value, encoding="utf-8")
    file = folder / "document.json"
    if document is not None:
        file.write_text(json.dumps(document), encoding="utf-8")
    made = Sidecar(
        *("--document", file, "--secrets", folder / "secrets"),
        environment={"EMBEDDING_POD_UID": "pod", "EMBEDDING_REQUEST_SECONDS": "20"},
        log=folder / "log",
    )
    try:
        yield made.wait()
    finally:
        made.stop()


@contextmanager
def usual(**changed: Any) -> Iterator[tuple[Sidecar, recorded_redis.Recorder]]:
    """A sidecar of policy shop/search with Redis, a provider and a backup of another space."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recorder, redis = stack.enter_context(recorded_redis.recording())
        address = stack.enter_context(served(provider))
        document = policy(f"{address}/v1", **changed)
        secrets = {
            "api-token": TOKEN,
            "cache-key": CACHE_KEY,
            "cache-redis-url": redis,
            "quota-redis-url": redis,
            "provider-main": "sk-main",
        }
        made = stack.enter_context(sidecar(folder, document=document, secrets=secrets))
        yield made, recorder


@contextmanager
def without_policy() -> Iterator[Sidecar]:
    """A sidecar whose document has not come yet."""
    with tempfile.TemporaryDirectory() as folder:
        secrets = {"api-token": TOKEN}
        with sidecar(Path(folder), document=None, secrets=secrets) as made:
            yield made


def policy(base_url: str, **changed: Any) -> dict[str, Any]:
    """The policy document, with other values at its top."""
    usual_document = {
        "version": 1,
        "policy": {"namespace": "shop", "name": "search"},
        "providers": [
            {
                "name": "main",
                "type": "OpenAI",
                "model": "small",
                "aliases": ["default"],
                "baseURL": base_url,
                "space": "declared",
                "apiKeyFile": "provider-main",
                "pricePerMillionTokens": "0.02",
            },
            {
                "name": "keyless",
                "type": "Voyage",
                "model": "voyage-4",
                "baseURL": base_url,
                "space": "other",
                "apiKeyFile": "provider-keyless",
            },
        ],
        "failover": {"enabled": False},
        "quota": {
            "daily": {"requests": 1000, "tokens": 100000},
            "redisURLFile": "quota-redis-url",
            "reserveForApplications": {"requests": 10, "tokens": 10},
        },
        "cache": {"ttlSeconds": 60, "redisURLFile": "cache-redis-url"},
        "passthrough": {"baseURL": base_url},
    }
    return {**usual_document, **changed}
