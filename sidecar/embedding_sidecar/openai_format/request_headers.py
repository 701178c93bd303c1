"""The headers of a request, read before its body.

Sources: RFC 9110, sections 8.3 and 8.4 (Content-Type, Content-Encoding), 15.5.14 and 15.5.16 (413,
415); RFC 9111, section 5.2.1 (Cache-Control of a request).
"""

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from embedding_contract import names
from embedding_sidecar import errors
from embedding_sidecar.openai_format import openai_json
from embedding_sidecar.telemetry import tracing

REQUEST_ID: Final = "x-request-id"
JSON: Final = "application/json"

_REQUEST_ID: Final = re.compile(r"[!-~]{1,256}")
_JSON: Final = re.compile(
    r"""application/json[ \t]*(?:;[ \t]*charset=("?)utf-?8\1[ \t]*)?;?""", re.IGNORECASE
)
_PROCESS: Final = os.urandom(8).hex()
_numbers: Final = itertools.count()
_INT64_DIGITS: Final = 19


class Head(NamedTuple):
    """The headers that matter to a request; None for one that was not sent.

    `request_id` is also None if it is unfit for a header and for logs.
    """

    request_id: str | None = None
    cache_control: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    content_length: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    x_embedding_class: str | None = None
    host: str | None = None
    origin: str | None = None
    sec_fetch_site: str | None = None
    span: tracing.RequestSpan | None = None
    """The request's span, if requests are traced; no header holds it."""

    @property
    def is_background(self) -> bool:
        """True if the request, which has passed `check`, is background work."""
        return self.x_embedding_class is not None


_HEADERS: Final = (
    REQUEST_ID.encode(),
    *(name.replace("_", "-").encode() for name in Head._fields[1:-1]),
    b"",
)
"""The headers by field of a Head; no header has the last one's name."""


def read(headers: Sequence[tuple[bytes, bytes]]) -> Head:
    """The head of ASGI's raw headers, whose names are in lower case."""
    found = dict(headers)
    if len(found) < len(headers):
        found = _joined(headers)
    texts = [None if it is None else it.decode("latin-1") for it in map(found.get, _HEADERS)]
    head = Head._make(texts)
    if head.request_id is not None and not _REQUEST_ID.fullmatch(head.request_id):
        return head._replace(request_id=None)
    return head


def request_id(head: Head) -> str:
    """The caller's request id, or a new one."""
    return head.request_id or f"req_{_PROCESS}{next(_numbers):016x}"


def check(head: Head) -> None:
    """Refuse a body without reading it.

    A body without a Content-Type is taken for JSON, unless a browser sends it: a page may send
    such a body to any origin without a preflight, but not JSON.

    Raises:
        errors.Rejected: 400, 413 or 415, with `param` naming the header.
    """
    kind = head.content_type
    if kind is None and (head.origin is not None or head.sec_fetch_site is not None):
        raise errors.Rejected(
            "A browser must send Content-Type: application/json.",
            status=415,
            code="unsupported_content_type",
            param="Content-Type",
        )
    if kind is not None and kind != JSON and not _JSON.fullmatch(kind):
        raise errors.Rejected(
            f"Unsupported content type: {kind[: openai_json.MAX_NAME]!r}. "
            "The body must be application/json in UTF-8.",
            status=415,
            code="unsupported_content_type",
            param="Content-Type",
        )
    coding = head.content_encoding
    if coding is not None and coding.strip().lower() not in {"", "identity"}:
        raise errors.Rejected(
            f"Unsupported content encoding: {coding[: openai_json.MAX_NAME]!r}. The body must "
            "not be compressed.",
            status=415,
            code="unsupported_content_encoding",
            param="Content-Encoding",
        )
    said = head.x_embedding_class
    if said is not None and said != names.CLASS_BACKGROUND:
        raise errors.Rejected(
            f"Unsupported {names.HEADER_CLASS}: {said[: openai_json.MAX_NAME]!r}. It must be "
            f"{names.CLASS_BACKGROUND!r} or left out.",
            param=names.HEADER_CLASS,
        )
    length = head.content_length or ""
    if length.isdecimal() and (
        len(length) > _INT64_DIGITS or int(length) > openai_json.MAX_BODY_BYTES
    ):
        raise openai_json.too_large()


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers, with the values of several lines as one list: RFC 9110, section 5.3."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = b"%b, %b" % (found[name], value) if name in found else value
    return found
