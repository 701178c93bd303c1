"""The key that signs the document of a policy with a ClusterEmbeddingProvider: pure.

A key belongs to the terms of the platform that a document names: addresses, ceilings, rates and
proxies. With other terms comes another key, and a document of earlier terms, which a tenant may
have kept, is worth nothing to a sidecar (docs/decisions/037-a-platforms-providers.md).
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from embedding_contract import document

KEY_BYTES: Final = 32
_KEY: Final = re.compile(rb"[0-9a-f]{64}\.(?P<terms>[0-9a-f]{64})")


def renewed(before: bytes, made: document.PolicyDocument, random: Callable[[int], bytes]) -> bytes:
    """The key for a document with classes: the one from before, if its terms are the same.

    `random` returns so many random bytes.
    """
    terms, found = _terms(made), _KEY.fullmatch(before)
    if found is not None and found["terms"] == terms.encode():
        return before
    return f"{random(KEY_BYTES).hex()}.{terms}".encode()


def _terms(made: document.PolicyDocument) -> str:
    """The SHA-256 of all that the platform decides of a document."""
    of_platform = replace(
        document.PolicyDocument(
            namespace=made.namespace,
            name=made.name,
            providers=tuple(it for it in made.providers if it.class_name is not None),
        ),
        classes=made.classes,
        network=made.network,
    )
    return hashlib.sha256(document.dump(of_platform).encode()).hexdigest()
