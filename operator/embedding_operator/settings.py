"""The operator's settings, read from the environment once; a bad value aborts the start.

The chart sets every variable; the defaults are those of a run outside a cluster.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from embedding_operator import indexes, vault
from embedding_operator.monitoring import endpoints
from embedding_operator.policy import allowed_hosts, network, provider_guard
from embedding_operator.vault import access_rules

T = TypeVar("T")

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_LEVELS: Final = ("debug", "info", "warning", "error")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_INJECTED_BY: Final = ("webhook", "policy", "policy+webhook")
_CERTIFICATES: Final = ("own", "certManager", "provided")
_AUTH_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "token": ("VAULT_TOKEN_FILE",),
    "approle": ("VAULT_ROLE_ID_FILE", "VAULT_SECRET_ID_FILE"),
}
_DEFAULT_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "requests": {"cpu": "25m", "memory": "96Mi"},
    "limits": {"cpu": "500m", "memory": "384Mi"},
}


class InvalidSetting(ValueError):  # noqa: N818 - says what is wrong with what
    """A variable is not valid; the text begins with its name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The admission webhook: its port, and its objects of the chart."""

    port: int
    configuration: str
    service: str
    secret: str
    certificates: str
    certificate_directory: Path
    client_ca: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings; `vault` is None without a Vault, `webhook` where it does not inject.

    With `injects_by_policy` the API server injects by itself, by a MutatingAdmissionPolicy.
    `reconcile_deadline_seconds` bounds all calls of one reconcile to the API server. Workloads in
    `rollout_namespaces` may be restarted, `*` for every one. Only `watch_namespaces` are watched,
    every one if there are none. Injected pods and pods of indexes name `pull_secrets`.
    """

    namespace: str
    leader_election: bool
    watch_namespaces: tuple[str, ...]
    pull_secrets: tuple[str, ...]
    sidecar_image: str
    sidecar_image_pull_policy: str
    sidecar_resources: Mapping[str, Any]
    sidecar_otel_endpoint: str | None
    sidecar_resize: bool
    network: network.Network
    vectors: indexes.Vectors
    vault: vault.Settings | None
    rules: access_rules.AccessRules = field(repr=False)
    providers: provider_guard.ProviderGuard
    monitoring: endpoints.Endpoints
    injects_by_policy: bool
    webhook: Webhook | None
    rollout_namespaces: frozenset[str]
    additional_alerts: bool
    resync_seconds: float
    reconcile_deadline_seconds: float
    workers: int
    metrics_port: int
    health_port: int
    log_level: str


def read(environment: Mapping[str, str]) -> Settings:
    """All settings.

    Raises:
        InvalidSetting: a variable is not valid; the text begins with its name.
    """

    def of(name: str, reader: Callable[[str, str], T], default: T) -> T:
        written = environment.get(name)
        return reader(written, name) if written else default

    by = of("INJECTION_BY", _one_of(*_INJECTED_BY), "webhook")
    return Settings(
        namespace=of("OPERATOR_NAMESPACE", _text, "embedding-system"),
        leader_election=of("LEADER_ELECTION", _switch, default=True),
        watch_namespaces=of("WATCH_NAMESPACES", _sorted_names, ()),
        pull_secrets=of("IMAGE_PULL_SECRETS", _secret_names, ()),
        sidecar_image=of("SIDECAR_IMAGE", _text, "embedding-sidecar:latest"),
        sidecar_image_pull_policy=of(
            "SIDECAR_IMAGE_PULL_POLICY", _one_of(*_PULL_POLICIES), "IfNotPresent"
        ),
        sidecar_resources=of("SIDECAR_RESOURCES", _resources, _DEFAULT_RESOURCES),
        sidecar_otel_endpoint=of("SIDECAR_OTEL_ENDPOINT", _collector, None),
        sidecar_resize=of("SIDECAR_RESIZE", _switch, default=True),
        network=network.Network(
            http=of("SIDECAR_PROXY_HTTP", _proxy, None),
            https=of("SIDECAR_PROXY_HTTPS", _proxy, None),
            no=of("SIDECAR_PROXY_NO", _text, None),
            ca_file=of("SIDECAR_CA_FILE", lambda path, _: Path(path), None),
            by_policies=of("SIDECAR_POLICY_NETWORK", _switch, default=False),
            is_guarded=bool(environment.get("PROVIDERS_ALLOWED_HOSTS")),
        ),
        vectors=indexes.Vectors(
            image=of("VECTORS_IMAGE", _text, "embedding-vectors:latest"),
            pull_policy=of("VECTORS_IMAGE_PULL_POLICY", _one_of(*_PULL_POLICIES), "IfNotPresent"),
            resources=of("VECTORS_RESOURCES", _resources, _DEFAULT_RESOURCES),
            namespaces=of("VECTORS_NAMESPACES", _plain_names, frozenset()),
            pull_secrets=of("IMAGE_PULL_SECRETS", _secret_names, ()),
        ),
        vault=_vault(
            environment,
            poll_seconds=of("VAULT_POLL_SECONDS", _seconds, 60.0),
            concurrency=of("VAULT_CONCURRENCY", _count, 8),
            allow_insecure_http=of("VAULT_ALLOW_INSECURE_HTTP", _switch, default=False),
        ),
        rules=of("VAULT_GUARD_FILE", _rules, access_rules.AccessRules()),
        providers=provider_guard.ProviderGuard(
            require_secret_label=of("PROVIDERS_REQUIRE_SECRET_LABEL", _switch, default=False),
            allowed=of("PROVIDERS_ALLOWED_HOSTS", _hosts, allowed_hosts.AllowedHosts()),
        ),
        monitoring=of("MONITORING_FILE", _endpoints, endpoints.Endpoints()),
        injects_by_policy=by != "webhook",
        webhook=None
        if by == "policy"
        else Webhook(
            port=of("WEBHOOK_PORT", _port, 9443),
            configuration=of("WEBHOOK_CONFIGURATION", _text, "embedding-operator"),
            service=of("WEBHOOK_SERVICE", _text, "embedding-operator"),
            secret=of("WEBHOOK_SECRET", _text, "embedding-operator-webhook"),
            certificates=of("WEBHOOK_CERTIFICATES", _one_of(*_CERTIFICATES), "own"),
            certificate_directory=Path(
                of("WEBHOOK_CERTIFICATE_DIRECTORY", _text, "/tmp/webhook")  # noqa: S108 - an emptyDir
            ),
            client_ca=of("WEBHOOK_CLIENT_CA", lambda path, _: Path(path), None),
        ),
        rollout_namespaces=of("ROLLOUT_NAMESPACES", _names, frozenset()),
        additional_alerts=of("ADDITIONAL_ALERTS", _switch, default=False),
        resync_seconds=of("RESYNC_SECONDS", _seconds, 30.0),
        reconcile_deadline_seconds=of("RECONCILE_DEADLINE_SECONDS", _seconds, 60.0),
        workers=of("WORKERS", _count, 4),
        metrics_port=of("METRICS_PORT", _port, 9090),
        health_port=of("HEALTH_PORT", _port, 8081),
        log_level=of("LOG_LEVEL", _one_of(*_LEVELS), "info"),
    )


def _vault(
    environment: Mapping[str, str],
    *,
    poll_seconds: float,
    concurrency: int,
    allow_insecure_http: bool,
) -> vault.Settings | None:
    address = environment.get("VAULT_ADDR")
    if not address:
        return None
    if not address.startswith(("https://", "http://")):
        raise InvalidSetting("VAULT_ADDR", "must start with https://")
    if address.startswith("http://") and not allow_insecure_http:
        raise InvalidSetting(
            "VAULT_ALLOW_INSECURE_HTTP",
            "must be true (vault.allowInsecureHTTP of the chart) for an http:// VAULT_ADDR, as keys"
            " and tokens then travel in plain text",
        )
    method = environment.get("VAULT_AUTH_METHOD") or "kubernetes"
    _one_of(*vault.METHODS)(method, "VAULT_AUTH_METHOD")

    def file(name: str) -> Path | None:
        written = environment.get(name)
        return Path(written) if written else None

    for name in _AUTH_FILES.get(method, ()):
        if file(name) is None:
            raise InvalidSetting(name, f"is required for VAULT_AUTH_METHOD={method}")
    return vault.Settings(
        address=address.rstrip("/"),
        ca_file=file("VAULT_CACERT"),
        vault_namespace=environment.get("VAULT_NAMESPACE") or None,
        method=method,
        auth_mount=environment.get("VAULT_AUTH_MOUNT") or method,
        audience=environment.get("VAULT_AUDIENCE") or "vault",
        token_file=file("VAULT_TOKEN_FILE"),
        role_id_file=file("VAULT_ROLE_ID_FILE"),
        secret_id_file=file("VAULT_SECRET_ID_FILE"),
        poll_seconds=poll_seconds,
        concurrency=concurrency,
    )


def _text(value: str, _: str) -> str:
    return value


def _collector(value: str, name: str) -> str:
    """The URL of a collector, which pods show, so it must have no password."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise InvalidSetting(name, "must be an http:// or https:// URL without a user")
    return value


def _names(value: str, name: str) -> frozenset[str]:
    found = frozenset(value.split(","))
    wrong = [it for it in sorted(found) if it != "*" and not _NAMESPACE.fullmatch(it)]
    if wrong:
        raise InvalidSetting(
            name, f"{wrong[0]!r} is not a namespace; separate namespaces by commas"
        )
    return found


def _plain_names(value: str, name: str) -> frozenset[str]:
    """Namespaces by name: the operator must not need rights to run pods everywhere."""
    found = _names(value, name)
    if "*" in found:
        raise InvalidSetting(name, "must name namespaces; * is not allowed")
    return found


def _sorted_names(value: str, name: str) -> tuple[str, ...]:
    return tuple(sorted(_plain_names(value, name)))


def _secret_names(value: str, name: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(value.split(",")))
    wrong = [it for it in found if not _SUBDOMAIN.fullmatch(it)]
    if wrong:
        raise InvalidSetting(name, f"{wrong[0]!r} is no name of a Secret; separate by commas")
    return found


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def read_word(value: str, name: str) -> str:
        if value not in allowed:
            raise InvalidSetting(name, f"{value!r} must be one of {', '.join(allowed)}")
        return value

    return read_word


def _switch(value: str, name: str) -> bool:
    return _one_of("true", "false")(value, name) == "true"


def _count(value: str, name: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise InvalidSetting(name, f"{value!r} is not a positive whole number")
    return int(value)


def _port(value: str, name: str) -> int:
    number = _count(value, name)
    if number > 65_535:  # noqa: PLR2004 - 16 bits
        raise InvalidSetting(name, f"{value!r} is not a valid port (1-65535)")
    return number


def _seconds(value: str, name: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:  # noqa: PLR2004 - a day
        raise InvalidSetting(name, f"{value!r} is not a number of seconds from 0.1 to 86400")
    return seconds


def _resources(value: str, name: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict) or parsed.keys() - {"requests", "limits"}:
        raise InvalidSetting(name, "must be a JSON object of requests and limits")
    return parsed


def _checked(read_value: Callable[[str], T]) -> Callable[[str, str], T]:
    """A reader that raises ValueError, with the variable's name in the error."""

    def checked(value: str, name: str) -> T:
        try:
            return read_value(value)
        except ValueError as error:
            raise InvalidSetting(name, str(error)) from None

    return checked


_proxy: Final = _checked(network.proxy)
_rules: Final = _checked(lambda value: access_rules.load(Path(value)))
_hosts: Final = _checked(lambda value: allowed_hosts.parse(value.split(",")))
_endpoints: Final = _checked(lambda value: endpoints.load(Path(value)))
