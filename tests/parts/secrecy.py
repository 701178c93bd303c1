"""The secrets of a test's world, and a search for them where they must not be.

The values are taken from where they may stand, so that no test has to tell of its own: every
version of every path of Vault, and every Secret of the cluster.
"""

import base64
import json
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import hvac
from hvac.exceptions import InvalidPath

from tests.parts import kubectl

SHORTEST: Final = 8
"""Characters; what is shorter stands in other words too, and would be found by chance."""
OURS: Final = (
    "embedding-operator",
    "embedding_operator",
    "embedding-sidecar",
    "embedding_sidecar",
    "embedding-vectors",
    "embedding_vectors",
)
_PUBLIC: Final = ("tls.crt", "ca.crt")


class Secrets:
    """Values that must not be seen. Its `repr` shows none."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self.add(*values)

    def add(self, *values: str) -> None:
        """These are secret too."""
        self._values |= {value for value in values if len(value) >= SHORTEST}

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"

    def find(self, places: Iterable[tuple[str, str]]) -> list[str]:
        """The places whose text holds a value, as it is or as it would be written there.

        Raises:
            AssertionError: there is no place, or there is nothing to look for.
        """
        forms = {form for value in self._values for form in _forms(value)}
        assert forms, "there is nothing to look for"
        found, searched = [], 0
        for place, text in places:
            searched += 1
            if any(form in text for form in forms):
                found.append(place)
        assert searched, "there is no place to look at"
        return found


def _forms(value: str) -> set[str]:
    raw = value.encode()
    return {
        value,
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
        urllib.parse.quote(value, safe=""),
        base64.b64encode(raw).decode(),
    }


WRITTEN: Final = Secrets()
"""What the tests of this process have written into the Vaults of tests/parts/vault.py."""

SPOKEN: Final = (
    "events",
    "configmaps",
    "embeddingpolicies",
    "embeddingindexes",
    "clusterembeddingproviders",
    "pods",
    "deployments.apps",
)
"""Kinds in which a test's namespace could show a value."""


# --- where they may stand


def in_vault(client: hvac.Client) -> Iterator[str]:
    """Every value of every version in every key-value engine."""
    for mount, engine in client.sys.list_mounted_secrets_engines()["data"].items():
        if engine["type"] != "kv":
            continue
        versioned = (engine["options"] or {}).get("version") == "2"
        store = client.secrets.kv.v2 if versioned else client.secrets.kv.v1
        for path in _paths(store, mount, ""):
            if versioned:
                yield from _versions(store, mount, path)
            else:
                data = store.read_secret(path, mount_point=mount)["data"]
                yield from map(str, data.values())


def _paths(store: Any, mount: str, folder: str) -> Iterator[str]:
    with suppress(InvalidPath):
        for name in store.list_secrets(folder, mount_point=mount)["data"]["keys"]:
            if name.endswith("/"):
                yield from _paths(store, mount, folder + name)
            else:
                yield folder + name


def _versions(store: Any, mount: str, path: str) -> Iterator[str]:
    metadata = store.read_secret_metadata(path, mount_point=mount)["data"]
    for version in metadata["versions"]:
        with suppress(InvalidPath):  # deleted or destroyed
            read = store.read_secret_version(
                path, version=int(version), mount_point=mount, raise_on_deleted_version=True
            )
            yield from map(str, read["data"]["data"].values())


def in_secrets(asked: kubectl.Kubectl, *scope: str) -> Iterator[str]:
    """Every value of the Secrets of all namespaces (`-A`) or one (`-n`, NAME).

    Helm's own, certificates and URLs of a Redis without a password apart.
    """
    for secret in asked.get("secrets", *scope)["items"]:
        if secret["type"] == "Opaque":
            for key, encoded in (secret.get("data") or {}).items():
                value = base64.b64decode(encoded).decode(errors="replace")
                if key not in _PUBLIC and not _is_open_url(value):
                    yield value


def _is_open_url(value: str) -> bool:
    return value.startswith(("redis://", "rediss://")) and "@" not in value


# --- where they must not


def in_objects(
    asked: kubectl.Kubectl, *scope: str, kinds: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """Every object that is no Secret: of these kinds, or of all that the API server lists."""
    chosen = list(kinds)
    if not chosen:
        listed = asked("api-resources", "--verbs=list", "-o", "name").split()
        chosen = [kind for kind in listed if kind != "secrets"]
    found = asked.get(",".join(chosen), *scope, "--show-managed-fields")
    for item in found["items"]:
        metadata = item["metadata"]
        place = (item["kind"], metadata.get("namespace", ""), metadata["name"])
        yield " ".join(place), json.dumps(item, ensure_ascii=False)


def in_container_logs(asked: kubectl.Kubectl) -> Iterator[tuple[str, str]]:
    """What every container has said, tracebacks and those that were restarted included."""
    for pod in asked.get("pods", "-A")["items"]:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        status = pod["status"]
        for container in (
            *status.get("initContainerStatuses", ()),
            *status.get("containerStatuses", ()),
        ):
            if not container.get("containerID"):
                continue  # it has never run
            command = ("logs", name, "-n", namespace, "-c", container["name"])
            where = f"log of {namespace}/{name}/{container['name']}"
            try:
                yield where, asked(*command)
                if container["restartCount"]:
                    yield f"{where} before its restart", asked(*command, "--previous")
            except kubectl.KubectlError as error:
                if "NotFound" not in error.said:  # the pod has gone meanwhile
                    raise


def in_files(folder: Path) -> Iterator[tuple[str, str]]:
    """What our own processes of this machine have said; Vault prints its root token itself."""
    for file in sorted(folder.rglob("*log")):
        if file.is_file() and file.stem != "vault":
            yield str(file), file.read_text(encoding="utf-8", errors="replace")


def in_arguments() -> Iterator[tuple[str, str]]:
    """The arguments of every process of ours on this machine, in a pod or not."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace")
            program = " ".join(arguments.split("\0")[:3])
            if any(name in program for name in OURS):
                yield f"arguments of {program}", arguments
