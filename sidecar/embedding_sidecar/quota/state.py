"""The state of a policy's day, for the management pages."""

from dataclasses import dataclass
from datetime import datetime

from embedding_sidecar.allowance import Allowance
from embedding_sidecar.quota.counter import InexactReason


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The day so far.

    `used` is the calls of all pods, as last reported; `reserved` is counted beyond that: held by
    pods, or lost with pods that died. A limit of None is no limit. `left` is what this sidecar can
    still draw, and `left_to_background` the same without the reserve for applications.
    `exact_reason` is empty where the limit holds exactly; `exact_text` is a sentence of it.
    """

    daily_requests: int | None
    used: int
    reserved: int
    daily_tokens: int | None
    tokens_used: int
    reset_at: datetime
    left: Allowance
    left_to_background: Allowance
    exact_reason: InexactReason
    exact_text: str

    @property
    def exact(self) -> bool:
        """True if the limit is never exceeded, even where pods die."""
        return not self.exact_reason
