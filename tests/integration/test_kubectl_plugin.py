"""`kubectl embedding ...`, as kubectl itself finds and runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dev import cluster
from embedding_contract import names

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "examples" / "external-integrations" / "policy.yaml"
CONDITION = {
    "type": "Ready",
    "status": "False",
    "reason": "VaultSealed",
    "message": "Vault is sealed.",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


class Plugin:
    """A shell in which both programs are on PATH."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self.environment = {
            "HOME": str(home),
            "KUBECONFIG": str(kubeconfig),
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), str(cluster.artifact("kubectl").parent)]
            ),
        }

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """What a command says, on both outputs."""
        done = subprocess.run(
            ["kubectl", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def plugin(api_server, tmp_path) -> Plugin:
    return Plugin(api_server.kubeconfig, tmp_path)


@pytest.fixture
def policy(api_server, namespace) -> str:
    raw = yaml.safe_load(POLICY.read_text(encoding="utf-8"))
    raw["metadata"]["namespace"] = namespace
    api_server.apply(raw)
    name: str = raw["metadata"]["name"]
    return name


def test_kubectl_finds_it(plugin):
    assert "kubectl-embedding" in plugin("plugin", "list")
    assert "usage: kubectl embedding" in plugin("embedding", "--help")


def test_status_shows_what_operator_saw(plugin, api_server, namespace, policy):
    said = plugin("embedding", "status", policy, "-n", namespace)
    assert said.startswith(f"{namespace}/{policy}\n")
    assert "no status yet" in said
    assert "agenticverz/external-integrations" in said
    patch = {"status": {"observedGeneration": 1, "conditions": [CONDITION]}}
    api_server(
        *("patch", "embpol", policy, "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", yaml.safe_dump(patch)),
    )
    said = plugin("embedding", "status", policy, "-n", namespace)
    assert "Ready  False  VaultSealed  Vault is sealed." in said
    assert "no status yet" not in said
    assert said == plugin("embedding", "status", "-n", namespace)
    assert said in plugin("embedding", "status", "-A")


def test_refresh_sets_annotation_to_new_value_each_time(plugin, api_server, namespace, policy):
    seen = set()
    for _ in range(2):
        plugin("embedding", "refresh", policy, "-n", namespace)
        found = api_server.get("embpol", policy, "-n", namespace)
        seen.add(found["metadata"]["annotations"][names.ANNOTATION_REFRESH])
        assert found["metadata"]["generation"] == 1
    assert len(seen) == 2


@pytest.mark.parametrize("verb", ["status", "refresh"])
def test_policy_that_is_not_there_ends_with_2(plugin, namespace, verb):
    said = plugin("embedding", verb, "nothing", "-n", namespace, code=2)
    assert said == f"error: there is no EmbeddingPolicy nothing in namespace {namespace}\n"


def test_namespace_is_that_of_context(plugin, api_server, namespace, policy, tmp_path):
    config = yaml.safe_load(api_server.kubeconfig.read_text(encoding="utf-8"))
    ours = {**config["contexts"][0]["context"], "namespace": namespace}
    config["contexts"].append({"name": "ours", "context": ours})
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    where = ("--kubeconfig", file, "--context", "ours")
    assert plugin("embedding", "status", policy, *where).startswith(f"{namespace}/")
    said = plugin("embedding", "status", policy, "--kubeconfig", file, "--context", "no", code=2)
    assert said == "error: the kubeconfig has no context no\n"


def test_plugin_without_cluster_says_so(plugin, tmp_path):
    plugin.environment["KUBECONFIG"] = str(tmp_path / "nothing")
    assert plugin("embedding", "status", code=2).startswith("error: no cluster is configured")


def test_render_needs_no_cluster(plugin, tmp_path):
    plugin.environment["KUBECONFIG"] = str(tmp_path / "nothing")
    kinds = [it["kind"] for it in yaml.safe_load_all(plugin("embedding", "render", POLICY))]
    assert kinds[:2] == ["ConfigMap", "Secret"]


def test_secrets_is_operators_own_command(plugin):
    said = plugin("embedding", "secrets", "migrate", "--from-env", "--to", "a/b", code=2)
    assert said.startswith("error: --from-env needs --keys")
