"""Provider translations: requests, answers, and the meaning of failures."""

import array
import asyncio
import base64
import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar import errors, providers
from embedding_sidecar.translation import provider_api, vector_decoder
from tests.fakes import provider as stand_in
from tests.fakes import vendors
from tests.parts import upstreams

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROOT = Path(__file__).parents[3]
KINDS = sorted(providers.PROVIDERS)
FLOATS_ONLY = {"Gemini", "Bedrock"}
OWN_ENCODING: dict[str, tuple[str, object]] = {
    "Cohere": ("embedding_types", ["base64"]),
    "Jina": ("embedding_type", "base64"),
}


def ask(*items, **rest) -> provider_api.Ask:
    return provider_api.Ask(model="m", items=items or ("a",), **rest)


def made(kind, asked, *, key=None, base_url="http://p/v1") -> provider_api.HttpRequest:
    terms = stand_in.terms(kind)
    model = stand_in.model(kind)
    asked = replace(asked, model=model)
    to = document.Provider(name="p", kind=kind, model=model, base_url=base_url, **terms)
    return providers.PROVIDERS[kind].request(asked, to=to, credential=key, now=0.0)


def sent(kind, asked, key=None, base_url="http://p/v1"):
    request = made(kind, asked, key=key, base_url=base_url)
    return request, json.loads(request.body)


def answered(body, status=200, headers=()) -> provider_api.HttpAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return provider_api.HttpAnswer(status=status, lines=stand_in.lines(dict(headers)), body=raw)


def read(body, *, count, dimensions) -> vector_decoder.Vectors:
    reader = vector_decoder.Reader(count=count, dimensions=dimensions)
    reader.feed(answered(body).body)
    return reader.vectors()


def rejected(kind, body, status=400) -> errors.Rejected:
    failure = providers.PROVIDERS[kind].failure(answered(body, status))
    assert isinstance(failure, errors.Rejected)
    return failure


def good(*embeddings):
    return {
        "data": [{"index": at, "embedding": it} for at, it in enumerate(embeddings)],
        "usage": {"total_tokens": 3},
    }


def test_resource_stand_ins_and_addresses_are_of_kinds_that_are_translated():
    crd = yaml.safe_load((ROOT / "crds/embeddingpolicies.yaml").read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    types = schema["properties"]["providers"]["items"]["properties"]["type"]["enum"]
    assert set(types) >= set(KINDS)
    assert sorted(stand_in.PATHS) == KINDS
    assert {*document.DEFAULT_BASE_URLS, "OpenAICompatible", "AzureOpenAI", "Bedrock"} == set(types)


def test_types_that_older_sidecars_lack_are_features_by_name():
    first = {"OpenAI", "OpenAICompatible", "Voyage"}
    assert {it for it in document.FEATURES if it.startswith("type.")} == {
        f"type.{kind}" for kind in set(KINDS) - first
    }


@pytest.mark.parametrize("kind", sorted(set(KINDS) - FLOATS_ONLY))
def test_vectors_are_asked_for_as_bits_they_are(kind):
    name, value = OWN_ENCODING.get(kind, ("encoding_format", "base64"))
    assert sent(kind, ask())[1][name] == value
    assert sent(kind, ask(plain=True))[1].get(name) in (None, ["float"])


def test_openai_is_sent_nothing_it_does_not_know():
    _, body = sent("OpenAI", ask(input_type="query", truncation=True, dimensions=3, user="u"))
    assert body.keys() == {"model", "input", "encoding_format", "dimensions", "user"}


def test_server_like_openai_is_sent_all_that_was_given_and_no_more():
    _, body = sent("OpenAICompatible", ask(input_type="query", truncation=True))
    assert (body["input_type"], body["truncation"]) == ("query", True)
    assert sent("OpenAICompatible", ask())[1].keys() == {"model", "input", "encoding_format"}


@pytest.mark.parametrize(("given_", "sent_"), [(None, False), (False, False), (True, True)])
def test_voyage_cuts_text_only_when_asked_to(given_, sent_):
    assert sent("Voyage", ask(truncation=given_))[1]["truncation"] is sent_


def test_voyage_has_its_own_word_for_dimensions():
    _, body = sent("Voyage", ask(dimensions=256, user="u", input_type="document"))
    assert body["output_dimension"] == 256
    assert body["input_type"] == "document"
    assert not body.keys() & {"dimensions", "user"}


@pytest.mark.parametrize(
    ("key", "base_url", "host"),
    [
        ("al-1", "https://api.voyageai.com/v1", "https://ai.mongodb.com/v1"),
        ("pa-1", "https://api.voyageai.com/v1", "https://api.voyageai.com/v1"),
        (None, "https://api.voyageai.com/v1", "https://api.voyageai.com/v1"),
        ("al-1", "http://gateway/v1", "http://gateway/v1"),
    ],
)
def test_atlas_key_goes_to_atlas_unless_policy_names_another_place(key, base_url, host):
    assert sent("Voyage", ask(), key, base_url)[0].url == f"{host}/embeddings"


def test_token_arrays_are_refused_of_kinds_that_take_texts_only():
    for kind, translation in providers.PROVIDERS.items():
        assert (translation.obstacle(["a", (1, 2)]) is not None) == (kind in stand_in.TEXTS_ONLY)
        assert translation.obstacle(["a"]) is None


@pytest.mark.parametrize(
    ("kind", "model", "items", "tokens"),
    [
        ("OpenAI", "text-embedding-3-small", 2048, 300_000),
        ("OpenAICompatible", "m", 2048, 300_000),
        ("Voyage", "voyage-4-lite", 1000, 1_000_000),
        ("Voyage", "voyage-3.5", 1000, 320_000),
        ("Voyage", "voyage-4-large", 1000, 120_000),
        ("Voyage", "a model of tomorrow", 1000, 120_000),
        ("Gemini", "gemini-embedding-001", 100, None),
        ("Cohere", "embed-v4.0", 96, None),
        ("Mistral", "mistral-embed", 256, 65_536),
        ("Jina", "jina-embeddings-v3", 2048, None),
        ("Bedrock", "amazon.titan-embed-text-v2:0", 1, None),
        ("Bedrock", "eu.cohere.embed-v4:0", 96, None),
    ],
)
def test_limits_of_one_request_are_those_of_vendor(kind, model, items, tokens):
    limits = providers.PROVIDERS[kind].limits(model)
    assert (limits.items, limits.tokens) == (items, tokens)


@pytest.mark.parametrize("code", ["insufficient_quota", "credit_balance_exhausted"])
def test_spent_credit_is_told_from_rate_by_its_typed_code(code):
    openai = providers.PROVIDERS["OpenAI"]
    spent = answered({"error": {"code": code, "message": "quota"}}, 429, {"retry-after": "5"})
    assert isinstance(openai.failure(spent), errors.OutOfCredit)
    prose = answered({"error": {"code": None, "message": f"{code} {code}"}}, 429)
    assert isinstance(openai.failure(prose), errors.RateLimited)


@pytest.mark.parametrize("kind", KINDS)
def test_key_is_sent_and_never_shown(kind):
    request, _ = sent(kind, ask(), "sk-secret")
    assert len([it for it in request.headers.values() if "sk-secret" in it]) == 1
    assert "sk-secret" not in repr(request)
    without = sent(kind, ask(), None)[0]
    assert len(without.headers) == len(request.headers) - 1


@given(st.lists(TEXTS.filter(lambda text: text != "too long"), min_size=1), st.sampled_from(KINDS))
def test_texts_arrive_as_they_are(texts, kind):
    texts = texts[:96]
    request = made(kind, ask(*texts), base_url=f"http://p/{stand_in.PATHS[kind]}")
    assert vendors.texts("/" + request.url.split("/", 3)[3], request.body) == texts


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=5), st.randoms())
def test_base64_and_floats_in_any_order_give_same_bits(rows, random):
    packed = [array.array("f", row).tobytes() for row in rows]
    in_bits = good(*(base64.b64encode(row).decode() for row in packed))
    in_floats = good(*(list(array.array("f", row)) for row in rows))
    for body in (in_bits, in_floats):
        random.shuffle(body["data"])
        made = read(body, count=len(rows), dimensions=3)
        assert made == vector_decoder.Vectors(vectors=tuple(packed), tokens=3)


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=4).map(b"".join))
@example(struct.pack("<2f", 1.0, -math.inf))
@example(struct.pack("<I", 0xFFC00000))
@example(struct.pack("<2I", 0x7F7FFFFF, 0xFF7FFFFF))
def test_any_bits_are_vector_if_and_only_if_all_numbers_are_finite(raw):
    body = good(base64.b64encode(raw).decode())
    if all(map(math.isfinite, struct.unpack(f"<{len(raw) // 4}f", raw))):
        assert read(body, count=1, dimensions=None).vectors == (raw,)
    else:
        with pytest.raises(errors.Unusable):
            read(body, count=1, dimensions=None)


B64 = base64.b64encode(array.array("f", [1.0, 2.0]).tobytes()).decode()
NAN = base64.b64encode(array.array("f", [1.0, math.nan]).tobytes()).decode()
INFINITE = base64.b64encode(array.array("f", [math.inf, -math.inf]).tobytes()).decode()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        good(),
        good(B64, B64),
        good(""),
        good([]),
        good(None),
        good("!!!!"),
        good("AAA"),
        good("AAAAAAA="),
        good(NAN),
        good(INFINITE),
        good([1.0, 1e300]),
        good([1.0, None]),
        good([1.0, True]),
        good([1.0, "2"]),
        {**good(B64), "data": [{"index": 1, "embedding": B64}]},
        {**good(B64), "data": [{"index": True, "embedding": B64}]},
        {**good(B64), "data": [{"index": 0.5, "embedding": B64}]},
        {**good(B64), "data": [{"index": "0", "embedding": B64}]},
        {**good(B64), "data": [{"embedding": B64}, {"embedding": B64}]},
        {**good(B64), "data": [B64]},
    ],
    ids=str,
)
def test_answer_of_no_use_is_no_answer_and_may_have_cost(body):
    with pytest.raises(errors.Unreachable) as caught:
        read(body, count=1, dimensions=2)
    assert (caught.value.reason, caught.value.billed) == ("bad_answer", True)


def test_vectors_of_several_sizes_are_no_answer():
    body = good([1.0], [1.0, 2.0])
    with pytest.raises(errors.Unreachable):
        read(body, count=2, dimensions=None)


def test_index_said_twice_is_no_answer():
    body = good(B64, B64)
    body["data"][1]["index"] = 0
    with pytest.raises(errors.Unreachable):
        read(body, count=2, dimensions=2)


FATES = {
    400: (errors.Rejected, None),
    413: (errors.Rejected, None),
    422: (errors.Rejected, None),
    401: (errors.Declined, False),
    403: (errors.Declined, False),
    404: (errors.Declined, False),
    410: (errors.Declined, False),
    451: (errors.Declined, False),
    405: (errors.Declined, False),
    307: (errors.Declined, False),
    402: (errors.OutOfCredit, False),
    424: (errors.Unreachable, False),
    429: (errors.RateLimited, False),
    408: (errors.Unreachable, True),
    409: (errors.Unreachable, False),
    500: (errors.Unreachable, False),
    502: (errors.Unreachable, True),
    503: (errors.Unreachable, False),
    504: (errors.Unreachable, True),
    204: (errors.Unreachable, True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", FATES)
def test_status_has_one_meaning(kind, status):
    failure = providers.PROVIDERS[kind].failure(answered(b"<html>", status))
    assert (type(failure), getattr(failure, "billed", None)) == FATES[status]


@given(st.integers(100, 599), st.binary(), st.sampled_from(KINDS))
def test_every_provider_answer_has_meaning(status, body, kind):
    failure = providers.PROVIDERS[kind].failure(answered(body, status))
    assert isinstance(failure, errors.ProviderFailed | errors.Rejected)


def test_callers_fault_is_told_in_providers_typed_words():
    error = {"message": "too long", "type": "t", "param": "input", "code": "c"}
    failure = rejected("OpenAI", {"error": error})
    assert (failure.message, failure.param, failure.code) == ("too long", "input", "c")
    assert rejected("Voyage", {"detail": "no"}, 422).message == "no"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", [[], {}, {"error": None}, {"detail": [{"loc": 1}]}])
def test_refusal_without_words_gets_ours(kind, body):
    assert rejected(kind, body).message == "The provider rejected the request."


@pytest.mark.parametrize("kind", KINDS)
def test_wait_is_what_provider_said(kind):
    limits = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    translation = providers.PROVIDERS[kind]

    def wait(status, headers):
        failure = translation.failure(answered({}, status, headers))
        assert isinstance(failure, errors.ProviderFailed)
        return failure.retry_after_seconds

    assert wait(429, {"retry-after": "7"}) == 7.0
    assert wait(429, limits) == 360.0
    assert wait(503, {"retry-after": "7"}) == 7.0
    # With these, OpenAI says how its limits stand, whatever it answers.
    assert wait(503, limits) is None


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "dimensions": st.integers(1, 40),
        "input_type": st.sampled_from(["query", "document"]),
        "truncation": st.booleans(),
        "user": st.just("somebody"),
    },
)


@given(
    st.sampled_from(KINDS),
    st.lists(TEXTS.filter(lambda text: text != "too long"), min_size=1, max_size=5),
    st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1).map(tuple), max_size=3),
    OPTIONS,
)
def test_every_translation_round_trips(kind, texts, tokens, options):
    """What is asked arrives at a provider that knows nothing else, and its very bits come back."""
    asked = ask(*texts, *(() if kind in stand_in.TEXTS_ONLY else tokens), **options)
    request = made(kind, asked, key="sk-1", base_url=f"http://p/{stand_in.PATHS[kind]}")
    answer = asyncio.run(stand_in.StandIn(key="sk-1").send(request, within_seconds=1))
    size = asked.dimensions or stand_in.DIMENSIONS
    told, model = stand_in.side(kind, asked.input_type), stand_in.model(kind)
    carried = upstreams.carried(answer, request)
    assert providers.PROVIDERS[kind].vectors(carried) == vector_decoder.Vectors(
        vectors=tuple(
            stand_in.vector(model, list(item) if isinstance(item, tuple) else item, size, told)
            for item in asked.items
        ),
        tokens=sum(
            stand_in.tokens(item if isinstance(item, str) else list(item)) for item in asked.items
        ),
    )


@pytest.mark.parametrize("kind", sorted(set(KINDS) - stand_in.WITHOUT_TRUNCATION))
def test_too_long_text_reaches_caller_in_openais_form(kind):
    request = made(kind, ask("too long"), base_url=f"http://p/{stand_in.PATHS[kind]}")
    answer = asyncio.run(stand_in.StandIn(key=None).send(request, within_seconds=1))
    rejected = providers.PROVIDERS[kind].failure(answer)
    assert isinstance(rejected, errors.Rejected)
    assert (rejected.status, rejected.kind) == (400, "invalid_request_error")
    assert rejected.message
