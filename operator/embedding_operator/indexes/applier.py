"""Apply the objects of one index, and collect the problems that are met.

Every step may be repeated. An object that cannot be made leaves the one that is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_contract import fingerprint, index_document, names
from embedding_operator import errors
from embedding_operator.indexes import objects, runs
from embedding_operator.indexes.objects import Vectors
from embedding_operator.indexes.resource import EmbeddingIndex
from embedding_operator.kube import apply, kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import Object, ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    """The document's fingerprint, the last run's Job and result, and the first problem."""

    document: str
    run: tuple[str, str]
    problem: errors.Problem | None


class Applier:
    """Applies indexes."""

    def __init__(self, *, objects: KubeClient, kept: apply.ObjectApplier, vectors: Vectors) -> None:
        self._objects = objects
        self._owned = kept
        self._vectors = vectors

    def apply(
        self,
        index: EmbeddingIndex,
        document: index_document.IndexDocument,
        *,
        jobs: Sequence[Object],
        recorded: Object,
    ) -> ApplyResult:
        """Apply everything. `jobs` are those of the index, `recorded` is `status.run`.

        Raises:
            errors.Unavailable: the API server does not answer.
        """
        text = index_document.dump(document)
        problems: list[errors.Problem] = []
        wanted = [objects.configmap(index, text), objects.cron_job(index, self._vectors)]
        searching = [objects.deployment(index, self._vectors), objects.service(index)]
        if index.search is not None:
            wanted += searching
        for desired in wanted:
            _, problem = self._owned.ensure_read(index, desired)
            problems += [problem] if problem else []
        if index.search is None:
            for unwanted in searching:
                self._owned.remove(index, unwanted)
        name = objects.job_name(index, document)
        plan = runs.plan(name, jobs, uid=index.uid, recorded=recorded)
        # A run needs the new document and objects.
        if plan.starts is not None and not problems:
            problems += self._start(index, plan.starts)
        for overtaken in plan.ends:
            live = self._objects.get(kinds.JOB, index.namespace, overtaken)
            if live is not None:
                self._objects.delete(live)
        return ApplyResult(
            document=fingerprint.of_document(text.encode()),
            run=(name, plan.result),
            problem=problems[0] if problems else None,
        )

    def forget(self, key: ObjectKey) -> None:
        """An index has gone."""
        self._owned.forget(names.INDEX_KIND, *key)

    def _start(self, index: EmbeddingIndex, name: str) -> list[errors.Problem]:
        try:
            self._objects.create(
                kinds.JOB, index.namespace, objects.job(index, self._vectors, name=name)
            )
        except errors.Denied as error:
            return [errors.Problem(error.reason, str(error))]
        except errors.Conflict:
            pass  # from an interrupted reconcile, or foreign: the next reconcile sees it.
        return []
