"""Tables kept embedded: from an EmbeddingIndex to its workloads, and from their words to a status.

    resource   the resource as values
    claims     which targets an index takes, and which indexes a policy's sidecars may search
    documents  what the pods of an index obey
    objects    ConfigMap, Deployment, Service, CronJob and Job
    runs       which Job is to be started, and how the last one went
    status     what was seen, as the status of an index
    applied    what stands in the cluster, made so
    reconcile  the use case

The operator opens no connection to a database: what is known of one, the pods of the index say
(docs/decisions/028-vectors-in-postgresql.md).
"""

from embedding_operator.indexes.claims import searchable
from embedding_operator.indexes.objects import Vectors
from embedding_operator.indexes.reconciler import IndexReconciler

__all__ = ["IndexReconciler", "Vectors", "searchable"]
