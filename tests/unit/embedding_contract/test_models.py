"""The table of known models."""

from datetime import date

import pytest

from embedding_contract import document, models

ENTRIES = pytest.mark.parametrize(("key", "model"), models.MODELS.items(), ids=models.MODELS)
TYPES = {it.lower() for it in (*document.DEFAULT_BASE_URLS, "AzureOpenAI", "Bedrock")}


@ENTRIES
def test_model_is_of_type_with_address(key, model):
    provider, _, name = key.partition("/")
    assert provider in TYPES
    assert name
    assert model.family.partition("/")[0] in TYPES


@ENTRIES
def test_default_size_is_one_of_sizes(key, model):
    assert model.dimensions > 0
    assert not model.sizes or model.dimensions in model.sizes


@ENTRIES
def test_end_has_day_and_source(key, model):
    if model.end is not None:
        assert date.fromisoformat(model.end.date) > date.fromisoformat(model.end.seen)
        assert model.end.source.startswith("https://")


def test_models_of_one_family_have_equal_default_size():
    by_family: dict[str, set[int]] = {}
    for model in models.MODELS.values():
        by_family.setdefault(model.family, set()).add(model.dimensions)
    assert all(len(sizes) == 1 for sizes in by_family.values())


@pytest.mark.parametrize("model", ["voyage-3-large", "voyage-3.5", "voyage-3.5-lite"])
def test_voyage_3_retires_on_vendor_s_day(model):
    found = models.find("Voyage", model)
    assert found is not None
    assert found.end is not None
    assert found.end.date == "2027-12-01"


def test_unknown_model_is_not_found():
    assert models.find("OpenAI", "voyage-4") is None
    assert models.find("OpenAICompatible", "text-embedding-3-small") is None
