"""The product on a Kubernetes node: images, chart, and its user's commands.

The demo shows it, the node tests prove it.
"""

import base64
import json
import secrets as random_secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dev import cluster
from dev.cluster import images
from embedding_contract import names
from tests.parts import daemons, database, helm, kubectl, neighbours, secrecy

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "self-hosted"
VECTORS_EXAMPLE = ROOT / "examples" / "vectors"
SYSTEM_NAMESPACE = "embedding-system"
LOCAL = "localhost"
"""The first part of images' names that no registry has."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of ours: its name in the cluster and the Dockerfile it comes from."""

    name: str
    dockerfile: Path


SIDECAR = Image("localhost/embedding-sidecar:dev", ROOT / "sidecar" / "Dockerfile")
VECTORS = Image("localhost/embedding-vectors:dev", ROOT / "vectors" / "Dockerfile")
OPERATOR = Image("localhost/embedding-operator:dev", ROOT / "operator" / "Dockerfile")
APPLICATION = Image(
    "localhost/example-application:1", ROOT / "examples" / "application" / "Dockerfile"
)
IMAGES = (SIDECAR, OPERATOR, VECTORS, APPLICATION)


class Installation:
    """One node with everything on it. `folder` keeps logs, keys and which processes run.

    `registry` is the first part of our images' names, `tag` the last of the product's.
    """

    def __init__(
        self, node: cluster.Cluster, folder: Path, *, registry: str = LOCAL, tag: str = "dev"
    ) -> None:
        self.node = node
        self.registry = registry
        self.tag = tag
        self.parts = neighbours.Neighbours(node, folder)
        self.kubectl = kubectl.Kubectl(node.kubeconfig)
        self.helm = helm.Helm(node.kubeconfig)

    # --- the product

    def load_images(self) -> None:
        """Build our images where they changed, and load them into the node."""
        for image in IMAGES:
            archive = images.build(image.name, file=image.dockerfile, context=ROOT)
            images.load(archive, name=self.node.name)

    def install_chart(self, **more: Any) -> None:
        """Install or upgrade the operator, as the README tells a user to; with more values."""
        self._upgrade({**self.values(), **more})

    def _upgrade(self, values: dict[str, Any]) -> None:
        self.helm.upgrade(
            "embedding-operator",
            ROOT / "charts" / "embedding-operator",
            namespace=SYSTEM_NAMESPACE,
            values=values,
        )

    def values(self) -> dict[str, Any]:
        """The chart values of this installation."""
        return values(registry=self.registry, tag=self.tag)

    def enable_vectors(self) -> None:
        """Upgrade it to run pods of indexes in the shop, which is there by now."""
        vectors = {
            "enabled": True,
            "namespaces": ["shop"],
            "image": _image("embedding-vectors", registry=self.registry, tag=self.tag),
        }
        self._upgrade({**self.values(), "vectors": vectors})

    # --- the user

    def apply_example(self, name: str) -> None:
        """kubectl apply -f examples/self-hosted/NAME.yaml, with the image of this registry."""
        text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
        in_registry = f"image: {self.registry}/"
        self.kubectl("apply", "-f", "-", stdin=text.replace(f"image: {LOCAL}/", in_registry))

    def fill_table(self, texts: Sequence[str]) -> None:
        """What the example of vectors has its database's owner do: a table, a role, its Secret."""
        password = self._password()
        self.parts.database.start()
        if not self.parts.database.execute("SELECT 1 FROM pg_database WHERE datname = 'shop'"):
            self.parts.database.execute("CREATE DATABASE shop")
        tables = (VECTORS_EXAMPLE / "table.sql").read_text(encoding="utf-8")
        with self.parts.database.connect("shop") as connection:
            connection.execute(tables.replace("a-password-of-yours", password).encode())
            connection.cursor().executemany(
                "INSERT INTO articles (body) VALUES (%s)", [(it,) for it in texts]
            )
        dsn = f"postgresql://embedding:{password}@postgres.platform.svc.cluster.local/shop"
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "articles-database", "namespace": "shop"},
                "stringData": {"dsn": dsn},
            }
        )

    def apply_index(self) -> None:
        """kubectl apply -f examples/vectors/index.yaml"""
        self.kubectl("apply", "-f", str(VECTORS_EXAMPLE / "index.yaml"))

    def index_status(self, name: str = "articles") -> dict[str, Any]:
        """The status of an index of the shop."""
        found: dict[str, Any] = self.kubectl.get("embidx", name, "-n", "shop").get("status", {})
        return found

    def wait_for_index(
        self, condition: str = "Ready", *, name: str = "articles", expected: str = "True"
    ) -> dict[str, Any]:
        """Until a condition of an index has a status; the whole status then."""
        wait(
            lambda: self.condition(self.index_status(name), condition).get("status") == expected,
            f"{condition} of index {name}",
            timeout_seconds=180,
            last=lambda: json.dumps(self.index_status(name), indent=2),
        )
        return self.index_status(name)

    def _password(self) -> str:
        file = self.parts.folder / "database-password"
        if not file.exists():
            file.write_text(random_secrets.token_urlsafe(16), encoding="utf-8")
        return file.read_text(encoding="utf-8")

    def ask(self, *arguments: str, pod: str = "deployment/search") -> str:
        """Run the application's command in its container; what it prints."""
        program = ("/opt/venv/bin/python", "/application.py")
        return self.kubectl("exec", pod, "-n", "shop", "-c", "search", "--", *program, *arguments)

    def ask_and_fail(self, *arguments: str, pod: str = "deployment/search") -> str:
        """As `ask`, for a call that is refused: what the SDK says of it."""
        try:
            answer = self.ask(*arguments, pod=pod)
        except kubectl.KubectlError as error:
            return error.said
        raise AssertionError(f"expected a refusal, got {answer}")

    def sidecar(self, page: str, *, pod: str = "deployment/search") -> dict[str, Any]:
        """GET /api/v1/embedding/PAGE of a sidecar, with the policy's API token."""
        token = self.owned_secret()["api-token"]
        url = f"http://127.0.0.1:8484/api/v1/embedding/{page}"
        code = (
            "import sys, urllib.request as r; "
            f"q = r.Request({url!r}, headers={{'Authorization': 'Bearer ' + sys.stdin.read()}}); "
            "print(r.urlopen(q).read().decode())"
        )
        command = ("exec", "-i", pod, "-n", "shop", "-c", "search", "--")
        page_text = self.kubectl(*command, "/opt/venv/bin/python", "-c", code, stdin=token)
        parsed: dict[str, Any] = json.loads(page_text)
        return parsed

    def owned_secret(self, policy: str = "search") -> dict[str, str]:
        """The decoded entries of a policy's owned Secret."""
        data = self.kubectl.get("secret", names.owned_secret(policy), "-n", "shop")["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def wait_for_secret(self, key: str, value: str) -> None:
        """Until the owned Secret holds this value."""
        wait(lambda: self.owned_secret().get(key) == value, f"{key} in the owned Secret")

    def status(self, name: str = "search") -> dict[str, Any]:
        """The status of a policy of the shop."""
        found: dict[str, Any] = self.kubectl.get("embpol", name, "-n", "shop").get("status", {})
        return found

    def wait_for_status(
        self, check: Callable[[dict[str, Any]], object], *, name: str = "search"
    ) -> dict[str, Any]:
        """Until the status satisfies `check`; that status."""
        wait(lambda: check(self.status(name)), f"status of {name}", last=lambda: self.status(name))
        return self.status(name)

    def wait_for_policy(
        self, condition: str, *, name: str = "search", expected: str = "True"
    ) -> dict[str, Any]:
        """Until a condition has a status; the whole status then."""

        def holds(status: dict[str, Any]) -> bool:
            return bool(status) and self.condition(status, condition).get("status") == expected

        return self.wait_for_status(holds, name=name)

    @staticmethod
    def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
        """The condition of this type; empty where there is none yet."""
        found = [entry for entry in status.get("conditions", []) if entry["type"] == kind]
        return found[0] if found else {}

    # --- what was written, for the search after all of it

    def secrets(self) -> secrecy.Secrets:
        """Every value that is secret here, or was once."""
        found = secrecy.Secrets(secrecy.in_vault(self.parts.vault()))
        found.add(*secrecy.in_secrets(self.kubectl, "-A"), *self.parts.accepted())
        found.add(self.parts.token_file.read_text(encoding="utf-8"))
        return found

    def everything_written(self) -> Iterator[tuple[str, str]]:
        """Place and text of all objects but Secrets, of all logs, and of processes' arguments."""
        yield from secrecy.in_objects(self.kubectl, "-A")
        yield from secrecy.in_container_logs(self.kubectl)
        yield from secrecy.in_files(self.parts.folder)
        yield from secrecy.in_arguments()

    def audit(self, user_prefix: str) -> list[dict[str, Any]]:
        """What the API server noted of the requests of these users."""
        if self.node.log is None:
            raise AssertionError("this cluster keeps no audit log")
        log = self.node.log / "audit.log"
        entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        found = [entry for entry in entries if entry["user"]["username"].startswith(user_prefix)]
        if not found:
            raise AssertionError(f"the audit log names no user {user_prefix}*")
        return found


def values(*, registry: str = LOCAL, tag: str = "dev") -> dict[str, Any]:
    """The chart values of the demo and the node tests."""
    return {
        "image": _image("embedding-operator", registry=registry, tag=tag),
        "sidecarImage": _image("embedding-sidecar", registry=registry, tag=tag),
        "vault": {
            "address": "http://vault.platform.svc.cluster.local:8200",
            "allowInsecureHTTP": True,
            "pollSeconds": 2,
            "allowed": [
                {"namespace": "shop", "mount": "secret", "path": "{{namespace}}/*"},
                {
                    "namespace": "integrations",
                    "mount": "agenticverz",
                    "path": "external-integrations",
                },
            ],
        },
        "rollouts": {"enabled": True},
    }


def _image(name: str, *, registry: str, tag: str) -> dict[str, str]:
    return {"repository": f"{registry}/{name}", "tag": tag}


def application_pod(
    name: str, *, namespace: str = "shop", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """A bare pod of the example's application."""
    text = (EXAMPLES / "application.yaml").read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": labels or {"embeddings": "search", "app": name},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def remove(folder: Path) -> None:
    """End what runs for an installation's folder, and delete it."""
    if folder.exists():
        daemons.Daemons(folder).stop()
        database.remove(folder)
        shutil.rmtree(folder)


def wait(
    check: Callable[[], object],
    what: str,
    *,
    timeout_seconds: float = 90,
    last: Callable[[], object] = str,
) -> None:
    """Until `check` holds.

    Raises:
        AssertionError: it did not in time; the text ends with what `last` gives.
    """
    deadline = time.monotonic() + timeout_seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {timeout_seconds:.0f} s\n{last()}")
        time.sleep(0.2)
