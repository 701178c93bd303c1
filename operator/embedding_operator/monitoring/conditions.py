"""Conditions of one policy from answers of Prometheus and Alertmanager: pure.

Nothing depends on the time, so a status is written only when an answer changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from embedding_operator.errors import Problem
from embedding_operator.kube.conditions import Verdict, few
from embedding_operator.monitoring.alertmanager import WELL
from embedding_operator.monitoring.answers import NO_SUCH_API
from embedding_operator.monitoring.rules import Group, Loaded

RULES_LOADED: Final = "RulesLoaded"
SCRAPED: Final = "Scraped"
ALERTMANAGER_READY: Final = "AlertmanagerReady"
NOT_CONFIGURED: Final = "NotConfigured"
NOT_ASKED: Final = "NotAskedYet"
SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """The answers of one Prometheus about one policy.

    An answer is None before the first request, and after a failure, which its `problem` has. `pods`
    are the policy's pods that are targets, and whether they are up. `reloaded` is False after a
    failed reload.
    """

    host: str
    groups: Mapping[str, Loaded] | None = None
    groups_problem: Problem | None = None
    pods: Mapping[str, bool] | None = None
    pods_problem: Problem | None = None
    reloaded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alertmanager:
    """The cluster state of one Alertmanager, or the problem of asking it."""

    host: str
    cluster: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The expected groups; `refused` and `not_selected` are known obstacles."""

    groups: tuple[Group, ...] = ()
    refused: str | None = None
    not_selected: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """The groups of a policy by the best state of each over all servers."""

    loaded: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def rules_loaded(wanted: Rules, servers: Sequence[Prometheus]) -> Verdict:
    """Condition RulesLoaded: a Prometheus has loaded every group, and can evaluate it.

    One server for each group is enough. While a server does not answer, a group missing elsewhere
    is unknown.
    """
    count = len(wanted.groups)
    if not wanted.groups:
        return Verdict("True", "NoRules", "The policy has no alert rules.")
    if not servers:
        return _false(wanted.not_selected) or Verdict(
            "Unknown",
            NOT_CONFIGURED,
            "The chart value monitoring.prometheus names no server to ask.",
        )
    sums = _sums(wanted.groups, servers)
    hosts = ", ".join(it.host for it in servers if it.groups is not None)
    if sums.errors:
        message = f"Evaluation fails in {few(sums.errors)}. Asked: {hosts}."
        return Verdict("False", "EvaluationFailing", message)
    if len(sums.loaded) == count:
        return Verdict("True", "Loaded", f"{count} of {count} rule groups are loaded by {hosts}.")
    lacking = few(
        [*sums.missing, *(f"{name} (an older version)" for name in sums.outdated)], most=SHOWN
    )
    told = f"{len(sums.loaded)} of {count} rule groups are loaded; not loaded: {lacking}"
    return _not_loaded(
        wanted, servers, told=f"{told}. Asked: {hosts}.", some_missing=bool(sums.missing)
    )


def _not_loaded(
    wanted: Rules, servers: Sequence[Prometheus], *, told: str, some_missing: bool
) -> Verdict:
    """The verdict for groups that are not loaded, by the known cause."""
    unasked = _unasked((it.groups_problem, it.groups) for it in servers)
    if wanted.refused is not None:
        message = f"{told} The Prometheus operator refuses the PrometheusRule: {wanted.refused}."
        return Verdict("False", "RuleRefused", message)
    if unasked is not None:
        return Verdict("Unknown", unasked.reason, unasked.message)
    failed = [it.host for it in servers if not it.reloaded]
    if failed:
        message = (
            f"{told} The last reload of {', '.join(failed)} failed, so older rules stay in force;"
            " its log names file and line."
        )
        return Verdict("False", "ReloadFailed", message)
    if some_missing:
        return _false(wanted.not_selected) or Verdict("False", "NotLoaded", told)
    return Verdict("False", "Outdated", told)


def scraped(
    running: Sequence[str],
    servers: Sequence[Prometheus],
    *,
    starting: Iterable[str] = (),
    not_selected: Problem | None = None,
) -> Verdict:
    """Condition Scraped: every running sidecar is a target that is up in some Prometheus.

    `starting` are pods too young to be missed; `not_selected` is the known problem of the
    PodMonitor.
    """
    if not servers and not_selected is None:
        message = "The chart value monitoring.prometheus names no server to ask."
        return Verdict("Unknown", NOT_CONFIGURED, message)
    if not running:
        return Verdict("True", "NoPods", "No sidecar runs yet.")
    states = [
        (pod, [it.pods[pod] for it in servers if it.pods is not None and pod in it.pods])
        for pod in sorted(running)
    ]
    up = [pod for pod, seen in states if any(seen)]
    told = f"Prometheus scrapes {len(up)} of {len(running)} sidecars"
    if len(up) == len(running):
        return Verdict("True", "Up", f"{told}.")
    if (unselected := _false(not_selected)) is not None:
        return unselected
    unasked = _unasked((it.pods_problem, it.pods) for it in servers)
    if unasked is not None:
        return Verdict("Unknown", unasked.reason, unasked.message)
    return _not_scraped(states, told=told, starting=frozenset(starting))


def _not_scraped(
    states: Sequence[tuple[str, list[bool]]], *, told: str, starting: frozenset[str]
) -> Verdict:
    down = [f"{pod} (down)" for pod, seen in states if seen and not any(seen)]
    absent = [pod for pod, seen in states if not seen]
    if not down and starting.issuperset(absent):
        message = f"{told}; the others have just started."
        return Verdict("Unknown", "NotScrapedYet", message)
    named = [*down, *(f"{pod} (no target)" for pod in absent)]
    return Verdict("False", "NotScraped", f"{told}; not scraped: {few(named)}.")


def alertmanager_ready(servers: Sequence[Alertmanager]) -> Verdict:
    """Condition AlertmanagerReady: every Alertmanager answers and its cluster has settled."""
    if not servers:
        message = "The chart value monitoring.alertmanager names no server to ask."
        return Verdict("Unknown", NOT_CONFIGURED, message)
    unasked = _unasked((it.problem, it.cluster) for it in servers)
    if unasked is not None:
        return Verdict("Unknown", unasked.reason, unasked.message)
    unsettled = [f"{it.host} is {it.cluster}" for it in servers if it.cluster not in WELL]
    if unsettled:
        return Verdict("False", "NotSettled", f"{few(unsettled)}.")
    told = [
        f"{it.host} is {'a single instance' if it.cluster == 'disabled' else it.cluster}"
        for it in servers
    ]
    return Verdict("True", "Ready", f"{few(told)}.")


def _sums(groups: Sequence[Group], servers: Sequence[Prometheus]) -> _Sums:
    sums = _Sums()
    for group in groups:
        listed = [(it.groups or {}).get(group.name) for it in servers]
        seen = [it for it in listed if it is not None]
        current = [it for it in seen if it.is_current]
        if current:
            sums.loaded.append(group.name)
            failing = dict.fromkeys(error for it in current for error in it.errors)
            sums.errors.extend(f"{group.name}/{error}" for error in failing)
        else:
            (sums.outdated if seen else sums.missing).append(group.name)
    return sums


def _unasked(answers: Iterable[tuple[Problem | None, object]]) -> Problem | None:
    """The problem of missing answers; None if each server has answered.

    A server without this API, such as a ruler that scrapes nothing, counts only if no other
    answers.
    """
    listed = list(answers)
    problems = [problem for problem, _ in listed if problem is not None]
    if any(answer is not None for _, answer in listed):
        problems = [it for it in problems if it.reason != NO_SUCH_API]
    if problems:
        return Problem(problems[0].reason, f"{few([it.message for it in problems])}.")
    if any(problem is None and answer is None for problem, answer in listed):
        return Problem(
            NOT_ASKED, "The servers of the chart value monitoring have not been asked yet."
        )
    return None


def _false(problem: Problem | None) -> Verdict | None:
    return None if problem is None else Verdict("False", problem.reason, problem.message)
