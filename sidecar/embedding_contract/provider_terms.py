"""The terms on which a provider is asked: its limits, its time, and fields of its own.

They came after version 1 was first written, so each is left out where it is not set.
"""

from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from embedding_contract.json_fields import Positive, Url, Word, check
from embedding_contract.json_records import Key

MAX_SECONDS: Final = 600
"""The longest that a call or a request may take; OpenAI's SDKs wait as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a request to a provider; None leaves a bound as published and as learned.

    `body_bytes` is of a whole request.
    """

    items: Annotated[Positive | None, Key(omits_default=True)] = None
    body_bytes: Annotated[Positive | None, Key("bytes", omits_default=True)] = None
    tokens_per_item: Annotated[Positive | None, Key(omits_default=True)] = None


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Limits of any 60 seconds, of all pods that share them; None is no limit."""

    requests_per_minute: Annotated[Positive | None, Key(omits_default=True)] = None
    tokens_per_minute: Annotated[Positive | None, Key(omits_default=True)] = None


NO_RATE: Final = Rate()


class Identity(NamedTuple):
    """A client of a tenant of Microsoft Entra ID, at the address that exchanges tokens for it."""

    authority: str
    tenant_id: str
    client_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Azure:
    """Terms of Azure OpenAI: without `api_version` the v1 form of its API is called with a key.

    With `tenant_id` and `client_id` the pod's ServiceAccount token is exchanged at `authority` for
    an access token of Microsoft Entra ID, and no API key is sent.
    """

    deployment: Word
    api_version: Annotated[Word | None, Key(omits_default=True)] = None
    tenant_id: Annotated[Word | None, Key("tenantID", omits_default=True)] = None
    client_id: Annotated[Word | None, Key("clientID", omits_default=True)] = None
    authority: Annotated[Url, Key(omits_default=True)] = "https://login.microsoftonline.com"

    @property
    def identity(self) -> Identity | None:
        """The identity whose access token is sent; None where an API key is."""
        if self.tenant_id is None or self.client_id is None:
            return None
        return Identity(self.authority, self.tenant_id, self.client_id)


TITAN: Final = "amazon.titan-embed-text"
BEDROCK_MODELS: Final = (TITAN, "cohere.embed-")
"""Models of Amazon Bedrock whose requests are known: a part of their IDs, profiles and ARNs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThroughField:
    """A field of a server's own that requests may have; `changes_space` if it changes vectors."""

    name: Word
    changes_space: bool = False


Seconds = Annotated[
    float,
    check(lambda it: 0 < it <= MAX_SECONDS, f"must be above 0, and {MAX_SECONDS} at most"),
]
