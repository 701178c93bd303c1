"""Vectors from the sidecar of this pod: one request for a batch of texts.

The sidecar's wire form is OpenAI's; docs/sidecar.md has its additions.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx2
import orjson

from embedding_contract import names

ANSWER_SECONDS: Final = 120
"""Above the time that a sidecar gives a request, retries and failover included."""
BYTES_PER_NUMBER: Final = 4
QUOTA_CODES: Final = ("insufficient_quota", "quota_reserved_for_applications")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """An answer. Each vector is float32, little-endian; `space` is the space of all of them."""

    vectors: tuple[bytes, ...] = field(repr=False)
    space: str
    model: str


class EmbeddingRefusedError(Exception):
    """The sidecar gave no vectors.

    `status` is its HTTP status, None where it could not be reached or its answer was invalid;
    `code` is OpenAI's code of the error, `param` the field that it names; `retry_after_seconds`
    the wait that it asked for, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_quota(self) -> bool:
        """True if the policy's daily quota is used up, or the rest is reserved."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS and self.code in QUOTA_CODES


class EmbeddingClient:
    """Asks one sidecar. `background` limits it to the quota that applications leave."""

    def __init__(
        self,
        *,
        base_url: str,
        background: bool = False,
        timeout_seconds: float = ANSWER_SECONDS,
    ) -> None:
        headers = {"Content-Type": "application/json"}
        if background:
            headers[names.HEADER_CLASS] = names.CLASS_BACKGROUND
        # The sidecar is on loopback: no proxy of the environment applies.
        self._http = httpx2.AsyncClient(
            base_url=base_url, headers=headers, timeout=timeout_seconds, trust_env=False
        )

    async def embed(
        self, texts: Sequence[str], *, model: str, dimensions: int | None = None
    ) -> Embedded:
        """The vectors of these texts, in their order. `dimensions` is sent where it is given.

        Raises:
            EmbeddingRefusedError: the sidecar gave none.
        """
        body: dict[str, object] = {
            "model": model,
            "input": list(texts),
            "encoding_format": "base64",
        }
        if dimensions is not None:
            body["dimensions"] = dimensions
        try:
            answer = await self._http.post(names.PATH_EMBEDDINGS, content=orjson.dumps(body))
        except httpx2.TransportError as error:
            raise EmbeddingRefusedError(f"the sidecar: {type(error).__name__}") from None
        if answer.status_code != HTTPStatus.OK:
            raise _refused(answer)
        try:
            page = orjson.loads(answer.content)
            vectors = _vectors(page, count=len(texts))
            space, made_by = answer.headers["x-embedding-space"], str(page["model"])
        except (ValueError, KeyError, TypeError) as error:
            message = f"the sidecar's answer is none: {type(error).__name__}"
            raise EmbeddingRefusedError(message) from None
        return Embedded(vectors=vectors, space=space, model=made_by)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def _vectors(page: Mapping[str, Any], *, count: int) -> tuple[bytes, ...]:
    found: list[bytes | None] = [None] * count
    for item in page["data"]:
        try:
            found[item["index"]] = base64.b64decode(item["embedding"], validate=True)
        except (binascii.Error, IndexError) as error:
            raise ValueError(str(error)) from None
    vectors = tuple(it for it in found if it)
    if len(vectors) != count or any(len(it) % BYTES_PER_NUMBER for it in vectors):
        raise ValueError("not a vector for each text")
    return vectors


def _refused(answer: httpx2.Response) -> EmbeddingRefusedError:
    code = param = None
    message = f"the sidecar answered with status {answer.status_code}"
    try:
        error = orjson.loads(answer.content)["error"]
        code, param = error.get("code"), error.get("param")
        message = str(error.get("message", message))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # the status says enough
    return EmbeddingRefusedError(
        message,
        status=answer.status_code,
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param, str) else None,
        retry_after_seconds=_seconds(answer.headers.get("retry-after")),
    )


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdecimal() else None
