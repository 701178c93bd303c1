"""Spaces: equal names only where vectors may be compared."""

import pytest

from embedding_contract import document, spaces


def space(model, *, kind="OpenAI", base_url="https://api.openai.com/v1", **more):
    return spaces.space_of(kind=kind, model=model, base_url=base_url, **more)


def test_default_size_and_same_size_asked_for_are_one_space():
    assert space("text-embedding-3-small") == space("text-embedding-3-small", requested=1536)


def test_another_size_is_another_space():
    assert space("text-embedding-3-small", requested=512) != space("text-embedding-3-small")


def test_voyage_4_family_shares_one_space():
    found = {
        space(model, kind="Voyage") for model in ("voyage-4", "voyage-4-lite", "voyage-4-large")
    }
    assert found == {"voyage/voyage-4@1024"}


def test_equal_sizes_of_two_vendors_are_two_spaces():
    assert space("voyage-3", kind="Voyage") != space("text-embedding-3-small", requested=1024)


def test_known_name_on_somebody_elses_server_is_not_believed():
    mine = space("voyage-4", kind="OpenAICompatible", base_url="http://a/v1")
    assert mine != space("voyage-4", kind="Voyage")
    assert mine != space("voyage-4", kind="OpenAICompatible", base_url="http://b/v1")


def test_model_of_another_vendor_is_not_known():
    assert space("voyage-4", kind="OpenAI") != space("voyage-4", kind="Voyage")


def test_declared_space_is_believed():
    nano = space("voyage-4-nano", kind="OpenAICompatible", declared="voyage/voyage-4@1024")
    assert nano == space("voyage-4", kind="Voyage")


@pytest.mark.parametrize("pinned", [None, 256])
def test_size_only_caller_fixes_leaves_declared_space(pinned):
    assert space("m", declared="mine", pinned=pinned, requested=pinned) == "mine"
    assert space("m", declared="mine", pinned=pinned, requested=128) == "mine@128"


def test_alias_means_its_provider():
    provider = document.Provider(
        name="a", kind="OpenAI", model="m", base_url="https://x", aliases=("small",)
    )
    assert provider.answers_to("m")
    assert provider.answers_to("small")
    assert not provider.answers_to("a")


def test_azure_s_deployments_are_in_openai_s_spaces():
    azure = {"kind": "AzureOpenAI", "base_url": "https://shop.openai.azure.com"}
    assert space("text-embedding-3-small", **azure) == space("text-embedding-3-small")
    assert space("text-embedding-3-large", pinned=256, **azure) == space(
        "text-embedding-3-large", requested=256
    )
    assert space("my-own", **azure) == "AzureOpenAI/https://shop.openai.azure.com/my-own@default"
