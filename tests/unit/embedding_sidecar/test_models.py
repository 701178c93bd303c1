"""The policy's models as a caller sees them; Voyage's fields are for Voyage's models only."""

import pytest

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.openai_format import models, openai_json
from embedding_sidecar.translation import provider_api


def policy(*providers):
    return document.PolicyDocument(
        namespace="shop",
        name="main",
        providers=tuple(
            document.Provider(
                name=name, kind=kind, model=model, base_url="http://x", aliases=aliases
            )
            for name, kind, model, *aliases in providers
        ),
    )


BOTH = policy(("a", "OpenAI", "small", "search"), ("b", "Voyage", "voyage-4", "search", "cheap"))


def test_name_is_of_first_provider_that_has_it():
    assert models.owners(BOTH) == {"small": "a", "search": "a", "voyage-4": "b", "cheap": "b"}
    assert models.owner(BOTH, "search") == "a"
    assert models.of_voyage(BOTH) == ["voyage-4", "cheap"]


def test_name_nobody_has_is_answered_with_those_there_are():
    with pytest.raises(errors.Rejected, match="small, search, voyage-4, cheap") as refused:
        models.owner(BOTH, "x" * 9999)
    assert (refused.value.status, refused.value.code, refused.value.param) == (
        404,
        "model_not_found",
        "model",
    )
    assert len(refused.value.message) < 1000


def asked(model, *voyage_keys):
    ask = provider_api.Ask(model=model, items=("x",))
    return openai_json.Request(ask=ask, base64=False, voyage_keys=voyage_keys)


def test_voyages_words_are_for_voyages_models():
    models.check(BOTH, asked("cheap", "output_dimension"))
    models.check(BOTH, asked("small"))
    for name in ("small", "search"):
        with pytest.raises(errors.Rejected) as refused:
            models.check(BOTH, asked(name, "output_dtype"))
        assert (refused.value.status, refused.value.param) == (400, "output_dtype")


def test_unknown_model_is_refused_by_its_name_alone():
    models.check(BOTH, asked("unknown", "output_dimension"))
