"""Fields of a server's own pass where the policy lists them, and are part of the key (A5)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document, provider_terms
from embedding_sidecar import errors, providers
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.openai_format import openai_json
from tests.fakes import provider as stand_in
from tests.parts.world import World, ask, one

TASK = provider_terms.PassThroughField(name="task")
PROMPT = provider_terms.PassThroughField(name="prompt_name", changes_space=True)


def lenient(world):
    """A server that knows any field."""
    for name in ("p", "q"):
        it = world.net[name]
        it.fault = lambda _, it=it: stand_in.vectors(
            it.calls[-1].body, it.calls[-1].body["input"], dimensions=16, default="float"
        )


def parsed(**fields):
    return openai_json.parse(json.dumps({"model": "m", "input": "a", **fields}).encode()).ask


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "text-matching"),
        ("keep_alive", -1),
        ("truncate_prompt_tokens", 256),
        ("prompt_name", "query"),
        ("late_chunking", True),
        # Siblings.
        ("options", {"b": [1, 2], "a": None}),
        ("priority", 0.5),
    ],
)
def test_a5_listed_field_reaches_server_as_it_is_and_is_part_of_key(name, value):
    """A5."""
    field = provider_terms.PassThroughField(name=name)
    world = World(one("p", kind="OpenAICompatible", pass_through_fields=(field,)))
    lenient(world)
    asked = parsed(**{name: value})
    assert world.run(world.service.embed(asked)).hits == 0
    assert world.net["p"].calls[-1].body[name] == value
    assert world.embed("a").hits == 0
    assert world.run(world.service.embed(asked)).hits == 1
    assert world.run(world.service.embed(parsed(**{name: "other"}))).hits == 0


@pytest.mark.parametrize("kind", ["OpenAI", "OpenAICompatible", "Voyage"])
def test_a5_field_that_is_not_listed_is_400_that_names_it(kind):
    """A5."""
    world = World(one("p", kind=kind, pass_through_fields=(PROMPT,)))
    refusal = world.refusal("a", extra=(("task", b'"x"'),))
    assert (refusal.status, refusal.param) == (400, "task")
    assert world.net["p"].calls == []


def test_a5_only_providers_that_pass_field_on_stand_in():
    """A5: another one would make other vectors."""
    world = World(
        one("p", kind="OpenAICompatible", space="s", pass_through_fields=(TASK,)),
        one("q", "n", kind="OpenAICompatible", space="s"),
    )
    lenient(world)
    world.net["p"].fault = errors.Unreachable("no_connection", billed=False)
    assert world.embed("a").provider == "q"
    assert world.refusal("b", extra=(("task", b'"x"'),)).status == 502


def test_a5_field_that_changes_space_says_so_by_value():
    """A5."""
    world = World(one("p", kind="OpenAICompatible", pass_through_fields=(TASK, PROMPT)))
    lenient(world)
    plain = world.embed("a").space
    spaces = [
        world.embed("a", extra=extra).space
        for extra in (
            (("task", b'"x"'),),
            (("prompt_name", b'"x"'),),
            (("prompt_name", b'"y"'),),
            (("prompt_name", b'"y"'), ("task", b'"x"')),
        )
    ]
    assert spaces[0] == plain
    assert spaces[1] != plain
    assert spaces[1] != spaces[2] == spaces[3]


FIELDS = st.dictionaries(
    st.text("ab", min_size=1, max_size=3).map("f_{}".format),
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=3),
    max_size=3,
)


def _said(fields):
    """Null counts as absent."""
    return json.dumps({k: v for k, v in fields.items() if v is not None}, sort_keys=True)


@given(FIELDS, FIELDS)
def test_a5_keys_are_equal_only_where_all_fields_are(some, others):
    """A5."""

    def key(fields):
        (found,) = cache_entry.keys(parsed(**fields), space="s", scope="x", generation="g")
        return found

    assert (key(some) == key(others)) is (_said(some) == _said(others))


def test_a5_field_that_is_null_counts_as_absent():
    """A5: as every field of a request does."""
    assert parsed(task=None).extra == ()


@pytest.mark.parametrize(
    "fields", [{f"f{number}": 1 for number in range(17)}, {"task": "x" * 1100}]
)
def test_a5_fields_are_bounded(fields):
    """A5: they are remembered with what they choose."""
    with pytest.raises(errors.Rejected):
        parsed(**fields)


@pytest.mark.parametrize(
    ("kind", "base_url", "word", "field", "sent"),
    [
        (
            "OpenAICompatible",
            "https://integrate.api.nvidia.com/v1",
            "document",
            "input_type",
            "passage",
        ),
        ("OpenAICompatible", "http://nim.models.svc/v1", "passage", "input_type", "passage"),
        ("OpenAICompatible", "https://api.jina.ai/v1", "document", "task", "retrieval.passage"),
        ("OpenAICompatible", "https://api.jina.ai/v1", "query", "task", "retrieval.query"),
        ("Voyage", "https://api.voyageai.com/v1", "passage", "input_type", "document"),
        ("Voyage", "https://api.voyageai.com/v1", "query", "input_type", "query"),
        # Siblings: what only looks like Jina's host; a plain server.
        ("OpenAICompatible", "https://notjina.ai/v1", "document", "input_type", "document"),
        ("OpenAICompatible", "http://tei:80", "query", "input_type", "query"),
    ],
)
def test_a5_input_type_is_said_in_servers_words(kind, base_url, word, field, sent):
    """A5."""
    to = document.Provider(name="p", kind=kind, model="m", base_url=base_url)
    translation = providers.PROVIDERS[kind]
    made = translation.request(ask("a", input_type=word), to=to, credential=None, now=0.0)
    assert json.loads(made.body)[field] == sent
