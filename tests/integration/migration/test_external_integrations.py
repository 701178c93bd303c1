"""The shipped example: six secrets from a .env by way of Vault to a Secret, step by step."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.parts import operating, sidecar
from tests.parts import vault as real
from tests.parts.kubectl import Kubectl
from tests.parts.migrating import KEYS, MARK, MOUNT, PATH, SIX, TO, Cli

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

EXAMPLE = Path(__file__).parents[3] / "examples" / "external-integrations"
NAMESPACE = "integrations"
SECRET = f"{NAMESPACE}/external-integrations"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[real.Vault]:
    started = real.Vault(tmp_path_factory.mktemp("vault"))
    started.start()
    try:
        real.mount_second_version(started.client(), MOUNT)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def operator(tmp_path_factory, api_server, server) -> Iterator[operating.Operator]:
    folder = tmp_path_factory.mktemp("operator")
    made = operating.Operator(folder, api_server.kubeconfig, server)
    allowed = [{"namespace": NAMESPACE, "mount": MOUNT, "path": PATH}]
    Path(made.environment["VAULT_GUARD_FILE"]).write_text(yaml.safe_dump(allowed), encoding="utf-8")
    # So rarely that only being asked makes it look again.
    made.environment["VAULT_POLL_SECONDS"] = "3600"
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def user(api_server, operator, server, tmp_path) -> Iterator["User"]:
    cli = Cli(tmp_path, address=server.address, token_file=server.token_file)
    made = User(api_server, cli)
    made.kubectl("apply", "-f", str(EXAMPLE / "namespace.yaml"))
    try:
        yield made
    finally:
        made.kubectl("delete", "-f", str(EXAMPLE / "namespace.yaml"))


class User:
    """Somebody who follows the example's README."""

    def __init__(self, kubectl: Kubectl, cli: Cli) -> None:
        self.kubectl = kubectl
        self.cli = cli
        cli.environment["KUBECONFIG"] = str(kubectl.kubeconfig)

    def migrate(self, *more: str) -> tuple[int, dict[str, str]]:
        said = self.cli("migrate", "--from-file", self.cli.home / ".env", "--to", TO, *more)
        return said.code, said.table()

    def wait(self, condition: str) -> None:
        self.kubectl(
            *("wait", "embpol/integrations", "-n", NAMESPACE),
            *(f"--for={condition}", "--timeout=60s"),
        )

    def refresh(self) -> None:
        subprocess.run(
            [
                Path(sys.executable).parent / "kubectl-embedding",
                *("refresh", NAMESPACE, "--namespace", NAMESPACE),
                *("--kubeconfig", str(self.kubectl.kubeconfig)),
            ],
            check=True,
        )

    def secret(self) -> dict[str, str]:
        data = self.kubectl.get("secret", "external-integrations", "-n", NAMESPACE)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_six_secrets_go_from_file_to_secret_that_pods_read(user, operator):
    user.cli.env_file(SIX)
    assert user.migrate("--dry-run") == (0, dict.fromkeys(KEYS, "would be written"))
    assert user.migrate() == (0, dict.fromkeys(KEYS, "written"))
    assert user.migrate() == (0, dict.fromkeys(KEYS, "equal"))
    proof = user.cli("verify", "--from-file", user.cli.home / ".env", "--to", TO)
    assert (proof.code, proof.table()) == (0, dict.fromkeys(KEYS, "equal"))

    user.kubectl("apply", "-f", str(EXAMPLE / "policy.yaml"))
    user.wait("condition=SecretsSynced")
    assert user.secret() == SIX
    proof = user.cli("verify", "--from-secret", SECRET, "--to", TO)
    assert (proof.code, proof.table()) == (0, dict.fromkeys(KEYS, "equal"))

    rotated = {**SIX, "GITHUB_TOKEN": f"{MARK}rotated"}
    user.cli.env_file(rotated)
    assert user.migrate()[0] == 1
    assert user.migrate("--overwrite")[0] == 0
    user.refresh()
    sidecar.wait_until(lambda: user.secret() == rotated)

    said = user.kubectl("get", "events,configmaps,embpol", "-n", NAMESPACE, "-o", "yaml")
    assert MARK not in said + operator.log()


def test_secrets_of_cluster_go_into_vault(user):
    literals = [f"--from-literal={key}={value}" for key, value in SIX.items()]
    user.kubectl("create", "secret", "generic", "by-hand", "-n", NAMESPACE, *literals)
    to = f"{MOUNT}/by-hand"
    arguments = ("--from-secret", f"{NAMESPACE}/by-hand", "--to", to)
    said = user.cli("migrate", *arguments)
    assert (said.code, said.table()) == (0, dict.fromkeys(KEYS, "written"))
    assert user.cli("verify", *arguments, "--keys", KEYS[0]).table() == {KEYS[0]: "equal"}


def test_secret_that_cannot_be_read_is_told(user, api_server):
    said = user.cli("migrate", "--from-secret", f"{NAMESPACE}/nothing", "--to", TO)
    assert (said.code, f"there is no Secret {NAMESPACE}/nothing" in said.error) == (2, True)
    said = user.cli("migrate", "--from-secret", SECRET, "--to", TO, "--context", "nothing")
    assert (said.code, "nothing" in said.error) == (2, True)


def test_examples_template_has_six_names_and_no_value():
    lines = (EXAMPLE / ".env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [f"{key}=" for key in KEYS]
    policy = yaml.safe_load((EXAMPLE / "policy.yaml").read_text(encoding="utf-8"))
    assert [it["key"] for it in policy["spec"]["secrets"][0]["keys"]] == list(KEYS)
