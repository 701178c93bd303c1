"""The policy document: what the operator writes into a ConfigMap and the sidecar obeys.

The format only grows. Unknown keys are ignored, so that a sidecar outlives operator upgrades; a key
whose ignorance would overspend, leak or mix spaces is listed in `requires`, and a reader that lacks
it refuses the whole document and stays with its last good one. `version` is for breaking changes.
The document holds no secret: it names files of the mounted Secret.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from embedding_contract import spaces

VERSION: Final = 1
FEATURES: Final[frozenset[str]] = frozenset()
"""What `requires` may name and this reader carries out. Version 1 as first written needs none."""

DEFAULT_BASE_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {"OpenAI": "https://api.openai.com/v1", "Voyage": "https://api.voyageai.com/v1"}
)
"""Where a type of provider answers if its policy does not say; OpenAICompatible must say."""
ATLAS_BASE_URL: Final = "https://ai.mongodb.com/v1"
ATLAS_KEY_PREFIX: Final = "al-"
"""A key of Voyage that begins so was made in MongoDB Atlas and is of use at Atlas's host only
(voyageai Python package, util.py)."""

MAX_COUNT: Final = 10**12
"""No quota is larger; the same bound as in the resource."""

T = TypeVar("T")


class InvalidDocument(ValueError):  # noqa: N818 - an adjective says what is wrong with what
    """A document this reader cannot obey. `path` names the field, `str()` says the whole."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider of the policy, in order of preference.

    `kind` is OpenAI, Voyage or OpenAICompatible; `base_url` has no trailing slash;
    `api_key_file` names a file of the mounted Secret, None where the provider wants no key;
    `price_per_million_tokens` is a decimal string in the currency of the reader's choice.
    """

    name: str
    kind: str
    model: str
    base_url: str
    aliases: tuple[str, ...] = ()
    dimensions: int | None = None
    declared_space: str | None = None
    api_key_file: str | None = None
    price_per_million_tokens: str | None = None

    def space(self, dimensions: int | None = None) -> str:
        """The space of this provider's vectors, at the size a caller asked for if it did."""
        return spaces.space_of(
            kind=self.kind,
            model=self.model,
            base_url=self.base_url,
            declared=self.declared_space,
            pinned=self.dimensions,
            requested=dimensions,
        )

    def answers_to(self, model: str) -> bool:
        """Whether a request for this model means this provider."""
        return model == self.model or model in self.aliases


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Whether another provider may answer, and whether it may do so from another space."""

    enabled: bool = True
    across_spaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Calls and tokens of the policy per UTC day; None lifts the limit, 0 closes.

    `deny_on_store_loss` False lets each pod count alone while Redis is away.
    """

    daily_requests: int | None = 10_000
    daily_tokens: int | None = None
    deny_on_store_loss: bool = True
    redis_url_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """How long vectors are kept, and where. `ttl_seconds` 0 keeps nothing."""

    ttl_seconds: int = 604_800
    memory_max_bytes: int = 33_554_432
    redis_url_file: str | None = None
    shared: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThrough:
    """Where `/v1/*` other than embeddings goes; None answers 404."""

    base_url: str | None = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A whole policy as a sidecar sees it."""

    namespace: str
    name: str
    providers: tuple[Provider, ...]
    failover: Failover = field(default_factory=Failover)
    quota: Quota = field(default_factory=Quota)
    cache: Cache = field(default_factory=Cache)
    passthrough: PassThrough = field(default_factory=PassThrough)
    log_level: str = "info"
    requires: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """`namespace/name`: whose quota is counted. The environment form has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def cache_scope(self) -> str:
        """Whose cache entries are whose: the policy's own, or a name its namespace shares."""
        if self.cache.shared is not None:
            return f"{self.namespace}/shared/{self.cache.shared}"
        return f"{self.namespace}/policy/{self.name}"


def called_url(*, kind: str, base_url: str, api_key: str | None) -> str:
    """Where a provider is called: its base URL, unless the key belongs to another built-in host."""
    is_atlas = kind == "Voyage" and (api_key or "").startswith(ATLAS_KEY_PREFIX)
    # An address that the policy chose is left alone.
    return ATLAS_BASE_URL if is_atlas and base_url == DEFAULT_BASE_URLS["Voyage"] else base_url


def parse(text: str | bytes) -> PolicyDocument:
    """Read a document.

    Raises:
        InvalidDocument: it is no JSON object, a field is missing or of the wrong type, its version
            is another, or it requires a feature this reader lacks.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument("", f"not JSON: {error}") from None
    root = _Object(raw, "")
    version = root.get("version", _integer)
    if version != VERSION:
        raise InvalidDocument("version", f"this sidecar reads {VERSION}, the document is {version}")
    requires = root.get("requires", _texts, default=())
    lacking = sorted(set(requires) - FEATURES)
    if lacking:
        raise InvalidDocument("requires", f"this sidecar lacks {', '.join(lacking)}")
    policy = root.child("policy")
    quota = root.child("quota")
    daily = quota.child("daily")
    cache = root.child("cache")
    passthrough = root.child("passthrough")
    failover = root.child("failover")
    return PolicyDocument(
        namespace=policy.get("namespace", _string),
        name=policy.get("name", _text),
        providers=_providers(root),
        failover=Failover(
            enabled=failover.get("enabled", _boolean, default=True),
            across_spaces=failover.get("acrossSpaces", _boolean, default=False),
        ),
        quota=Quota(
            daily_requests=daily.get("requests", _nullable(_count)),
            daily_tokens=daily.get("tokens", _nullable(_count), default=None),
            deny_on_store_loss=quota.get("onStoreLoss", _text, default="Deny") != "Allow",
            redis_url_file=quota.get("redisURLFile", _nullable(_file), default=None),
        ),
        cache=Cache(
            ttl_seconds=cache.get("ttlSeconds", _count, default=604_800),
            memory_max_bytes=cache.get("memoryMaxBytes", _count, default=33_554_432),
            redis_url_file=cache.get("redisURLFile", _nullable(_file), default=None),
            shared=cache.get("shared", _nullable(_text), default=None),
        ),
        passthrough=PassThrough(base_url=passthrough.get("baseURL", _nullable(_url), default=None)),
        log_level=root.get("logLevel", _text, default="info"),
        requires=requires,
    )


def dump(document: PolicyDocument) -> str:
    """The document as JSON text, the same text for the same document."""
    body = {
        "version": VERSION,
        "requires": list(document.requires),
        "policy": {"namespace": document.namespace, "name": document.name},
        "providers": [
            {
                "name": provider.name,
                "type": provider.kind,
                "model": provider.model,
                "aliases": list(provider.aliases),
                "baseURL": provider.base_url,
                "dimensions": provider.dimensions,
                "space": provider.declared_space,
                "apiKeyFile": provider.api_key_file,
                "pricePerMillionTokens": provider.price_per_million_tokens,
            }
            for provider in document.providers
        ],
        "failover": {
            "enabled": document.failover.enabled,
            "acrossSpaces": document.failover.across_spaces,
        },
        "quota": {
            "daily": {
                "requests": document.quota.daily_requests,
                "tokens": document.quota.daily_tokens,
            },
            "onStoreLoss": "Deny" if document.quota.deny_on_store_loss else "Allow",
            "redisURLFile": document.quota.redis_url_file,
        },
        "cache": {
            "ttlSeconds": document.cache.ttl_seconds,
            "memoryMaxBytes": document.cache.memory_max_bytes,
            "redisURLFile": document.cache.redis_url_file,
            "shared": document.cache.shared,
        },
        "passthrough": {"baseURL": document.passthrough.base_url},
        "logLevel": document.log_level,
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


_REQUIRED: Final = object()


class _Object:
    """A JSON object that knows its path, for errors that name the field."""

    def __init__(self, raw: object, path: str) -> None:
        if not isinstance(raw, dict):
            raise InvalidDocument(path, "must be an object")
        self._raw: dict[str, Any] = raw
        self._path = path

    def get(self, key: str, read: Callable[[Any, str], T], *, default: Any = _REQUIRED) -> T:
        path = f"{self._path}.{key}" if self._path else key
        if key not in self._raw:
            if default is _REQUIRED:
                raise InvalidDocument(path, "is missing")
            return default  # type: ignore[no-any-return] # each caller's default is of its reader's type
        return read(self._raw[key], path)

    def child(self, key: str) -> "_Object":
        path = f"{self._path}.{key}" if self._path else key
        return _Object(self._raw.get(key, {}), path)


def _providers(root: _Object) -> tuple[Provider, ...]:
    items = root.get("providers", _list)
    if not items:
        raise InvalidDocument("providers", "must name at least one provider")
    providers = tuple(
        _provider(_Object(item, f"providers[{index}]")) for index, item in enumerate(items)
    )
    if len({provider.name for provider in providers}) < len(providers):
        raise InvalidDocument("providers", "names must be unique")
    return providers


def _provider(item: _Object) -> Provider:
    return Provider(
        name=item.get("name", _word),
        kind=item.get("type", _text),
        model=item.get("model", _word),
        base_url=item.get("baseURL", _url),
        aliases=item.get("aliases", _words, default=()),
        dimensions=item.get("dimensions", _nullable(_positive), default=None),
        declared_space=item.get("space", _nullable(_word), default=None),
        api_key_file=item.get("apiKeyFile", _nullable(_file), default=None),
        price_per_million_tokens=item.get("pricePerMillionTokens", _nullable(_text), default=None),
    )


def _string(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidDocument(path, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can escape half a surrogate pair, which no key, header or file name can hold.
        raise InvalidDocument(path, "must be valid Unicode") from None
    return value


def _text(value: object, path: str) -> str:
    text = _string(value, path)
    if not text:
        raise InvalidDocument(path, "must not be empty")
    return text


def _word(value: object, path: str) -> str:
    # It goes into headers of an answer; the resource knows the same rule.
    word = _text(value, path)
    if not (word.isascii() and word.isprintable()) or " " in word:
        raise InvalidDocument(path, "must be printable ASCII without spaces")
    return word


def _file(value: object, path: str) -> str:
    name = _text(value, path)
    if "/" in name or name.startswith("."):
        raise InvalidDocument(path, "must be a plain file name")
    return name


def _url(value: object, path: str) -> str:
    url = _word(value, path)
    if not url.startswith(("https://", "http://")):
        raise InvalidDocument(path, "must start with https:// or http://")
    return url.rstrip("/")


def _integer(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidDocument(path, "must be an integer")
    return value


def _count(value: object, path: str) -> int:
    number = _integer(value, path)
    if not 0 <= number <= MAX_COUNT:
        raise InvalidDocument(path, f"must lie between 0 and {MAX_COUNT}")
    return number


def _positive(value: object, path: str) -> int:
    number = _count(value, path)
    if number == 0:
        raise InvalidDocument(path, "must be at least 1")
    return number


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidDocument(path, "must be true or false")
    return value


def _list(value: object, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidDocument(path, "must be a list")
    return value


def _texts(value: object, path: str) -> tuple[str, ...]:
    return tuple(_text(item, f"{path}[{index}]") for index, item in enumerate(_list(value, path)))


def _words(value: object, path: str) -> tuple[str, ...]:
    return tuple(_word(item, f"{path}[{index}]") for index, item in enumerate(_list(value, path)))


def _nullable(read: Callable[[Any, str], T]) -> Callable[[Any, str], T | None]:
    def read_or_none(value: Any, path: str) -> T | None:
        return None if value is None else read(value, path)

    return read_or_none
