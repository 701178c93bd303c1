"""Answers of monitoring servers, and the error for failures. No IO."""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

TEXT_CHARACTERS: Final = 300
NO_SUCH_API: Final = "NoSuchAPI"
"""The reason where a server answers 404, as one without rules or queries does."""

Parameters = Sequence[tuple[str, str]]
T = TypeVar("T")


class NoAnswer(Exception):  # noqa: N818 - says what could not be done
    """A server gave no usable answer. `reason` is a CamelCase word; the text names the host.

    Neither quotes a credential or an answer.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class NotUnderstood(ValueError):  # noqa: N818 - says what the answer is
    """An answer has not the form of this API."""


def decoded(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON by a decoder of msgspec; other fields are ignored.

    Raises:
        NotUnderstood: it is not JSON, incomplete, or of another form.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotUnderstood(str(decoder.type)) from None


def bounded(text: str) -> str:
    """A server's text for a message: one line, printable, at most 300 characters."""
    line = " ".join(text.split())
    shown = "".join(it if it.isprintable() else "?" for it in line)
    return shown if len(shown) <= TEXT_CHARACTERS else f"{shown[:TEXT_CHARACTERS]}..."
