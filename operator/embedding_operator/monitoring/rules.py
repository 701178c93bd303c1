"""Compare Prometheus's rule groups and targets with those rendered: pure.

Formats: GET /api/v1/rules, /api/v1/query and /api/v1/status/runtimeinfo of Prometheus's HTTP API
(docs/querying/api.md). Mimir, Thanos' ruler and vmalert answer the first alike.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from embedding_operator.kube.kinds import Object
from embedding_operator.monitoring.answers import bounded, decoded

UP: Final = 'max by (namespace, policy, pod) (up{policy!="", pod!="", index=""})'
"""The query for targets that are up: the PodMonitor gives sidecars' series the label `policy`.

Pods of an index have a second target, whose series have the label `index`."""
_UNITS: Final = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "y": 31_536_000,
}
_DURATION: Final = re.compile(r"(\d+)(ms|[smhdwy])")
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OPERATORS_FILE: Final = re.compile(rf"(?:.*/)?[^/]+-({_UUID})\.ya?ml")
"""NAMESPACE-NAME-UID.yaml, the file names of the Prometheus operator."""
_OURS: Final = "namespace"
"""Prometheus's enforcedNamespaceLabel adds this label to rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A rule group of a policy's PrometheusRule.

    `uid` is that of the object in the cluster. `fingerprint` is of each rule's name, `for`,
    annotations and the labels in `label_names`. `expressions` is apart, as Prometheus reformats
    expressions and may add matchers.
    """

    name: str
    uid: str | None
    label_names: frozenset[str]
    fingerprint: str
    expressions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A group as Prometheus lists it.

    `is_current` is False if its fingerprint differs; `queries` is a digest of its listed
    expressions. `errors` are `RULE: lastError`, bounded.
    """

    is_current: bool
    queries: str = ""
    errors: tuple[str, ...] = ()


class _Rule(msgspec.Struct):
    name: str = ""
    query: str = ""
    duration: float = 0.0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    health: str = ""
    lastError: str | None = None  # noqa: N815 - theirs


class _Name(msgspec.Struct):
    name: str
    file: str = ""


_NAME_DECODER: Final = msgspec.json.Decoder(_Name)


class _Group(msgspec.Struct):
    rules: list[_Rule] | None = None


_GROUP_DECODER: Final = msgspec.json.Decoder(_Group)


class _Groups(msgspec.Struct):
    groups: list[msgspec.Raw] | None


class _Rules(msgspec.Struct):
    data: _Groups


_RULES_DECODER: Final = msgspec.json.Decoder(_Rules)


class _Metric(msgspec.Struct):
    namespace: str = ""
    policy: str = ""
    pod: str = ""


class _Sample(msgspec.Struct):
    metric: _Metric
    value: tuple[float, str]


class _Vector(msgspec.Struct):
    result: list[_Sample]


class _Query(msgspec.Struct):
    data: _Vector


_QUERY_DECODER: Final = msgspec.json.Decoder(_Query)


class _Runtime(msgspec.Struct):
    reloadConfigSuccess: bool  # noqa: N815 - theirs


class _RuntimeInfo(msgspec.Struct):
    data: _Runtime


_RUNTIME_INFO_DECODER: Final = msgspec.json.Decoder(_RuntimeInfo)


def expected(rule: Object) -> tuple[Group, ...]:
    """The groups of a PrometheusRule, rendered or from the cluster."""
    uid = rule["metadata"].get("uid")
    return tuple(_expected(group, uid) for group in rule["spec"]["groups"])


def loaded(body: bytes, wanted: Mapping[str, Group]) -> dict[str, Loaded]:
    """The wanted groups in an answer of /api/v1/rules, by name.

    Foreign groups are not decoded, so that memory depends on ours alone. A group that the
    Prometheus operator made from another object does not count, even with an equal name.

    Raises:
        NotUnderstood: the answer has another form.
    """
    found: dict[str, Loaded] = {}
    for raw in decoded(body, _RULES_DECODER).data.groups or ():
        listed = decoded(raw, _NAME_DECODER)
        group = wanted.get(listed.name)
        if group is None or not _is_of(listed.file, group):
            continue
        rules = decoded(raw, _GROUP_DECODER).rules or []
        seen = Loaded(
            is_current=_fingerprint(rules, group.label_names) == group.fingerprint,
            queries=_digest([rule.query for rule in rules]),
            errors=tuple(
                f"{bounded(rule.name)}: {bounded(rule.lastError or 'it fails')}"
                for rule in rules
                if rule.health == "err"
            ),
        )
        before = found.get(listed.name)
        if before is None or not before.is_current:
            found[listed.name] = seen
    return found


def up(body: bytes) -> dict[tuple[str, str], dict[str, bool]]:
    """The pods of each namespace and policy, and whether they are up, from an answer to UP.

    Raises:
        NotUnderstood: the answer has another form.
    """
    found: dict[tuple[str, str], dict[str, bool]] = {}
    for sample in decoded(body, _QUERY_DECODER).data.result:
        metric = sample.metric
        pods = found.setdefault((metric.namespace, metric.policy), {})
        pods[metric.pod] = sample.value[1] == "1"
    return found


def reloaded(body: bytes) -> bool:
    """True if the last reload succeeded, from an answer of /api/v1/status/runtimeinfo.

    Raises:
        NotUnderstood: the answer has another form.
    """
    return decoded(body, _RUNTIME_INFO_DECODER).data.reloadConfigSuccess


def refusal(rule: Object) -> str | None:
    """The message of a Prometheus operator that refuses this PrometheusRule.

    It is in `status.bindings` since 0.87, behind a feature gate; None without it.
    """
    for binding in (rule.get("status") or {}).get("bindings") or ():
        for condition in binding.get("conditions") or ():
            if condition.get("type") == "Accepted" and condition.get("status") == "False":
                return bounded(str(condition.get("message") or condition.get("reason") or ""))
    return None


def _expected(group: Object, uid: str | None) -> Group:
    rules = [
        _Rule(
            name=rule.get("alert") or rule["record"],
            query=str(rule["expr"]),
            duration=seconds(rule.get("for", "0s")),
            labels=rule.get("labels"),
            annotations=rule.get("annotations"),
        )
        for rule in group["rules"]
    ]
    names = frozenset(name for rule in rules for name in rule.labels or {}) - {_OURS}
    return Group(
        name=group["name"],
        uid=uid,
        label_names=names,
        fingerprint=_fingerprint(rules, names),
        expressions=_digest([rule.query for rule in rules]),
    )


def _fingerprint(rules: Sequence[_Rule], label_names: frozenset[str]) -> str:
    told = [
        [
            rule.name,
            rule.duration,
            {key: it for key, it in (rule.labels or {}).items() if key in label_names},
            rule.annotations or {},
        ]
        for rule in rules
    ]
    return _digest(told)


def _digest(told: object) -> str:
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()


def _is_of(file: str, group: Group) -> bool:
    made = _OPERATORS_FILE.fullmatch(file)
    return made is None or group.uid is None or made[1] == group.uid


def seconds(duration: str) -> float:
    """A duration of a PrometheusRule (`1h30m`) in seconds."""
    return float(sum(int(count) * _UNITS[unit] for count, unit in _DURATION.findall(duration)))
