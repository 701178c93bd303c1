"""OpenAI's own SDK for Python, synchronous and asynchronous, as an application has it."""

import asyncio
import base64

import openai
import pytest

from tests.parts.vectors import MODEL, bits, made

pytestmark = pytest.mark.integration

INPUTS = [
    ("hello", ["hello"]),
    (["one", "two words", "one"], ["one", "two words", "one"]),
    ([1, 2, 3], [[1, 2, 3]]),
    ([[1, 2], [3]], [[1, 2], [3]]),
]


def asked_of_sync(**request):
    with openai.OpenAI() as client:
        return client.embeddings.create(**request)


def asked_of_async(**request):
    async def ask():
        async with openai.AsyncOpenAI() as client:
            return await client.embeddings.create(**request)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("asked", [asked_of_sync, asked_of_async])


@BOTH
@pytest.mark.parametrize(("given", "items"), INPUTS)
def test_every_form_of_input_gives_models_own_bits(injected, asked, given, items):
    answer = asked(model=MODEL, input=given)
    assert [bits(row.embedding) for row in answer.data] == made(*items)
    assert [row.index for row in answer.data] == list(range(len(items)))
    assert (answer.object, answer.model) == ("list", MODEL)


@BOTH
def test_floats_and_base64_are_equal_bit_for_bit_from_one_entry(injected, stand_in, asked):
    # Asked for nothing, the SDK asks for base64 and decodes it itself.
    own = asked(model=MODEL, input=["a", "b"])
    floats = asked(model=MODEL, input=["a", "b"], encoding_format="float")
    text = asked(model=MODEL, input=["a", "b"], encoding_format="base64")
    assert [bits(row.embedding) for row in own.data] == made("a", "b")
    assert [bits(row.embedding) for row in floats.data] == made("a", "b")
    assert [base64.b64decode(row.embedding) for row in text.data] == made("a", "b")
    assert len(stand_in.calls) == 1


@BOTH
def test_dimensions_and_what_goes_beyond_openai_reach_provider(injected, stand_in, asked):
    answer = asked(
        model=MODEL,
        input="x",
        dimensions=8,
        user="u",
        extra_body={"input_type": "query", "truncation": True, "cache": {"no-cache": False}},
    )
    assert [bits(row.embedding) for row in answer.data] == made("x", dimensions=8)
    assert stand_in.calls[-1].body == {
        "model": MODEL,
        "input": ["x"],
        "encoding_format": "base64",
        "dimensions": 8,
        "user": "u",
    }


@BOTH
def test_refusal_is_exception_sdk_has_for_it(injected, asked):
    with pytest.raises(openai.BadRequestError) as refused:
        asked(model=MODEL, input="x", extra_body={"output_dimension": 256})
    error = refused.value
    assert (error.status_code, error.param, error.type) == (
        400,
        "output_dimension",
        "invalid_request_error",
    )
    assert error.request_id is not None
    assert error.request_id.startswith("req_")


def test_models_are_listed_and_retrieved(injected):
    with openai.OpenAI() as client:
        assert [it.id for it in client.models.list()] == [MODEL]
        found = client.models.retrieve(MODEL)
        assert (found.id, found.object, found.owned_by) == (MODEL, "model", "openai")
        with pytest.raises(openai.NotFoundError, match=MODEL) as refused:
            client.models.retrieve("gpt/embed")
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
