"""EmbeddingIndex: from the resource to its workloads, and from their reports to its status.

    resource    the resource as values
    claims      the targets of an index, and the indexes that a policy's sidecars may search
    documents   the index document, for the pods of an index
    objects     ConfigMap, Deployment, Service, CronJob and Job
    runs        the Job to start, and the result of the last one
    status      the status of an index
    applier     applies the objects
    reconciler  the use case

The operator opens no connection to a database: the pods of the index report about it
(docs/decisions/028-vectors-in-postgresql.md).
"""

from embedding_operator.indexes.claims import searchable
from embedding_operator.indexes.objects import Vectors
from embedding_operator.indexes.reconciler import IndexReconciler

__all__ = ["IndexReconciler", "Vectors", "searchable"]
