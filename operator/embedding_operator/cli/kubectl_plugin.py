"""`kubectl embedding ...`: kubectl runs `kubectl-embedding` from PATH.

kubectl embedding status [NAME] [-n NS | -A]   show the status of policies
kubectl embedding refresh NAME [-n NS]         read a policy's secrets from Vault again, now
kubectl embedding alerts test NAME [-n NS]     send a test alert, and show the result
kubectl embedding rollout [POLICY] [-n NS]     restart workloads whose pods lack today's sidecar
kubectl embedding render FILE [--document]     show the objects of a policy
kubectl embedding secrets migrate|verify ...   the same as `embedding-operator secrets`
kubectl embedding cost [-n NS | -A] [--by ..]  show the cost of billed tokens
kubectl embedding dashboard [-n NS | -A]       open a page in the browser
"""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.cli import alerts_test, preview, rollout, summary
from embedding_operator.console import command as console
from embedding_operator.kube import client, kinds, kubeconfig
from embedding_operator.migration import command

CANNOT = 2

Command = Callable[[argparse.Namespace, client.KubeClient, str], int]


def main() -> int:
    """Run the plugin; the exit code."""
    parser = argparse.ArgumentParser(prog="kubectl embedding", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    where = _where()
    status = commands.add_parser("status", parents=[where], help="show the status of policies")
    status.add_argument("name", nargs="?", metavar="NAME", help="one policy; else all")
    status.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    status.set_defaults(run=_asking(_status))
    refresh = commands.add_parser(
        "refresh", parents=[where], help="read a policy's secrets from Vault again, now"
    )
    refresh.add_argument("name", metavar="NAME")
    refresh.set_defaults(run=_asking(_refresh))
    alerts = commands.add_parser("alerts", help="prove that alerts are delivered")
    verbs = alerts.add_subparsers(required=True, metavar="COMMAND")
    test = verbs.add_parser("test", parents=[where], help="send a test alert of a policy")
    test.add_argument("name", metavar="NAME")
    test.set_defaults(run=_asking(alerts_test.run))
    rollout.add_to(commands, where=where, asking=_asking)
    preview.add_to(commands)
    command.add_to(commands)
    console.add_to(commands, where=where, asking=_asking)
    options = parser.parse_args()
    code: int = options.run(options)
    return code


def _where() -> argparse.ArgumentParser:
    """The flags of kubectl, which it passes to a plugin only after the plugin's name."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("-n", "--namespace", help="else that of the context")
    where.add_argument("--context", help="else the current one")
    where.add_argument("--kubeconfig", help="else as kubectl chooses")
    return where


def _asking(do: Command) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        try:
            api, current = kubeconfig.connect_as_user(options.kubeconfig, options.context)
            return do(options, api, options.namespace or current)
        except errors.OperatorError as error:
            sys.stderr.write(f"error: {error}\n")
            return CANNOT

    return run


def _status(options: argparse.Namespace, api: client.KubeClient, namespace: str) -> int:
    if options.name is not None:
        found = api.get(kinds.POLICY, namespace, options.name)
        if found is None:
            return _nothing(options.name, namespace)
        policies = [found]
    else:
        policies = api.find(kinds.POLICY, None if options.all_namespaces else namespace)
        if not policies:
            where = "any namespace" if options.all_namespaces else f"namespace {namespace}"
            sys.stderr.write(f"There is no {names.KIND} in {where}.\n")
    sys.stdout.write("\n".join(map(summary.text, policies)))
    return 0


def _refresh(options: argparse.Namespace, api: client.KubeClient, namespace: str) -> int:
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    asked = api.annotate(kinds.POLICY, namespace, options.name, {names.ANNOTATION_REFRESH: now})
    if asked is None:
        return _nothing(options.name, namespace)
    sys.stdout.write(f"{namespace}/{options.name}: the operator reads Vault again\n")
    return 0


def _nothing(name: str, namespace: str) -> int:
    sys.stderr.write(f"error: there is no {names.KIND} {name} in namespace {namespace}\n")
    return CANNOT


if __name__ == "__main__":
    sys.exit(main())
