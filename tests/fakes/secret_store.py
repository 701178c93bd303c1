"""A stand-in for Vault; tests/contract/test_secret_store.py holds it to what Vault does."""

from collections.abc import Iterable

from embedding_operator import errors
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.vault import Address, Reading, Values


class Store:
    """Vault as a dictionary, looked at all the time; a path that is a Problem cannot be read."""

    def __init__(self) -> None:
        self.paths: dict[str, Values | errors.Problem | Reading] = {}
        self.followed: dict[ObjectKey, frozenset[Address]] = {}
        self.refreshed: list[str] = []

    def follow(self, policy: ObjectKey, addresses: frozenset[Address]) -> None:
        self.followed[policy] = addresses

    def read(self, address: Address) -> Reading:
        missing = errors.Problem("PathMissing", f"there is nothing at {address}")
        found = self.paths.get(str(address), Reading(problem=missing, gone=True))
        if isinstance(found, Reading):
            return found
        if isinstance(found, errors.Problem):
            return Reading(problem=found)
        return Reading(values=found)

    def refresh(self, addresses: Iterable[Address]) -> None:
        self.refreshed += map(str, addresses)
