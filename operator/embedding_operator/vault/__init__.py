"""Vault (or OpenBao) as the operator and a migration use it; the only package that imports `hvac`.

    connections requests, bounded and counted
    kv          the key-value engine, version 1 and 2
    sessions    one login per identity, kept alive
    reading     one read of a path: unchanged, or what it holds now
    polling     one poll per identity, path and interval, and the policies that are told
    backoff     failures in a row, and when to try again
    failures    what each failure means, and how far it reaches

No value is in any message or `repr`.
"""

from embedding_operator.vault.addresses import Address, Identity, Values
from embedding_operator.vault.connections import METHODS, Settings
from embedding_operator.vault.polling import Poller, Reading, connect
from embedding_operator.vault.sessions import Tokens

__all__ = [
    "METHODS",
    "Address",
    "Identity",
    "Poller",
    "Reading",
    "Settings",
    "Tokens",
    "Values",
    "connect",
]
