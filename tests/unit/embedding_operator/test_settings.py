"""A value that cannot be used stops the start, and the first word of the error names it."""

import pytest
import yaml

from embedding_operator import settings
from embedding_operator.policy import provider_guard
from embedding_operator.vault import access_rules

VAULT = {"VAULT_ADDR": "https://vault:8200"}
PLAIN = {"VAULT_ADDR": "http://vault:8200"}


def test_operator_with_nothing_set_runs_without_vault():
    read = settings.read({})
    assert read.vault is None
    assert read.rules == access_rules.AccessRules()
    assert read.resync_seconds == 30


def test_empty_variable_is_as_good_as_none():
    names = ("VAULT_ADDR", "VAULT_GUARD_FILE", "RESYNC_SECONDS", "WORKERS", "SIDECAR_RESOURCES")
    assert settings.read(dict.fromkeys(names, "")) == settings.read({})


def test_vault_is_asked_by_kubernetes_auth_unless_told_otherwise():
    read = settings.read({**VAULT, "VAULT_ADDR": "https://vault:8200/", "VAULT_POLL_SECONDS": "5"})
    assert read.vault is not None
    assert (read.vault.address, read.vault.method) == ("https://vault:8200", "kubernetes")
    assert (read.vault.auth_mount, read.vault.audience) == ("kubernetes", "vault")
    assert read.vault.poll_seconds == 5


def test_rules_are_read_from_file(tmp_path):
    file = tmp_path / "allowed.yaml"
    rules = [{"namespace": "shop", "mount": "secret", "path": "shop/*"}]
    file.write_text(yaml.safe_dump(rules), encoding="utf-8")
    read = settings.read({"VAULT_GUARD_FILE": str(file)})
    assert read.rules.refusal(namespace="shop", mount="secret", path="shop/keys") is None


@pytest.mark.parametrize(("value", "read"), [("", set()), ("*", {"*"}), ("a,b", {"a", "b"})])
def test_workloads_are_restarted_where_it_is_allowed_only(value, read):
    assert settings.read({"ROLLOUT_NAMESPACES": value}).rollout_namespaces == read


def test_providers_are_not_guarded_unless_told_so():
    assert settings.read({}).providers == provider_guard.OFF
    read = settings.read(
        {
            "PROVIDERS_REQUIRE_SECRET_LABEL": "true",
            "PROVIDERS_ALLOWED_HOSTS": "api.openai.com,*.models.svc:8080",
        }
    ).providers
    assert read.require_secret_label
    assert str(read.allowed) == "api.openai.com, *.models.svc:8080"


def test_sidecars_export_nowhere_unless_collector_is_named():
    assert settings.read({}).sidecar_otel_endpoint is None
    url = "http://otel-collector.monitoring:4318"
    assert settings.read({"SIDECAR_OTEL_ENDPOINT": url}).sidecar_otel_endpoint == url


WRONG = {
    "WATCH_NAMESPACES": ["*", "Shop", "a,,b"],
    "IMAGE_PULL_SECRETS": ["a,,b", "A", "a/b"],
    "SIDECAR_OTEL_ENDPOINT": ["otel-collector:4318", "http://user:secret@otel", "http://"],
    "PROVIDERS_REQUIRE_SECRET_LABEL": ["yes", "1"],
    "PROVIDERS_ALLOWED_HOSTS": ["https://api.openai.com", "a,,b", "*", "a.*", "127.1", "a:0"],
    "VAULT_ADDR": ["vault:8200", "ftp://vault"],
    "VAULT_AUTH_METHOD": ["Kubernetes", "ldap"],
    "VAULT_ALLOW_INSECURE_HTTP": ["yes", "1", "True"],
    "VAULT_CONCURRENCY": ["0", "many"],
    "VAULT_POLL_SECONDS": ["0", "-1", "soon", "nan", "inf", "1e9"],
    "SIDECAR_IMAGE_PULL_POLICY": ["always"],
    "SIDECAR_RESOURCES": ["{", "[]", '{"request": {}}', "1"],
    "RESYNC_SECONDS": ["0", "half a minute"],
    "WORKERS": ["0", "-1", "1.5", "many"],
    "METRICS_PORT": ["0", "65536", "http"],
    "HEALTH_PORT": ["0", "-8081"],
    "LOG_LEVEL": ["INFO", "verbose"],
    "WEBHOOK_PORT": ["70000"],
    "ROLLOUT_NAMESPACES": ["a,,b", "Shop", "a, b", "-a", "a*"],
    "WEBHOOK_CERTIFICATES": ["cert-manager"],
    "INJECTION_BY": ["auto", "Policy", "webhook+policy"],
}


@pytest.mark.parametrize(
    ("by", "policy", "webhook"),
    [
        ("", False, True),
        ("webhook", False, True),
        ("policy", True, False),
        ("policy+webhook", True, True),
    ],
)
def test_webhook_is_served_where_it_injects(by, policy, webhook):
    read = settings.read({"INJECTION_BY": by})
    assert (read.injects_by_policy, read.webhook is not None) == (policy, webhook)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_value_that_cannot_be_used_is_named(name, value):
    with pytest.raises(settings.InvalidSetting, match=f"^{name}: "):
        settings.read({**VAULT, name: value})


def test_token_auth_needs_token_file():
    with pytest.raises(settings.InvalidSetting, match=r"^VAULT_TOKEN_FILE: "):
        settings.read({**VAULT, "VAULT_AUTH_METHOD": "token"})


def test_plain_http_has_to_be_asked_for():
    for refused in ({}, {"VAULT_ALLOW_INSECURE_HTTP": "false"}):
        with pytest.raises(settings.InvalidSetting, match=r"^VAULT_ALLOW_INSECURE_HTTP: .*http://"):
            settings.read({**PLAIN, **refused})
    read = settings.read({**PLAIN, "VAULT_ALLOW_INSECURE_HTTP": "true"})
    assert read.vault is not None
    assert read.vault.address == "http://vault:8200"


@pytest.mark.parametrize("missing", ["VAULT_ROLE_ID_FILE", "VAULT_SECRET_ID_FILE"])
def test_approle_needs_both_files_and_has_mount_of_its_name(missing):
    files = {"VAULT_ROLE_ID_FILE": "/a/role-id", "VAULT_SECRET_ID_FILE": "/a/secret-id"}
    by_role = {**VAULT, "VAULT_AUTH_METHOD": "approle", **files}
    read = settings.read(by_role)
    assert read.vault is not None
    assert (read.vault.auth_mount, str(read.vault.role_id_file)) == ("approle", "/a/role-id")
    with pytest.raises(settings.InvalidSetting, match=f"^{missing}: "):
        settings.read({**by_role, missing: ""})


@pytest.mark.parametrize("content", ["{", "shop: secret", "- {namespace: shop}", "- 1"])
def test_rules_that_cannot_be_read_stop_start(tmp_path, content):
    file = tmp_path / "allowed.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(settings.InvalidSetting, match=r"^VAULT_GUARD_FILE: "):
        settings.read({"VAULT_GUARD_FILE": str(file)})


def test_guard_file_that_is_not_there_stops_start(tmp_path):
    with pytest.raises(settings.InvalidSetting, match=r"^VAULT_GUARD_FILE: "):
        settings.read({"VAULT_GUARD_FILE": str(tmp_path / "nothing")})


def test_whole_cluster_is_watched_unless_namespaces_are_named():
    assert settings.read({}).watch_namespaces == ()
    assert settings.read({"WATCH_NAMESPACES": "shop,blog"}).watch_namespaces == ("blog", "shop")


def test_pull_secrets_are_for_sidecars_and_pods_of_indexes():
    read = settings.read({"IMAGE_PULL_SECRETS": "one,two.of-it,one"})
    assert read.pull_secrets == read.vectors.pull_secrets == ("one", "two.of-it")


def test_policies_add_no_alerts_unless_told():
    assert not settings.read({}).additional_alerts
    assert settings.read({"ADDITIONAL_ALERTS": "true"}).additional_alerts
    with pytest.raises(settings.InvalidSetting, match="ADDITIONAL_ALERTS"):
        settings.read({"ADDITIONAL_ALERTS": "yes"})
