"""The rate of a provider as its own answers state it, where the policy states none.

Source: OpenAI's page on rate limits; Azure OpenAI, Groq and others send the same headers.
"""

import math
from collections.abc import Callable
from typing import Final

from embedding_sidecar.rate.draws import Draws
from embedding_sidecar.rate.places import Place
from embedding_sidecar.rate.rates import ProviderRate
from embedding_sidecar.rate.window import WINDOW_MS, Drawn, Message, Terms
from embedding_sidecar.translation import provider_api, retry_after

_REMAINING: Final = b"x-ratelimit-remaining-"
_MOST_SECONDS: Final = WINDOW_MS / 1000
"""Bound of a reset: no call waits longer for what an answer says."""


class LearnedRate:
    """Holds the calls of this pod while nothing remains of the provider's limit."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = -math.inf
        self.waits = ProviderRate(
            [Draws(Place("", self, Terms(), may_go_alone=True), clock=clock)], clock=clock
        )

    def used_up(self, seconds: float) -> None:
        """Nothing remains for so long."""
        self._until = max(self._until, self._clock() + min(seconds, _MOST_SECONDS))

    @property
    def holds(self) -> bool:
        """True while calls wait."""
        return self._clock() < self._until

    async def draw(self, message: Message) -> Drawn:
        """Grant all that is asked for, or nothing yet: this is a Store of Draws."""
        now, count = self._clock(), len(message.needs)
        if now >= self._until:
            return Drawn(int(now * 1000), count, count, count, 0, 0, 0)
        wait_ms = math.ceil((self._until - now) * 1000)
        return Drawn(int(now * 1000), 0, 0, 0, wait_ms, 0, 0)


def used_up_seconds(answer: provider_api.HttpAnswer) -> float | None:
    """Seconds until the provider takes more by its own headers; None while something remains."""
    for name, value in answer.lines:
        # Most values differ, and this runs for every answer.
        if value == b"0" and name.lower().startswith(_REMAINING):
            return retry_after.used_up(answer.headers)
    return None
