"""Selection by labels, as the API server does it: pure."""

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """True if a LabelSelector of meta/v1 selects these labels; an empty one selects all."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def _holds(requirement: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement["key"])
    values = requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:  # of a later Kubernetes; selecting too few pods is the safer error
            return False
