"""`kubectl embedding rollout`: restart the workloads whose pods lack today's sidecar.

A new pod of each workload is made in a dry run first, so that only workloads are restarted whose
new pods get a sidecar. Kubernetes replaces the pods by the workload's own strategy. Exit codes: 0
done, or nothing to do; 1 a restart failed, or was not agreed to; 2 it cannot be looked at.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from embedding_contract import names
from embedding_operator import errors, terminal
from embedding_operator.cli import rollout_plan
from embedding_operator.injection import coverage, selection
from embedding_operator.kube import client, kinds

DONE, NOT_ALL, CANNOT = 0, 1, 2
_MESSAGE_CHARACTERS: Final = 200
_OPTED_OUT: Final = frozenset({"OptedOut", "NoPolicyMatches", "PolicyNotFound", "MirrorPod"})

Object = Mapping[str, Any]


def add_to(commands: Any, *, where: argparse.ArgumentParser, asking: Any) -> None:
    """Add the command to the plugin's."""
    parser = commands.add_parser(
        "rollout", parents=[where], help="restart workloads whose pods lack today's sidecar"
    )
    parser.add_argument("policy", nargs="?", metavar="POLICY", help="of one policy; else of all")
    parser.add_argument("--dry-run", action="store_true", help="look only")
    parser.add_argument("-y", "--yes", action="store_true", help="restart without a question")
    parser.set_defaults(run=asking(run))


def run(options: argparse.Namespace, api: client.KubeClient, namespace: str) -> int:
    """Look, ask, and restart."""
    policies = api.find(kinds.POLICY, namespace)
    if options.policy is not None:
        named = [it for it in policies if it["metadata"]["name"] == options.policy]
        if not named:
            return _cannot(f"there is no {names.KIND} {options.policy} in namespace {namespace}")
    found = api.get(kinds.NAMESPACE, None, namespace) or {"metadata": {}}
    labels = found["metadata"].get("labels") or {}
    if labels.get(names.LABEL_INJECTION) != selection.ENABLED:
        return _cannot(
            f"namespace {namespace} has no label {names.LABEL_INJECTION}={selection.ENABLED}, so"
            " new pods would get no sidecar"
        )
    rows = _Look(api, namespace, policies, labels).rows(options.policy)
    if not rows:
        sys.stdout.write("All selected pods have today's sidecar.\n")
        return DONE
    sys.stdout.write(rollout_plan.table(rows))
    wanted = [it for it in rows if it.restarts]
    if options.dry_run or not wanted:
        return DONE
    if not options.yes and not _agrees(len(wanted)):
        sys.stdout.write("Nothing is restarted.\n")
        return NOT_ALL
    done = [_restart(api, namespace, it) for it in wanted]
    return DONE if all(done) else NOT_ALL


class _Look:
    """One look at a namespace."""

    def __init__(
        self,
        api: client.KubeClient,
        namespace: str,
        policies: Sequence[Object],
        labels: Mapping[str, str],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._labels = labels
        self._among = selection.candidates(policies)
        self._version = api.version()
        self._since = {
            str(it["metadata"]["name"]): (it.get("status") or {}).get("environmentSince")
            for it in policies
        }
        self._sets: dict[str, tuple[str, str]] = {}

    def rows(self, policy: str | None) -> list[rollout_plan.Row]:
        """The workloads with pods that lack today's sidecar; of one policy, or of all."""
        grouped: dict[tuple[str, str], list[Object]] = {}
        hindered: dict[tuple[str, str, str], list[Object]] = {}
        for pod in self._api.find(kinds.POD, self._namespace):
            if not coverage.is_live(pod):
                continue
            wanted, obstacle = self._policy(pod)
            if wanted is None or policy not in (None, wanted):
                continue
            kind, name = self._owner(pod)
            if obstacle:
                hindered.setdefault((kind, name, obstacle), []).append(pod)
            else:
                grouped.setdefault((kind, name), []).append(pod)
        made = [self._row(kind, name, pods) for (kind, name), pods in grouped.items()]
        made += [
            rollout_plan.other(kind, name, pods, f"cannot carry one: {obstacle}")
            for (kind, name, obstacle), pods in hindered.items()
        ]
        return [it for it in made if it is not None]

    def _policy(self, pod: Object) -> tuple[str | None, str]:
        """The policy that a new pod in place of this one would have, and what hinders it."""
        decision = self._decide(pod)
        if isinstance(decision, selection.Covered):
            return decision.candidate.name, ""
        if decision.reason in _OPTED_OUT or decision.candidate is None:
            return None, ""
        return decision.candidate.name, decision.message

    def _decide(self, pod: Object) -> selection.Decision:
        return selection.decide(
            pod,
            namespace_labels=self._labels,
            among=self._among,
            server_version=self._version,
        )

    def _owner(self, pod: Object) -> tuple[str, str]:
        """Kind and name of the workload of a pod; its own if it has none."""
        for kind, name in rollout_plan.owners(pod):
            if kind != "ReplicaSet":
                return kind, name
            if name not in self._sets:
                found = self._api.get(kinds.REPLICA_SET, self._namespace, name)
                self._sets[name] = (
                    next(rollout_plan.owners(found), (kind, name))
                    if found
                    else (
                        kind,
                        name,
                    )
                )
            return self._sets[name]
        return "Pod", str(pod["metadata"]["name"])

    def _row(self, kind: str, name: str, pods: Sequence[Object]) -> rollout_plan.Row | None:
        if kind not in kinds.WORKLOADS:
            return rollout_plan.other(kind, name, pods)
        workload = self._api.get(kinds.KINDS[kind], self._namespace, name)
        if workload is None:
            return None  # deleted meanwhile
        workload = {**workload, "kind": kind}
        look = self._new_pod(workload)
        return rollout_plan.row(workload, pods, look, environment_since=self._since)

    def _new_pod(self, workload: Object) -> rollout_plan.Look:
        body = rollout_plan.new_pod(workload)
        try:
            made = self._api.dry_run(kinds.POD, self._namespace, body)
        except errors.Denied as error:
            return rollout_plan.Look(None, str(error)[:_MESSAGE_CHARACTERS])
        decision = self._decide(body)
        refusal = "the operator does not answer"
        if isinstance(decision, selection.Skipped):
            refusal = decision.message
        return rollout_plan.Look(made, refusal)


def _agrees(count: int) -> bool:
    what = "this workload" if count == 1 else f"these {count} workloads"
    sys.stdout.write(f"Restart {what}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _restart(api: client.KubeClient, namespace: str, it: rollout_plan.Row) -> bool:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    where = f"{it.kind.lower()}/{it.name}"
    try:
        found = api.annotate_template(
            kinds.KINDS[it.kind],
            namespace,
            it.name,
            {rollout_plan.RESTARTED_AT: now},
            uid=it.uid,
        )
    except errors.OperatorError as error:
        sys.stderr.write(f"{where}: not restarted: {terminal.shown(str(error))}\n")
        return False
    sys.stdout.write(f"{where} {'restarted' if found is not None else 'is gone'}\n")
    return True


def _cannot(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return CANNOT
