"""Read pods and series for the page and the costs, with the user's own rights."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from embedding_contract import metrics, names
from embedding_operator import errors
from embedding_operator.console import limits, usage
from embedding_operator.console.prometheus import Prometheus
from embedding_operator.kube import client, kinds
from embedding_operator.kube.kinds import Object

THREADS: Final = 8
_KNOWN: Final = frozenset().union(*(metric.series for metric in metrics.SIDECAR))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """Series of sidecars; `failed` has the reason for each pod that did not answer."""

    series: tuple[tuple[usage.Pod, tuple[usage.Sample, ...]], ...]
    failed: tuple[tuple[usage.Pod, str], ...]


def policies(api: client.KubeClient, namespace: str | None) -> list[Object]:
    """The policies; providers with `ref` have type, model, address and price of their class.

    They stay as they are where the user may not read classes.

    Raises:
        errors.OperatorError: policies may not be listed, or the API server does not answer.
    """
    found = api.find(kinds.POLICY, namespace)
    if not any("ref" in it for policy in found for it in policy["spec"]["providers"]):
        return found
    try:
        classes = {it["metadata"]["name"]: it["spec"] for it in api.find(kinds.PROVIDER_CLASS)}
    except errors.Denied:
        return found
    return [completed(it, classes) for it in found]


def completed(policy: Object, classes: Mapping[str, Mapping[str, Any]]) -> Object:
    """A policy with the fields of classes by name, of which `classes` has the specs."""
    providers = [
        it | _of_class(classes[it["ref"]], it) if it.get("ref") in classes else it
        for it in policy["spec"]["providers"]
    ]
    return {**policy, "spec": {**policy["spec"], "providers": providers}}


def _of_class(spec: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    models = [it for it in spec["models"] if entry.get("model") in (None, it["model"])]
    if len(models) != 1:
        return {}
    fields = {key: spec[key] for key in ("type", "baseURL", "region") if key in spec}
    priced = {key: models[0][key] for key in ("pricePerMillionTokens",) if key in models[0]}
    return {**fields, **priced, "model": models[0]["model"]}


def pods(api: client.KubeClient, namespace: str | None) -> list[usage.Pod]:
    """The pods with a sidecar.

    Raises:
        errors.OperatorError: they may not be listed, or the API server does not answer.
    """
    found = api.find(kinds.POD, namespace, selector=names.LABEL_INJECTED)
    return [usage.pod(it) for it in found]


def samples(exposition: bytes) -> tuple[usage.Sample, ...]:
    """The series of a scrape that are in the catalogue.

    Raises:
        ValueError: it is not an exposition.
    """
    families = text_string_to_metric_families(exposition.decode("utf-8"))
    return tuple(
        usage.Sample(name=it.name, labels=it.labels, value=it.value)
        for family in families
        for it in family.samples
        if it.name in _KNOWN
    )


def scrape(api: client.KubeClient, found: Sequence[usage.Pod]) -> Scraped:
    """The series of running pods' sidecars, through the API server's proxy of each pod."""
    running = [it for it in found if it.running]

    def ask(pod: usage.Pod) -> tuple[usage.Sample, ...] | str:
        try:
            body = api.proxied(
                kinds.POD, pod.namespace, f"{pod.name}:{pod.port}", names.PATH_METRICS, query={}
            )
            return samples(body)
        except errors.OperatorError as error:
            return str(error)
        except ValueError:
            return "the answer is not an exposition of metrics"

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(zip(running, threads.map(ask, running), strict=True))
    return Scraped(
        series=tuple((pod, it) for pod, it in answers if not isinstance(it, str)),
        failed=tuple((pod, it) for pod, it in answers if isinstance(it, str)),
    )


def billed(
    prometheus: Prometheus, found: Iterable[usage.Pod], *, namespace: str | None, window: str
) -> list[usage.Tokens]:
    """Tokens billed in a window, counted by Prometheus, ended pods included.

    Raises:
        errors.OperatorError: Prometheus gives no answer.
    """
    workloads = {(it.namespace, it.name): it.workload for it in found}
    selector = "" if namespace is None else f"{{namespace={json.dumps(namespace)}}}"
    expr = (
        "sum by (namespace, policy, workload, pod, provider, model)"
        f" (increase(aos_embedding_tokens_total{selector}[{window}]))"
    )
    return [
        usage.Tokens(
            namespace=labels.get("namespace", ""),
            policy=labels.get("policy", ""),
            workload=labels.get("workload")
            # Only our PodMonitor sets this label.
            or workloads.get((labels.get("namespace", ""), labels.get("pod", "")), usage.ENDED),
            provider=labels.get("provider", ""),
            model=labels.get("model", ""),
            tokens=value,
        )
        for labels, value in prometheus.instant(expr)
    ]


def paces(prometheus: Prometheus, *, namespace: str | None) -> limits.Paces:
    """Units a second that each policy's limits were used by in the last hour.

    Raises:
        errors.OperatorError: Prometheus gives no answer.
    """
    selector = "" if namespace is None else f"{{namespace={json.dumps(namespace)}}}"
    expr = (
        f"max by (namespace, policy, period, unit) (deriv(aos_embedding_quota_used{selector}[1h]))"
    )
    return {
        (
            labels.get("namespace", ""),
            labels.get("policy", ""),
            labels.get("period", ""),
            labels.get("unit", ""),
        ): value
        for labels, value in prometheus.instant(expr)
    }
