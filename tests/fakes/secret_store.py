"""A stand-in for Vault; tests/contract/test_secret_store.py holds it to what Vault does."""

from embedding_operator import errors
from embedding_operator.vault import Identity, Values


class Store:
    """Vault as a dictionary; a path that is a Problem cannot be read."""

    def __init__(self) -> None:
        self.paths: dict[str, Values | errors.Problem] = {}

    def read(self, identity: Identity, *, mount: str, path: str) -> Values | errors.Problem:
        where = f"{mount}/{path}"
        missing = errors.Problem("PathMissing", f"there is nothing at {where}")
        return self.paths.get(where, missing)
