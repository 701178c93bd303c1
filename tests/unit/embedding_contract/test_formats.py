"""Keys that came after the first format: which a document sets, and which a reader lacks."""

import dataclasses
import json
from typing import get_args, get_origin

import pytest

from embedding_contract import document, formats, json_records, provider_terms

FIRST = {
    *("version", "requires", "policy.namespace", "policy.name", "logLevel"),
    *("providers.name", "providers.type", "providers.model", "providers.aliases"),
    *("providers.baseURL", "providers.dimensions", "providers.space", "providers.apiKeyFile"),
    "providers.pricePerMillionTokens",
    *("failover.enabled", "failover.acrossSpaces", "passthrough.baseURL"),
    *("quota.daily.requests", "quota.daily.tokens", "quota.onStoreLoss", "quota.redisURLFile"),
    *("cache.ttlSeconds", "cache.memoryMaxBytes", "cache.redisURLFile", "cache.shared"),
}
"""The keys that the first format has, by its reader in commit 4fd8761."""
HARMLESS = "quota.reserveForApplications"


def keys(kind: type, path: str = "") -> set[str]:
    """The paths of all keys of a dataclass of the contract."""
    found: set[str] = set()
    for it, key in zip(dataclasses.fields(kind), json_records._fields(kind), strict=True):
        inner = ".".join([*([path] if path else []), *key.keys])
        below = _record(it.type)
        found |= {inner} if below is None else keys(below, inner)
    return found


def _record(hint: object) -> type | None:
    """The dataclass of an annotation, if its values are objects or lists of objects."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    if get_origin(hint) is None:
        return None
    inner = (_record(getattr(it, "__origin__", it)) for it in get_args(hint))
    origin = getattr(hint, "__origin__", None)
    return next((it for it in (*inner, _record(origin)) if it is not None), None)


def test_every_key_later_than_first_format_is_named():
    later = {it for it in keys(document.PolicyDocument) if it not in FIRST}
    unnamed = {
        it
        for it in later
        if not any(
            it == named or it.startswith(f"{named}.") for named in (*formats.SINCE, HARMLESS)
        )
    }
    assert unnamed == set()
    assert keys(document.PolicyDocument) >= FIRST


def written(**more):
    provider = document.Provider(
        name="p", kind="OpenAI", model="m", base_url="https://p.example", **more.pop("provider", {})
    )
    made = document.PolicyDocument(namespace="n", name="p", providers=(provider,), **more)
    return json.loads(document.dump(made))


def test_document_without_later_keys_is_of_first_format():
    assert formats.later(written()) == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"provider": {"weight": 0}}, ["providers.weight"]),
        ({"provider": {"call_seconds": 5}}, ["providers.timeouts"]),
        ({"provider": {"limits": provider_terms.Limits(items=5)}}, ["providers.limits"]),
        ({"quota": document.Quota(monthly_requests=5)}, ["quota.monthly"]),
        (
            {"quota": document.Quota(daily_cost=5, observes=True)},
            ["quota.daily.cost", "quota.mode"],
        ),
        ({"network": document.Network(no_proxy="a.example")}, ["network"]),
        (
            {"indexes": (document.Index(name="i", uid="u", url="http://i.example"),)},
            ["indexes"],
        ),
    ],
)
def test_later_key_is_named_to_older_reader_only(given, named):
    used = formats.later(written(**given))
    assert list(formats.unknown(used, to=formats.FIRST)) == named
    assert formats.unknown(used, to=formats.CURRENT) == ()


@pytest.mark.parametrize("strange", [[], "text", {"providers": {"weight": 1}}, {"quota": 5}])
def test_document_that_somebody_edited_names_no_key_wrongly(strange):
    assert set(dict(formats.later(strange))) <= {"providers.weight"}
