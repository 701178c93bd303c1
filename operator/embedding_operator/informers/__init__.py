"""Lists and watches of the API server, trimmed to the fields in use (decision 021)."""

from embedding_operator.informers.caches import Caches
from embedding_operator.informers.kept import Kept
from embedding_operator.kube.kinds import Object

__all__ = ["Caches", "Kept", "Object"]
