"""Apply the objects of one policy, and collect the problems that are met.

Every step may be repeated. An object that cannot be made leaves the one that is there.
"""

import json
import re
import secrets as random_secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from embedding_contract import document, fingerprint, formats, names, proof
from embedding_operator import errors, sidecars
from embedding_operator.controller import application_secrets, credentials
from embedding_operator.controller.redis_users import RedisUsers
from embedding_operator.informers.caches import Caches
from embedding_operator.kube import apply, kinds, ownership
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import Object, ObjectKey
from embedding_operator.policy import classes, network, policy, provider_class, provider_guard
from embedding_operator.policy.reference import Literal
from embedding_operator.render import configmaps, document_keys, monitoring, secrets

CA_KEY: Final = "ca.crt"
TOKEN_BYTES: Final = 32
CACHE_KEY_BYTES: Final = 32
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]{32,}")
_CACHE_KEY: Final = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    """The state of the cluster after applying, and the problems met.

    `told` are the objects of the Prometheus operator as rendered, with the metadata and status of
    those in the cluster. `wanted` is None without a document or an API token.
    """

    wanted: sidecars.Wanted | None
    environment_created_at: str | None
    refused: errors.Problem | None
    stale: bool
    problems: tuple[errors.Problem, ...]
    pending: tuple[str, ...]
    deleted: tuple[str, ...]
    monitoring: errors.Problem | None
    told: tuple[Object, ...]
    alerts_refused: tuple[errors.Problem, ...]


@dataclass(slots=True)
class _Notes:
    """Problems of secrets, collected while applying."""

    problems: list[errors.Problem] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    def take(self, found: credentials.Found) -> None:
        self.problems += found.problems
        self.pending += found.pending


class Applier:
    """Applies policies.

    `changing` gets the namespace right before a synced Secret there changes. `additional_alerts`:
    whether policies may add alerts. `selected_by` returns the labels by which every Prometheus
    selects objects.
    """

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        found: credentials.Credentials,
        kept: apply.ObjectApplier,
        changing: Callable[[str], None],
        guard: provider_guard.ProviderGuard = provider_guard.OFF,
        additional_alerts: bool = False,
        selected_by: Callable[[], Mapping[str, str]] = dict,
        network: network.Network = network.Network(),  # noqa: B008 - frozen
        users: RedisUsers | None = None,
    ) -> None:
        self._users = users or RedisUsers()
        self._network = network
        self._objects = objects
        self._seen = seen
        self._guard = guard
        self._credentials = found
        self._owned = kept
        self._of_applications = application_secrets.ApplicationSecrets(
            objects=objects, seen=seen, found=found, kept=kept, changing=changing
        )
        self._additional_alerts = additional_alerts
        self._selected_by = selected_by

    def apply(
        self,
        wanted: policy.EmbeddingPolicy,
        *,
        usable: classes.Classes,
        indexes: Sequence[document.Index] = (),
    ) -> ApplyResult:
        """Apply everything. The policy's sidecars may search `indexes`.

        `usable` are the classes as the policy's namespace may use them.

        Raises:
            errors.Unavailable: the API server does not answer.
        """
        environment, refused = self._owned.ensure_read(wanted, configmaps.environment(wanted))
        notes = _Notes()
        made: document.PolicyDocument | None = None
        standing: str | None = None
        name = names.owned_secret(wanted.name)
        live = self._seen.reads.get_ours(kinds.SECRET, wanted.namespace, name)
        if live is None and any(map(_may_have_user, wanted.classes)):
            # Else its user in a Redis would get another password before the write finds a Secret.
            live = self._seen.reads.reveal(kinds.SECRET, wanted.namespace, name)
        before = secrets.decode(live)
        try:
            self._guard.check(wanted)
            calling = self._network.of(wanted, ca_of=partial(self._ca_of, wanted.namespace))
            made = policy.to_document(wanted, indexes=indexes, network=calling)
        except errors.InvalidPolicy as error:
            refused = refused or errors.Problem(error.reason, str(error))
            standing = self._standing_document(wanted, before)
        values = self._owned_values(
            wanted,
            notes,
            before=before,
            made=made,
            in_force=made or _parsed(standing),
            usable=usable,
        )
        # The Secret first: no document names a value, or has a signature, that is not there yet.
        secret, foreign = self._owned.ensure(
            wanted, secrets.of(wanted, names.owned_secret(wanted.name), values), live=live
        )
        notes.problems += [foreign] if foreign else []
        held = secrets.decode(secret)
        text = standing if made is None else self._apply_document(wanted, made, held)
        stale = made is None or isinstance(text, errors.Problem)
        if isinstance(text, errors.Problem):
            refused, text = refused or text, None
        applied = self._of_applications.apply(wanted)
        notes.problems += applied.problems
        notes.pending += applied.pending
        told = monitoring.of(
            wanted,
            additional_allowed=self._additional_alerts,
            selected_by=self._selected_by(),
        )
        stand, problem = self._apply_monitoring(wanted, told)
        token = held.get(names.SECRET_API_TOKEN, b"")
        return ApplyResult(
            wanted=None
            if text is None or not token
            else sidecars.Wanted(
                document=fingerprint.of_document(text.encode()),
                secrets=fingerprint.of_secrets(held, token=token),
                token=token.decode(),
                later=_later(text),
            ),
            environment_created_at=(environment or {"metadata": {}})["metadata"].get(
                "creationTimestamp"
            ),
            refused=refused,
            stale=stale,
            problems=tuple(notes.problems),
            pending=tuple(dict.fromkeys(notes.pending)),
            deleted=applied.deleted,
            monitoring=problem,
            told=stand,
            alerts_refused=told.problems if wanted.alerts_enabled else (),
        )

    def _ca_of(self, namespace: str, name: str) -> str | None:
        """The certificates in a ConfigMap."""
        live = self._seen.reads.get(kinds.CONFIG_MAP, namespace, name)
        found: str | None = ((live or {}).get("data") or {}).get(CA_KEY)
        return found

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone, or goes: its Secret, which may outlive it, keeps no class's values."""
        self._owned.forget(names.KIND, *key)
        live = self._objects.get(kinds.SECRET, key.namespace, names.owned_secret(key.name))
        if live is None or not ownership.is_made_for(live, policy.PolicyOwner, key.name):
            return
        unwanted = [it for it in live.get("data") or {} if classes.of_entry(it) is not None]
        if unwanted:
            self._objects.remove_keys(live, unwanted)

    def _owned_values(
        self,
        wanted: policy.EmbeddingPolicy,
        notes: _Notes,
        *,
        before: Mapping[str, bytes],
        made: document.PolicyDocument | None,
        in_force: document.PolicyDocument | None,
        usable: classes.Classes,
    ) -> dict[str, bytes]:
        """The values of the owned Secret: those found now, else those it has."""
        found = self._credentials.owned(wanted)
        notes.take(found)
        # Without a new document the last good one stays in force, and needs the keys it names.
        named = before.keys() if made is None else policy.references(wanted).keys()
        of_classes = classes.withdrawn(
            {*before, *found.values, *classes.entries(wanted)}, usable, in_force=in_force
        )
        notes.problems += [it for it in of_classes.values() if it is not None]
        withdrawn = found.refused | self._guard.withdrawn(before, in_force)
        if made is not None and not before.keys() & named <= found.values.keys():
            standing = _parsed(self._standing_document(wanted, before))
            withdrawn |= provider_guard.moved(standing, made)
        kept = {key: before[key] for key in named if key in before and key not in withdrawn}
        token = before.get(names.SECRET_API_TOKEN, b"")
        if not _TOKEN.fullmatch(token):
            token = _new_token()  # the first one, or the old one cannot be sent in a header
        cache_key = before.get(names.SECRET_CACHE_KEY, b"")
        if not _CACHE_KEY.fullmatch(cache_key):
            cache_key = random_secrets.token_hex(CACHE_KEY_BYTES).encode()
        wanted_values = {key: it for key, it in found.values.items() if key not in of_classes}
        values = {**kept, **self._with_users(wanted, wanted_values, before, notes)}
        return {
            **{key: it for key, it in values.items() if key not in of_classes},
            **_document_key(before, made),
            names.SECRET_API_TOKEN: token,
            names.SECRET_CACHE_KEY: cache_key,
        }

    def _with_users(
        self,
        wanted: policy.EmbeddingPolicy,
        values: Mapping[str, bytes],
        before: Mapping[str, bytes],
        notes: _Notes,
    ) -> dict[str, bytes]:
        """The values with the policy's own user in URLs of classes, never with the classes'."""
        made = dict(values)
        for used in wanted.classes:
            entry = names.secret_class_redis_url(used.name)
            if entry not in values or not _may_have_user(used):
                continue
            given = values[entry].decode(errors="replace").strip()
            known = before.get(entry, b"").decode(errors="replace").strip()
            try:
                made[entry] = self._users.grant(given, used.name, wanted.key, before=known).encode()
            except errors.InvalidPolicy as error:
                # The one that it has may still do.
                del made[entry]
                notes.problems.append(errors.Problem(error.reason, f"{entry}: {error}"))
        return made

    def withdraw(self, owner: ownership.Owner, usable: classes.Classes) -> None:
        """Remove the values of classes from the owned Secret of a policy that is not valid."""
        name = names.owned_secret(owner.name)
        live = self._seen.reads.get(kinds.SECRET, owner.namespace, name)
        if live is None or not ownership.is_ours(live, owner):
            return
        held = secrets.decode(live)
        standing = _parsed(self._standing_document(owner, held))
        unwanted = classes.withdrawn(held, usable, in_force=standing)
        if unwanted:
            self._objects.remove_keys(live, sorted(unwanted))

    def _apply_document(
        self,
        wanted: policy.EmbeddingPolicy,
        made: document.PolicyDocument,
        held: Mapping[str, bytes],
    ) -> str | errors.Problem | None:
        """The text of the document in the cluster afterwards; `held` are the Secret's values."""
        key = held.get(names.SECRET_DOCUMENT_KEY, b"").decode()
        desired = configmaps.policy_document(wanted, made, key=key)
        live, problem = self._owned.ensure_read(wanted, desired)
        return problem or _text(live)

    def _standing_document(self, wanted: ownership.Owner, held: Mapping[str, bytes]) -> str | None:
        """The text of the last document that was accepted; None where there is none.

        Where the owned Secret has a document key, one without its signature was edited since.
        """
        name = names.document_configmap(wanted.name)
        live = self._seen.reads.get(kinds.CONFIG_MAP, wanted.namespace, name)
        text, key = _text(live), held.get(names.SECRET_DOCUMENT_KEY, b"").decode(errors="replace")
        if text is None or not key:
            return text
        signature = ((live or {}).get("data") or {}).get(names.DOCUMENT_SIGNATURE, "")
        return text if proof.is_document_signed(key, signature, text.encode()) else None

    def _apply_monitoring(
        self, wanted: policy.EmbeddingPolicy, told: monitoring.Monitoring
    ) -> tuple[tuple[Object, ...], errors.Problem | None]:
        absent = [
            kind.plural
            for kind in (kinds.PROMETHEUS_RULE, kinds.POD_MONITOR)
            if not self._objects.serves(kind)
        ]
        if absent and wanted.alerts_enabled:
            message = (
                f"The API server does not serve {' and '.join(absent)}, so they are not created;"
                " install the CRDs of the Prometheus operator."
            )
            return told.objects, errors.Problem("CRDsAbsent", message)
        kept = told.objects if wanted.alerts_enabled else ()
        for unwanted in (told.rule, monitoring.additional_rule(wanted, ()), told.pod_monitor):
            if not any(_is_same(it, unwanted) for it in kept):
                self._owned.remove(wanted, unwanted)
        stand: list[Object] = []
        problems: list[errors.Problem] = []
        for desired in kept:
            live, problem = self._owned.ensure_read(wanted, desired)
            stand.append(desired if live is None else _as_it_stands(desired, live))
            problems += [problem] if problem is not None else []
        return tuple(stand), problems[0] if problems else None


def _may_have_user(used: provider_class.ProviderClass) -> bool:
    """True if policies may have users of their own in the Redis of a class."""
    return used.redis is not None and not isinstance(used.redis, Literal)


def _document_key(
    before: Mapping[str, bytes], made: document.PolicyDocument | None
) -> dict[str, bytes]:
    """The entry of the key that signs a new document with classes; empty for any other."""
    if made is None or not made.classes:
        return {}
    known = before.get(names.SECRET_DOCUMENT_KEY, b"")
    key = document_keys.renewed(known, made, random_secrets.token_bytes)
    return {names.SECRET_DOCUMENT_KEY: key}


def _text(live: Object | None) -> str | None:
    """The document that a ConfigMap holds."""
    found: str | None = ((live or {}).get("data") or {}).get(names.DOCUMENT_KEY)
    return found


def _parsed(text: str | None) -> document.PolicyDocument | None:
    """A document as sidecars that carry out all it requires read it; None without a valid one."""
    if text is None:
        return None
    try:
        fields = json.loads(text)
        return document.parse(json.dumps({**fields, "requires": []}))
    except (ValueError, TypeError, RecursionError):  # anybody may have edited it
        return None


def _later(text: str) -> formats.Later:
    """The keys of a document that sidecars of an older release may not know."""
    try:
        return formats.later(json.loads(text))
    except (ValueError, RecursionError):  # as above
        return ()


def _as_it_stands(desired: Object, live: Object) -> Object:
    return {**desired, "metadata": live["metadata"], "status": live.get("status")}


def _is_same(one: Object, other: Object) -> bool:
    """True if both name the same object of a namespace."""
    return bool(
        one["kind"] == other["kind"] and one["metadata"]["name"] == other["metadata"]["name"]
    )


def _new_token() -> bytes:
    return random_secrets.token_urlsafe(TOKEN_BYTES).encode()
