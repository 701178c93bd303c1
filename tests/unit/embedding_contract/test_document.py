"""The policy document is read as it was written, and one that cannot be obeyed is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, json_fields

NAMES = st.text(min_size=1, max_size=12)
WORDS = st.from_regex(r"[!-~]{1,12}", fullmatch=True)
PLAIN_FILES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,10}", fullmatch=True)
URLS = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z]{1,8}(:[0-9]{2,4})?", fullmatch=True),
    st.sampled_from(["", "/v1", "/a/b"]),
)
COUNTS = st.integers(0, json_fields.MAX_COUNT)

PROVIDERS = st.builds(
    document.Provider,
    name=WORDS,
    kind=st.sampled_from(["OpenAI", "Voyage", "OpenAICompatible"]),
    model=WORDS,
    base_url=URLS,
    aliases=st.lists(WORDS, max_size=3).map(tuple),
    dimensions=st.none() | st.integers(1, 4096),
    declared_space=st.none() | WORDS,
    api_key_file=st.none() | PLAIN_FILES,
    price_per_million_tokens=st.none() | st.just("0.02"),
)
DOCUMENTS = st.builds(
    document.PolicyDocument,
    namespace=st.text(max_size=12),
    name=NAMES,
    providers=st.lists(
        PROVIDERS, min_size=1, max_size=8, unique_by=lambda provider: provider.name
    ).map(tuple),
    failover=st.builds(document.Failover, enabled=st.booleans(), across_spaces=st.booleans()),
    quota=st.builds(
        document.Quota,
        daily_requests=st.none() | COUNTS,
        daily_tokens=st.none() | COUNTS,
        deny_on_store_loss=st.booleans(),
        redis_url_file=st.none() | PLAIN_FILES,
    ),
    cache=st.builds(
        document.Cache,
        ttl_seconds=COUNTS,
        memory_max_bytes=COUNTS,
        redis_url_file=st.none() | PLAIN_FILES,
        shared=st.none() | NAMES,
    ),
    passthrough=st.builds(document.PassThrough, base_url=st.none() | URLS),
    log_level=st.sampled_from(["debug", "info", "warning", "error"]),
)


def plain():
    """The smallest document there is, as JSON."""
    return {
        "version": 1,
        "policy": {"namespace": "shop", "name": "main"},
        "providers": [
            {"name": "a", "type": "OpenAI", "model": "m", "baseURL": "https://api.openai.com/v1"}
        ],
        "quota": {"daily": {"requests": 10}},
    }


@given(DOCUMENTS)
def test_document_is_read_as_written(policy):
    assert document.parse(document.dump(policy)) == policy


@given(DOCUMENTS)
def test_one_document_has_one_text(policy):
    assert document.dump(document.parse(document.dump(policy))) == document.dump(policy)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(text):
    with pytest.raises(json_fields.InvalidDocument):
        document.parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(list(plain())), inner, max_size=5)
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(raw):
    with pytest.raises(json_fields.InvalidDocument):
        document.parse(json.dumps(raw))


@pytest.mark.parametrize("field", ["name", "model", "space", "baseURL"])
@pytest.mark.parametrize("value", ["a b", "a\r\nx-injected: 1", "modèle", "a\x7f", "\u202e"])
def test_value_that_no_header_can_hold_is_refused(field, value):
    raw = plain()
    raw["providers"][0][field] = f"https://{value}" if field == "baseURL" else value
    with pytest.raises(json_fields.InvalidDocument, match=rf"providers\[0\].{field}"):
        document.parse(json.dumps(raw))


def test_nesting_without_end_is_refused():
    with pytest.raises(json_fields.InvalidDocument, match="not JSON"):
        document.parse("[" * 100_000)


def test_unknown_keys_are_ignored():
    raw = plain()
    raw["tomorrow"] = {"x": 1}
    raw["providers"][0]["later"] = True
    assert document.parse(json.dumps(raw)) == document.parse(json.dumps(plain()))


def test_required_feature_that_is_lacking_refuses_whole():
    raw = plain() | {"requires": ["per-model-quota"]}
    with pytest.raises(json_fields.InvalidDocument, match="lacks per-model-quota"):
        document.parse(json.dumps(raw))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("version", lambda raw: raw.pop("version")),
        ("version", lambda raw: raw.update(version=2)),
        ("version", lambda raw: raw.update(version=True)),
        ("policy.name", lambda raw: raw["policy"].update(name="")),
        ("policy.namespace", lambda raw: raw["policy"].pop("namespace")),
        ("providers", lambda raw: raw.update(providers=[])),
        ("providers", lambda raw: raw.update(providers=raw["providers"] * 2)),
        ("providers[0]", lambda raw: raw.update(providers=["x"])),
        ("providers[0].baseURL", lambda raw: raw["providers"][0].update(baseURL="ftp://x")),
        ("providers[0].dimensions", lambda raw: raw["providers"][0].update(dimensions=0)),
        ("providers[0].aliases[1]", lambda raw: raw["providers"][0].update(aliases=["a", 1])),
        ("providers[0].apiKeyFile", lambda raw: raw["providers"][0].update(apiKeyFile="../etc")),
        ("quota.daily.requests", lambda raw: raw["quota"]["daily"].pop("requests")),
        ("quota.daily.requests", lambda raw: raw["quota"]["daily"].update(requests=-1)),
        ("quota.daily.requests", lambda raw: raw["quota"]["daily"].update(requests=10**12 + 1)),
        ("cache.ttlSeconds", lambda raw: raw.update(cache={"ttlSeconds": "1"})),
        ("failover.enabled", lambda raw: raw.update(failover={"enabled": 1})),
        ("providers[0].model", lambda raw: raw["providers"][0].update(model="\ud800")),
        ("passthrough", lambda raw: raw.update(passthrough=[])),
    ],
)
def test_refusal_names_field(path, change):
    raw = plain()
    change(raw)
    with pytest.raises(json_fields.InvalidDocument) as refused:
        document.parse(json.dumps(raw))
    assert refused.value.path == path
    assert str(refused.value).startswith(f"{path}: ")


def test_passthrough_is_off_without_base_url():
    assert document.parse(json.dumps(plain())).passthrough.base_url is None


def test_url_is_kept_without_slash_at_its_end():
    raw = plain()
    raw["providers"][0]["baseURL"] = "https://host/v1//"
    assert document.parse(json.dumps(raw)).providers[0].base_url == "https://host/v1"


@pytest.mark.parametrize(("said", "denies"), [("Deny", True), ("Allow", False), ("Later", True)])
def test_store_loss_denies_unless_document_allows(said, denies):
    raw = plain()
    raw["quota"]["onStoreLoss"] = said
    assert document.parse(json.dumps(raw)).quota.deny_on_store_loss is denies


def test_shared_cache_is_shared_by_name_and_inside_its_namespace():
    raw = plain()
    own = document.parse(json.dumps(raw)).cache_scope
    raw["cache"] = {"shared": "team"}
    shared = document.parse(json.dumps(raw)).cache_scope
    raw["policy"]["name"] = "other"
    assert document.parse(json.dumps(raw)).cache_scope == shared != own
    raw["policy"]["namespace"] = "elsewhere"
    assert document.parse(json.dumps(raw)).cache_scope != shared
