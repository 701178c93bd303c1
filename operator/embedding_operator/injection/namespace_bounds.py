"""Fit the sidecar's resources into a namespace's LimitRanges and ResourceQuotas: pure.

Otherwise the API server would refuse a pod because of its sidecar that it accepts without it.
The rules are those of the plugins LimitRanger and ResourceQuota of kube-apiserver.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final, Literal, get_args

from embedding_operator.kube import quantities

Object = Mapping[str, Any]
Reason = Literal["LimitRange", "ResourceQuota"]

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
LEAST: Final[Mapping[str, str]] = {"cpu": "50m", "memory": "128Mi"}
"""The limits below which the sidecar does not run: with its 32 MiB of vectors it stays below
128 MiB (values.yaml), and with less CPU its start outlasts its startup probe."""
_KINDS: Final = ("requests", "limits")
_MILLI: Final = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    """The pod with a sidecar would be refused; `message` is for the namespace's author."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The LimitRanges and ResourceQuotas of a namespace, as objects of the API."""

    limit_ranges: Sequence[Object] = ()
    quotas: Sequence[Object] = ()

    @property
    def limits(self) -> list[Object]:
        """The items of all LimitRanges."""
        return [item for each in self.limit_ranges for item in each["spec"].get("limits") or ()]


UNBOUNDED: Final = Bounds()
"""Those of a namespace without any."""


def fit(amounts: Object, *, chart: Object, spec: Object, bounds: Bounds) -> Object | DoesNotFit:
    """The sidecar's requests and limits in this pod, as the namespace permits them, or why not.

    `amounts` are those of `resources.fit`; those of the chart complete them where a quota wants an
    amount that they lack. Equal requests and limits stay equal, and a pod that has a budget of its
    own (`spec.resources`) keeps the sidecar without any.
    """
    if spec.get("resources"):
        return amounts
    ranged = _ranged(amounts, spec=spec, items=bounds.limits)
    if isinstance(ranged, DoesNotFit):
        return ranged
    for quota in bounds.quotas:
        if _applies(quota["spec"], spec):
            completed = _completed(ranged, chart=chart, quota=quota)
            if isinstance(completed, DoesNotFit):
                return completed
            ranged = completed
            if (shortage := _shortage(ranged, spec=spec, quota=quota)) is not None:
                return shortage
    return ranged


def fit_any(amounts: Object, *, chart: Object, bounds: Bounds) -> Object | DoesNotFit:
    """The same for all pods of the namespace, whose own amounts are not known.

    Where a LimitRange bounds whole pods no sidecar fits. A quota must have room for a sidecar.
    """
    if any(it.get("type") == "Pod" and it.get("max") for it in bounds.limits):
        return DoesNotFit("LimitRange", "a LimitRange bounds whole pods")
    return fit(amounts, chart=chart, spec={"containers": ()}, bounds=bounds)


# --- LimitRange


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """The bounds of one resource of a container, by all LimitRanges of a namespace."""

    least: Decimal | None
    most: Decimal | None
    ratio: Decimal | None
    limit: str | None
    request: str | None


def _ranged(amounts: Object, *, spec: Object, items: Sequence[Object]) -> Object | DoesNotFit:
    if not items:
        return amounts
    limits, requests = dict(amounts.get("limits") or {}), dict(amounts.get("requests") or {})
    fixed = bool(limits) and limits == requests
    for name in ("cpu", "memory", "ephemeral-storage"):
        made = _bounded(
            name,
            request=requests.get(name),
            limit=limits.get(name),
            within=_range(items, name, spec),
        )
        if isinstance(made, DoesNotFit):
            return made
        request, limit = made
        if limit is not None:
            limits[name] = limit
        if request is not None:
            requests[name] = limit if fixed and limit is not None else request
    return {kind: it for kind, it in (("requests", requests), ("limits", limits)) if it}


def _range(items: Sequence[Object], name: str, spec: Object) -> _Range:
    def named(kind: str, of: str) -> list[str]:
        found = (item.get(kind) or {} for item in items if item.get("type") == of)
        return [it[name] for it in found if name in it]

    def amounts(kind: str, of: str) -> list[Decimal]:
        return [quantities.amount(it) for it in named(kind, of)]

    # The sidecar comes first and runs on, so it adds to whatever else counts in the pod.
    rest = [it - _total(spec, "limits", name) for it in amounts("max", "Pod")]
    # A sum keeps a ratio that each of its parts keeps.
    ratios = [
        it for of in ("Container", "Pod") for it in amounts("maxLimitRequestRatio", of) if it > 0
    ]
    return _Range(
        least=max(amounts("min", "Container"), default=None),
        most=min([*amounts("max", "Container"), *rest], default=None),
        ratio=min(ratios, default=None),
        limit=next(iter(named("default", "Container")), None),
        request=next(iter(named("defaultRequest", "Container")), None),
    )


def _bounded(
    name: str, *, request: str | None, limit: str | None, within: _Range
) -> tuple[str | None, str | None] | DoesNotFit:
    """Request and limit within the bounds, each in its own words where it need not change."""
    # The API server would complete them so: a limit is the request too.
    request = request or limit or within.request or within.limit
    limit = limit or within.limit
    wanted = None if request is None else quantities.amount(request)
    top = None if limit is None else quantities.amount(limit)
    if within.most is not None:
        top = within.most if top is None else min(top, within.most)
    if within.least is not None:
        wanted = max(wanted or within.least, within.least)
        top = None if top is None else max(top, within.least)
    if top is None and within.ratio is not None and wanted is not None:
        top = wanted * within.ratio
    if top is not None:
        wanted = top if wanted is None else min(wanted, top)
        if within.ratio is not None:
            wanted = max(wanted, top / within.ratio)
        least = max(within.least or 0, quantities.amount(LEAST.get(name, "0")))
        if within.most is not None and within.most < least:
            left = _text(name, max(within.most, Decimal(0)), ROUND_FLOOR)
            needed = _text(name, Decimal(least), ROUND_CEILING)
            return DoesNotFit(
                "LimitRange", f"a LimitRange leaves {left} of {name}, and a sidecar needs {needed}"
            )
    return (
        _said(name, wanted, before=request, rounding=ROUND_CEILING),
        _said(name, top, before=limit, rounding=ROUND_FLOOR),
    )


def _said(name: str, value: Decimal | None, *, before: str | None, rounding: str) -> str | None:
    if value is None:
        return None
    if before is not None and quantities.amount(before) == value:
        return before
    return _text(name, value, rounding)


def _text(name: str, value: Decimal, rounding: str) -> str:
    if name == "cpu":
        return f"{int((value / _MILLI).to_integral_value(rounding))}m"
    return str(int(value.to_integral_value(rounding)))


# --- ResourceQuota


def _completed(amounts: Object, *, chart: Object, quota: Object) -> Object | DoesNotFit:
    """The amounts with those that a quota wants of every container, from the chart."""
    made = {kind: dict(amounts.get(kind) or {}) for kind in _KINDS}
    for counted in quota["spec"].get("hard") or {}:
        kind, name = _counts(counted)
        if name and name not in made[kind] and not (kind == "requests" and name in made["limits"]):
            default = (chart.get(kind) or {}).get(name)
            if default is None:
                return DoesNotFit(
                    "ResourceQuota",
                    f"ResourceQuota {quota['metadata']['name']} counts {counted},"
                    " of which the sidecar has none",
                )
            made[kind][name] = default
            if name in made["requests"] and kind == "limits":
                smaller = min((default, made["requests"][name]), key=quantities.amount)
                made["requests"][name] = smaller
    return {kind: named for kind, named in made.items() if named}


def _shortage(amounts: Object, *, spec: Object, quota: Object) -> DoesNotFit | None:
    """The refusal of a quota that admits the pod alone and not with the sidecar; else None."""
    status = quota.get("status") or {}
    used = status.get("used") or {}
    for counted, hard in (status.get("hard") or {}).items():
        kind, name = _counts(counted)
        if not name:
            continue
        own = (amounts.get(kind) or {}).get(name)
        added = quantities.amount(own or (amounts.get("limits") or {}).get(name, 0))
        left = quantities.amount(hard) - quantities.amount(used.get(counted, 0))
        alone = _total(spec, kind, name)
        if alone <= left < alone + added:
            return DoesNotFit(
                "ResourceQuota",
                f"ResourceQuota {quota['metadata']['name']} admits the pod, and not"
                f" {_text(name, added, ROUND_CEILING)} of {counted} more",
            )
    return None


def _counts(counted: str) -> tuple[str, str]:
    """The kind and name of an amount that a quota counts; no name for anything else."""
    kind, dot, name = counted.partition(".")
    if not dot:
        kind, name = "requests", counted
    known = kind in _KINDS and name in ("cpu", "memory", "ephemeral-storage")
    return (kind, name) if known else ("", "")


def _applies(quota: Object, spec: Object) -> bool:
    """True if a quota counts this pod with a sidecar; its class of priority is compared by name."""
    selector = (quota.get("scopeSelector") or {}).get("matchExpressions") or ()
    wanted = [
        *({"scopeName": it, "operator": "Exists"} for it in quota.get("scopes") or ()),
        *selector,
    ]
    return all(_in_scope(it, spec) for it in wanted)


def _in_scope(expression: Object, spec: Object) -> bool:
    scope, operator = expression["scopeName"], expression["operator"]
    if scope == "PriorityClass":
        own = spec.get("priorityClassName")
        named = own in (expression.get("values") or ())
        return {
            "In": named,
            "NotIn": not named,
            "Exists": bool(own),
            "DoesNotExist": not own,
        }.get(operator, False)
    ends = spec.get("activeDeadlineSeconds") is not None
    # With a sidecar that has requests or limits no pod is of the class BestEffort.
    return {"NotBestEffort": True, "Terminating": ends, "NotTerminating": not ends}.get(
        scope, False
    )


# --- the pod without the sidecar


def _total(spec: Object, kind: str, name: str) -> Decimal:
    """The sum of a resource over the pod's containers, as LimitRanger counts it."""
    running = sum((_own(it, kind, name) for it in spec["containers"]), Decimal(0))
    beside, most = Decimal(0), Decimal(0)
    for container in spec.get("initContainers") or ():
        own = _own(container, kind, name)
        if container.get("restartPolicy") == "Always":
            running += own
            beside += own
            most = max(most, beside)
        else:
            most = max(most, beside + own)
    return max(running, most)


def _own(container: Object, kind: str, name: str) -> Decimal:
    resources = container.get("resources") or {}
    found = (resources.get(kind) or {}).get(name)
    if found is None and kind == "requests":
        found = (resources.get("limits") or {}).get(name)
    return Decimal(0) if found is None else quantities.amount(found)
