"""A reader of a provider's body that keeps all of it."""

from embedding_sidecar.translation import vector_decoder


class WholeBody(vector_decoder.Reader):
    """For tests of what carries a body."""

    is_lost = False

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    @property
    def held_bytes(self) -> int:
        """What it holds by now."""
        return sum(map(len, self.chunks))

    def feed(self, chunk: bytes) -> None:
        """Take what comes next."""
        self.chunks.append(chunk)

    def drop(self) -> None:
        """Let go of all that is held."""
        self.is_lost = True
        self.chunks = []

    def vectors(self) -> vector_decoder.Vectors:
        """It reads none."""
        raise NotImplementedError

    def joined(self) -> bytes:
        """All that came."""
        return b"".join(self.chunks)
