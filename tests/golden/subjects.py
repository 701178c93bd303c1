"""All that the golden tests take from the product: a rename of the product's names edits this file.

The other files of this folder import nothing of the product. Most of them ask programs that run,
or read files and the words of the sources.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from unittest import mock

import yaml

from embedding_contract import document, fingerprint, index_document, index_report, names, proof
from embedding_contract import metrics as catalogue
from embedding_operator.indexes import objects, resource
from embedding_operator.injection import injector, selection
from embedding_operator.kube.conditions import Condition
from embedding_operator.metrics import Metrics as OperatorMetrics
from embedding_operator.monitoring import conditions as monitoring
from embedding_sidecar.cache import cache_entry, entry_encoding
from embedding_sidecar.telemetry.metrics import Metrics as SidecarMetrics
from embedding_vectors.metrics import Metrics as VectorsMetrics
from embedding_vectors.search.app import Application as SearchApplication
from embedding_vectors.serving.pages import Pages

PROGRAMS: Final = Path(sys.executable).parent
OPERATOR: Final = PROGRAMS / "embedding-operator"

# The classes and functions by which the sources say a condition: where the type, the status and
# the reason stand among the arguments, by position or by keyword; None where they are not said.
TELLS_CONDITIONS: Final[Mapping[str, tuple[int | str | None, ...]]] = MappingProxyType(
    {
        "Condition": (0, 1, 2),
        "from_problem": (0, None, 2),
        "Verdict": (None, 0, 1),
        "Problem": (None, None, 0),
    }
)
TYPES_OF_MONITORING: Final = frozenset(
    {monitoring.RULES_LOADED, monitoring.SCRAPED, monitoring.ALERTMANAGER_READY}
)
"""Types that stand in no such call: their verdicts are handed on by type."""
TELLS_PROVIDERS_FAILURE: Final = frozenset(
    {
        "Declined",
        "RateLimited",
        "ConfigurationError",
        "OutOfCredit",
        "Unreachable",
        "UnsupportedInput",
        "Unusable",
    }
)
"""The errors of a provider, whose first argument is a word of metrics, health and log."""

DOCUMENTS: Final[Mapping[str, Callable[[bytes], str]]] = MappingProxyType(
    {
        "policy": lambda text: document.dump(document.parse(text)),
        "index": lambda text: index_document.dump(index_document.parse(text)),
        "report": lambda text: index_report.dump(index_report.parse(text)) + "\n",
    }
)
"""What each kind of document becomes that is read and written again."""


def families() -> dict[str, list[tuple[str, str, tuple[str, ...], tuple[float, ...]]]]:
    """Name, type, labels and buckets of each metric by program."""
    return {
        program: [(it.name, it.kind, it.labels, it.buckets) for it in listed]
        for program, listed in (
            ("sidecar", catalogue.SIDECAR),
            ("operator", catalogue.OPERATOR),
            ("vectors", catalogue.VECTORS),
        )
    }


def expositions() -> dict[str, str]:
    """What a scrape of each program shows before anything was counted."""
    return {
        "sidecar": SidecarMetrics().exposition().decode(),
        "operator": bytes(OperatorMetrics().page("").body).decode(),
        "vectors": VectorsMetrics().exposition().decode(),
    }


def said_names() -> dict[str, Any]:
    """Names, ports and paths that programs and users share, by the constant's own name."""
    return {name: value for name, value in vars(names).items() if name.isupper()}


def said_files() -> list[str]:
    """Names that are made of a policy's, an index's or a provider's name, here NAME."""
    return sorted(
        str(made("NAME"))
        for word, made in vars(names).items()
        if callable(made) and getattr(made, "__module__", "") == names.__name__ and word.islower()
    )


def is_bad(kind: str, status: str) -> bool:
    """Whether a condition of this type and status says that something is wrong."""
    return Condition(kind, status, "", "").is_bad


def entry_bytes(*, key: str, secret: bytes = b"") -> bytes:
    """A fixed entry of the cache as Redis holds it, authenticated where there is a secret."""
    entry = cache_entry.Entry(
        model="a-model",
        space="a-space",
        vector=bytes.fromhex("0000803f000000c0"),
        tokens=7,
        made_at=1_700_000_000.5,
        ttl_seconds=60,
    )
    with mock.patch("os.urandom", lambda size: bytes(range(size))):
        seal = entry_encoding.Seal(secret)
    made = entry_encoding.encode(entry, key=key, seal=seal)
    if entry_encoding.decode(made, key=key, seal=seal, now=entry.made_at) != entry:
        raise AssertionError("what is written is not what is read")
    return made


def injected_pod() -> dict[str, Any]:
    """A pod with one container, after the webhook gave it the sidecar of policy `search`."""
    sidecar = injector.Sidecar(
        image="sidecar:1",
        pull_policy="Never",
        resources={"requests": {"cpu": "25m", "memory": "96Mi"}},
        otel_endpoint="http://collector:4318",
    )
    chosen = selection.Candidate(name="search", created_at="", pod_selector={})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    return injector.inject(pod, sidecar=sidecar, candidate=chosen)


def signed() -> dict[str, str]:
    """What the operator and sidecars of two versions must compute alike, of fixed values."""
    fixed: dict[str, Any] = {"method": "POST", "path": "/p?q", "nonce": "0" * 32, "pod": "pod"}
    with_body = proof.sign_request("token", **fixed, time=1, body=b"body")
    return {
        "proof of a request": proof.sign_request("token", **fixed, time=1).render(),
        "proof of a request with a body": with_body.render(),
        "proof of an answer": proof.sign_answer("token", nonce="0" * 32, status=200, body=b"b"),
        "proof is in the header": proof.ANSWER_HEADER,
        "fingerprint of a document": fingerprint.of_document(b"{}"),
        "fingerprint of secrets": fingerprint.of_secrets({"a": b"1", "b": b"2"}, token=b"token"),
    }


def index_objects(text: bytes) -> list[dict[str, Any]]:
    """The objects of the index in this YAML."""
    raw = yaml.safe_load(text)
    raw["metadata"] |= {"namespace": "shop", "uid": "uid-1"}
    index = resource.parse(raw)
    vectors = objects.Vectors(
        image="vectors:1", pull_policy="Never", resources={"requests": {"cpu": "25m"}}
    )
    return [
        objects.configmap(index, "{}"),
        objects.deployment(index, vectors),
        objects.service(index),
        objects.cron_job(index, vectors),
        objects.job(index, vectors, name="run"),
    ]


class _Index:
    """What a pod of an index obeys: nothing yet, or a document."""

    def __init__(self, found: index_document.IndexDocument | None, token: str) -> None:
        self._found, self._token = found, token

    def document(self) -> index_document.IndexDocument | None:
        return self._found

    def token(self) -> str:
        return self._token


def search_application(document_text: bytes | None, *, token: str) -> Any:
    """The ASGI application of a pod that searches, whose database is never asked."""

    async def report() -> index_report.IndexReport:
        await asyncio.sleep(0)
        return index_report.IndexReport(document="0" * 16)

    found = None if document_text is None else index_document.parse(document_text)
    pages = Pages(metrics=VectorsMetrics(), report=report, token=lambda: token, pod_uid="pod")
    searcher: Any = None
    current = _Index(found, token)
    return SearchApplication(current=current, searcher=searcher, own_pages=pages).app()
