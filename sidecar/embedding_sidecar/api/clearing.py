"""Reads a DELETE of the cache (all, one model, or texts), and lists the entries it may mean."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

import orjson

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.openai_format import fields, openai_json
from embedding_sidecar.translation import provider_api

MAX_ITEMS: Final = 256
"""Texts in one request: each may have been embedded in many forms, and each form has a key."""
_KEYS: Final = frozenset({"input", "model"})
_INPUT_TYPES: Final = (None, "query", "document")
_TRUNCATIONS: Final = (None, False, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearing:
    """The items to remove, or all of `model` if there are none; None is every model."""

    model: str | None
    items: tuple[provider_api.Item, ...] = ()


def parse(query: str, body: bytes, *, policy: document.PolicyDocument) -> Clearing:
    """Read `?model=NAME` and a body `{"input": ..., "model": NAME}`; both may be missing.

    Raises:
        errors.Rejected: 400, with `param` naming the field.
    """
    asked = parse_qs(query, keep_blank_values=True)
    unknown = sorted(asked.keys() - {"model"})
    if unknown:
        raise errors.Rejected(
            "The query may hold only 'model'. Send texts in the body, as 'input'.",
            param=unknown[0],
        )
    raw = fields.of(body) if body else {}
    if beyond := raw.keys() - _KEYS:
        raise openai_json.unrecognized(min(beyond))
    named = [*asked.get("model", ()), *([raw["model"]] if "model" in raw else [])]
    for name in named:
        if name != named[0] or not any(it.model == name for it in policy.providers):
            raise errors.Rejected(
                f"The policy has no model {str(name)[: openai_json.MAX_NAME]!r}, or the query "
                "and the body name different models.",
                param="model",
            )
    model = named[0] if named else None
    if "input" not in raw:
        return Clearing(model=model)
    # `input` has the form of a request for embeddings, and is parsed as one.
    request = {"model": policy.providers[0].model, "input": raw["input"]}
    items = openai_json.parse(orjson.dumps(request)).ask.items
    if len(items) > MAX_ITEMS:
        raise errors.Rejected(
            f"'input' has {len(items)} items; at most {MAX_ITEMS} can be cleared at once.",
            param="input",
        )
    return Clearing(model=model, items=items)


def variants(
    clearing: Clearing, *, policy: document.PolicyDocument
) -> Iterator[tuple[provider_api.Ask, str]]:
    """The requests that may have left entries of these items, each with its space.

    Those for another number of dimensions than the policy's cannot be listed.
    """
    named = (it for it in policy.providers if clearing.model in (None, it.model))
    for it, input_type, truncation in itertools.product(named, _INPUT_TYPES, _TRUNCATIONS):
        ask = provider_api.Ask(
            model=it.model,
            items=clearing.items,
            dimensions=it.dimensions,
            input_type=input_type,
            truncation=truncation,
        )
        yield ask, it.space()
