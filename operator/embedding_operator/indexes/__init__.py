"""EmbeddingIndex: from the resource to its workloads, and from their reports to its status.

The operator opens no connection to a database: the pods of the index report about it
(docs/decisions/028-vectors-in-postgresql.md).
"""

from embedding_operator.indexes.claims import searchable
from embedding_operator.indexes.objects import Vectors
from embedding_operator.indexes.reconciler import IndexReconciler

__all__ = ["IndexReconciler", "Vectors", "searchable"]
