"""How a policy's day stands, for whoever asks a sidecar."""

from dataclasses import dataclass
from datetime import datetime

from embedding_sidecar.allowance import Allowance
from embedding_sidecar.quotas.counter import InexactReason


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The day so far.

    `used` is calls made by all pods, as last heard of them; `reserved` is counted beyond that: held
    by pods that may still spend it, or lost with pods that died. A limit of None is no limit.
    `left` is this sidecar's own view, which tells whether it can make a call; of background work it
    is `left_to_background`, which is without the reserve for applications. `exact_reason` is empty
    where the limit holds exactly; `exact_text` says it in a sentence.
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
        """Whether the limit is never exceeded, whatever happens to pods."""
        return not self.exact_reason
