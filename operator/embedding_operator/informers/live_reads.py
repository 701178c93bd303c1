"""Objects that no store holds: read when they are needed, page by page, and trimmed."""

from collections.abc import Callable, Iterator
from typing import Final

from embedding_operator.informers import pod_objects, sources
from embedding_operator.informers.kept import Trim
from embedding_operator.informers.pages import Pages, Source
from embedding_operator.kube.kinds import Kind, Object

READ_OBJECTS: Final = 500
"""The most Jobs or pods of one index that are read: anybody may label more."""


class LiveReads:
    """Reads by pages; `skipped` gets the kind and the number of objects that were not readable."""

    def __init__(
        self, pages: Callable[[Source, Trim], Pages], *, skipped: Callable[[str, int], None]
    ) -> None:
        self._pages = pages
        self._skipped = skipped

    def of_index(self, kind: Kind, trim: Trim, namespace: str, index: str) -> list[Object]:
        """The objects of a kind labelled with an index, at most about READ_OBJECTS.

        Raises:
            errors.OperatorError: they cannot be listed.
        """
        found: list[Object] = []
        for page in self._pages(sources.of_index(kind, index), trim).each(namespace):
            self._skipped(kind.plural, page.skipped)
            found += [it.value() for it in page.kept]
            if len(found) >= READ_OBJECTS:
                break
        return found

    def workloads(self, kind: Kind, namespace: str) -> Iterator[Object]:
        """The workloads of a namespace that ask to be restarted.

        Raises:
            errors.OperatorError: they cannot be listed.
        """
        for page in self._pages(Source(kind=kind), pod_objects.workload).each(namespace):
            self._skipped(kind.plural, page.skipped)
            yield from (it.value() for it in page.kept if it.content is not None)
