"""The interface of distributed tracing: the optional package `otel` implements it.

A trace never receives a text or a vector.
"""

from typing import Protocol

from embedding_sidecar import errors


class CallSpan(Protocol):
    """The span of one HTTP request to a provider."""

    headers: dict[str, str]
    """The span's `traceparent` and `tracestate` (W3C Trace Context), for the provider."""

    def link(self, other: "RequestSpan") -> None:
        """Link the span of another request that waits for this call."""

    def end(self, *, outcome: str) -> None:
        """End the span; `outcome` is the word of `aos_embedding_api_calls_total`."""


class RequestSpan(Protocol):
    """The span of one request for embeddings."""

    def call(self, *, provider: str, model: str, url: str) -> CallSpan | None:
        """Start the span of a call to a provider as a child of this one; None if it has none."""

    def failed_over(self, *, provider: str) -> None:
        """Add the event that another provider than the first candidate answered."""

    def answered(
        self, *, provider: str, model: str, dimensions: int, tokens: int, hits: int, items: int
    ) -> None:
        """End the span of a request that was answered; `tokens` were billed for it."""

    def refused(self, error: errors.Refused) -> None:
        """End the span of a request that was refused."""


class Tracer(Protocol):
    """Starts spans."""

    def request(self, *, traceparent: str | None, tracestate: str | None) -> RequestSpan:
        """Start the span of a request, as a child of its caller's if that is valid."""
