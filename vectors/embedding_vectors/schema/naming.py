"""Names of objects that a plan makes: the same for the same parts, at most 63 bytes long."""

import hashlib
from typing import Final

MAX_BYTES: Final = 63
"""PostgreSQL cuts longer identifiers (NAMEDATALEN - 1)."""
_DIGITS: Final = 8
MARK: Final = "embedding_mark"


def digest(*parts: str) -> str:
    """Eight hexadecimal digits of these parts."""
    joined = hashlib.sha256()
    for part in parts:
        joined.update(f"{len(part.encode())}:".encode() + part.encode())
    return joined.hexdigest()[:_DIGITS]


def vector_index(*, table: str, column: str) -> str:
    """The HNSW index of a vector column."""
    return _fitted(f"{table}_{column}", f"_{digest(table, column)}_hnsw")


def text_index(*, table: str, configuration: str, columns: tuple[str, ...]) -> str:
    """The GIN index of the texts; another configuration or other columns give another name."""
    return _fitted(table, f"_{digest(configuration, *columns)}_text")


def marks_of(index_uid: str) -> str:
    """The prefix of the names of an index's triggers."""
    return f"{MARK}_{digest(index_uid)}_"


def mark(index_uid: str, *, form: str) -> str:
    """The trigger of an index, and its function; `form` has all that their text depends on."""
    return marks_of(index_uid) + digest(form)


def _fitted(readable: str, suffix: str) -> str:
    room = MAX_BYTES - len(suffix)
    return readable.encode()[:room].decode(errors="ignore") + suffix
