"""A provider's API as values: requests for vectors, HTTP requests, and their answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from embedding_sidecar.translation import vector_decoder

Item = str | tuple[int, ...]
"""One input: a text, or the numbers of its tokens."""
_REMEMBERED: Final = 16
"""Sets of headers: for each of a policy's 8 providers with the present and the previous key."""


@dataclass(slots=True, repr=False)
class Ask:
    """A request for vectors, independent of any provider's API.

    `input_type` is `query`, `document` or None; `truncation` None means: an error on too long a
    text, never a silent cut. It never changes; to be frozen would make it dear for every request.
    """

    model: str
    items: tuple[Item, ...]
    dimensions: int | None = None
    input_type: str | None = None
    truncation: bool | None = None
    user: str | None = None
    extra: tuple[tuple[str, bytes], ...] = ()
    """Fields that the policy passes on: names in order, and values as JSON."""
    plain: bool = False
    """True if `encoding_format` is left out, for a server that refuses it; no part of a key."""

    def __repr__(self) -> str:
        """Without the texts, which are their owner's."""
        return f"<{len(self.items)} items for {self.model}>"


class HttpRequest(NamedTuple):
    """A POST to a provider; `reader` takes the body of a 2xx."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    reader: vector_decoder.Reader | None = None

    def __repr__(self) -> str:
        """Without texts, and without the key, which is in a header."""
        return f"<POST {self.url}>"


@lru_cache(maxsize=_REMEMBERED)
def headers(api_key: str | None) -> Mapping[str, str]:
    """The headers of a JSON request, with the key where there is one.

    Cached: they are the same for every call to one provider with one key.
    """
    found = {
        "user-agent": "embedding-sidecar",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "accept": "application/json",
    }
    if api_key is not None:
        found["authorization"] = f"Bearer {api_key}"
    return found


class HttpAnswer(NamedTuple):
    """A provider's answer; `lines` are those of its head, names and values as they came.

    `body` is the beginning of it, as far as that is kept; empty where a `reader` took it.
    """

    status: int
    lines: Sequence[tuple[bytes, bytes]]
    body: bytes
    reader: vector_decoder.Reader | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The lines by name, in lower case; read where they matter, which is after a failure."""
        return {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.lines
        }

    def __repr__(self) -> str:
        """Without the vectors."""
        return f"<{self.status}, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one request to a provider; None is no limit that is known.

    `body_bytes` is of the items alone, as JSON. An item that may have `alone_from_tokens`, or more,
    may be too long, and goes alone. Where these `are_all` that a vendor has, a 400 is never about
    the size of a request that keeps to them.
    """

    items: int
    tokens: int | None = None
    body_bytes: int | None = None
    alone_from_tokens: int | None = None
    are_all: bool = True


class Upstream(Protocol):
    """Sends a provider's request, whatever the client library."""

    def start(
        self,
        request: HttpRequest,
        *,
        within_seconds: float,
        done: Callable[[HttpAnswer | Exception], None],
    ) -> Callable[[], object]:
        """Send it; `done` gets later, once, the answer, of any status, or the failure.

        That is errors.Unreachable after that time at the latest: its `billed` is False where the
        request was certainly never sent. The returned callback cancels the request: `done` is not
        called any more, and a second time changes nothing.
        """
