"""A search, forwarded to the pods that search the policy's tables.

A request carries a proof that its sender holds the policy's API token, for that index and this
body, and never the token itself. An answer needs a proof, too: any server may be at that address.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.responses import Response

from embedding_contract import document, index_document, names, proof
from embedding_sidecar import errors
from embedding_sidecar.openai_format import fields, openai_json, request_headers
from embedding_sidecar.upstream import http_client

MAX_HELD_BYTES: Final = 16 * 1024 * 1024
"""Bound of all answers that are being read; one that exceeds it is given up."""
WHOLE_SECONDS: Final = 10.0
_INDEX: Final = fields.text(most=openai_json.MAX_NAME)
_RETRY_SECONDS: Final = 1.0
_NAMED: Final = 16
"""Indexes that a refusal names at most."""


class Searches:
    """Forwards searches; all of them together hold MAX_HELD_BYTES of answers at most."""

    def __init__(
        self,
        *,
        whole_seconds: float = WHOLE_SECONDS,
        max_held_bytes: int = MAX_HELD_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._whole_seconds = whole_seconds
        self._max_held_bytes = max_held_bytes
        self._clock = clock
        self._held_bytes = 0

    async def forward(
        self,
        body: bytes,
        *,
        policy: document.PolicyDocument,
        token: str,
        upstream: http_client.HttpClient,
        request_id: str,
    ) -> Response:
        """The answer of the index that the body names, of any status, with its Retry-After.

        Raises:
            errors.Rejected: the policy has no such index.
            errors.Unavailable: the index cannot be asked, or did not prove its answer.
        """
        index = chosen(body, policy)
        if not token:
            raise errors.Unavailable(
                "This sidecar cannot sign a search: its policy has no API token.",
                code="api_token_missing",
            )
        signed = proof.sign_request(
            token,
            method="POST",
            path=names.PATH_SEARCH,
            nonce=secrets.token_hex(proof.NONCE_HEX_DIGITS // 2),
            time=int(self._clock()),
            pod=index.uid,
            body=body,
        )
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", "embedding-sidecar"),
            (request_headers.REQUEST_ID, request_id),
            ("authorization", signed.render()),
        ]
        try:
            async with asyncio.timeout(self._whole_seconds):
                answer = await upstream.stream(
                    method="POST",
                    url=f"{index.url}{names.PATH_SEARCH}",
                    headers=headers,
                    body=_once(body),
                )
                said = await self._read(answer, index)
        except TimeoutError:
            raise _unreachable(index, "no answer in time") from None
        except errors.Unreachable as error:
            raise _unreachable(index, error.reason) from error
        found = {name.lower(): value for name, value in answer.headers}
        if not proof.is_answer_signed(
            token,
            found.get(proof.ANSWER_HEADER, ""),
            nonce=signed.nonce,
            status=answer.status,
            body=said,
        ):
            raise errors.Unavailable(
                f"The answer for the index {index.name} (status {answer.status}) has no proof of "
                "the policy's API token.",
                code="index_not_proved",
                status=502,
            )
        kept = {request_headers.REQUEST_ID: request_id}
        if "retry-after" in found:
            kept["retry-after"] = found["retry-after"]
        return Response(said, answer.status, headers=kept, media_type=request_headers.JSON)

    async def _read(self, answer: http_client.StreamedAnswer, index: document.Index) -> bytes:
        held = bytearray()
        try:
            async for chunk in answer.chunks:
                if len(held) + len(chunk) > index_document.MAX_ANSWER_BYTES:
                    raise errors.Unavailable(
                        f"The answer of the index {index.name} is longer than "
                        f"{index_document.MAX_ANSWER_BYTES} bytes.",
                        code="index_answer_too_long",
                        status=502,
                    )
                if self._held_bytes + len(chunk) > self._max_held_bytes:
                    raise errors.Unavailable(
                        "Other searches hold the memory that this answer needs.",
                        code="memory_exhausted",
                        retry_after_seconds=_RETRY_SECONDS,
                    )
                held += chunk
                self._held_bytes += len(chunk)
            return bytes(held)
        finally:
            self._held_bytes -= len(held)


def chosen(body: bytes, policy: document.PolicyDocument) -> document.Index:
    """The index that a search names, or the only one.

    Raises:
        errors.Rejected: 404 where the policy has no index, 400 where it has not this one.
    """
    raw = fields.of(body)
    indexes = {it.name: it for it in policy.indexes}
    if not indexes:
        raise errors.Rejected(
            "This policy has no index.", status=404, code="no_index", param="index"
        )
    named = fields.optional(raw, "index", _INDEX)
    if named is None and len(indexes) == 1:
        return policy.indexes[0]
    if named in indexes:
        return indexes[named]
    shown = ", ".join(sorted(indexes)[:_NAMED])
    what = "You must provide 'index'" if named is None else f"There is no index {named!r}"
    raise errors.Rejected(f"{what}. The policy has: {shown}.", param="index")


def _unreachable(index: document.Index, reason: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"The index {index.name} cannot be reached ({reason}).",
        code="index_unreachable",
        retry_after_seconds=_RETRY_SECONDS,
    )


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
