"""The report of a search pod on its index: the bookkeeping's figures, and the problems."""

from typing import Protocol

from embedding_contract.index_document import IndexDocument
from embedding_contract.index_report import IndexReport, Problem
from embedding_vectors import report
from embedding_vectors.errors import DatabaseError
from embedding_vectors.metrics import Metrics
from embedding_vectors.search import targets
from embedding_vectors.search.targets import Targets


class Current(Protocol):
    """The document in force."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the document in force; empty where there is none."""
        ...

    def document(self) -> IndexDocument | None:
        """The index document; None where there is none yet."""
        ...


class Reported:
    """Reads the figures that the worker counts, and counts nothing itself."""

    def __init__(self, *, current: Current, targets: Targets, metrics: Metrics) -> None:
        self._current = current
        self._targets = targets
        self._metrics = metrics

    async def report(self) -> IndexReport:
        """The current report."""
        document = self._current.document()
        if document is None:
            problem = Problem(reason="DocumentMissing", message="there is no index document yet")
            return IndexReport(document="", problems=(problem,))
        try:
            known = await self._targets.of(document)
        except DatabaseError as error:
            return report.of(
                document, fingerprint=self._current.fingerprint, problems=(error.problem,)
            )
        return report.of(document, fingerprint=self._current.fingerprint, targets=known)

    async def count(self) -> None:
        """Record the figures of the target that is searched, or is to be, in the metrics.

        Raises:
            DatabaseError: the figures cannot be read.
        """
        document = self._current.document()
        if document is None:
            return
        known = await self._targets.of(document)
        wanted = document.target_id(document.target)
        shown = targets.serving(known, document=document) or next(
            (it for it in known if it.id == wanted), None
        )
        if shown is not None:
            self._metrics.index_counted(size=shown.done, missing=shown.waiting)
