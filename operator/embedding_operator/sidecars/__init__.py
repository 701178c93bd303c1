"""What running sidecars say of themselves, asked apart from every reconcile.

    targets   the pods of a policy, and what they should have in force
    pages     a sidecar's pages, as far as they can be one's
    exchange  one request on one connection, within a deadline and a number of bytes
    client    the request with its proof, and the answer with its own
    schedule  which pod is asked next: a share for each namespace, a smaller one for silent pods
    pace      how soon a pod is asked again
    watchlist what is asked next, and what each pod last said
    prober    the thread that asks
    nudges    has kubelet sync the volumes of pods that are behind
    report    what was seen of a policy's pods, in the words of its status

Nothing here is waited for by a reconcile: it says what to watch, and reads what was last seen
(docs/decisions/020-bulkheads.md).
"""

from embedding_operator.sidecars.client import Client
from embedding_operator.sidecars.pages import InForce, index_report_of
from embedding_operator.sidecars.prober import Prober
from embedding_operator.sidecars.targets import (
    Pod,
    Policy,
    Seen,
    Target,
    Wanted,
    index_of,
    of_index,
)

__all__ = [
    "Client",
    "InForce",
    "Pod",
    "Policy",
    "Prober",
    "Seen",
    "Target",
    "Wanted",
    "index_of",
    "index_report_of",
    "of_index",
]
