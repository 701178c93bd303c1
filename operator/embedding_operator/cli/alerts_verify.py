"""`embedding-operator alerts verify`: check that the rule groups of all policies are loaded now.

Exit codes: 0 every group is loaded and evaluated and every Alertmanager is ready, 1 something is
missing, which is named, 2 the command line is wrong or a server did not answer.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from embedding_operator import errors, terminal
from embedding_operator.cli import preview
from embedding_operator.kube import kinds, kubeconfig
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import Object
from embedding_operator.monitoring import alertmanager, endpoints, rules
from embedding_operator.monitoring.answers import NoAnswer
from embedding_operator.monitoring.connection import Connection
from embedding_operator.monitoring.poller import PARAMETERS, RULES
from embedding_operator.policy import policy
from embedding_operator.render import monitoring

FINE, GAP, CANNOT = 0, 1, 2
WELL: Final = alertmanager.WELL


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The answers: groups by name per Prometheus, states of Alertmanagers by host."""

    loaded: tuple[dict[str, rules.Loaded], ...]
    clusters: dict[str, str]
    unasked: tuple[str, ...]


def add_to(commands: Any) -> None:
    """Add `alerts` to a parser's subcommands."""
    alerts = commands.add_parser("alerts", help="prove that alert rules are loaded")
    verbs = alerts.add_subparsers(required=True, metavar="COMMAND")
    verify = verbs.add_parser("verify", help="compare policies with what Prometheus has loaded")
    verify.add_argument("--expect", type=int, metavar="N", help="the expected number of groups")
    verify.add_argument(
        "--prometheus", action="append", metavar="URL", help="else PROMETHEUS_URL, or --settings"
    )
    verify.add_argument(
        "--alertmanager",
        action="append",
        metavar="URL",
        help="else ALERTMANAGER_URL, or --settings",
    )
    verify.add_argument("--ca-file", type=Path, help="the CA of these URLs, PEM")
    verify.add_argument("--bearer-file", type=Path, help="a file with a token for these URLs")
    verify.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="the servers, in the chart's form; else MONITORING_FILE",
    )
    verify.add_argument(
        "--policies", type=Path, action="append", metavar="FILE", help="else those of the cluster"
    )
    verify.add_argument(
        "--additional",
        action="store_true",
        default=os.environ.get("ADDITIONAL_ALERTS") == "true",
        help="policies may add alerts (chart value alerts.additional)",
    )
    verify.add_argument("-n", "--namespace", help="only policies of this namespace")
    verify.add_argument("--kubeconfig", help="else as kubectl chooses")
    verify.add_argument("--context", help="else the current one")
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    try:
        servers = _servers(options)
        expected = _expected(options)
    except (endpoints.InvalidEndpoints, errors.OperatorError) as error:
        sys.stderr.write(f"error: {error}\n")
        return CANNOT
    seen = asyncio.run(_ask(servers, {group.name: group for group in expected}))
    gaps = list(_gaps(expected, seen, expect=options.expect))
    for line in (*_told(expected, seen), *gaps, *(f"cannot ask: {it}" for it in seen.unasked)):
        sys.stdout.write(f"{terminal.shown(line)}\n")
    if seen.unasked:
        # The server that did not answer may have the missing groups.
        return CANNOT
    return GAP if gaps else FINE


def _servers(options: argparse.Namespace) -> endpoints.Endpoints:
    written = {
        "prometheus": options.prometheus or _listed("PROMETHEUS_URL"),
        "alertmanager": options.alertmanager or _listed("ALERTMANAGER_URL"),
    }
    if not any(written.values()):
        file = options.settings or os.environ.get("MONITORING_FILE")
        if file:
            return _with_prometheus(endpoints.load(Path(file)))
    made = {kind: tuple(_server(url, options) for url in urls) for kind, urls in written.items()}
    return _with_prometheus(endpoints.Endpoints(**made, body_bytes=endpoints.LARGEST_BYTES))


def _with_prometheus(found: endpoints.Endpoints) -> endpoints.Endpoints:
    if not found.prometheus:
        raise endpoints.InvalidEndpoints("no Prometheus to ask: give --prometheus URL")
    return found


def _server(url: str, options: argparse.Namespace) -> endpoints.Endpoint:
    made = endpoints.endpoint(
        url, where=url, ca_file=options.ca_file, bearer_file=options.bearer_file
    )
    endpoints.check_credentials(made, where="--bearer-file", insecure=False)
    return made


def _listed(variable: str) -> list[str]:
    return [it for it in os.environ.get(variable, "").split(",") if it]


def _expected(options: argparse.Namespace) -> tuple[rules.Group, ...]:
    """The groups of all policies that want alerts.

    Raises:
        errors.OperatorError: the policies cannot be read.
    """
    if options.policies:
        namespace = options.namespace or "default"
        read_ones = [
            it for file in options.policies for it in preview.read(file, namespace=namespace)
        ]
        return _groups(read_ones, additional=options.additional, uids={})
    api, _ = kubeconfig.connect_as_user(options.kubeconfig, options.context)
    parsed = preview.for_every_namespace(
        (policy.parse(raw) for raw in api.find(kinds.POLICY, options.namespace)), _classes(api)
    )
    uids: dict[tuple[str, str], str] = {}
    if api.serves(kinds.PROMETHEUS_RULE):
        for it in api.find(kinds.PROMETHEUS_RULE, options.namespace):
            metadata = it["metadata"]
            uids[metadata["namespace"], metadata["name"]] = metadata["uid"]
    return _groups(parsed, additional=options.additional, uids=uids)


def _classes(api: KubeClient) -> list[Object]:
    """The provider classes; none where they are not served, or may not be read."""
    try:
        return api.find(kinds.PROVIDER_CLASS) if api.serves(kinds.PROVIDER_CLASS) else []
    except errors.Denied:
        return []


def _groups(
    policies: Sequence[policy.EmbeddingPolicy],
    *,
    additional: bool,
    uids: dict[tuple[str, str], str],
) -> tuple[rules.Group, ...]:
    found: list[rules.Group] = []
    for wanted in policies:
        told = monitoring.of(wanted, additional_allowed=additional)
        for rule in told.objects if wanted.alerts_enabled else ():
            if rule["kind"] == "PrometheusRule":
                metadata = rule["metadata"]
                metadata["uid"] = uids.get((metadata["namespace"], metadata["name"]))
                found += rules.expected(rule)
    return tuple(found)


async def _ask(servers: endpoints.Endpoints, wanted: dict[str, rules.Group]) -> _Seen:
    loaded: list[dict[str, rules.Loaded]] = []
    clusters: dict[str, str] = {}
    unasked: list[str] = []
    for server in servers.prometheus:
        asks = Connection(server, body_bytes=servers.body_bytes)
        try:
            loaded.append(
                await asks.read(
                    RULES,
                    lambda body: rules.loaded(body, wanted),
                    parameters=PARAMETERS[RULES],
                )
            )
        except NoAnswer as failure:
            unasked.append(failure.message)
    for server in servers.alertmanager:
        asks = Connection(server, body_bytes=servers.body_bytes)
        try:
            clusters[asks.host] = await asks.read(alertmanager.STATUS, alertmanager.cluster)
        except NoAnswer as failure:
            unasked.append(failure.message)
    return _Seen(loaded=tuple(loaded), clusters=clusters, unasked=tuple(unasked))


def _told(expected: Sequence[rules.Group], seen: _Seen) -> Iterator[str]:
    states = [_state(group, seen) for group in expected]
    healthy = states.count("")
    loaded = sum(not it.startswith("not loaded") for it in states)
    yield f"rule groups: {len(expected)} expected, {loaded} loaded, {healthy} healthy"
    for host, state in seen.clusters.items():
        well = " (a single instance, ready)" if state == "disabled" else ""
        yield f"Alertmanager {host}: {state}{well}"
    if not seen.clusters:
        yield "Alertmanager: none is configured"


def _gaps(expected: Sequence[rules.Group], seen: _Seen, *, expect: int | None) -> Iterator[str]:
    for group in expected:
        state = _state(group, seen)
        if state:
            yield f"{group.name}: {state}"
    if expect is not None and len(expected) != expect:
        yield f"--expect says {expect} groups, but the policies have {len(expected)}"
    for host, state in seen.clusters.items():
        if state not in WELL:
            yield f"Alertmanager {host} is not ready: {state}"


def _state(group: rules.Group, seen: _Seen) -> str:
    """The fault of a group; empty without one."""
    found = [it[group.name] for it in seen.loaded if group.name in it]
    current = [it for it in found if it.is_current]
    if not found:
        return "not loaded"
    if not current:
        return "not loaded: Prometheus has an older version"
    errors_told = [error for it in current for error in it.errors]
    return f"not evaluated: {'; '.join(errors_told)}" if errors_told else ""
