"""Settings of the process: ports, time-outs, and the policy where the environment holds it.

Without `--document` the environment is the policy. It is read once, into the PolicyDocument that
an operator would have written, so that there is one way to run.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from embedding_contract import (
    document,
    fingerprint,
    names,
    prices,
    provider_terms,
    reserve,
    sockets,
)
from embedding_sidecar.engine import service
from embedding_sidecar.policy import policy_file, variables

POLICY_NAME: Final = "default"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
"""Names of a pod for itself; the last two lead to loopback as well."""
_OTLP_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_OTLP_PROTOCOL: Final = "http/protobuf"
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})
ENV_CACHE_KEY: Final = "EMBEDDING_CACHE_KEY"
ENV_ALLOWED_HOSTS: Final = "EMBEDDING_ALLOWED_HOSTS"
ENV_RESERVE: Final = "EMBEDDING_RESERVE_FOR_APPLICATIONS"
ENV_PRICE: Final = "EMBEDDING_PRICE_PER_MILLION_TOKENS"
ENV_BACKUP_PRICE: Final = "EMBEDDING_BACKUP_PRICE_PER_MILLION_TOKENS"
_PASSTHROUGH: Final = "EMBEDDING_PASSTHROUGH_BASE_URL"
_OPENAI: Final = document.DEFAULT_BASE_URLS["OpenAI"]
_VOYAGE: Final = document.DEFAULT_BASE_URLS["Voyage"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """The UID of this pod, empty if unknown, and the API's host names besides loopback's."""

    pod_uid: str = ""
    allowed_hosts: frozenset[str] = frozenset()


def ports(environment: Mapping[str, str]) -> tuple[int, int]:
    """The API's port and administration's.

    Raises:
        InvalidSetting: one is not valid, or both are the same.
    """
    api = variables.read(environment, "EMBEDDING_PORT", variables.port, names.API_PORT)
    admin = variables.read(environment, "EMBEDDING_ADMIN_PORT", variables.port, names.ADMIN_PORT)
    if api == admin:
        raise variables.InvalidSetting(
            "EMBEDDING_ADMIN_PORT", f"{admin} is also EMBEDDING_PORT; write another one"
        )
    return api, admin


def names_a_collector(environment: Mapping[str, str]) -> bool:
    """True if the OpenTelemetry SDK's own variables name a collector."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environment.get(name) for name in _OTLP_ENDPOINTS)


def export_seconds(environment: Mapping[str, str]) -> float | None:
    """The interval of exports by OTLP over HTTP; None where tracing is off.

    Raises:
        InvalidSetting: the variables ask for another protocol, or an interval is not valid.
    """
    if not names_a_collector(environment):
        return None
    protocol = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or _OTLP_PROTOCOL
    if protocol != _OTLP_PROTOCOL:
        raise variables.InvalidSetting(
            "OTEL_EXPORTER_OTLP_PROTOCOL", f"only {_OTLP_PROTOCOL} is supported"
        )
    milliseconds = variables.read(
        environment, "OTEL_METRIC_EXPORT_INTERVAL", variables.milliseconds, 60_000
    )
    return milliseconds / 1000


def timing(environment: Mapping[str, str]) -> service.Timing:
    """Time-outs of providers. Raises InvalidSetting."""
    known, seconds = service.Timing(), variables.seconds
    return service.Timing(
        attempt_seconds=variables.read(
            environment, "EMBEDDING_ATTEMPT_SECONDS", seconds, known.attempt_seconds
        ),
        request_seconds=variables.read(
            environment, "EMBEDDING_REQUEST_SECONDS", seconds, known.request_seconds
        ),
    )


def memory_bytes(environment: Mapping[str, str]) -> int | None:
    """The memory limit, None where the container's counts. Raises InvalidSetting."""
    return variables.read(environment, "EMBEDDING_MEMORY_BYTES", variables.memory, None)


def callers(environment: Mapping[str, str]) -> Callers:
    """The pod's UID and the API's host names. Raises InvalidSetting."""
    return Callers(
        pod_uid=variables.read(environment, names.ENV_POD_UID, variables.pod_uid, ""),
        allowed_hosts=variables.read(environment, ENV_ALLOWED_HOSTS, variables.hosts, frozenset()),
    )


def from_environment(environment: Mapping[str, str]) -> policy_file.Loaded:
    """The policy that the environment holds, and its secrets by the names of files.

    Raises:
        InvalidSetting: a value cannot be used, or a key is missing.
    """

    def read(name: str, reader: Callable[[str], T], default: T) -> T:
        return variables.read(environment, name, reader, default)

    own, _ = ports(environment)
    secrets = {"openai": _key(environment, "OPENAI_API_KEY")}
    openai_url = read("OPENAI_BASE_URL", variables.url, _OPENAI)
    # The injection sets the application's variable to the sidecar itself.
    if _is_own_address(openai_url, own):
        openai_url = _OPENAI
    providers = [
        document.Provider(
            name="openai",
            kind="OpenAI",
            model=read("EMBEDDING_MODEL", variables.word, "text-embedding-3-small"),
            base_url=openai_url,
            api_key_file="openai",
            price_per_million_tokens=read(ENV_PRICE, variables.price, None),
            limits=provider_terms.Limits(
                items=read("EMBEDDING_LIMIT_ITEMS", variables.limit, None),
                body_bytes=read("EMBEDDING_LIMIT_BYTES", variables.limit, None),
                tokens_per_item=read("EMBEDDING_LIMIT_TOKENS_PER_ITEM", variables.limit, None),
            ),
        )
    ]
    fallback = read("EMBEDDING_FALLBACK_ENABLED", variables.boolean, False)  # noqa: FBT003 - a default
    if read("EMBEDDING_BACKUP_PROVIDER", variables.backup, "none") == "voyage":
        secrets["voyage"] = _key(environment, "VOYAGE_API_KEY")
        providers.append(
            document.Provider(
                name="voyage",
                kind="Voyage",
                model=read("VOYAGE_MODEL", variables.word, "voyage-3-lite"),
                base_url=read("VOYAGE_BASE_URL", _elsewhere(own), _VOYAGE),
                api_key_file="voyage",
                price_per_million_tokens=read(ENV_BACKUP_PRICE, variables.price, None),
            )
        )
    redis = read("REDIS_URL", variables.redis_url, None)
    optional = {
        names.SECRET_CACHE_REDIS_URL: redis,
        names.SECRET_API_TOKEN: read("EMBEDDING_API_TOKEN", variables.token, None),
        names.SECRET_CACHE_KEY: read(ENV_CACHE_KEY, variables.cache_key, None),
    }
    secrets |= {file: value for file, value in optional.items() if value is not None}
    redis_file = names.SECRET_CACHE_REDIS_URL if redis is not None else None
    quota = _quota(environment, redis_file)
    if quota.daily_cost is not None or quota.monthly_cost is not None:
        providers = list(map(_priced, providers, (ENV_PRICE, ENV_BACKUP_PRICE)))
    ttl_seconds = read("EMBEDDING_CACHE_TTL_SECONDS", variables.count, 604_800)
    is_off = environment.get(_PASSTHROUGH) == "off"
    passthrough_url = None if is_off else read(_PASSTHROUGH, _elsewhere(own), openai_url)
    policy = document.PolicyDocument(
        namespace="",
        name=POLICY_NAME,
        providers=tuple(providers),
        # Naming a backup and enabling the fallback is the consent to cross spaces.
        failover=document.Failover(enabled=fallback, across_spaces=fallback),
        quota=quota,
        cache=document.Cache(ttl_seconds=ttl_seconds, redis_url_file=redis_file),
        passthrough=document.PassThrough(base_url=passthrough_url),
    )
    return policy_file.load(
        policy,
        fingerprint.of_document(document.dump(policy).encode()),
        {file: value.encode() for file, value in secrets.items()},
    )


def _quota(environment: Mapping[str, str], redis_file: str | None) -> document.Quota:
    def read(name: str, reader: Callable[[str], T], default: T) -> T:
        return variables.read(environment, name, reader, default)

    daily = read("EMBEDDING_DAILY_QUOTA", variables.count, 10_000)
    written = read(ENV_RESERVE, variables.reserve, reserve.DEFAULT)
    kept = reserve.of(written, daily_requests=daily, daily_tokens=None)
    # A number of calls says nothing of other limits.
    share = reserve.SHARE.fullmatch(str(written))
    return document.Quota(
        daily_requests=daily,
        redis_url_file=redis_file,
        reserved_requests=kept.requests,
        daily_cost=read("EMBEDDING_DAILY_COST", variables.cost, None),
        monthly_requests=read("EMBEDDING_MONTHLY_REQUESTS", variables.count, None),
        monthly_tokens=read("EMBEDDING_MONTHLY_TOKENS", variables.count, None),
        monthly_cost=read("EMBEDDING_MONTHLY_COST", variables.cost, None),
        observes=read("EMBEDDING_QUOTA_MODE", variables.mode, False),  # noqa: FBT003 - a default
        reserved_percent=int(share[1]) if share else reserve.DEFAULT_PERCENT,
    )


def _priced(provider: document.Provider, variable: str) -> document.Provider:
    """The provider with its list price, where the environment names none."""
    price = prices.counting(
        kind=provider.kind,
        model=provider.model,
        base_url=provider.base_url,
        region=provider.region,
        named=provider.price_per_million_tokens,
    )
    if price is None:
        raise variables.InvalidSetting(
            variable,
            f"is not set, and no list price of {provider.model} at this address is known, which a "
            "limit in money needs; write US dollars for a million tokens",
        )
    return dataclasses.replace(provider, price_per_million_tokens=price)


def _elsewhere(own_port: int) -> Callable[[str], str]:
    """A URL that is not the sidecar's own."""

    def read(value: str) -> str:
        url = variables.url(value)
        if _is_own_address(url, own_port):
            raise ValueError("is this sidecar's own address; write the provider's")
        return url

    return read


def _is_own_address(url: str, own_port: int) -> bool:
    parts = urlsplit(url)
    port = parts.port or sockets.DEFAULT_PORTS.get(parts.scheme)
    return parts.hostname in _LOOPBACK and port == own_port


def _key(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value or value == names.PLACEHOLDER_KEY:
        raise variables.InvalidSetting(name, "is not set; write the provider's API key")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise variables.InvalidSetting(name, "must be printable ASCII characters without spaces")
    return value


def check_proxies(environment: Mapping[str, str]) -> None:
    """Refuse a proxy that cannot be used.

    Raises:
        InvalidSetting: a proxy has no scheme, or another one than HTTP. The text holds nothing else
            of the value, which may have a password.
    """
    for name, value in environment.items():
        if name.lower() not in _PROXIES or not value:
            continue
        scheme, there_is_one, rest = value.partition("://")
        if not there_is_one:
            raise variables.InvalidSetting(
                name, "proxy_without_scheme: write http:// before the proxy's host and port"
            )
        if scheme.lower() not in sockets.DEFAULT_PORTS:
            raise variables.InvalidSetting(
                name,
                f"proxy_not_http: {scheme[: variables.SHOWN]} proxies are not supported; write the "
                "http:// or https:// URL of a proxy",
            )
        if not variables.is_url(f"{scheme.lower()}://{rest}", sockets.DEFAULT_PORTS.keys()):
            raise variables.InvalidSetting(
                name, "proxy_not_a_url: the host is missing or the port is not valid"
            )
