"""The CustomResourceDefinitions in the cluster: whose they are, and what this operator misses.

A definition may be older than the operator: Helm never upgrades one that it does not render, and
GitOps tools may apply it later. The API server then drops the fields that it does not know, so the
operator serves on, and says which.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.policy import crd_schema

_LOG = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
FIELDS_TOLD: Final = 10
_VERSION: Final = names.API_VERSION.partition("/")[2]
_ABSENT: Final = ("the whole definition",)


class ForeignError(Exception):
    """Another installation owns the definitions, and with them all policies of the cluster."""

    def __init__(self, *, owner: str, own: str, policies: int) -> None:
        namespace, _, release = owner.rpartition("/")
        super().__init__(
            f"the definition of {names.KIND}, and the {policies} policies of this cluster, belong"
            f" to the installation {release} in namespace {namespace}; this one, {own}, stops: a"
            " cluster has one. Uninstall one of both; docs/install.md tells how to take over."
        )


def missing(live: Mapping[str, Any] | None, packaged: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that a live definition lacks, in order; of a missing object its path alone."""
    if live is None:
        return _ABSENT
    schema = _schema(live)
    if schema is None:
        return (f"version {_VERSION}",)
    return tuple(_lacking(schema, _schema(packaged) or {}, ""))


def _schema(definition: Mapping[str, Any]) -> Mapping[str, Any] | None:
    versions = definition.get("spec", {}).get("versions") or []
    served = (it for it in versions if it.get("name") == _VERSION and it.get("served"))
    found = next(served, None)
    return None if found is None else found.get("schema", {}).get("openAPIV3Schema") or {}


def _lacking(live: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> Iterator[str]:
    if wanted.get("type") == "array":
        yield from _lacking(live.get("items") or {}, wanted.get("items") or {}, f"{path}[]")
        return
    known = live.get("properties") or {}
    for name, field in (wanted.get("properties") or {}).items():
        inner = f"{path}.{name}".removeprefix(".")
        if name in known:
            yield from _lacking(known[name], field, inner)
        elif not live.get("x-kubernetes-preserve-unknown-fields"):
            yield inner
    lacking = set(wanted.get("enum") or ()) - set(live.get("enum") or wanted.get("enum") or ())
    yield from (f"{path}: {word}" for word in sorted(map(str, lacking)))


class Definitions:
    """Compares the definitions in the cluster with the packaged ones.

    `own` is this installation as the chart names it, NAMESPACE/RELEASE; empty without a chart.
    `lacks` gets a definition's name and the number of fields that it lacks.
    """

    def __init__(self, *, objects: KubeClient, own: str, lacks: Callable[[str, int], None]) -> None:
        self._objects = objects
        self._own = own
        self._lacks = lacks
        self._told: dict[str, tuple[str, ...]] = {}
        self._compared: dict[str, str] = {}
        """The version of each definition that was compared last."""

    def check(self) -> None:
        """Look at all of them once.

        Raises:
            ForeignError: they are another installation's.
            errors.OperatorError: the API server does not answer or refuses.
        """
        for kind, plural in crd_schema.PLURALS.items():
            name = f"{plural}.{names.GROUP}"
            live = self._objects.get(kinds.DEFINITION, None, name)
            if kind == names.KIND:
                self._check_owner(live)
            version = ((live or {}).get("metadata") or {}).get("resourceVersion", "")
            if version and version == self._compared.get(name):
                continue  # parsing the packaged one takes longer than all else in this minute
            found = missing(live, crd_schema.load(kind))
            self._lacks(name, len(found))
            if found != self._told.get(name, ()):
                self._say(name, found)
            self._told[name] = found
            self._compared[name] = version

    def are_ours(self) -> bool:
        """False, and said, if they are another installation's; True if that cannot be known yet."""
        try:
            self.check()
        except ForeignError as error:
            _LOG.error("%s", error)
            return False
        except errors.OperatorError as error:  # `run` looks again
            _LOG.warning("the definitions cannot be read: %s", error)
        return True

    def run(self, stopping: threading.Event, end: Callable[[], None]) -> None:
        """Check every minute until stopped; call `end` when another installation took over."""
        told = ""
        while not stopping.wait(CHECK_SECONDS):
            said = ""
            try:
                self.check()
            except ForeignError as error:
                _LOG.error("%s", error)
                end()
                return
            except errors.OperatorError as error:
                said = str(error)
            except Exception as error:  # noqa: BLE001 - no bug may end this thread
                _LOG.exception("looking at the definitions failed")
                said = type(error).__name__
            if said and said != told:
                _LOG.warning("the definitions cannot be read: %s", said)
            told = said

    def _check_owner(self, live: Mapping[str, Any] | None) -> None:
        annotations = (live or {}).get("metadata", {}).get("annotations") or {}
        owner = annotations.get(names.ANNOTATION_INSTALLATION, "")
        if not owner or not self._own or owner == self._own:
            return
        policies = sum(1 for _ in self._objects.find(kinds.POLICY, None))
        raise ForeignError(owner=owner, own=self._own, policies=policies)

    @staticmethod
    def _say(name: str, found: tuple[str, ...]) -> None:
        if not found:
            _LOG.info("CustomResourceDefinition %s has all fields of this operator", name)
            return
        told = ", ".join(found[:FIELDS_TOLD])
        more = f" and {len(found) - FIELDS_TOLD} more" if len(found) > FIELDS_TOLD else ""
        _LOG.warning(
            "CustomResourceDefinition %s is older than this operator, which serves on; it lacks"
            " %s%s. Apply the one of the operator's release.",
            name,
            told,
            more,
        )
