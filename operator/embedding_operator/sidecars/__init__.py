"""Ask running sidecars which policy they have in force, apart from every reconcile.

    targets   the pods of a policy, and what they should have in force
    pages     parse a sidecar's pages, and check their values
    exchange  one request on one connection, within a deadline and a number of bytes
    client    signs the request, and checks the signature of the answer
    schedule  the next pod to ask: a share for each namespace, a smaller one for silent pods
    pace      the time until a pod is asked again
    watchlist the watched pods, their next requests and last answers
    prober    the thread that asks
    nudges    has kubelet sync the volumes of pods that are behind
    report    the answers of a policy's pods as facts for its status

A reconcile never waits for an answer: it registers the pods, and reads the last answers
(docs/decisions/020-bulkheads.md).
"""

from embedding_operator.sidecars.client import Client
from embedding_operator.sidecars.pages import InForce, index_report_of
from embedding_operator.sidecars.prober import Prober
from embedding_operator.sidecars.targets import Pod, Seen, Target, Wanted, index_of, of_index

__all__ = [
    "Client",
    "InForce",
    "Pod",
    "Prober",
    "Seen",
    "Target",
    "Wanted",
    "index_of",
    "index_report_of",
    "of_index",
]
