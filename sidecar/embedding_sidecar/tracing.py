"""Distributed tracing as the engine sees it: spans that somebody else keeps, or none at all.

`otel` implements both protocols; without it a request has no trace and these lines cost nothing.
A trace never receives a text or a vector.
"""

from collections.abc import Mapping
from typing import Protocol

from embedding_sidecar import errors


class CallSpan(Protocol):
    """The span of one HTTP request to a provider."""

    @property
    def headers(self) -> Mapping[str, str]:
        """`traceparent` and `tracestate` (W3C Trace Context) of this span, for the provider."""
        ...

    def link(self, other: "RequestSpan") -> None:
        """Link the span of another request that waits for this call."""
        ...

    def end(self, *, outcome: str) -> None:
        """End the span; `outcome` is the word of `aos_embedding_api_calls_total`."""
        ...


class RequestSpan(Protocol):
    """The span of one request for embeddings."""

    def call(self, *, provider: str, model: str, url: str) -> CallSpan | None:
        """Start the span of a call to a provider, as a child of this one; None: it has none."""
        ...

    def failed_over(self, *, provider: str) -> None:
        """Add the event that another provider than the first choice answered."""
        ...

    def answered(
        self, *, provider: str, model: str, dimensions: int, tokens: int, hits: int, items: int
    ) -> None:
        """End the span of a request that was answered; `tokens` is what was billed for it."""
        ...

    def refused(self, error: errors.Refused) -> None:
        """End the span of a request that was refused."""
        ...


class Tracer(Protocol):
    """Starts spans."""

    def request(self, *, traceparent: str | None, tracestate: str | None) -> RequestSpan:
        """Start the span of a request, as a child of its caller's where that is told."""
        ...
