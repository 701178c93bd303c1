"""The time to create a pod: injected by nothing, by the webhook and by the policy, in one run.

    python -m tests.benchmarks.admissions [--rounds N] [--page]

One operator serves the webhook and keeps what the policy reads, so that each way has the same
policies. The ways take turns, a dry run each. The pod is one that the youngest policy selects. Then
each way gets pods at a steady rate for itself, by several connections.
"""

import argparse
import os
import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dev import cluster
from embedding_contract import names
from embedding_operator.injection import selection
from tests.benchmarks import page
from tests.parts import admitting, both_ways, injected_pods, pacing, policies
from tests.parts.installation import ROOT, wait
from tests.parts.kubectl import Kubectl

POLICIES: Final = (1, 20, 200)
ROUNDS: Final = 300
WARM: Final = 20
A_SECOND: Final = 50
CONNECTIONS: Final = 8
WAYS: Final = ("none", "webhook", "policy")
IMAGE: Final = "embedding-sidecar:latest"
"""The operator's default."""
CRDS: Final = sorted((ROOT / "crds").glob("*.yaml"))
HEAD: Final = ("pods, policies in the namespace", *(f"{it}, ms" for it in WAYS))


def main() -> None:
    """Measure, print the table, and write it to the page where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.admissions")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--page", action="store_true", help=f"write it into {page.PAGE.name}")
    given = parser.parse_args()
    text = page.table(HEAD, measure(rounds=given.rounds))
    sys.stdout.write(f"{text}\n")
    if given.page:
        command = " ".join(["python -m tests.benchmarks.admissions", *sys.argv[1:]])
        page.write("admissions", text, command=command)


def measure(*, rounds: int) -> list[list[str]]:
    """The rows of the table."""
    name = f"admissions-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        asked = Kubectl(up.kubeconfig)
        for definition in CRDS:
            asked.define(definition)
        with tempfile.TemporaryDirectory() as folder:
            operator = admitting.Operator(asked, Path(folder))
            both_ways.apply(asked, _objects(operator.webhook_port))
            operator.start(INJECTION_BY="policy+webhook", SIDECAR_IMAGE=IMAGE)
            one = both_ways.Admission(asked.kubeconfig)
            several = [both_ways.Admission(asked.kubeconfig) for _ in range(CONNECTIONS)]
            try:
                wait(lambda: admitting.is_trusted(asked), "a trusted authority")
                return [*_measured(one, rounds), *_at_rate(several, rounds)]
            finally:
                operator.stop()
                for it in (one, *several):
                    it.close()
    finally:
        cluster.down(name)


def _namespace(way: str, count: int) -> str:
    return f"{way}-{count}"


def _objects(port: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = both_ways.policy_objects(IMAGE)
    configuration = admitting.configuration(port)
    (hook,) = configuration["webhooks"]
    hook["namespaceSelector"]["matchLabels"]["way"] = "webhook"
    made += [configuration, admitting.service(port)]
    for count in POLICIES:
        for way in WAYS:
            space = _namespace(way, count)
            made += both_ways.namespaces(space, way, {names.LABEL_INJECTION: selection.ENABLED})
            for policy in injected_pods.many_policies(count):
                spec = {**policy["spec"], "providers": [policies.LOCAL]}
                metadata = {"name": policy["metadata"]["name"], "namespace": space}
                made.append({**policy, "metadata": metadata, "spec": spec})
    return made


def _measured(admission: both_ways.Admission, rounds: int) -> list[list[str]]:
    rows = []
    for count in POLICIES:
        selected = injected_pods.pod(
            injected_pods.container(), labels={"team": f"policy-{count - 1}"}
        )
        for way in WAYS[1:]:
            both_ways.wait_until_injected(admission, _namespace(way, count), selected)
        rows.append([f"selected, {count}", *_turns(admission, count, selected, rounds)])
        other = injected_pods.pod(injected_pods.container(), labels={"team": "none"})
        rows.append([f"not selected, {count}", *_turns(admission, count, other, rounds)])
    return rows


def _at_rate(admissions: Sequence[both_ways.Admission], rounds: int) -> list[list[str]]:
    """As many pods, `A_SECOND` of them, of each way in turn."""
    free: queue.SimpleQueue[both_ways.Admission] = queue.SimpleQueue()
    for it in admissions:
        free.put(it)
    rows = []
    for count in POLICIES:
        selected = injected_pods.pod(
            injected_pods.container(), labels={"team": f"policy-{count - 1}"}
        )

        def create(way: str, count: int = count, pod: both_ways.Object = selected) -> float:
            began = time.perf_counter()
            admission = free.get()
            try:
                admission.create(_namespace(way, count), pod)
            finally:
                free.put(admission)
            return time.perf_counter() - began

        taken = [
            pacing.paced(create, [way] * rounds, a_second=A_SECOND, threads=CONNECTIONS)
            for way in WAYS
        ]
        rows.append([f"selected, {count}, {A_SECOND} pods a second", *map(_shown, taken)])
    return rows


def _turns(
    admission: both_ways.Admission, count: int, pod: both_ways.Object, rounds: int
) -> list[str]:
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + WARM):
        for way in WAYS:
            began = time.perf_counter()
            admission.create(_namespace(way, count), pod)
            if number >= WARM:
                taken[way].append(time.perf_counter() - began)
    return [_shown(taken[way]) for way in WAYS]


def _shown(seconds: Sequence[float]) -> str:
    parts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"p50 {parts[49] * 1e3:.1f}, p99 {parts[98] * 1e3:.1f}"


if __name__ == "__main__":
    main()
