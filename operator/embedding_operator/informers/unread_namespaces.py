"""Namespaces whose labels the operator may not read, because it has no right on the cluster."""

from collections.abc import Iterable

from embedding_contract import names
from embedding_operator.informers import namespace_objects
from embedding_operator.informers.kept import encode
from embedding_operator.informers.pages import Page
from embedding_operator.injection import selection


def assumed(named: Iterable[str]) -> Page:
    """Each as one that is there and enabled for injection."""
    labels = {names.LABEL_INJECTION: selection.ENABLED}
    found = [{"metadata": {"name": it, "labels": labels}} for it in named]
    return Page(version="", kept=[namespace_objects.namespace(encode(it)) for it in found])
