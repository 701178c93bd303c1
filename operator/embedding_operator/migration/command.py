"""`secrets migrate` and `secrets verify` on the command line.

Exit codes: 0 Vault has every key as the source has it, 1 it has not, 2 the result is unknown: the
command line is wrong, or a server refused or was away.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from embedding_operator import errors, terminal
from embedding_operator.kube import kubeconfig
from embedding_operator.migration import connection, plan, sources, transfer
from embedding_operator.migration.plan import Outcome, Step
from embedding_operator.migration.refusal import Refused
from embedding_operator.migration.sources import Source
from embedding_operator.migration.store import Store

DONE, DIFFERENCE, CANNOT = 0, 1, 2

_WOULD: Final[Mapping[Outcome, str]] = {
    Outcome.WRITTEN: "would be written",
    Outcome.OVERWRITTEN: "would be overwritten",
}


def add_to(commands: Any) -> None:
    """Add `secrets` to a parser's subcommands."""
    secrets = commands.add_parser("secrets", help="copy secrets into Vault, and compare")
    verbs = secrets.add_subparsers(required=True, metavar="COMMAND")
    common = _common()
    migrate = verbs.add_parser(
        "migrate",
        parents=[common],
        allow_abbrev=False,
        help="write keys that Vault lacks, with check-and-set",
    )
    migrate.add_argument("--dry-run", action="store_true", help="write nothing, print the plan")
    migrate.add_argument(
        "--overwrite", action="store_true", help="replace values that differ in Vault"
    )
    migrate.set_defaults(run=_guarded(_migrate))
    verify = verbs.add_parser(
        "verify",
        parents=[common],
        allow_abbrev=False,
        help="compare source and Vault by key name",
    )
    verify.add_argument(
        "--names-only", action="store_true", help="compare the names of keys, read no value"
    )
    verify.set_defaults(run=_guarded(_verify))


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    source = common.add_mutually_exclusive_group(required=True)
    source.add_argument("--from-env", action="store_true", help="this environment; needs --keys")
    source.add_argument("--from-file", metavar="FILE", help="a .env file; - is standard input")
    source.add_argument("--from-secret", metavar="NAMESPACE/NAME", help="a Secret of the cluster")
    common.add_argument("--to", required=True, metavar="MOUNT/PATH", help="where in Vault")
    common.add_argument("--mount", help="which part of --to is the mount; else Vault is asked")
    common.add_argument("--keys", type=_keys, metavar="A,B", help="these keys alone")
    common.add_argument("--kubeconfig", help="for --from-secret; else as kubectl chooses")
    common.add_argument("--context", help="for --from-secret; else the current one")
    return common


def _keys(written: str) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys(key.strip() for key in written.split(",")))
    if not all(keys):
        raise argparse.ArgumentTypeError("must be names, joined by commas")
    return keys


def _migrate(options: argparse.Namespace) -> int:
    source = _source(options)
    store = _store()
    where = store.target(options.to, mount=options.mount)
    done = transfer.migrate(
        store,
        where,
        source,
        keys=options.keys,
        overwrite=options.overwrite,
        dry_run=options.dry_run,
    )
    _print_table(done.steps, told=_WOULD if options.dry_run else {})
    if options.dry_run:
        sys.stdout.write(f"Dry run: nothing was written to {where}.\n")
    elif done.content is None:
        sys.stdout.write(f"Nothing to write to {where}.\n")
    else:
        sys.stdout.write(f"{where} holds the keys as listed above.\n")
    return DONE if plan.settled(done.steps) else DIFFERENCE


def _verify(options: argparse.Namespace) -> int:
    source = _source(options)
    store = _store()
    where = store.target(options.to, mount=options.mount)
    compare = transfer.verify_names if options.names_only else transfer.verify
    found = compare(store, where, source, keys=options.keys)
    _print_table(found)
    same = plan.settled(found)
    sys.stdout.write(
        f"{source.place} and {where} {'agree' if same else 'DIFFER'}"
        f"{'; only names were compared, not values' if options.names_only else ''}.\n"
    )
    return DONE if same else DIFFERENCE


def _source(options: argparse.Namespace) -> Source:
    if options.from_file is not None:
        found = sources.file(options.from_file)
    elif options.from_secret is not None:
        objects, _ = kubeconfig.connect_as_user(options.kubeconfig, options.context)
        found = sources.secret(objects, options.from_secret, options.keys)
    elif options.keys is None:
        raise Refused("--from-env needs --keys: an environment holds far more than secrets")
    else:
        found = sources.environment(os.environb, options.keys)
    if not found.values and options.keys is None:
        raise Refused(f"{found.place} holds no key")
    return found


def _store() -> Store:
    return Store(connection.read(os.environ, home=Path.home()))


def _print_table(steps: Iterable[Step], *, told: Mapping[Outcome, str] | None = None) -> None:
    lines = [
        (terminal.shown(step.key), (told or {}).get(step.outcome, step.outcome)) for step in steps
    ]
    width = max(len("KEY"), *(len(key) for key, _ in lines))
    for key, outcome in [("KEY", "RESULT"), *lines]:
        sys.stdout.write(f"{key:<{width}}  {outcome}\n")


def _guarded(command: Any) -> Any:
    def run(options: argparse.Namespace) -> int:
        try:
            code: int = command(options)
        except errors.OperatorError as error:
            sys.stderr.write(f"error: {error}\n")
            return CANNOT
        except Exception as error:  # noqa: BLE001 - its text may quote a value
            sys.stderr.write("".join(traceback.format_tb(error.__traceback__)))
            sys.stderr.write(f"error: a defect, {type(error).__name__}; its text is withheld\n")
            return CANNOT
        return code

    return run
