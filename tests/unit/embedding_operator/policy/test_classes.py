"""A policy completed by classes, and the values of classes that it may hold."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.policy import classes, policy, provider_class
from embedding_operator.policy.reference import ClassReference
from tests.parts import policies, provider_classes

TEAM = {"team": "shop"}
OWN = policies.compatible("own")


def usable(*found, labels=TEAM):
    by_name = {it["metadata"]["name"]: it for it in found}
    return classes.Classes(namespace="shop", labels=labels, find=by_name.get)


def wanted(*providers, **spec):
    base = {"failover": {"enabled": False, "acrossSpaces": False}, "sidecar": {"logLevel": "info"}}
    return policies.parsed(providers=list(providers), **{**base, **spec})


def resolved(*providers, found=(), labels=TEAM, **spec):
    return classes.resolve(wanted(*providers, **spec), usable(*found, labels=labels))


def refusal(made):
    assert made.unresolved is not None
    with pytest.raises(errors.InvalidPolicy) as error:
        policy.to_document(made)
    assert error.value.reason == made.unresolved.reason
    return errors.Problem(error.value.reason, str(error.value))


# --- what an entry becomes

LARGE = {"model": "text-embedding-3-large", "aliases": ["large"], "pricePerMillionTokens": "0.10"}
SMALL = {"model": "text-embedding-3-small", "dimensions": 256, "space": "ours"}
TWO = provider_classes.raw(models=[SMALL, LARGE], baseURL="https://gateway.example/v1/")


def test_entry_has_fields_of_its_class_and_model():
    entry = {"ref": "openai", "model": "text-embedding-3-large", "aliases": ["mine"], "weight": 3}
    (made,) = policy.to_document(resolved(entry, found=[TWO])).providers
    assert (made.name, made.kind, made.model) == ("openai", "OpenAI", "text-embedding-3-large")
    assert made.base_url == "https://gateway.example/v1"
    assert made.aliases == ("mine", "large")
    assert made.price_per_million_tokens == "0.10"
    assert made.weight == 3
    assert made.class_name == "openai"
    assert made.api_key_file == names.secret_class_key("openai")


def test_size_and_space_are_those_of_model():
    made = resolved({"ref": "openai", "model": "text-embedding-3-small"}, found=[TWO])
    (found,) = policy.to_document(made).providers
    assert (found.dimensions, found.declared_space) == (256, "ours")


def test_two_entries_of_one_class_share_its_key():
    entries = [
        {"ref": "openai", "name": "a", "model": "text-embedding-3-small"},
        {"ref": "openai", "name": "b", "model": "text-embedding-3-large"},
    ]
    made = resolved(*entries, found=[TWO])
    of_classes = {key: it for key, it in policy.references(made).items() if classes.of_entry(key)}
    assert of_classes == {names.secret_class_key("openai"): ClassReference("openai")}
    assert [it.name for it in policy.to_document(made).classes] == ["openai"]


def test_single_model_needs_no_name():
    made = resolved({"ref": "openai"}, found=[provider_classes.raw()])
    assert made.providers[0].model == "text-embedding-3-small"


def test_deployment_of_azure_is_named_like_model_unless_it_is_set():
    azure = provider_classes.raw(
        "azure",
        type="AzureOpenAI",
        baseURL="https://shop.openai.azure.com",
        models=[{"model": "a"}, {"model": "b", "deployment": "d"}],
    )
    entries = [{"ref": "azure", "name": it, "model": it} for it in ("a", "b")]
    made = policy.to_document(resolved(*entries, found=[azure]))
    assert [it.azure.deployment for it in made.providers if it.azure] == ["a", "d"]


def test_server_without_key_has_no_entry_in_secret():
    own = provider_classes.raw(
        "own", type="OpenAICompatible", baseURL="http://e.svc/v1", apiKey=None
    )
    made = resolved({"ref": "own"}, found=[own])
    assert policy.to_document(made).providers[0].api_key_file is None
    assert not any(map(classes.of_entry, policy.references(made)))


def test_policy_without_ref_is_unchanged():
    made = wanted(OWN)
    assert classes.resolve(made, usable()) == made


def test_document_requires_what_sidecar_must_know_of_classes():
    assert "class" in policy.to_document(resolved({"ref": "openai"}, found=[TWO_OF_ONE])).requires
    assert "class" not in policy.to_document(resolved(OWN)).requires


TWO_OF_ONE = provider_classes.raw()

# --- what is refused

FORBIDDEN = provider_classes.raw(namespaceSelector={"matchLabels": {"team": "books"}})
GOING = {**TWO, "metadata": {**TWO["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
BROKEN = {"metadata": {"name": "openai"}, "spec": {"type": "OpenAI"}}


@pytest.mark.parametrize(
    ("entry", "found", "reason", "said"),
    [
        ({"ref": "openai"}, (), "ClassMissing", "spec.providers[1].ref: there is no"),
        ({"ref": "openai"}, [GOING], "ClassMissing", "spec.providers[1].ref: there is no"),
        ({"ref": "openai"}, [FORBIDDEN], "ClassForbidden", "namespace shop"),
        ({"ref": "openai"}, [BROKEN], "ClassNotAccepted", "is not valid"),
        ({"ref": "openai"}, [TWO], "ModelMissing", "spec.providers[1].model"),
        ({"ref": "openai", "model": "large"}, [TWO], "ModelMissing", "has no model large"),
    ],
)
def test_class_that_cannot_be_used_is_named_with_field(entry, found, reason, said):
    made = resolved(OWN, entry, found=found)
    problem = refusal(made)
    assert problem.reason == reason
    assert said in problem.message
    assert "openai" in problem.message
    assert made.providers[0].is_complete
    assert not made.providers[1].is_complete


NETWORK = {"logLevel": "info", "network": {"proxy": {"https": "http://proxy:1"}}}


def test_network_of_policy_is_refused_beside_class_alone():
    made = resolved(OWN, {"ref": "openai"}, found=[TWO_OF_ONE], sidecar=NETWORK)
    assert refusal(made).reason == "NetworkNotAllowed"
    assert resolved(OWN, sidecar=NETWORK).unresolved is None


@pytest.mark.parametrize(
    ("selector", "labels", "allowed"),
    [
        ({}, TEAM, True),
        ({}, None, True),
        ({"matchLabels": {}}, {}, True),
        ({"matchLabels": TEAM}, TEAM, True),
        ({"matchLabels": TEAM}, {}, False),
        ({"matchLabels": TEAM}, None, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True),
        # Labels that are not known may hold it.
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, None, False),
        ({"matchExpressions": [{"key": "a", "operator": "Later"}]}, TEAM, False),
    ],
)
def test_selector_allows_namespaces_whose_labels_are_known(selector, labels, allowed):
    found = provider_class.parse(provider_classes.raw(namespaceSelector=selector))
    assert found.allows(labels) is allowed


def test_selector_of_another_form_allows_nobody():
    forms: tuple[object, ...] = (None, [], "all")
    for selector in forms:
        raw = provider_classes.raw()
        raw["spec"]["namespaceSelector"] = selector
        with pytest.raises(errors.InvalidPolicy):
            provider_class.parse(raw)


def test_labels_too_long_to_be_stored_are_not_known():
    metadata = {"name": "shop", "labels": TEAM}
    assert classes.labels_of({"metadata": metadata}) == TEAM
    assert classes.labels_of({"metadata": {**metadata, "labelsUnknown": True}}) is None
    assert classes.labels_of(None) is None


# --- ceilings

LIMITED = provider_classes.raw(
    perPolicy={"daily": {"requests": 10, "cost": "1.5"}, "monthly": {"tokens": 7}},
    rate={"tokensPerMinute": 5},
    redis={"url": "redis://limits:6379/0"},
)


def test_ceilings_of_class_stand_beside_quota_of_policy():
    made = policy.to_document(resolved({"ref": "openai"}, found=[LIMITED]))
    (limits,) = made.classes
    assert (limits.quota.daily_requests, limits.quota.daily_tokens) == (10, None)
    assert (limits.quota.daily_cost, limits.quota.monthly_tokens) == (1_500_000_000, 7)
    assert limits.quota.redis_url_file == names.secret_class_redis_url("openai")
    assert limits.quota.reserved_requests == 2
    assert limits.rate.tokens_per_minute == 5
    assert made.providers[0].price_per_million_tokens == "0.02"  # the class counts money


def test_class_that_counts_money_needs_price_of_each_model():
    without = provider_classes.raw(
        models=[{"model": "text-embedding-3-small"}, {"model": "unknown"}],
        perPolicy={"monthly": {"cost": "1"}},
        redis={"url": "redis://limits:6379/0"},
    )
    with pytest.raises(errors.InvalidPolicy) as error:
        classes.check(provider_class.parse(without))
    assert error.value.reason == "PriceUnknown"
    assert "spec.models[1].pricePerMillionTokens" in str(error.value)
    made = resolved({"ref": "openai", "model": "unknown"}, found=[without])
    with pytest.raises(errors.InvalidPolicy) as error:
        policy.to_document(made)
    assert error.value.reason == "PriceUnknown"
    assert "writes it into ClusterEmbeddingProvider openai" in str(error.value)
    classes.check(provider_class.parse(LIMITED))


# --- values of classes in an owned Secret

KEY = names.secret_class_key("openai")
URL = names.secret_class_redis_url("openai")


def in_force(found=LIMITED):
    return policy.to_document(resolved({"ref": "openai"}, found=[found]))


def test_values_stay_while_document_sends_them_where_class_says():
    held = [KEY, URL, "provider-own", names.SECRET_API_TOKEN]
    assert classes.withdrawn(held, usable(LIMITED), in_force=in_force()) == {}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ((), "ClassMissing"),
        ([FORBIDDEN], "ClassForbidden"),
        ([BROKEN], "ClassNotAccepted"),
        ([provider_classes.raw(baseURL="https://elsewhere.example/v1")], "ClassChanged"),
        (
            [provider_classes.raw(type="OpenAICompatible", baseURL="https://api.openai.com/v1")],
            "ClassChanged",
        ),
    ],
)
def test_value_of_class_is_withdrawn_with_its_reason(found, reason):
    gone = classes.withdrawn([KEY, "provider-own"], usable(*found), in_force=in_force())
    assert {entry: it.reason for entry, it in gone.items() if it is not None} == {KEY: reason}


def test_value_that_no_document_names_is_withdrawn_without_complaint():
    assert classes.withdrawn([KEY], usable(LIMITED), in_force=None) == {KEY: None}
    without = policy.to_document(wanted(OWN))
    assert classes.withdrawn([KEY], usable(LIMITED), in_force=without) == {KEY: None}


@pytest.mark.parametrize(
    "spec",
    [
        {"perPolicy": {"daily": {"requests": 9, "cost": "1.5"}, "monthly": {"tokens": 7}}},
        {"rate": {"tokensPerMinute": 4}},
        {"perPolicy": None},
    ],
)
def test_value_goes_when_document_has_other_limits_than_class(spec):
    """Else a policy that is refused would keep the higher limits of its last good document."""
    changed = provider_classes.raw(**{**LIMITED["spec"], **spec})
    gone = classes.withdrawn([KEY, URL], usable(changed), in_force=in_force())
    assert {entry: it.reason for entry, it in gone.items() if it} == dict.fromkeys(
        [KEY, URL], "ClassChanged"
    )


def test_document_with_classes_requires_signature_and_ceilings():
    assert set(in_force().requires) >= {"class", "signature"}
    assert "signature" not in policy.to_document(wanted(OWN)).requires


def test_value_sent_to_two_addresses_is_withdrawn():
    """A document that somebody edited: the class's key at another address, too."""
    made = in_force()
    evil = replace(made.providers[0], name="evil", base_url="https://evil.example")
    edited = replace(made, providers=(*made.providers, evil))
    assert set(classes.withdrawn([KEY], usable(LIMITED), in_force=edited)) == {KEY}


NAMES = st.sampled_from(["openai", "azure", "own", "gone"])
LABELS = st.dictionaries(st.sampled_from(["team", "tier"]), st.sampled_from(["a", "b"]))
SELECTORS = st.fixed_dictionaries({}, optional={"matchLabels": LABELS})
FOUND = st.dictionaries(NAMES, st.builds(lambda selector: selector, SELECTORS), max_size=3).map(
    lambda it: [
        provider_classes.raw(name, namespaceSelector=selector) for name, selector in it.items()
    ]
)
URLS = st.sampled_from(["https://evil.example/v1", document.DEFAULT_BASE_URLS["OpenAI"]])


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), FOUND, st.none() | LABELS)
def test_policy_becomes_document_only_of_classes_that_allow_namespace(refs, found, labels):
    made = resolved(*({"ref": it} for it in refs), found=found, labels=labels)
    allowed = {
        it["metadata"]["name"]: it
        for it in found
        if all(
            labels is not None and labels.get(key) == value
            for key, value in it["spec"]["namespaceSelector"].get("matchLabels", {}).items()
        )
    }
    assert (made.unresolved is None) == (set(refs) <= allowed.keys())
    assert {it.name for it in made.classes} == set(refs) & allowed.keys()
    keys = {classes.of_entry(it) for it in policy.references(made)} - {None}
    assert keys == set(refs) & allowed.keys()
    for entry in made.providers:
        assert entry.is_complete == (entry.ref in allowed)
        if entry.is_complete:
            assert entry.called_at == document.DEFAULT_BASE_URLS["OpenAI"]


@given(st.sets(NAMES), FOUND, st.none() | LABELS, st.lists(st.tuples(NAMES, URLS), max_size=4))
def test_value_stays_only_where_namespace_and_address_are_classes(held, found, labels, sent):
    """Whatever a document says: what stays is allowed, named, and sent to the class's address."""
    base = in_force(TWO_OF_ONE)
    providers = tuple(
        replace(
            base.providers[0],
            name=f"p{number}",
            base_url=url,
            api_key_file=names.secret_class_key(name),
            class_name=name,
        )
        for number, (name, url) in enumerate(sent)
    )
    limits = tuple(provider_class.to_document(provider_class.parse(it)) for it in found)
    standing = replace(base, providers=providers, classes=limits) if providers else None
    usable_ones = usable(*found, labels=labels)
    entries = {names.secret_class_key(it) for it in held} | {"provider-own"}
    gone = classes.withdrawn(entries, usable_ones, in_force=standing)
    assert "provider-own" not in gone
    for name in held:
        urls = {url for sent_by, url in sent if sent_by == name}
        stays = names.secret_class_key(name) not in gone
        allowed = any(it["metadata"]["name"] == name for it in found) and _allows(
            found, name, labels
        )
        assert stays == (allowed and urls == {document.DEFAULT_BASE_URLS["OpenAI"]})


def _allows(found, name, labels):
    (one,) = (it for it in found if it["metadata"]["name"] == name)
    return provider_class.parse(one).allows(labels)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("class-key-openai", "openai"),
        ("class-redis-url-openai", "openai"),
        ("provider-class-key-openai", None),
        ("cache-key", None),
        (names.SECRET_QUOTA_REDIS_URL, None),
    ],
)
def test_entry_of_class_is_known_by_its_prefix(entry, name):
    assert classes.of_entry(entry) == name


def test_no_name_of_policys_provider_makes_entry_of_class():
    for name in ("class-key-openai", "x", "key-openai"):
        assert classes.of_entry(names.secret_provider_key(name)) is None


# --- a class that is not valid is its own fault, and not the policy's


def test_class_that_lacks_what_its_type_needs_is_named_by_its_policy():
    wrong = provider_classes.raw(type="Bedrock", region="eu-central-1", models=[{"model": "x"}])
    with pytest.raises(errors.InvalidPolicy, match=r"^spec\.model: "):
        classes.check(provider_class.parse(wrong))
    problem = refusal(resolved({"ref": "openai"}, found=[wrong]))
    assert problem.reason == "ClassNotAccepted"
    assert problem.message.startswith("spec.providers[0].ref: ClusterEmbeddingProvider openai ")


def test_class_with_price_that_sidecars_refuse_to_count_is_refused():
    dear = provider_classes.raw(
        models=[{"model": "m", "pricePerMillionTokens": "1" * 9}],
        perPolicy={"daily": {"cost": "1"}},
        redis={"url": "redis://limits/0"},
    )
    with pytest.raises(errors.InvalidPolicy) as error:
        classes.check(provider_class.parse(dear))
    assert error.value.reason == "PriceTooHigh"
    assert str(error.value).startswith("spec.models[0].pricePerMillionTokens: ")
