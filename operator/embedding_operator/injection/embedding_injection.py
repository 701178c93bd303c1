"""The EmbeddingInjection of a namespace: what the API server needs to inject by itself: pure.

It holds the policies in the order of `selection`, the oldest first, as the API server keeps no
order of its own among objects that it reads as parameters.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from embedding_contract import names
from embedding_operator.injection import injector, namespace_bounds, resources, selection

Object = Mapping[str, Any]


def of(
    namespace: str,
    candidates: Sequence[selection.Candidate],
    *,
    sidecar: injector.Sidecar,
    within: namespace_bounds.Bounds = namespace_bounds.UNBOUNDED,
) -> dict[str, Any]:
    """The object for the policies of a namespace with these LimitRanges and ResourceQuotas."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.INJECTION_KIND,
        "metadata": {
            "name": names.INJECTION_NAME,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        "spec": {
            "sidecar": _sidecar(sidecar),
            "policies": [_policy(it, sidecar, within) for it in selection.by_age(candidates)],
        },
    }


def digest(spec: Object) -> str:
    """Equal for equal specs."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def selectors(spec: Object) -> dict[str, str]:
    """A digest of the podSelector of each policy, by name."""
    return {it["name"]: digest(it["podSelector"]) for it in spec["policies"]}


def normal_selector(selector: Object) -> dict[str, Any]:
    """A podSelector without empty parts, as it is written here."""
    labels, expressions = selector.get("matchLabels"), selector.get("matchExpressions")
    return {
        **({"matchLabels": dict(labels)} if labels else {}),
        **({"matchExpressions": [_requirement(it) for it in expressions]} if expressions else {}),
    }


def _requirement(written: Object) -> dict[str, Any]:
    return {
        "key": written["key"],
        "operator": written["operator"],
        "values": list(written.get("values") or ()),
    }


def _sidecar(sidecar: injector.Sidecar) -> dict[str, Any]:
    collector = sidecar.otel_endpoint
    return {
        "imagePullPolicy": sidecar.pull_policy,
        **({} if collector is None else {"otelEndpoint": collector}),
        **({"pullSecrets": list(sidecar.pull_secrets)} if sidecar.pull_secrets else {}),
        **_written(_amounts(sidecar.resources, sidecar)),
    }


def _policy(
    candidate: selection.Candidate, sidecar: injector.Sidecar, within: namespace_bounds.Bounds
) -> dict[str, Any]:
    amounts: Mapping[str, Object] = {}
    if candidate.resources is not None or within != namespace_bounds.UNBOUNDED:
        amounts = _amounts(injector.written(sidecar, candidate), sidecar)
    fitted = {
        name: namespace_bounds.fit_any(it, chart=sidecar.resources, bounds=within)
        for name, it in amounts.items()
    }
    refused = [it for it in fitted.values() if isinstance(it, namespace_bounds.DoesNotFit)]
    return {
        "name": candidate.name,
        "hash": injector.sidecar_hash(sidecar, candidate),
        "podSelector": normal_selector(candidate.pod_selector),
        **({"identity": True} if candidate.has_identity else {}),
        **({"skipped": refused[0].reason} if refused else _written(fitted)),
    }


def _amounts(written: Object, sidecar: injector.Sidecar) -> dict[str, Object]:
    """The sidecar's resources in an ordinary pod, and in one of QoS class Guaranteed."""
    return {
        "resources": resources.ordinary(written),
        "guaranteed": resources.guaranteed(written, chart=sidecar.resources),
    }


def _written(fitting: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            kind: {resource: str(quantity) for resource, quantity in named.items()}
            for kind, named in amounts.items()
        }
        for name, amounts in fitting.items()
    }
