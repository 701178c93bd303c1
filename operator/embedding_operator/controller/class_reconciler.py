"""Reconcile one ClusterEmbeddingProvider: check it and its key, count its policies, say so.

It writes no object but its own status: the key, and users of its Redis, reach policies by their own
reconciles. Users of policies that lost the right are removed here.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import redis_users
from embedding_operator.controller.class_credentials import ClassCredentials
from embedding_operator.controller.redis_users import RedisUsers
from embedding_operator.informers.caches import Caches
from embedding_operator.kube import conditions, deadline, kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import Object, ObjectKey
from embedding_operator.policy import classes, provider_class
from embedding_operator.policy.provider_class import ProviderClass
from embedding_operator.policy.reference import Literal
from embedding_operator.status import class_status


class ClassReconciler:
    """Reconciles classes; `deadline_seconds` bounds a reconcile's calls to the API server."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        credentials: ClassCredentials,
        deadline_seconds: float,
        users: RedisUsers | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = objects
        self._seen = seen
        self._credentials = credentials
        self._users = users or RedisUsers()
        self._deadline_seconds = deadline_seconds
        self._now = now

    def __call__(self, key: ObjectKey) -> float | None:
        """Reconcile one class; seconds until the next run, None to wait for an event.

        Raises:
            errors.Unavailable: the API server does not answer, or not within the deadline.
            errors.Denied: it refuses; the message names the permission.
        """
        with deadline.within(self._deadline_seconds):
            return self._reconcile(key)

    def _reconcile(self, key: ObjectKey) -> float | None:
        raw = self._seen.provider_class(key.name)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            self._credentials.forget(key)
            return None
        try:
            found = provider_class.parse(raw)
            classes.check(found)
        except errors.InvalidPolicy as error:
            self._credentials.forget(key)
            problem = errors.Problem(error.reason, str(error))
            self._report(raw, class_status.Facts(refused_for=problem))
            return None
        self._credentials.follow(key, found)
        self._report(raw, self._facts(found))
        return self._remove_users(found)

    def _remove_users(self, found: ProviderClass) -> float | None:
        """Remove the users of the class's Redis that no policy may use; when to try again."""
        url = self._credentials.entry(found, names.secret_class_redis_url(found.name)).value
        if url is None or isinstance(found.redis, Literal):
            return None
        try:
            self._users.keep_only(
                url.decode(errors="replace").strip(), found.name, lambda: self._permitted(found)
            )
        except errors.InvalidPolicy:
            return redis_users.AGAIN_SECONDS
        return None

    def _permitted(self, found: ProviderClass) -> list[ObjectKey]:
        """The policies that name the class and may use it."""
        users = self._seen.users_of_class(found.name)
        allowed = {
            namespace
            for namespace in {it.namespace for it in users}
            if found.allows(classes.labels_of(self._seen.namespace(namespace)))
        }
        return [it for it in users if it.namespace in allowed]

    def _facts(self, found: ProviderClass) -> class_status.Facts:
        values = self._credentials.all(found)
        users, permitted = self._seen.users_of_class(found.name), self._permitted(found)
        return class_status.Facts(
            key=next((problem for it in values for problem in it.problems), None),
            pending=next((path for it in values for path in it.pending), None),
            needs_key=found.api_key is not None,
            policies=len(permitted),
            namespaces=len({it.namespace for it in permitted}),
            refused=len(users) - len(permitted),
        )

    def _report(self, raw: Object, facts: class_status.Facts) -> None:
        metadata, previous = raw["metadata"], raw.get("status") or {}
        new = class_status.build(
            facts, generation=metadata["generation"], previous=previous, now=self._now()
        )
        patch = conditions.merge_patch(previous, new)
        if not patch:
            return
        answer = self._objects.patch_status("", metadata["name"], patch, kind=kinds.PROVIDER_CLASS)
        if answer is not None:
            self._seen.wrote_class(answer)
