"""Vault (or OpenBao) as this operator uses it; the only package that imports `hvac`.

    connections requests, bounded and counted
    sessions    one login per identity, kept alive
    reading     one look at a path: is it as it was, and if not, what does it hold
    polling     one look per identity and path and interval, whoever wants it, and who is told
    troubles    failures in a row, and when it is worth while to try again
    failures    what stands in the way, and how far that reaches

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
