"""Misspelt paths of the endpoint, which must not be passed through and bypass cache and quota.

Only a POST counts, by its path without double slashes, letter case and a repeated base URL: other
paths with such an end are a vendor's own, such as `GET /v1/organization/usage/embeddings`.
"""

import re
from typing import Final

from embedding_contract import names
from embedding_sidecar import errors

_LAST: Final = re.compile(r"embeddings?[^a-z0-9]*")
"""The last segment, with punctuation after the word."""
_BETWEEN: Final = re.compile(r"(?:api|openai|v[0-9]+(?:beta[0-9]*)?|embeddings?)")
"""Last segments of base URLs; some hold the whole path, to which SDKs add it again."""
_OF_A_MODEL: Final = frozenset({"engines", "deployments", "models"})
"""Older forms of the path: `engines/MODEL/embeddings` (OpenAI's first), and Azure's."""


def is_near_miss(method: str, path: str) -> bool:
    """True if a request is meant for the endpoint, and its decoded path is another one."""
    segments = [it.strip() for it in re.split(r"[/\\]", path.lower()) if it.strip(" .")]
    if method != "POST" or path == names.PATH_EMBEDDINGS or not segments:
        return False
    before, last = segments[:-1], segments[-1].partition(";")[0]
    if not _LAST.fullmatch(last):
        return False
    while before and _BETWEEN.fullmatch(before[0]):
        del before[0]
    return not before or before[0] in _OF_A_MODEL


def not_here(path: str) -> errors.Rejected:
    """The refusal, which names the right path."""
    return errors.Rejected(
        f"Unknown path {path[:256]!r}; embeddings are made by POST {names.PATH_EMBEDDINGS}. "
        "A client's base URL must end in /v1, without a slash.",
        status=404,
        code="unknown_url",
    )
