"""The result of a request for vectors."""

from dataclasses import dataclass


@dataclass(slots=True, repr=False, kw_only=True)
class Answer:
    """One vector (little-endian float32) for each item, in order, all of one space.

    `provider`, `kind` and `model` are of the provider that completed it, whose space it is; a part
    may have come from another one of that space. `tokens` were billed for this answer,
    `tokens_saved` had been billed for what came from the cache; `hits` of `items` did, `coalesced`
    came from calls of other requests; `attempts` requests were sent to providers for this one.
    Where a provider did not say what it billed, `tokens` is a bound and `is_estimated` says so.
    During `upstream_seconds` at least one call it waited for was under way, or waited for its rate.
    `beyond` names the observed limits that its calls exceeded. It never changes; to be frozen would
    make it dear for every request.
    """

    vectors: tuple[bytes, ...]
    provider: str
    kind: str
    model: str
    space: str
    hits: int
    items: int
    tokens_saved: int = 0
    coalesced: int = 0
    tokens: int = 0
    attempts: int = 0
    upstream_seconds: float = 0.0
    is_estimated: bool = False
    beyond: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Without the vectors."""
        return f"<{self.hits} of {self.items} cached, {self.model} by {self.provider}>"
