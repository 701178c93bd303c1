"""What the process is started with: flags, ports, and the policy where the environment holds it.

Without `--document` the environment is the policy. It is read once, into the same PolicyDocument
that an operator would have written, so that there is one way to run.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import urlsplit

from embedding_contract import document, json_fields, names, reserve
from embedding_sidecar.caching import entries
from embedding_sidecar.engine import service

POLICY_NAME: Final = "default"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
"""Names by which a pod reaches itself; the last two lead to loopback as well."""
_DEFAULT_PORTS: Final = MappingProxyType({"http": 80, "https": 443})
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_LEAST_MEMORY_BYTES: Final = 64 * 2**20
"""Hardly more than a sidecar has at rest; less is another unit."""
_SEVERAL_REDIS: Final = re.compile(r"rediss?\+(cluster|sentinel)://[!-~]")
_OTLP_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_OTLP_PROTOCOL: Final = "http/protobuf"
_METRICS_INTERVAL_SECONDS: Final = 60.0
_LONGEST_MILLISECONDS: Final = 3_600_000
_HOST: Final = re.compile(r"[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_SHOWN: Final = 80
ENV_CACHE_KEY: Final = "EMBEDDING_CACHE_KEY"
ENV_ALLOWED_HOSTS: Final = "EMBEDDING_ALLOWED_HOSTS"
ENV_RESERVE: Final = "EMBEDDING_RESERVE_FOR_APPLICATIONS"
_OPENAI: Final = document.DEFAULT_BASE_URLS["OpenAI"]
_VOYAGE: Final = document.DEFAULT_BASE_URLS["Voyage"]

T = TypeVar("T")


class InvalidSetting(ValueError):  # noqa: N818 - as the contract's InvalidDocument
    """A variable that cannot be used; the text begins with its name and never holds a secret."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")


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
        api=_read(environment, "EMBEDDING_PORT", _port, names.API_PORT),
        admin=_read(environment, "EMBEDDING_ADMIN_PORT", _port, names.ADMIN_PORT),
    )
    if found.api == found.admin:
        raise InvalidSetting("EMBEDDING_ADMIN_PORT", f"{found.admin} is EMBEDDING_PORT too")
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
        raise InvalidSetting("OTEL_EXPORTER_OTLP_PROTOCOL", f"only {_OTLP_PROTOCOL} is supported")
    return Tracing(
        sampler=environment.get("OTEL_TRACES_SAMPLER"),
        metrics_interval_seconds=_read(
            environment, "OTEL_METRIC_EXPORT_INTERVAL", _milliseconds, _METRICS_INTERVAL_SECONDS
        ),
    )


def timing(environment: Mapping[str, str]) -> service.Timing:
    """How long providers may take.

    Raises:
        InvalidSetting: a value is no time, or longer than any request may take.
    """
    known = service.Timing()
    return service.Timing(
        attempt_seconds=_read(
            environment, "EMBEDDING_ATTEMPT_SECONDS", _seconds, known.attempt_seconds
        ),
        request_seconds=_read(
            environment, "EMBEDDING_REQUEST_SECONDS", _seconds, known.request_seconds
        ),
    )


def memory_bytes(environment: Mapping[str, str]) -> int | None:
    """How much memory the process may take, where that is said; else its container's limit counts.

    Raises:
        InvalidSetting: the value is no number of bytes, or less than a sidecar needs.
    """
    return _read(environment, "EMBEDDING_MEMORY_BYTES", _memory, None)


def callers(environment: Mapping[str, str]) -> Callers:
    """What is known of who may call.

    Raises:
        InvalidSetting: the UID is not one, or a host name is not.
    """
    return Callers(
        pod_uid=_read(environment, names.ENV_POD_UID, _pod_uid, ""),
        allowed_hosts=_read(environment, ENV_ALLOWED_HOSTS, _hosts, frozenset()),
    )


def from_environment(environment: Mapping[str, str]) -> FromEnvironment:
    """The policy that the environment holds.

    Raises:
        InvalidSetting: a value cannot be used, or a key is missing.
    """
    own = ports(environment).api
    secrets = {"openai": _key(environment, "OPENAI_API_KEY")}
    written_url = _read(environment, "OPENAI_BASE_URL", _url, None)
    openai_url = _not_ourselves(written_url, own) or _OPENAI
    providers = [
        document.Provider(
            name="openai",
            kind="OpenAI",
            model=_read(environment, "EMBEDDING_MODEL", _word, "text-embedding-3-small"),
            base_url=openai_url,
            api_key_file="openai",
            limits=document.Limits(
                items=_read(environment, "EMBEDDING_LIMIT_ITEMS", _limit, None),
                body_bytes=_read(environment, "EMBEDDING_LIMIT_BYTES", _limit, None),
                tokens_per_item=_read(environment, "EMBEDDING_LIMIT_TOKENS_PER_ITEM", _limit, None),
            ),
        )
    ]
    fallback = _read(environment, "EMBEDDING_FALLBACK_ENABLED", _boolean, default=False)
    if _read(environment, "EMBEDDING_BACKUP_PROVIDER", _backup, "none") == "voyage":
        secrets["voyage"] = _key(environment, "VOYAGE_API_KEY")
        providers.append(
            document.Provider(
                name="voyage",
                kind="Voyage",
                model=_read(environment, "VOYAGE_MODEL", _word, "voyage-3-lite"),
                base_url=_elsewhere(
                    _read(environment, "VOYAGE_BASE_URL", _url, _VOYAGE), own, "VOYAGE_BASE_URL"
                ),
                api_key_file="voyage",
            )
        )
    redis = _read(environment, "REDIS_URL", _redis_url, None)
    if redis is not None:
        secrets[names.SECRET_CACHE_REDIS_URL] = redis
    token = _read(environment, "EMBEDDING_API_TOKEN", _token, None)
    if token is not None:
        secrets[names.SECRET_API_TOKEN] = token
    cache_key = _read(environment, ENV_CACHE_KEY, _cache_key, None)
    if cache_key is not None:
        secrets[names.SECRET_CACHE_KEY] = cache_key
    redis_file = names.SECRET_CACHE_REDIS_URL if redis is not None else None
    ttl = _read(environment, "EMBEDDING_CACHE_TTL_SECONDS", _count, 604_800)
    daily = _read(environment, "EMBEDDING_DAILY_QUOTA", _count, 10_000)
    written = _read(environment, ENV_RESERVE, _reserve, reserve.DEFAULT)
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
    return _elsewhere(_url(written, name), own, name)


def _elsewhere(url: str, own_port: int, name: str) -> str:
    if _not_ourselves(url, own_port) is None:
        raise InvalidSetting(name, "is this sidecar's own address; name the provider's")
    return url


def _not_ourselves(url: str | None, own_port: int) -> str | None:
    """The URL, or None where it is the sidecar's own: what the injection sets for applications."""
    if url is None:
        return None
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    ours = parts.hostname in _LOOPBACK and port == own_port
    return None if ours else url


def _key(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value or value == names.PLACEHOLDER_KEY:
        raise InvalidSetting(name, "is not set; it is the key this sidecar pays with")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise InvalidSetting(name, "holds a character that no key has (white space or control)")
    return value


def _read(
    environment: Mapping[str, str], name: str, read: Callable[[str, str], T], default: T
) -> T:
    written = environment.get(name)
    return read(written, name) if written else default


def _port(value: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value) or not 0 < int(value) < 65_536:  # noqa: PLR2004 - 16 bits
        raise InvalidSetting(name, f"{value!r} is no port; 1 to 65535")
    return int(value)


def _count(value: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,13}", value) or int(value) > json_fields.MAX_COUNT:
        raise InvalidSetting(name, f"{value!r} is no number between 0 and {json_fields.MAX_COUNT}")
    return int(value)


def _reserve(value: str, name: str) -> int | str:
    if reserve.SHARE.fullmatch(value):
        return value
    if re.fullmatch(r"[0-9]{1,13}", value) and int(value) <= json_fields.MAX_COUNT:
        return int(value)
    raise InvalidSetting(
        name,
        f"{value[:_SHOWN]!r} is neither a number of calls from 0 to {json_fields.MAX_COUNT} nor a "
        "share from 0% to 100%",
    )


def _limit(value: str, name: str) -> int:
    limit = _count(value, name)
    if limit == 0:
        raise InvalidSetting(name, "must be at least 1")
    return limit


def _memory(value: str, name: str) -> int:
    size = _count(value, name)
    if size < _LEAST_MEMORY_BYTES:
        raise InvalidSetting(name, f"{value!r} is less than {_LEAST_MEMORY_BYTES} (64 MiB)")
    return size


def _seconds(value: str, name: str) -> float:
    most = document.MAX_SECONDS
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value) or not 0 < float(value) <= most:
        raise InvalidSetting(name, f"{value!r} is no number of seconds above 0 and up to {most:g}")
    return float(value)


def _milliseconds(value: str, name: str) -> float:
    if not re.fullmatch(r"[0-9]{1,7}", value) or not 0 < int(value) <= _LONGEST_MILLISECONDS:
        raise InvalidSetting(
            name, f"{value!r} is no number of milliseconds from 1 to {_LONGEST_MILLISECONDS}"
        )
    return int(value) / 1000


def _boolean(value: str, name: str) -> bool:
    word = value.lower()
    if word not in _TRUE | _FALSE:
        raise InvalidSetting(name, f"{value!r} is neither true nor false")
    return word in _TRUE


def _backup(value: str, name: str) -> str:
    if value not in {"voyage", "none"}:
        raise InvalidSetting(name, f"{value!r} is not known; voyage or none")
    return value


def _word(value: str, name: str) -> str:
    # It goes into headers and metrics; the resource knows the same rule.
    if not re.fullmatch(r"[!-~]{1,128}", value):
        raise InvalidSetting(name, "must be 1 to 128 printable ASCII characters and no space")
    return value


def _token(value: str, name: str) -> str:
    token = value.strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidSetting(name, "holds a character that no header can, or nothing")
    return token


def _cache_key(value: str, name: str) -> str:
    if entries.secret_of(value) is None:
        raise InvalidSetting(name, "must be 64 hexadecimal digits in lower case")
    return value


def _pod_uid(value: str, name: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", value):
        raise InvalidSetting(name, "is not the UID of a pod: letters, digits and dashes")
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
            raise InvalidSetting(
                name, "proxy_without_scheme: write http:// before the proxy's host and port"
            )
        if scheme.lower() not in _DEFAULT_PORTS:
            raise InvalidSetting(
                name,
                f"proxy_not_http: {scheme[:_SHOWN]} proxies are not spoken to; name one that is"
                " asked by http:// or https://",
            )
        if not _is_url(f"{scheme.lower()}://{rest}", _DEFAULT_PORTS.keys()):
            raise InvalidSetting(name, "proxy_not_a_url: it has no host, or a port that is none")


def _hosts(value: str, name: str) -> frozenset[str]:
    hosts = frozenset(host.strip().lower() for host in value.split(",") if host.strip())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise InvalidSetting(
                name, f"{host[:_SHOWN]!r} is not a host name; write names without port, by commas"
            )
    return hosts


def _url(value: str, name: str) -> str:
    if not re.fullmatch(r"[!-~]+", value) or not _is_url(value, _DEFAULT_PORTS.keys()):
        raise InvalidSetting(name, "must be an http:// or https:// URL")
    if re.search(r"[?#@]", value):
        raise InvalidSetting(name, "must have no user, query or fragment")
    return value.rstrip("/")


def _redis_url(value: str, name: str) -> str:
    # It may hold a password, so the value itself is never shown.
    if not (
        value.startswith("unix://")
        or _is_url(value, {"redis", "rediss"})
        or _SEVERAL_REDIS.match(value)
    ):
        raise InvalidSetting(
            name,
            "must be a redis://, rediss://, redis+cluster://, redis+sentinel:// or unix:// URL",
        )
    return value


def _is_url(value: str, schemes: Collection[str]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # A bracket without its other, or a port that is none.
        return False
