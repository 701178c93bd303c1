"""The operator's reading of a policy, and its refusals of what the schema cannot refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, json_fields, names
from embedding_operator import errors
from embedding_operator.policy import policy, reference
from tests.parts import policies

KEY = {"secretKeyRef": {"name": "keys", "key": "K"}}
CACHE = {"ttlSeconds": 5, "memory": {"maxBytes": 7}}
QUOTA = {"daily": {"requests": 10}, "unlimited": False, "onStoreLoss": "Deny"}
REDIS = {"url": "redis://redis:6379/0"}


def vendor(name, kind, model, **more):
    return {"name": name, "type": kind, "model": model, "apiKey": KEY, **more}


def test_each_secret_value_has_key_and_place_to_read_it_from():
    assert policy.references(policies.parsed()) == {
        "provider-main": reference.VaultReference("secret", "shop/embeddings", "OPENAI"),
        names.SECRET_CACHE_REDIS_URL: reference.SecretReference("redis", "CACHE_URL"),
        names.SECRET_QUOTA_REDIS_URL: reference.SecretReference("redis", "QUOTA_URL"),
    }


def test_provider_without_key_needs_no_secret_value():
    keyless = policies.parsed(providers=[policies.compatible("e5")], cache=CACHE, quota=QUOTA)
    assert policy.references(keyless) == {}
    (provider,) = policy.to_document(keyless).providers
    assert provider.api_key_file is None


def test_url_without_credentials_goes_way_of_all_urls():
    plain = policies.parsed(cache={**CACHE, "redis": REDIS})
    assert policy.references(plain)[names.SECRET_CACHE_REDIS_URL] == reference.Literal(REDIS["url"])
    assert REDIS["url"] not in document.dump(policy.to_document(plain))


def test_file_is_named_in_document_for_every_key_of_secret():
    made = policies.parsed()
    files = policy.to_document(made)
    named = {provider.api_key_file for provider in files.providers}
    named |= {files.quota.redis_url_file, files.cache.redis_url_file}
    assert named == policy.references(made).keys()


def test_cache_s_redis_counts_where_quota_has_none():
    made = policy.to_document(policies.parsed(quota=QUOTA, cache={**CACHE, "redis": REDIS}))
    assert made.quota.redis_url_file == names.SECRET_CACHE_REDIS_URL


def test_policy_without_redis_shares_nothing():
    made = policy.to_document(policies.parsed(quota=QUOTA, cache=CACHE))
    assert made.quota.redis_url_file is None
    assert made.cache.redis_url_file is None


def test_unlimited_lifts_limit_of_requests_alone():
    made = policies.parsed(
        quota={**QUOTA, "unlimited": True, "daily": {"requests": 10_000, "tokens": 5}}
    )
    assert policy.to_document(made).quota.daily_requests is None
    assert policy.to_document(made).quota.daily_tokens == 5


@pytest.mark.parametrize(
    ("written", "calls", "tokens"),
    [("20%", 3, 200), ("0%", 0, 0), ("100%", 11, 999), (5, 5, 0), (12, 11, 0), (None, 3, 200)],
)
def test_reserve_is_share_of_every_limit_or_number_of_calls(written, calls, tokens):
    given = {} if written is None else {"reserveForApplications": written}
    made = policies.parsed(
        quota={**QUOTA, "daily": {"requests": 11, "tokens": 999}, **given}, cache=CACHE
    )
    quota = policy.to_document(made).quota
    assert (quota.reserved_requests, quota.reserved_tokens) == (calls, tokens)


@pytest.mark.parametrize("written", ["20%", 500])
def test_unlimited_quota_has_no_reserve(written):
    made = policies.parsed(
        quota={**QUOTA, "unlimited": True, "reserveForApplications": written}, cache=CACHE
    )
    quota = policy.to_document(made).quota
    assert (quota.reserved_requests, quota.reserved_tokens) == (0, 0)


def test_policy_closed_to_other_paths_names_no_address_for_them():
    off = {"enabled": False, "baseURL": "https://api.openai.com/v1"}
    assert policy.to_document(policies.parsed(passthrough=off)).passthrough.base_url is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("OpenAI", "https://api.openai.com/v1"), ("Voyage", "https://api.voyageai.com/v1")],
)
def test_vendor_answers_at_its_own_address(kind, expected):
    made = policies.parsed(providers=[vendor("v", kind, "m")])
    assert policy.to_document(made).providers[0].base_url == expected


def test_synced_secret_takes_all_keys_where_none_are_listed():
    entries = [
        {"name": "a", "vault": {"mount": "m", "path": "p"}},
        {"name": "b", "vault": {"mount": "m", "path": "p"}, "keys": []},
        {"name": "c", "vault": {"mount": "m", "path": "p"}, "keys": [{"key": "k", "as": "n"}]},
    ]
    first, second, third = policies.parsed(secrets=entries).secrets
    assert first.keys is None
    assert second.keys is None
    assert third.keys == {"k": "n"}


SMALL = vendor("small", "OpenAI", "text-embedding-3-small")
VOYAGE = vendor("voyage", "Voyage", "voyage-3-lite")
DIFFERENT = {
    "vendors": [SMALL, VOYAGE],
    "sizes": [SMALL, {**SMALL, "name": "short", "dimensions": 512}],
    "servers that say nothing": [policies.compatible("one"), policies.compatible("two")],
    "one that says and one that does not": [
        policies.compatible("one", space="e5"),
        policies.compatible("two"),
    ],
    "the third of three": [
        policies.compatible("one", space="e5"),
        policies.compatible("two", space="e5"),
        policies.compatible("three"),
    ],
}
SAME = {
    "one provider": [SMALL],
    "a family": [vendor("a", "Voyage", "voyage-4"), vendor("b", "Voyage", "voyage-4-lite")],
    "the default size, written": [SMALL, {**SMALL, "name": "b", "dimensions": 1536}],
    "servers that say the same": [
        policies.compatible("one", space="e5"),
        policies.compatible("two", space="e5"),
    ],
}


@pytest.mark.parametrize("providers", DIFFERENT.values(), ids=DIFFERENT)
def test_failover_that_could_never_happen_is_refused(providers):
    with pytest.raises(errors.InvalidPolicy) as refusal:
        policy.to_document(policies.parsed(providers=providers))
    assert refusal.value.reason == "SpacesDiffer"
    assert refusal.value.path == f"spec.providers[{len(providers) - 1}]"
    assert providers[0]["name"] in str(refusal.value)
    assert providers[-1]["name"] in str(refusal.value)


@pytest.mark.parametrize("providers", SAME.values(), ids=SAME)
def test_failover_inside_space_is_taken(providers):
    made = policy.to_document(policies.parsed(providers=providers))
    assert len(made.providers) == len(providers)


@pytest.mark.parametrize(
    "failover",
    [{"enabled": False, "acrossSpaces": False}, {"enabled": True, "acrossSpaces": True}],
    ids=["none", "by consent"],
)
@pytest.mark.parametrize("providers", DIFFERENT.values(), ids=DIFFERENT)
def test_spaces_may_differ_where_nothing_mixes_them_unasked(providers, failover):
    made = policy.to_document(policies.parsed(providers=providers, failover=failover))
    assert made.failover.across_spaces == failover["acrossSpaces"]


@pytest.mark.parametrize("missing", ["providers", "failover", "quota", "cache", "sidecar"])
def test_object_of_another_schema_is_refused_and_breaks_nothing(missing):
    with pytest.raises(errors.InvalidPolicy, match=missing):
        policies.parsed(**{missing: None})


NAME = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
WORD = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
COUNT = st.integers(0, json_fields.MAX_COUNT)
MAYBE_REDIS = st.one_of(
    st.none(),
    st.just(REDIS),
    st.just(KEY),
    st.just({"vault": {"mount": "m", "path": "p", "key": "k"}}),
)


def without_none(value):
    return {key: inner for key, inner in value.items() if inner is not None}


PROVIDER = st.builds(
    lambda **fields: without_none(fields),
    name=NAME,
    type=st.just("OpenAICompatible"),
    model=WORD,
    aliases=st.one_of(st.none(), st.lists(WORD, max_size=3, unique=True)),
    baseURL=st.from_regex(r"https?://[a-z]{1,9}(:[0-9]{1,4})?(/[a-z]{1,5}){0,2}/?", fullmatch=True),
    dimensions=st.one_of(st.none(), st.integers(1, 16384)),
    space=st.just("one"),
    apiKey=st.one_of(st.none(), st.just(KEY)),
    pricePerMillionTokens=st.one_of(st.none(), st.just("0.02")),
)
SPECS = st.fixed_dictionaries(
    {
        "providers": st.lists(PROVIDER, min_size=1, max_size=8, unique_by=lambda one: one["name"]),
        "quota": st.builds(
            lambda **fields: without_none(fields),
            daily=st.builds(
                lambda **fields: without_none(fields),
                requests=COUNT,
                tokens=st.one_of(st.none(), COUNT),
            ),
            unlimited=st.booleans(),
            reserveForApplications=st.none() | COUNT | st.integers(0, 100).map("{}%".format),
            onStoreLoss=st.sampled_from(["Deny", "Allow"]),
            redis=MAYBE_REDIS,
        ),
        "cache": st.builds(
            lambda **fields: without_none(fields),
            ttlSeconds=st.integers(0, 31_536_000),
            memory=st.fixed_dictionaries({"maxBytes": st.integers(0, 1 << 34)}),
            redis=MAYBE_REDIS,
            shared=st.one_of(st.none(), NAME),
        ),
    }
)


@given(SPECS)
def test_sidecar_reads_document_that_operator_writes(spec):
    made = policy.to_document(policies.parsed(**spec))
    assert document.parse(document.dump(made)) == made
