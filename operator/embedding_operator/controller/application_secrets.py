"""Apply the Secrets that a policy keeps in sync with Vault for applications.

A type cannot be changed: a Secret of another type is deleted and created. It is deleted only once
everything for the new one is known and the API server has taken it in a dry run.
"""

from collections.abc import Callable
from dataclasses import dataclass

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller.credentials import Credentials
from embedding_operator.informers.caches import Caches
from embedding_operator.kube import apply, kinds, ownership
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import Object
from embedding_operator.policy.policy import EmbeddingPolicy, SyncedSecret
from embedding_operator.render import secrets

_NAME_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The problems met, the paths not polled yet, and the Secrets deleted by `deletionPolicy`."""

    problems: tuple[errors.Problem, ...] = ()
    pending: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


class ApplicationSecrets:
    """Applies `spec.secrets`; `changing` gets the namespace right before a Secret changes."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        found: Credentials,
        kept: apply.ObjectApplier,
        changing: Callable[[str], None],
    ) -> None:
        self._objects = objects
        self._seen = seen
        self._credentials = found
        self._applier = kept
        self._changing = changing

    def apply(self, wanted: EmbeddingPolicy) -> Outcome:
        """Apply each entry, and delete our Secrets that the policy no longer lists.

        Raises:
            errors.Unavailable: the API server does not answer.
        """
        made = [self._apply_revealed(wanted, entry) for entry in wanted.secrets]
        self._prune(wanted)
        return Outcome(
            problems=tuple(problem for it in made for problem in it.problems),
            pending=tuple(path for it in made for path in it.pending),
            deleted=tuple(name for it in made for name in it.deleted),
        )

    def _apply_revealed(self, wanted: EmbeddingPolicy, entry: SyncedSecret) -> Outcome:
        """Apply an entry; twice where there is a Secret of ours that no watch has shown."""
        try:
            return self._apply(wanted, entry)
        except errors.Conflict:
            return self._apply(wanted, entry)

    def _apply(self, wanted: EmbeddingPolicy, entry: SyncedSecret) -> Outcome:
        found = self._credentials.synced(wanted, entry)
        known = Outcome(problems=found.problems, pending=found.pending)
        if found.gone and entry.deletes:
            # Without its labels its values would stay for good.
            self._applier.remove(wanted, secrets.of(wanted, entry.name, {}), is_hidden=True)
            return Outcome(problems=found.problems, pending=found.pending, deleted=(entry.name,))
        if not found.values and (entry.is_whole or not entry.keys):
            return known
        live = self._seen.reads.get_ours(kinds.SECRET, wanted.namespace, entry.name)
        values = dict(found.values)
        if not entry.is_whole:
            # A key that cannot be read keeps its last good value, if the entry still names it.
            named = set((entry.keys or {}).values())
            is_ours = live is not None and ownership.is_ours(live, wanted)
            held = secrets.decode(live) if is_ours else {}
            values = {**{key: it for key, it in held.items() if key in named}, **values}
        if not values:
            return known
        problem = _too_large(entry, values)
        if problem is None:
            desired = secrets.of_entry(wanted, entry, values)
            problem = self._ensure(wanted, desired, live=live, is_complete=not found.problems)
        problems = (*found.problems, *([problem] if problem else []))
        return Outcome(problems=problems, pending=found.pending)

    def _ensure(
        self, wanted: EmbeddingPolicy, desired: Object, *, live: Object | None, is_complete: bool
    ) -> errors.Problem | None:
        is_ours = live is None or ownership.is_ours(live, wanted)
        if live is not None and is_ours and live.get("type") != desired["type"]:
            problem = self._delete_other_type(live, desired, is_complete=is_complete)
            if problem is not None:
                return problem
            live = None
        elif is_ours and ((live or {}).get("data") or {}) != desired["data"]:
            self._changing(wanted.namespace)
        _, problem = self._applier.ensure(wanted, desired, live=live)
        return problem

    def _delete_other_type(
        self, live: Object, desired: Object, *, is_complete: bool
    ) -> errors.Problem | None:
        """Delete a Secret of another type; the problem for which it stays."""
        metadata = desired["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        about = f"{name} stays of type {live.get('type')}, and not {desired['type']}"
        if not is_complete:
            return errors.Problem("TypeNotChanged", f"{about}, until all its values are read")
        other = {key: it for key, it in metadata.items() if key != "name"}
        other["generateName"] = f"{name[:_NAME_CHARACTERS]}-"
        try:
            self._objects.dry_run(kinds.SECRET, namespace, {**desired, "metadata": other})
        except errors.Denied as error:
            return errors.Problem("TypeNotChanged", f"{about}: {error}")
        self._changing(namespace)
        self._objects.delete(live)
        return None

    def _prune(self, wanted: EmbeddingPolicy) -> None:
        kept = {names.owned_secret(wanted.name), *(entry.name for entry in wanted.secrets)}
        for name in self._seen.owned_secrets(wanted.namespace, wanted.name):
            if name not in kept:
                self._applier.remove(wanted, secrets.of(wanted, name, {}))


def _too_large(entry: SyncedSecret, values: dict[str, bytes]) -> errors.Problem | None:
    size = sum(map(len, values.values()))
    if size <= secrets.MAX_BYTES:
        return None
    largest = max(values, key=lambda key: len(values[key]))
    return errors.Problem(
        "SecretTooLarge",
        f"{entry.name}: {entry.mount}/{entry.path} holds {size} bytes, most of them in key"
        f" {largest}; a Secret holds at most {secrets.MAX_BYTES}",
    )
