"""Fingerprints: short values by which two sides see that they hold the same content."""

import hashlib
import hmac
from collections.abc import Mapping

_HEX_DIGITS = 16


def of_document(text: bytes) -> str:
    """16 hexadecimal digits of the SHA-256 of a policy document's bytes."""
    return hashlib.sha256(text).hexdigest()[:_HEX_DIGITS]


def of_secrets(entries: Mapping[str, bytes], *, token: bytes) -> str:
    """16 hexadecimal digits that change with any name or value of the owned Secret.

    The hash is keyed with the API token, a random value that is itself in the Secret, so that no
    reader of the fingerprint can try guesses of a weak password against it.
    """
    digest = hmac.new(token, digestmod=hashlib.sha256)
    for name in sorted(entries):
        for part in (name.encode(), entries[name]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()[:_HEX_DIGITS]
