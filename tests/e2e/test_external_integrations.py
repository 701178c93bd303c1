"""The example's last step: six secrets in the environment of an application's process."""

import json
from pathlib import Path

import pytest

from tests.parts import installation
from tests.parts.migrating import KEYS, MARK, MOUNT, PATH, SIX, TO, Cli

pytestmark = pytest.mark.node

EXAMPLE = installation.ROOT / "examples" / "external-integrations"
NAMESPACE = "integrations"
MAY_READ = "\n".join(
    f'path "{MOUNT}/{api}/{PATH}" {{ capabilities = ["read"] }}' for api in ("data", "metadata")
)


def administer(product: installation.Installation) -> None:
    """What the README has an administrator do once."""
    client = product.parts.vault()
    client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    client.sys.create_or_update_policy(NAMESPACE, MAY_READ)
    client.auth.kubernetes.create_role(
        NAMESPACE,
        bound_service_account_names=["embedding-vault"],
        bound_service_account_namespaces=[NAMESPACE],
        audience="vault",
        policies=[NAMESPACE],
        ttl="1h",
    )


@pytest.fixture
def cli(installed: installation.Installation, tmp_path: Path) -> Cli:
    address = f"http://{installed.parts.host}:8200"
    return Cli(tmp_path, address=address, token_file=installed.parts.token_file)


def test_six_secrets_go_from_file_to_environment_of_pod(installed, cli):
    administer(installed)
    file = cli.env_file(SIX)
    assert cli("migrate", "--from-file", file, "--to", TO).code == 0
    assert cli("verify", "--from-file", file, "--to", TO).code == 0

    for name in ("namespace", "policy", "application"):
        installed.kubectl("apply", "-f", str(EXAMPLE / f"{name}.yaml"))
    installed.kubectl(
        *("rollout", "status", "deployment/notifier", "-n", NAMESPACE, "--timeout=120s"),
        timeout=150,
    )
    names = (*KEYS, "GH_TOKEN")
    program = f"import json, os; print(json.dumps([os.environ[name] for name in {names}]))"
    said = installed.kubectl(
        *("exec", "deployment/notifier", "-n", NAMESPACE, "-c", "notifier", "--"),
        *("/opt/venv/bin/python", "-c", program),
    )
    assert json.loads(said) == [*SIX.values(), SIX["GITHUB_TOKEN"]]
    for place, text in installed.everything_written():
        assert MARK not in text, f"a secret value stands in {place}"
