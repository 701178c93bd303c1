"""One round of a generator: cold start, idle, edits, and the same by a bare client."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dev.cluster import records
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Object
from tests.parts import arrivals, charted, estate
from tests.parts.installation import wait
from tests.scale import bare, edits, pods
from tests.scale.figures import Round
from tests.scale.generator import Generator

COLD_SECONDS: Final = 3600
SETTLE_SECONDS: Final = 15
"""Events of the cold start are written after it: until none is in so long a time."""
EVENTS_SECONDS: Final = 600
FIRST_POLL_SECONDS: Final = 60
"""The poll of Vault: the first of each path is cut short, to part those that began together."""
READY: Final = "Ready"


class Readiness(arrivals.Watch):
    """The policies whose condition Ready is True for their present generation."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig, kinds.POLICY)

    def value_of(self, found: Object) -> str | None:
        """READY, or None."""
        status = found.get("status") or {}
        is_ready = any(
            it["type"] == READY and it["status"] == "True" for it in status.get("conditions", ())
        )
        is_of_this = status.get("observedGeneration") == found["metadata"]["generation"]
        return READY if is_ready and is_of_this else None


def measure(wanted: Generator, folder: Path) -> Round:
    """Run one round on a control plane of its own; `folder` holds what else runs for it."""
    with estate.standing(
        folder,
        policies=wanted.policies,
        namespaces=wanted.namespaces,
        secrets_per_policy=wanted.secrets_of_each,
    ) as (built, operator):
        played = pods.Pods(built, folder / "pods", pods_of_each=wanted.pods_of_each)
        try:
            return _measure(wanted, built, operator, played)
        finally:
            played.stop()


def _measure(
    wanted: Generator, built: estate.Estate, operator: charted.Operator, played: pods.Pods
) -> Round:
    if wanted.pods:
        played.enable()
    load, before = os.getloadavg()[0], built.api_asked()
    cold_seconds = _cold(built, operator)
    cold_processor_seconds = operator.processor_seconds()
    cold_requests = built.api_asked().since(before).counts
    _say(f"cold start: {cold_seconds:.1f} s")
    if wanted.pods:
        _say(f"{wanted.pods} pods in force: {played.start():.1f} s")
    _settle(built)
    if wanted.secrets:
        time.sleep(FIRST_POLL_SECONDS)
    before, spent, began = built.api_asked(), operator.processor_seconds(), time.monotonic()
    time.sleep(wanted.idle_seconds)
    idle_seconds = time.monotonic() - began
    idle_processor_seconds = operator.processor_seconds() - spent
    idle_requests = built.api_asked().since(before).counts
    resident_bytes = operator.resident_bytes()
    _say(f"idle: {idle_requests} in {idle_seconds:.0f} s, {idle_processor_seconds:.1f} s of CPU")
    editor = edits.Editor(built)
    edit_seconds = _edited(wanted, built, editor)
    in_force_seconds = played.edit_all(editor) if wanted.pods else None
    if in_force_seconds is not None:
        _say(f"an edit of all in force: {in_force_seconds:.1f} s")
    most_resident_bytes = operator.most_resident_bytes()
    server_resident_bytes = sum(_resident_bytes(it) for it in _servers(built))
    operator.stop()
    client = bare.Bare(built, bare.Made.of(built), workers=operator.workers)
    with client.following():
        bare_edit_seconds = _edited(wanted, built, editor)
    editor.close()
    bare_cold_seconds, bare_cold_requests = client.cold()
    _say(f"bare client: {bare_cold_seconds:.1f} s, {bare_cold_requests} requests")
    return Round(
        load=load,
        cold_seconds=cold_seconds,
        cold_processor_seconds=cold_processor_seconds,
        cold_requests=cold_requests,
        idle_seconds=idle_seconds,
        idle_processor_seconds=idle_processor_seconds,
        idle_requests=idle_requests,
        edit_seconds=edit_seconds,
        resident_bytes=resident_bytes,
        most_resident_bytes=most_resident_bytes,
        server_resident_bytes=server_resident_bytes,
        bare_cold_seconds=bare_cold_seconds,
        bare_cold_requests=bare_cold_requests,
        bare_edit_seconds=bare_edit_seconds,
        in_force_seconds=in_force_seconds,
    )


def _cold(built: estate.Estate, operator: charted.Operator) -> float:
    """Start the operator; seconds until every policy is ready."""
    with _ready(built) as ready:
        began = time.monotonic()
        # The chart's default, which a test of one process turns off.
        operator.start(LEADER_ELECTION="true")
        wait(
            lambda: ready.count() == len(built.policies),
            "all policies Ready",
            timeout_seconds=COLD_SECONDS,
            last=lambda: f"{ready.count()} of {len(built.policies)}\n{operator.log()[-2000:]}",
        )
        return max(it.at for it in ready.last().values()) - began


def _settle(built: estate.Estate) -> None:
    """Wait for the last event of the cold start."""
    ends = time.monotonic() + EVENTS_SECONDS
    while time.monotonic() < ends:
        before = built.api_asked()
        time.sleep(SETTLE_SECONDS)
        if not built.api_asked().since(before).counts.get("create events"):
            return
    raise AssertionError(f"events are still written {EVENTS_SECONDS} s after the cold start")


@contextmanager
def _ready(built: estate.Estate) -> Iterator[Readiness]:
    found = Readiness(built.asked.kubeconfig)
    try:
        yield found
    finally:
        found.close()


def _edited(wanted: Generator, built: estate.Estate, editor: edits.Editor) -> tuple[float, ...]:
    with edits.watched(built.asked.kubeconfig) as documents:
        found = editor.measure(
            documents, a_second=wanted.edits_per_second, seconds=wanted.edit_seconds
        )
    _say(f"edits: {max(found, default=0.0):.2f} s at most, of {len(found)}")
    return tuple(round(it, 4) for it in found)


def _servers(built: estate.Estate) -> list[int]:
    record = records.load(built.cluster)
    if record is None:
        raise AssertionError(f"no record of cluster {built.cluster}")
    return [record.processes[name].pid for name in ("apiserver", "etcd")]


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(it for it in status.splitlines() if it.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
