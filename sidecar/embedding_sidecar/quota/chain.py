"""Draws one after another, for one call: all of them, or none.

Each takes from its own counter: the policy's day, its month, a rate, a class's ceiling. Where a
later one refuses, or the caller leaves, the earlier ones get back what was drawn.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Done = Callable[[Any], None]
"""Receives what was drawn, or an exception that says why not."""
Leave = Callable[[], None]
"""Ends a wait."""


class Link(NamedTuple):
    """One counter.

    `draw` calls its argument at once and returns None; or it returns the callback that ends the
    wait, and the event loop calls the argument later, perhaps in the loop iteration of that
    callback. `give_back` takes what was drawn.
    """

    draw: Callable[[Done], Leave | None]
    give_back: Callable[[Any], None]


class Chain:
    """The draws of one call, under way."""

    def __init__(self, links: Sequence[Link], done: Done) -> None:
        """`done` gets the list of what each link drew, or the first refusal."""
        self._links = links
        self._done = done
        self._drawn: list[Any] = []
        self._at: Link
        self._leave: Leave | None = None
        self._has_ended = False

    def start(self) -> Leave | None:
        """Draw from each, in order; None if `done` was called already, else ends the wait."""
        self._draw()
        return None if self._has_ended else self.leave

    def leave(self) -> None:
        """End the wait; `done` is not called any more."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._leave is not None:
            self._leave()
        self._give_back()

    def _draw(self) -> None:
        self._at = self._links[len(self._drawn)]
        try:
            leave = self._at.draw(self._took)
        except BaseException:
            self._has_ended = True
            self._give_back()
            raise
        if leave is not None:
            self._leave = leave

    def _took(self, outcome: Any) -> None:
        self._leave = None
        is_refused = isinstance(outcome, BaseException)
        if self._has_ended:
            # The caller has left in this loop iteration.
            if not is_refused:
                self._at.give_back(outcome)
        elif is_refused:
            self._has_ended = True
            self._give_back()
            self._done(outcome)
        else:
            self._drawn.append(outcome)
            if len(self._drawn) < len(self._links):
                self._draw()
            else:
                self._has_ended = True
                self._done(self._drawn)

    def _give_back(self) -> None:
        drawn, self._drawn = self._drawn, []
        for link, it in reversed(list(zip(self._links, drawn, strict=False))):
            link.give_back(it)
