"""What every upstream of tests can do besides `send`."""

import asyncio
from collections.abc import Callable

from embedding_sidecar import errors, provider


class Starts:
    """Starts the calls of an upstream that has `send`; where not `is_ready`, a turn later."""

    def is_ready(self) -> bool:
        """Whether the next call goes out at once, as over an open connection."""
        return True

    async def send(
        self, request: provider.HttpRequest, *, within_seconds: float
    ) -> provider.HttpAnswer:
        """The subclass's."""
        raise NotImplementedError

    def start(
        self,
        request: provider.HttpRequest,
        *,
        within_seconds: float,
        done: Callable[[provider.HttpAnswer | Exception], None],
    ) -> Callable[[], object]:
        """As provider.Upstream."""
        is_ready = self.is_ready()

        async def run() -> None:
            if not is_ready:
                await asyncio.sleep(0)
            said: provider.HttpAnswer | errors.Unreachable
            try:
                said = await self.send(request, within_seconds=within_seconds)
            except errors.Unreachable as failure:
                said = failure
            done(said)

        return asyncio.create_task(run()).cancel
