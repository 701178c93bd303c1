"""What the process is started with: flags, ports, and the policy where the environment holds it.

Without `--document` the environment is the policy. It is read once, into the same PolicyDocument
that an operator would have written, so that there is one way to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from embedding_contract import document, names, provider_terms, reserve
from embedding_sidecar import variables
from embedding_sidecar.engine import service

POLICY_NAME: Final = "default"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
"""Names by which a pod reaches itself; the last two lead to loopback as well."""
_OTLP_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_OTLP_PROTOCOL: Final = "http/protobuf"
_METRICS_INTERVAL_SECONDS: Final = 60.0
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})
ENV_CACHE_KEY: Final = "EMBEDDING_CACHE_KEY"
ENV_ALLOWED_HOSTS: Final = "EMBEDDING_ALLOWED_HOSTS"
ENV_RESERVE: Final = "EMBEDDING_RESERVE_FOR_APPLICATIONS"
_OPENAI: Final = document.DEFAULT_BASE_URLS["OpenAI"]
_VOYAGE: Final = document.DEFAULT_BASE_URLS["Voyage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the two servers listen."""

    api: int = names.API_PORT
    admin: int = names.ADMIN_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """What calls are judged by: the UID of this pod, and by which names the API may be called.

    The UID is empty where it is not said; the names are in lower case, beside loopback's own.
    """

    pod_uid: str = ""
    allowed_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class FromEnvironment:
    """Run from a policy that does not change; `secrets` maps file names to values."""

    document: document.PolicyDocument
    secrets: Mapping[str, str] = field(repr=False)


def ports(environment: Mapping[str, str]) -> Ports:
    """The two ports.

    Raises:
        InvalidSetting: one is no port, or both are the same.
    """
    found = Ports(
        api=variables.read(environment, "EMBEDDING_PORT", variables.port, names.API_PORT),
        admin=variables.read(environment, "EMBEDDING_ADMIN_PORT", variables.port, names.ADMIN_PORT),
    )
    if found.api == found.admin:
        raise variables.InvalidSetting(
            "EMBEDDING_ADMIN_PORT", f"{found.admin} is EMBEDDING_PORT too"
        )
    return found


def names_a_collector(environment: Mapping[str, str]) -> bool:
    """Whether the OpenTelemetry SDK's own variables say where to export to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environment.get(name) for name in _OTLP_ENDPOINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How spans and metrics are exported; the SDK reads the other OTEL_* variables itself."""

    sampler: str | None
    metrics_interval_seconds: float


def tracing(environment: Mapping[str, str]) -> Tracing | None:
    """How to export by OTLP over HTTP; None where tracing is off.

    Raises:
        InvalidSetting: the variables ask for another protocol, or an interval is no time.
    """
    if not names_a_collector(environment):
        return None
    protocol = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or _OTLP_PROTOCOL
    if protocol != _OTLP_PROTOCOL:
        raise variables.InvalidSetting(
            "OTEL_EXPORTER_OTLP_PROTOCOL", f"only {_OTLP_PROTOCOL} is supported"
        )
    return Tracing(
        sampler=environment.get("OTEL_TRACES_SAMPLER"),
        metrics_interval_seconds=variables.read(
            environment,
            "OTEL_METRIC_EXPORT_INTERVAL",
            variables.milliseconds,
            _METRICS_INTERVAL_SECONDS,
        ),
    )


def timing(environment: Mapping[str, str]) -> service.Timing:
    """How long providers may take.

    Raises:
        InvalidSetting: a value is no time, or longer than any request may take.
    """
    known = service.Timing()
    return service.Timing(
        attempt_seconds=variables.read(
            environment, "EMBEDDING_ATTEMPT_SECONDS", variables.seconds, known.attempt_seconds
        ),
        request_seconds=variables.read(
            environment, "EMBEDDING_REQUEST_SECONDS", variables.seconds, known.request_seconds
        ),
    )


def memory_bytes(environment: Mapping[str, str]) -> int | None:
    """How much memory the process may take, where that is said; else its container's limit counts.

    Raises:
        InvalidSetting: the value is no number of bytes, or less than a sidecar needs.
    """
    return variables.read(environment, "EMBEDDING_MEMORY_BYTES", variables.memory, None)


def callers(environment: Mapping[str, str]) -> Callers:
    """What is known of who may call.

    Raises:
        InvalidSetting: the UID is not one, or a host name is not.
    """
    return Callers(
        pod_uid=variables.read(environment, names.ENV_POD_UID, variables.pod_uid, ""),
        allowed_hosts=variables.read(environment, ENV_ALLOWED_HOSTS, variables.hosts, frozenset()),
    )


def from_environment(environment: Mapping[str, str]) -> FromEnvironment:
    """The policy that the environment holds.

    Raises:
        InvalidSetting: a value cannot be used, or a key is missing.
    """
    own = ports(environment).api
    secrets = {"openai": _key(environment, "OPENAI_API_KEY")}
    written_url = variables.read(environment, "OPENAI_BASE_URL", variables.url, None)
    openai_url = _not_ourselves(written_url, own) or _OPENAI
    providers = [
        document.Provider(
            name="openai",
            kind="OpenAI",
            model=variables.read(
                environment, "EMBEDDING_MODEL", variables.word, "text-embedding-3-small"
            ),
            base_url=openai_url,
            api_key_file="openai",
            limits=provider_terms.Limits(
                items=variables.read(environment, "EMBEDDING_LIMIT_ITEMS", variables.limit, None),
                body_bytes=variables.read(
                    environment, "EMBEDDING_LIMIT_BYTES", variables.limit, None
                ),
                tokens_per_item=variables.read(
                    environment, "EMBEDDING_LIMIT_TOKENS_PER_ITEM", variables.limit, None
                ),
            ),
        )
    ]
    fallback = variables.read(
        environment, "EMBEDDING_FALLBACK_ENABLED", variables.boolean, default=False
    )
    if (
        variables.read(environment, "EMBEDDING_BACKUP_PROVIDER", variables.backup, "none")
        == "voyage"
    ):
        secrets["voyage"] = _key(environment, "VOYAGE_API_KEY")
        providers.append(
            document.Provider(
                name="voyage",
                kind="Voyage",
                model=variables.read(environment, "VOYAGE_MODEL", variables.word, "voyage-3-lite"),
                base_url=_elsewhere(
                    variables.read(environment, "VOYAGE_BASE_URL", variables.url, _VOYAGE),
                    own,
                    "VOYAGE_BASE_URL",
                ),
                api_key_file="voyage",
            )
        )
    redis = variables.read(environment, "REDIS_URL", variables.redis_url, None)
    if redis is not None:
        secrets[names.SECRET_CACHE_REDIS_URL] = redis
    token = variables.read(environment, "EMBEDDING_API_TOKEN", variables.token, None)
    if token is not None:
        secrets[names.SECRET_API_TOKEN] = token
    cache_key = variables.read(environment, ENV_CACHE_KEY, variables.cache_key, None)
    if cache_key is not None:
        secrets[names.SECRET_CACHE_KEY] = cache_key
    redis_file = names.SECRET_CACHE_REDIS_URL if redis is not None else None
    ttl = variables.read(environment, "EMBEDDING_CACHE_TTL_SECONDS", variables.count, 604_800)
    daily = variables.read(environment, "EMBEDDING_DAILY_QUOTA", variables.count, 10_000)
    written = variables.read(environment, ENV_RESERVE, variables.reserve, reserve.DEFAULT)
    kept = reserve.of(written, daily_requests=daily, daily_tokens=None)
    return FromEnvironment(
        document=document.PolicyDocument(
            namespace="",
            name=POLICY_NAME,
            providers=tuple(providers),
            # Naming a backup and enabling the fallback is the consent to cross spaces.
            failover=document.Failover(enabled=fallback, across_spaces=fallback),
            quota=document.Quota(
                daily_requests=daily, redis_url_file=redis_file, reserved_requests=kept.requests
            ),
            cache=document.Cache(ttl_seconds=ttl, redis_url_file=redis_file),
            passthrough=document.PassThrough(
                base_url=_passthrough(environment, own=own, default=openai_url)
            ),
        ),
        secrets=secrets,
    )


def _passthrough(environment: Mapping[str, str], *, own: int, default: str) -> str | None:
    written = environment.get("EMBEDDING_PASSTHROUGH_BASE_URL")
    if not written:
        return default
    if written == "off":
        return None
    name = "EMBEDDING_PASSTHROUGH_BASE_URL"
    return _elsewhere(variables.url(written, name), own, name)


def _elsewhere(url: str, own_port: int, name: str) -> str:
    if _not_ourselves(url, own_port) is None:
        raise variables.InvalidSetting(name, "is this sidecar's own address; name the provider's")
    return url


def _not_ourselves(url: str | None, own_port: int) -> str | None:
    """The URL, or None where it is the sidecar's own: what the injection sets for applications."""
    if url is None:
        return None
    parts = urlsplit(url)
    port = parts.port or variables.DEFAULT_PORTS.get(parts.scheme)
    ours = parts.hostname in _LOOPBACK and port == own_port
    return None if ours else url


def _key(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value or value == names.PLACEHOLDER_KEY:
        raise variables.InvalidSetting(name, "is not set; it is the key this sidecar pays with")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise variables.InvalidSetting(
            name, "holds a character that no key has (white space or control)"
        )
    return value


def check_proxies(environment: Mapping[str, str]) -> None:
    """Refuse a proxy that could not be used.

    Raises:
        InvalidSetting: a variable names one without a scheme, or one that is asked by another
            protocol than HTTP. The text begins with its name, and holds nothing of the value, which
            may have a password.
    """
    for name, value in environment.items():
        if name.lower() not in _PROXIES or not value:
            continue
        scheme, there_is_one, rest = value.partition("://")
        if not there_is_one:
            raise variables.InvalidSetting(
                name, "proxy_without_scheme: write http:// before the proxy's host and port"
            )
        if scheme.lower() not in variables.DEFAULT_PORTS:
            raise variables.InvalidSetting(
                name,
                f"proxy_not_http: {scheme[: variables.SHOWN]} proxies are not spoken to; name one"
                " that is asked by http:// or https://",
            )
        if not variables.is_url(f"{scheme.lower()}://{rest}", variables.DEFAULT_PORTS.keys()):
            raise variables.InvalidSetting(
                name, "proxy_not_a_url: it has no host, or a port that is none"
            )
