"""The admission webhook: injects the sidecar into a pod that `selection` assigns to a policy.

It never stops a pod. On any error the answer is "allowed" with a warning: a pod without a sidecar
shows in the policy's status, a pod that cannot start is an outage. Reviews cause no requests:
namespace and policies come from the informers.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import kopf
import msgspec

from embedding_operator.injection import (
    admission_server,
    injector,
    log_limiter,
    namespace_bounds,
    selection,
)
from embedding_operator.injection.skipped_pods import SkippedPods

_LOG = logging.getLogger(__name__)

HANDLER: Final = "inject"
"""The path of reviews."""
REASONS_TOLD: Final = frozenset(
    {
        "PolicyNotFound",
        "HostNetwork",
        "Windows",
        "NameTaken",
        "ServerTooOld",
        *namespace_bounds.REASONS,
    }
)
"""The reasons that contradict somebody's wish for a sidecar; the others were asked for."""
NAMESPACE_CHARACTERS: Final = 63
_JSON_SEPARATORS: Final = (",", ":")

Object = Mapping[str, Any]


class Seen(Protocol):
    """The watched objects, as they were last seen."""

    def namespace(self, name: str) -> dict[str, Any] | None:
        """A namespace; None where there is none."""

    def policies_of(self, namespace: str) -> list[dict[str, Any]]:
        """All policies of a namespace, without what only they themselves look at."""

    def bounds_of(self, namespace: str) -> namespace_bounds.Bounds:
        """The LimitRanges and ResourceQuotas of a namespace."""

    def server_version(self) -> tuple[int, int]:
        """Major and minor of the API server."""


class Counts(Protocol):
    """Counts answers."""

    def injected(self, *, result: str, reason: str) -> None:
        """The webhook answered for a pod."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The pod to create, and warnings for its creator."""

    pod: Object
    warnings: tuple[str, ...] = ()


class Webhook:
    """Answers reviews of pods."""

    def __init__(
        self, *, seen: Seen, sidecar: injector.Sidecar, tells: SkippedPods, counts: Counts
    ) -> None:
        self._seen = seen
        self._sidecar = sidecar
        self._tells = tells
        self._counts = counts
        self._failures = log_limiter.LogLimiter(_LOG)

    def answer(self, pod: Object, *, namespace: str, dry_run: bool) -> Answer:
        """The answer for one pod; raises nothing, and writes no event in a dry run."""
        try:
            return self._answer(pod, namespace=namespace, dry_run=dry_run)
        except Exception as error:  # noqa: BLE001 - never stops a pod, whatever goes wrong
            failed = type(error).__name__
            # A forged review may name any namespace.
            self._failures.error(
                failed,
                f"a pod of {namespace[:NAMESPACE_CHARACTERS]!r} is created without a sidecar",
            )
            self._counts.injected(result="failed", reason=failed)
            return Answer(pod, (f"embedding-operator: no sidecar: injection failed ({failed})",))

    def _answer(self, pod: Object, *, namespace: str, dry_run: bool) -> Answer:
        found = self._seen.namespace(namespace) or {"metadata": {}}
        policies = self._seen.policies_of(namespace)
        decision = selection.decide(
            pod,
            namespace_labels=found["metadata"].get("labels") or {},
            among=selection.candidates(policies),
            server_version=self._seen.server_version(),
        )
        if isinstance(decision, selection.Covered) and selection.carries_sidecar(pod):
            self._counts.injected(result="kept", reason="")
            return Answer(self._injected(pod, decision.candidate))
        if isinstance(decision, selection.Covered):
            wins, within = decision.candidate, self._seen.bounds_of(namespace)
            given = injector.amounts(pod, sidecar=self._sidecar, candidate=wins, within=within)
            if not isinstance(given, namespace_bounds.DoesNotFit):
                self._counts.injected(result="injected", reason="")
                return Answer(self._injected(pod, wins, given=given))
            decision = selection.Skipped(given.reason, given.message, wins)
            pod = injector.skip(pod, reason=given.reason)
        self._counts.injected(result="skipped", reason=decision.reason)
        if decision.reason not in REASONS_TOLD:
            return Answer(pod)
        if not dry_run:
            chosen = decision.candidate
            named = (it for it in policies if chosen and it["metadata"]["name"] == chosen.name)
            self._tells.skipped(
                next(named, found), pod=pod, reason=decision.reason, message=decision.message
            )
        return Answer(pod, (f"embedding-operator: no sidecar: {decision.message}",))

    def _injected(
        self, pod: Object, candidate: selection.Candidate, *, given: Object | None = None
    ) -> Object:
        return injector.inject(pod, sidecar=self._sidecar, candidate=candidate, given=given)


def register(registry: kopf.OperatorRegistry, webhook: Webhook) -> None:
    """Have kopf ask `webhook` about every pod that is created."""

    async def inject(
        *,
        body: kopf.Body,
        patch: kopf.Patch,
        warnings: list[str],
        dryrun: bool,
        namespace: str | None,
        **_: Any,
    ) -> None:
        answer = webhook.answer(dict(body), namespace=namespace or "", dry_run=dryrun)
        warnings.extend(answer.warnings)
        patch.fns.append(_becoming(answer.pod))

    kopf.on.mutate("", "v1", "pods", id=HANDLER, operations=["CREATE"], registry=registry)(inject)


def serve(
    settings: kopf.OperatorSettings,
    *,
    port: int,
    files: admission_server.Files,
    is_ready: Callable[[], bool],
    listens: Callable[[], None],
    is_ending: Callable[[], bool],
) -> None:
    """Have kopf answer on this port, once the files exist and `is_ready`; then call `listens`.

    While `is_ending`, each answer closes its connection.
    The chart has the webhook configuration, as kopf's own has no selectors.
    """

    async def listen(answer: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        # No event announces a mounted file.
        while not (files.are_there() and is_ready()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(admission_server.START_SECONDS)
        server = admission_server.Server(
            port=port,
            files=files,
            answer=_reviewing(answer),
            about=namespace_of,
            listens=listens,
            is_ending=is_ending,
        )
        yield kopf.WebhookClientConfig(url=f"https://localhost:{port}")
        await server.run()

    settings.admission.managed = None
    settings.admission.server = listen


def _reviewing(answer: kopf.WebhookFn) -> admission_server.Answer:
    failures = log_limiter.LogLimiter(_LOG)

    async def reviewed(path: str, body: bytes) -> tuple[int, bytes]:
        if path != f"/{HANDLER}":
            return 404, b""
        review = _review(body)
        if review is None:
            return 400, b""
        try:
            made = await answer(review, webhook=HANDLER)
        except Exception as error:  # noqa: BLE001 - the API server then creates the pod as it came
            failures.error(type(error).__name__, "a review was not answered")
            return 500, b""
        return 200, json.dumps(made, separators=_JSON_SEPARATORS).encode()

    return reviewed


class _About(msgspec.Struct):
    namespace: str = ""


class _Review(msgspec.Struct):
    request: _About


_REVIEW_DECODER: Final = msgspec.json.Decoder(_Review)


def namespace_of(body: bytes) -> str:
    """The namespace of a review, decoded alone; empty if it is not a review."""
    try:
        return _REVIEW_DECODER.decode(body).request.namespace[:NAMESPACE_CHARACTERS]
    except msgspec.MsgspecError:
        return ""


def _review(body: bytes) -> Any:
    """A review of the creation of a pod; None if it is another.

    kopf would remember the objects of other operations.
    """
    try:
        review = json.loads(body)
        request = review["request"]
        pod, resource = request["object"], request["resource"]
        is_one = (
            request["operation"] == "CREATE"
            and (resource["group"], resource["version"], resource["resource"]) == ("", "v1", "pods")
            and not request.get("subResource")
            and isinstance(request["uid"], str)
            and isinstance(request["namespace"], str)
            and isinstance(pod["metadata"], dict)
            and isinstance(pod["spec"], dict)
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return review if is_one else None


def _becoming(pod: Object) -> Callable[[Any], None]:
    """A change of a body into this pod, for kopf to make RFC 6902 operations of."""

    def change(body: Any) -> None:
        body.clear()
        body.update(pod)

    return change
