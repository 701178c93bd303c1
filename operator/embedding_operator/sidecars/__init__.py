"""Ask running sidecars which policy they have in force, apart from every reconcile.

A reconcile never waits for an answer: it registers the pods, and reads the last answers
(docs/decisions/020-bulkheads.md).
"""

from embedding_operator.sidecars.config_request import Client
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
