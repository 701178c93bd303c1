"""What a backfill tells of itself while it runs."""

from typing import Protocol


class Observe(Protocol):
    """Takes the figures of a backfill; `Metrics` is one that does."""

    def rows_embedded(self, rows: int) -> None:
        """So many rows got a vector."""

    def batch_took(self, seconds: float) -> None:
        """A batch took so long from its claim to its vectors in the table."""

    def index_counted(self, *, size: int, missing: int) -> None:
        """The target that is searched, or will be, has `size` vectors and lacks `missing`."""
