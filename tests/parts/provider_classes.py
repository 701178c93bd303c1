"""ClusterEmbeddingProviders as the API server gives them back, defaults filled in."""

from typing import Any

from embedding_contract import names


def raw(name: str = "openai", **spec: Any) -> dict[str, Any]:
    """A class of type OpenAI with one model that all namespaces may use; None removes a field."""
    made = {
        "type": "OpenAI",
        "apiKey": {"secretKeyRef": {"name": name, "key": "KEY"}},
        "vault": {"serviceAccountName": "embedding-vault"},
        "models": [{"model": "text-embedding-3-small"}],
        "namespaceSelector": {},
        **spec,
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.CLASS_KIND,
        "metadata": {"name": name, "uid": f"uid-of-{name}", "generation": 1},
        "spec": {key: value for key, value in made.items() if value is not None},
    }
