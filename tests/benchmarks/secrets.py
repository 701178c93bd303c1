"""`make bench-secrets`: many policies with three synced Secrets each, on a real control plane.

python -m tests.benchmarks.secrets [--policies N] [--page FILE]
"""

import argparse
import datetime as dt
import os
import platform
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.parts import charted, estate
from tests.parts.arrivals import Arrivals, Place
from tests.parts.installation import ROOT, wait

PAGE: Final = ROOT / "docs" / "benchmarks-secrets.md"
POLL_SECONDS: Final = 60
SYNCED_SECONDS: Final = 600
WINDOW_SECONDS: Final = 120
"""Two polls: every path is looked at twice in it, but for the jitter."""
CHANGES: Final = 100
WRITERS: Final = 4
POLICIES_PER_NAMESPACE: Final = 40
HOUR_SECONDS: Final = 3600
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What was asked in a window of time in which nothing changed."""

    seconds: float
    vault: estate.Asked
    vault_by_operator: float
    api: estate.Asked
    processor_seconds: float

    def an_hour(self, count: float) -> float:
        return count * HOUR_SECONDS / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that one run gave; times in seconds, memory in bytes."""

    policies: int
    namespaces: int
    paths: int
    load_before: float
    cold_start_seconds: float
    cold_start_cpu_seconds: float
    cold_start_vault: estate.Asked
    cold_start_api: estate.Asked
    cold_start_reconciles: float
    steady: Steady
    polled: list[float]
    refreshed: list[float]
    resident_bytes: int
    most_resident_bytes: int


def main() -> None:
    """Measure, print the page, and write it where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.secrets")
    parser.add_argument("--policies", type=int, default=2000)
    parser.add_argument("--page", type=Path, help=f"write it there ({PAGE.relative_to(ROOT)})")
    given = parser.parse_args()
    command = " ".join(["python -m tests.benchmarks.secrets", *sys.argv[1:]])
    found = measure(policies=given.policies)
    text = page(found, command=command, today=dt.datetime.now(dt.UTC).date())
    print(text)
    if given.page is not None:
        given.page.write_text(text, encoding="utf-8")


def measure(*, policies: int) -> Measured:
    """Build an estate, let the operator sync it, and look at what that costs."""
    namespaces = -(-policies // POLICIES_PER_NAMESPACE)
    with (
        tempfile.TemporaryDirectory() as folder,
        estate.standing(Path(folder), policies=policies, namespaces=namespaces) as (
            built,
            operator,
        ),
    ):
        return _measure(built, operator)


def _measure(built: estate.Estate, operator: charted.Operator) -> Measured:
    expected, load_before = built.secrets, os.getloadavg()[0]
    vault_before, api_before = built.vault_asked(), built.api_asked()
    with built.watched() as arrivals:
        began = time.monotonic()
        operator.start()
        wait(
            lambda: arrivals.count() == expected,
            "all Secrets",
            timeout_seconds=SYNCED_SECONDS,
            last=lambda: f"{arrivals.count()} of {expected}",
        )
        _say(f"all Secrets are there after {time.monotonic() - began:.1f} s")
        wait(lambda: not built.unsynced(), "all policies", timeout_seconds=SYNCED_SECONDS)
        cold_start_seconds = time.monotonic() - began
        _say(f"all policies say so after {cold_start_seconds:.1f} s")
        cold = {
            "cold_start_seconds": cold_start_seconds,
            "cold_start_cpu_seconds": operator.processor_seconds(),
            "cold_start_reconciles": operator.metric("embedding_operator_reconciles_total"),
        }
        cold_vault = built.vault_asked().since(vault_before)
        cold_api = built.api_asked().since(api_before)
        _say(f"{cold}\n{cold_vault}\n{cold_api}")
        # The first interval of each path is cut short, to part those that began together.
        time.sleep(POLL_SECONDS)
        steady = _steady(built, operator)
        _say(str(steady))
        resident_bytes = operator.resident_bytes()
        chosen = random.sample(built.paths[: -len(built.namespaces)], min(CHANGES, expected // 6))
        polled = _changed(built, arrivals, chosen)
        _say(f"polled {_times(polled)}")
        refreshed = _refreshed(built, arrivals, chosen)
        _say(f"refreshed {_times(refreshed)}")
    return Measured(
        policies=len(built.policies),
        namespaces=len(built.namespaces),
        paths=len(built.paths),
        load_before=load_before,
        **cold,
        cold_start_vault=cold_vault,
        cold_start_api=cold_api,
        steady=steady,
        polled=polled,
        refreshed=refreshed,
        resident_bytes=resident_bytes,
        most_resident_bytes=operator.most_resident_bytes(),
    )


def _steady(built: estate.Estate, operator: charted.Operator) -> Steady:
    name = "embedding_operator_vault_requests_total"
    api_before = built.api_asked()
    vault_before, told = built.vault_asked(), operator.metric(name)
    began, spent = time.monotonic(), operator.processor_seconds()
    time.sleep(WINDOW_SECONDS)
    seconds = time.monotonic() - began
    processor_seconds = operator.processor_seconds() - spent
    vault_since, told = built.vault_asked().since(vault_before), operator.metric(name) - told
    return Steady(
        seconds=seconds,
        vault=vault_since,
        vault_by_operator=told,
        api=built.api_asked().since(api_before),
        processor_seconds=processor_seconds,
    )


def _changed(built: estate.Estate, arrivals: Arrivals, paths: list[Place]) -> list[float]:
    """Seconds from each write to its Secret, by the poll alone."""
    written = []
    for path in paths:
        written.append((path, time.monotonic(), built.write(path)))
        time.sleep(POLL_SECONDS / len(paths))  # in step with no poll
    return [
        arrivals.wait(built.secret_of(path), value, timeout_seconds=2 * POLL_SECONDS) - at
        for path, at, value in written
    ]


def _refreshed(built: estate.Estate, arrivals: Arrivals, paths: list[Place]) -> list[float]:
    """Seconds from each write to its Secret, where the policy is annotated right after it."""

    def one(path: Place) -> float:
        at, value = time.monotonic(), built.write(path)
        built.refresh((path[0], path[1].partition("/")[0]), value)
        return arrivals.wait(built.secret_of(path), value, timeout_seconds=POLL_SECONDS) - at

    with ThreadPoolExecutor(WRITERS) as threads:
        return list(threads.map(one, paths))


def _times(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    median, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {median:.2f} s, p99 {late:.2f} s"


def page(found: Measured, *, command: str, today: dt.date) -> str:
    """The page of documentation."""
    steady, secrets = found.steady, found.policies * estate.SECRETS_PER_POLICY
    vault_hour = steady.an_hour(steady.vault.total)
    api_hour = steady.an_hour(steady.api.total)
    rows = {
        "Cold start of the operator until all is synced": f"{found.cold_start_seconds:.0f} s",
        "Logins to Vault for that": str(_logins(found.cold_start_vault)),
        "Other requests to Vault for that": (
            f"{found.cold_start_vault.total - _logins(found.cold_start_vault):,}"
        ),
        "Requests to the API server for that": f"{found.cold_start_api.total:,}",
        "Requests to Vault in an hour without change": f"{vault_hour:,.0f}",
        "Requests to the API server in an hour without change": (
            f"{api_hour:,.0f} ({api_hour / found.policies:.0f} a policy)"
        ),
        "Writes among these": f"{sum(steady.api.writes.values())}",
        f"Change in Vault to Secret, poll of {POLL_SECONDS} s": _times(found.polled),
        "Change in Vault to Secret, refresh annotation": _times(found.refreshed),
        "Memory of the operator (RSS), and the most of it": (
            f"{found.resident_bytes / MIB:.0f} MiB, {found.most_resident_bytes / MIB:.0f} MiB"
        ),
        "Processor time of the operator: cold start, and without change": (
            f"{found.cold_start_cpu_seconds:.0f} s, "
            f"{steady.processor_seconds / steady.seconds:.0%} of a core"
        ),
    }
    table = "\n".join(f"| {what} | {it} |" for what, it in rows.items())
    return _PAGE.format(
        command=command,
        today=today.isoformat(),
        machine=f"{os.cpu_count()} processors, {_memory_gib():.0f} GiB, {platform.machine()}",
        policies=f"{found.policies:,}",
        secrets=f"{secrets:,}",
        paths=f"{found.paths:,}",
        namespaces=found.namespaces,
        window=f"{steady.seconds:.0f}",
        vault_window=f"{steady.vault.total:,}",
        operator_window=f"{steady.vault_by_operator:,.0f}",
        table=table,
        poll=POLL_SECONDS,
        load=found.load_before,
    )


def _logins(asked: estate.Asked) -> int:
    return asked.counts.get("update_auth_kubernetes", 0)


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_PAGE: Final = """\
# Secrets at scale

Written by `{command}`
on {today}: {machine}, with OpenBao, etcd, the API server and the
controllers on the same machine, whose load average was {load:.1f} when it began.
`make bench-secrets` writes it again.

{policies} policies in {namespaces} namespaces, each with three synced Secrets: {secrets} Secrets
from {paths} paths, as one of a policy's three paths is its namespace's. Vault is asked by
Kubernetes auth, as a ServiceAccount of each namespace; the operator has the chart's settings and
permissions. No pods run, and the Prometheus operator is not installed.

| | |
|---|---|
{table}

"An hour without change" is a window of {window} s times what makes it an hour. In it OpenBao
counted {vault_window} requests by its own telemetry, and the operator {operator_window} by its
metric; the API server's requests are those of its audit log. The window holds no renewal of a
login, of which each namespace makes one or two an hour.

A change waits for the next poll of its path, so with a poll of {poll} s half of all changes need
more than half of that. The annotation `embedding.agenticverz.io/refresh` with a
new value makes the poll immediate.

## Reports of users of the External Secrets Operator

Reported by users elsewhere, on their machines and in their words; **not measured here**, and so not
to be compared figure by figure.

| | |
|---|---|
| 600 ExternalSecrets | 3 minutes for one sync: external-secrets#3258 |
| 1,800 ExternalSecrets, every 15 s | minutes until a change arrives: external-secrets#1336 |
| The cause | a client that throttles itself; QPS and burst of 50/100: external-secrets#4202 |
"""


if __name__ == "__main__":
    main()
