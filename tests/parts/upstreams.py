"""What every upstream of tests can do besides `send`."""

import asyncio
from collections.abc import Callable

from embedding_sidecar import errors, provider


class Begins:
    """Calls that are begun, for an upstream that sends: where `is_ready`, as with an open line."""

    def is_ready(self) -> bool:
        """Whether the next call may be begun."""
        return True

    async def send(
        self, request: provider.HttpRequest, *, within_seconds: float
    ) -> provider.HttpAnswer:
        """The subclass's."""
        raise NotImplementedError

    def begin(
        self,
        request: provider.HttpRequest,
        *,
        within_seconds: float,
        done: Callable[[provider.HttpAnswer | errors.Unreachable], None],
    ) -> Callable[[], None] | None:
        """What `send` does, told to `done`; None where it is not ready."""
        if not self.is_ready():
            return None

        async def run() -> None:
            said: provider.HttpAnswer | errors.Unreachable
            try:
                said = await self.send(request, within_seconds=within_seconds)
            except errors.Unreachable as failure:
                said = failure
            done(said)

        task = asyncio.create_task(run())

        def abandon() -> None:
            task.cancel()

        return abandon
