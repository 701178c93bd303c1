"""Indexes as the API server gives them back, and the policy that they spend by."""

import copy
from pathlib import Path
from typing import Any

import yaml

from embedding_contract import document, names
from embedding_operator.indexes import resource

CASES = Path(__file__).parents[1] / "contract" / "cases"
PROVIDERS: list[dict[str, Any]] = [
    {
        "name": "local",
        "type": "OpenAICompatible",
        "model": "e5",
        "aliases": ["small"],
        "dimensions": 384,
        "baseURL": "http://e5.models.svc/v1",
    },
    {
        "name": "openai",
        "type": "OpenAI",
        "model": "text-embedding-3-large",
        "apiKey": {"secretKeyRef": {"name": "keys", "key": "OPENAI"}},
    },
    {
        "name": "voyage",
        "type": "Voyage",
        "model": "voyage-4",
        "apiKey": {"secretKeyRef": {"name": "keys", "key": "VOYAGE"}},
    },
]
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "shop"}},
        "failover": {"enabled": False},
        "providers": PROVIDERS,
    },
}
SPENDING = document.PolicyDocument(
    namespace="shop",
    name="search",
    providers=(
        document.Provider(
            name="local",
            kind="OpenAICompatible",
            model="e5",
            aliases=("small",),
            dimensions=384,
            base_url="http://e5.models.svc/v1",
        ),
        document.Provider(
            name="openai",
            kind="OpenAI",
            model="text-embedding-3-large",
            base_url="https://api.openai.com/v1",
        ),
        document.Provider(
            name="voyage",
            kind="Voyage",
            model="voyage-4",
            base_url="https://api.voyageai.com/v1",
        ),
    ),
)
"""What sidecars of that policy obey, as far as indexes look at it."""


def everything() -> dict[str, Any]:
    """The index shop/articles, in which every field is set."""
    file = CASES / "index-good" / "everything.yaml"
    raw: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    raw["metadata"] = {
        "namespace": "shop",
        "name": "articles",
        "uid": "uid-1",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {names.ANNOTATION_DROP_TARGET: "shop.articles.old, shop.older"},
    }
    return raw


def parsed(*, name: str = "articles", **spec: Any) -> resource.EmbeddingIndex:
    """`everything`, with other values at the top of its spec; None takes a field away."""
    raw = copy.deepcopy(everything())
    raw["metadata"]["name"] = name
    raw["spec"].update(spec)
    raw["spec"] = {key: value for key, value in raw["spec"].items() if value is not None}
    return resource.parse(raw)
