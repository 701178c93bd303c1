"""Policies as the API server gives them back, defaults filled in."""

import copy
from pathlib import Path
from typing import Any

import yaml

from embedding_operator.policy import policy

_EVERYTHING = Path(__file__).parents[1] / "contract" / "cases" / "good" / "everything.yaml"


def everything() -> dict[str, Any]:
    """The policy shop/search, in which every field is set."""
    raw: dict[str, Any] = yaml.safe_load(_EVERYTHING.read_text(encoding="utf-8"))
    raw["metadata"] = {"namespace": "shop", "name": "search", "uid": "uid-1", "generation": 3}
    return raw


def compatible(name: str, **more: Any) -> dict[str, Any]:
    """A provider that needs no key."""
    base_url = f"http://{name}.models.svc/v1"
    return {"name": name, "type": "OpenAICompatible", "model": name, "baseURL": base_url} | more


LOCAL = compatible("local", model="e5", baseURL="http://model.example/v1")
"""A provider that needs no key, and that nothing calls."""


def parsed(**spec: Any) -> policy.EmbeddingPolicy:
    """`everything`, with other values at the top of its spec; None takes a field away."""
    raw = copy.deepcopy(everything())
    raw["spec"].update(spec)
    raw["spec"] = {key: value for key, value in raw["spec"].items() if value is not None}
    return policy.parse(raw)
