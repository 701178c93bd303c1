"""`embedding-operator render`: print every object of a policy, without a cluster."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.policy import classes, crd_schema, policy
from embedding_operator.policy.reference import Literal, Reference
from embedding_operator.render import configmaps, monitoring, secret_contents, secrets


def add_to(commands: Any) -> None:
    """Add `render` to a parser's subcommands."""
    render = commands.add_parser("render", help="print every object of a policy")
    render.add_argument("file", type=Path, metavar="FILE")
    shown = render.add_mutually_exclusive_group()
    shown.add_argument("--document", action="store_true", help="only the sidecar's document")
    shown.add_argument("--rules", action="store_true", help="only the alerts, as a rule file")
    render.add_argument("-n", "--namespace", default="default", help="where the file names none")
    render.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        policies = read(options.file, namespace=options.namespace)
        if options.document:
            shown = documents(policies)
        else:
            shown = rule_file(policies) if options.rules else objects(policies)
    except errors.InvalidPolicy as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(shown)
    return 0


def read(file: Path, *, namespace: str) -> list[policy.EmbeddingPolicy]:
    """The policies of a YAML file, completed by the ClusterEmbeddingProviders in it.

    The file does not say how namespaces are labelled, so each policy may use each of them.

    Raises:
        errors.InvalidPolicy: the file holds none, or one is not valid.
    """
    try:
        objects = [it for it in yaml.safe_load_all(file.read_text(encoding="utf-8")) if it]
    except OSError as error:
        raise errors.InvalidPolicy(str(file), str(error.strerror)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.InvalidPolicy(str(file), f"is not YAML: {error}") from None
    if not objects:
        raise errors.InvalidPolicy(str(file), "holds no object")
    admitted = [crd_schema.admit(it) for it in objects]
    found = [it for it in admitted if it["kind"] == names.CLASS_KIND]
    wanted = [_policy(it, namespace=namespace) for it in admitted if it["kind"] == names.KIND]
    return for_every_namespace(wanted, found)


def for_every_namespace(
    policies: Iterable[policy.EmbeddingPolicy], found: Iterable[Mapping[str, Any]]
) -> list[policy.EmbeddingPolicy]:
    """The policies, completed by these classes wherever they are."""
    by_name = {
        it["metadata"]["name"]: {**it, "spec": {**it["spec"], "namespaceSelector": {}}}
        for it in found
    }
    return [
        classes.resolve(
            wanted,
            classes.Classes(namespace=wanted.namespace, labels=None, find=by_name.get),
        )
        for wanted in policies
    ]


def documents(policies: list[policy.EmbeddingPolicy]) -> str:
    """The sidecars' documents."""
    return "".join(document.dump(policy.to_document(wanted)) for wanted in policies)


def rule_file(policies: list[policy.EmbeddingPolicy]) -> str:
    """Alerts and recording rules of all policies as one rule file of Prometheus.

    Raises:
        errors.InvalidPolicy: an alert that a policy adds is refused.
    """
    groups = []
    for wanted in policies:
        told = monitoring.of(wanted, additional_allowed=True)
        for problem in told.problems:
            raise errors.InvalidPolicy(f"{wanted.namespace}/{wanted.name}", problem.message)
        for made in told.objects if wanted.alerts_enabled else ():
            groups += made["spec"].get("groups", [])
    return yaml.safe_dump({"groups": groups}, sort_keys=False)


def objects(policies: list[policy.EmbeddingPolicy]) -> str:
    """All objects as YAML in the order of their application; secrets are placeholders."""
    rendered = [made for wanted in policies for made in _objects(wanted)]
    return yaml.safe_dump_all(rendered, sort_keys=False)


def _policy(admitted: dict[str, Any], *, namespace: str) -> policy.EmbeddingPolicy:
    admitted["metadata"].setdefault("namespace", namespace)
    return policy.parse(admitted)


def _objects(wanted: policy.EmbeddingPolicy) -> list[dict[str, Any]]:
    values = {key: f"<{_told(it)}>".encode() for key, it in policy.references(wanted).items()}
    values[names.SECRET_API_TOKEN] = b"<a random token>"
    values[names.SECRET_CACHE_KEY] = b"<a random key>"
    made = [
        configmaps.environment(wanted),
        _readable(secrets.of(wanted, names.owned_secret(wanted.name), values)),
        configmaps.policy_document(wanted, policy.to_document(wanted)),
    ]
    for entry in wanted.secrets:
        where = f"{entry.mount}/{entry.path}"
        keys = entry.keys or {"*": "*"}
        held = {name: f"<key {key} of Vault path {where}>".encode() for key, name in keys.items()}
        if entry.templates is not None:
            secret_contents.check(entry)
            texts = {key: text.encode() for key, text in entry.templates.items()}
            held = {**(held if entry.merges else {}), **texts}
        made.append(_readable(secrets.of_entry(wanted, entry, held)))
    if wanted.alerts_enabled:
        made += monitoring.of(wanted, additional_allowed=True).objects
    return made


def _readable(secret: dict[str, Any]) -> dict[str, Any]:
    """A Secret with readable placeholders."""
    values = secrets.decode(secret)
    rest = {key: it for key, it in secret.items() if key != "data"}
    return {**rest, "stringData": {key: it.decode() for key, it in values.items()}}


def _told(reference: Reference) -> str:
    return reference.value if isinstance(reference, Literal) else str(reference)
