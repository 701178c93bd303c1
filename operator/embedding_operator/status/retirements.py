"""Models of a policy whose vendor has named the day of their end: pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from embedding_contract import models
from embedding_operator.kube import conditions
from embedding_operator.policy.policy import EmbeddingPolicy

CONDITION: Final = "ModelRetires"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """A model of a policy and its end; `provider` is the provider's name in the policy."""

    provider: str
    kind: str
    model: str
    end: models.End

    @property
    def unix_seconds(self) -> float:
        """The beginning of the day in UTC, as Unix time."""
        return datetime.fromisoformat(self.end.date).replace(tzinfo=UTC).timestamp()

    def __str__(self) -> str:
        return f"{self.kind}/{self.model} of provider {self.provider} on {self.end.date}"


def of(policy: EmbeddingPolicy) -> tuple[Retirement, ...]:
    """The models of a policy whose end is known, the first to end first."""
    found = [
        Retirement(provider=it.name, kind=it.kind, model=it.model, end=known.end)
        for it in policy.providers
        if (known := models.find(it.kind, it.model)) is not None and known.end is not None
    ]
    return tuple(sorted(found, key=lambda it: it.end.date))


def verdict(found: Sequence[Retirement]) -> conditions.Verdict | None:
    """Condition ModelRetires, which informs; None where no end is known."""
    if not found:
        return None
    message = (
        f"The vendors retire, at the earliest: {conditions.few([str(it) for it in found])};"
        f" by {found[0].end.source}, read on {found[0].end.seen}. Vectors of another model need"
        " another space: see docs/vectors.md for a change of model."
    )
    return conditions.Verdict("True", "EndAnnounced", message)
