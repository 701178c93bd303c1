"""The clients of docs/compatibility.md and the requests of each: the one table of cases."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from tests.parts.client_programs import Language

OPENAI_MODEL, VOYAGE_MODEL = "text-embedding-3-small", "voyage-3-lite"
UNKNOWN_MODEL = "no-such-model"
FEWER_DIMENSIONS = 8
MOST_CONNECTIONS = 5
"""For 20 requests, one after another. Node and hyper, even before a bare server, now and then send
a request before the last connection is free again; a server that keeps none costs 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the sidecar answers a case by; its message holds these words."""

    status: int
    code: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a program is asked: `count` inputs, in a manner that each program knows by `how`.

    A text has at least so many `characters`.
    `wire` is what the bytes of the request must hold, so that the case is what it says. A case
    without a `has_quota` is asked of a sidecar whose policy allows no call.
    """

    asked: str
    how: str = "many"
    count: int = 1
    characters: int = 0
    model: str | None = None
    dimensions: int | None = None
    format: str | None = None
    body: str | None = None
    refusal: Refusal | None = None
    has_quota: bool = True
    wire: bytes | None = None


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "one": Case(asked="one text", how="one"),
        "many": Case(asked="300 texts in order", count=300),
        "large": Case(asked="300 texts of 4,000 letters", count=300, characters=4000),
        "dimensions": Case(
            asked=f"{FEWER_DIMENSIONS} dimensions",
            how="one",
            dimensions=FEWER_DIMENSIONS,
            wire=rb'dimensions?"\s?:\s?8',
        ),
        "float": Case(
            asked="`encoding_format` float",
            count=3,
            format="float",
            wire=rb'"encoding_format"\s?:\s?"float"',
        ),
        "base64": Case(
            asked="`encoding_format` base64",
            count=3,
            format="base64",
            wire=rb'"encoding_format"\s?:\s?"base64"',
        ),
        "tokens": Case(asked="arrays of tokens", how="tokens", count=3),
        "repeated": Case(asked="20 requests by kept connections", how="repeated", count=20),
        "threads": Case(asked="8 requests at once", how="threads", count=8),
        "chunked": Case(
            asked="a body in chunks",
            count=300,
            body="chunked",
            wire=rb"(?i)transfer-encoding: chunked",
        ),
        "expect": Case(
            asked="`Expect: 100-continue`",
            count=300,
            body="expect",
            wire=rb"(?i)expect: 100-continue",
        ),
        "unknown": Case(
            asked="an unknown model",
            how="one",
            model=UNKNOWN_MODEL,
            refusal=Refusal(status=404, code="model_not_found", words=UNKNOWN_MODEL),
        ),
        "quota": Case(
            asked="a quota that is used up",
            how="one",
            refusal=Refusal(status=429, code="insufficient_quota", words="0 calls a day"),
            has_quota=False,
        ),
    }
)
_OF_ALL = ("one", "many", "large", "dimensions", "repeated", "threads", "unknown", "quota")
_OF_OPENAI = (*_OF_ALL, "float", "base64", "tokens")
_BY_HAND = (*_OF_ALL, "chunked", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An unmodified client.

    `package` is its name in the lock file; without one, its version is that of the runtime.
    `refused` has the types of its own errors by case, none where the application reads answers
    itself, and `shows` is what these hand over of status and code. `tries` is how often it asks
    when a used-up quota says `x-should-retry: false`; some do not look at that. `sends` is what
    it sends of its own accord with each request, as a regular expression of bytes.
    """

    name: str
    language: Language
    program: str
    package: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    shows: tuple[str, ...] = ("status", "code")
    cases: tuple[str, ...] = _OF_ALL
    sends: Mapping[str, bytes] = field(default_factory=dict)
    is_voyage: bool = False
    tries: int = 1

    @property
    def model(self) -> str:
        """The model of the policy that it asks."""
        return VOYAGE_MODEL if self.is_voyage else OPENAI_MODEL

    def requests(self, *, has_quota: bool) -> list[dict[str, Any]]:
        """What its program reads, to ask a sidecar with or without a quota."""
        return [
            {
                "case": name,
                "how": CASES[name].how,
                "model": CASES[name].model or self.model,
                "inputs": self.inputs(name),
                "dimensions": CASES[name].dimensions,
                "format": CASES[name].format,
                "body": CASES[name].body,
            }
            for name in self.cases
            if CASES[name].has_quota is has_quota
        ]

    def inputs(self, case: str) -> list[Any]:
        """Inputs that no other client and no other case has, so that none is in the cache."""
        texts = [self.text(case, number) for number in range(CASES[case].count)]
        # A token for each byte: what a vocabulary of bytes makes of the text.
        return [list(text.encode()) for text in texts] if case == "tokens" else texts

    def text(self, case: str, number: int) -> str:
        """A text of a case; no text is the beginning of another one."""
        text = f"{self.language.value} {self.program} {case} {number}."
        return text.ljust(CASES[case].characters, "x")


def _always(name: str) -> Mapping[str, str]:
    return MappingProxyType({"unknown": name, "quota": name})


_LIKE_OPENAI = MappingProxyType({"unknown": "NotFoundError", "quota": "RateLimitError"})
_DECODES_BASE64 = MappingProxyType(
    {"base64 of its own accord": rb'"encoding_format"\s?:\s?"base64"'}
)
_OFFERS_HTTP2 = MappingProxyType(
    {"an upgrade to HTTP/2, offered of its own accord": rb"(?i)upgrade: h2c"}
)

CLIENTS = (
    Client(
        name="openai",
        language=Language.PYTHON,
        program="openai_sdk",
        package="openai",
        refused=_LIKE_OPENAI,
        cases=_OF_OPENAI,
        sends=_DECODES_BASE64,
    ),
    Client(
        name="langchain-openai",
        language=Language.PYTHON,
        program="langchain",
        package="langchain-openai",
        refused=_LIKE_OPENAI,
        cases=(*_OF_ALL, "tokens"),
    ),
    Client(
        name="llama-index-embeddings-openai-like",
        language=Language.PYTHON,
        program="llama_index_like",
        package="llama-index-embeddings-openai-like",
        refused=_LIKE_OPENAI,
    ),
    Client(
        name="haystack-ai",
        language=Language.PYTHON,
        program="haystack_embedders",
        package="haystack-ai",
        refused=_LIKE_OPENAI,
    ),
    Client(
        name="litellm",
        language=Language.PYTHON,
        program="litellm_sdk",
        package="litellm",
        refused=_LIKE_OPENAI,
        # Of the answer it keeps the message alone.
        shows=("status",),
        cases=(*_OF_ALL, "float"),
    ),
    Client(
        name="voyageai",
        language=Language.PYTHON,
        program="voyage",
        package="voyageai",
        refused=_always("APIError"),
        sends=_DECODES_BASE64,
        is_voyage=True,
    ),
    Client(
        name="aiohttp",
        language=Language.PYTHON,
        program="aiohttp_client",
        package="aiohttp",
        cases=(*_BY_HAND, "expect"),
    ),
    Client(
        name="openai",
        language=Language.NODE,
        program="openai_sdk",
        package="openai",
        refused=_LIKE_OPENAI,
        cases=_OF_OPENAI,
        sends=_DECODES_BASE64,
    ),
    Client(
        name="@ai-sdk/openai",
        language=Language.NODE,
        program="ai_sdk_openai",
        package="@ai-sdk/openai",
        refused=_always("AI_APICallError"),
        tries=3,
    ),
    Client(
        name="@ai-sdk/openai-compatible",
        language=Language.NODE,
        program="ai_sdk_openai_compatible",
        package="@ai-sdk/openai-compatible",
        refused=_always("AI_APICallError"),
        tries=3,
    ),
    Client(
        name="@langchain/openai",
        language=Language.NODE,
        program="langchain",
        package="@langchain/openai",
        refused=_LIKE_OPENAI,
        cases=(*_OF_ALL, "float"),
    ),
    Client(
        name="fetch",
        language=Language.NODE,
        program="fetch",
        cases=_BY_HAND,
    ),
    Client(
        name="JDK HttpClient",
        language=Language.JAVA,
        program="JdkHttpClient",
        cases=(*_BY_HAND, "expect"),
        sends=_OFFERS_HTTP2,
    ),
    Client(
        name="langchain4j-open-ai",
        language=Language.JAVA,
        program="LangChain4j",
        package="langchain4j-open-ai",
        refused={"unknown": "ModelNotFoundException", "quota": "RateLimitException"},
        cases=(*_OF_ALL, "float"),
        sends=_OFFERS_HTTP2,
        tries=3,
    ),
    Client(
        name="openai-java",
        language=Language.JAVA,
        program="OpenAiJava",
        package="openai-java",
        refused={"unknown": "NotFoundException", "quota": "RateLimitException"},
        cases=_OF_OPENAI,
    ),
    Client(
        name="openai-go",
        language=Language.GO,
        program="openai_go",
        package="github.com/openai/openai-go/v3",
        refused=_always("*openai.Error"),
        cases=_OF_OPENAI,
    ),
    Client(
        name="net/http",
        language=Language.GO,
        program="net_http",
        cases=(*_BY_HAND, "expect"),
    ),
    Client(
        name="async-openai",
        language=Language.RUST,
        program="async_openai_client",
        package="async-openai",
        refused=_always("OpenAIError::ApiError"),
        cases=_OF_OPENAI,
    ),
    Client(
        name="reqwest",
        language=Language.RUST,
        program="reqwest_client",
        package="reqwest",
        cases=_BY_HAND,
    ),
)


def locked(client: Client) -> str | None:
    """The version that the lock file of the client's language pins; None without a package."""
    if client.package is None:
        return None
    version = _LOCKS[client.language](client.language.sources, client.package)
    return version.removeprefix("v")


def _of_toml(file: str) -> Callable[[Path, str], str]:
    def read(sources: Path, package: str) -> str:
        packages = tomllib.loads((sources / file).read_text(encoding="utf-8"))["package"]
        (version,) = {it["version"] for it in packages if it["name"] == package}
        return str(version)

    return read


def _of_npm(sources: Path, package: str) -> str:
    packages = json.loads((sources / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return str(packages[f"node_modules/{package}"]["version"])


def _of_maven(sources: Path, package: str) -> str:
    space = "{http://maven.apache.org/POM/4.0.0}"
    root = ET.fromstring((sources / "pom.xml").read_text(encoding="utf-8"))
    (version,) = (
        dependency.findtext(f"{space}version")
        for dependency in root.iter(f"{space}dependency")
        if dependency.findtext(f"{space}artifactId") == package
    )
    return str(version)


def _of_go(sources: Path, package: str) -> str:
    required = re.search(
        rf"^(?:require)?\s*{re.escape(package)} (\S+)$",
        (sources / "go.mod").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert required is not None
    return required[1]


_LOCKS: Mapping[Language, Callable[[Path, str], str]] = {
    Language.PYTHON: _of_toml("uv.lock"),
    Language.NODE: _of_npm,
    Language.JAVA: _of_maven,
    Language.GO: _of_go,
    Language.RUST: _of_toml("Cargo.lock"),
}
