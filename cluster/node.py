"""The node."""
from cluster.errors import Failure


def require() -> None:
    raise Failure("the node form is being written")
