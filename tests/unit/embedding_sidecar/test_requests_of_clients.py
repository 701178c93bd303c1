"""Requests of real clients (A2, A3, A4)."""

import asyncio
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from embedding_contract import names
from embedding_sidecar import errors
from embedding_sidecar.api import app
from embedding_sidecar.openai_format import openai_json, paths
from embedding_sidecar.telemetry.metrics import Metrics
from tests.parts.world import World, one

NEAR = [
    "/v1//embeddings",
    "/v1/embeddings/",
    "/v1/v1/embeddings",
    "/v1/engines/m/embeddings",
    "/v1/Embeddings",
    # Siblings.
    "//v1/embeddings",
    "/V1/embeddings",
    "/embeddings",
    "/v1/embedding",
    "/v1/embeddings//",
    "/v1/deployments/m/embeddings",
    "/openai/deployments/m/embeddings",
    "/v1/embeddings ",
    "/v1/embeddings;version=1",
    "/v1\\embeddings",
    "/v1/./embeddings",
    "/api/v1/embeddings",
    # A base URL that is the whole path, to which an SDK adds it.
    "/v1/embeddings/embeddings",
    "/v1/embeddings/v1/embeddings",
    # urllib takes tabs from a path.
    "/v1/embeddings\t",
]


@pytest.mark.parametrize("path", NEAR)
def test_a2_near_miss_is_404_that_names_right_path(path):
    """A2."""
    assert paths.is_near_miss("POST", path)
    refusal = paths.not_here(path)
    assert refusal.status == 404
    assert names.PATH_EMBEDDINGS in refusal.message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", names.PATH_EMBEDDINGS),
        ("GET", "/v1/organization/usage/embeddings"),
        ("POST", "/v1/vector_stores/embeddings_of/files"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/organization/embeddings"),
        ("GET", "/v1/embeddings/"),
        ("POST", "/"),
    ],
)
def test_a2_other_paths_are_none(method, path):
    """A2: a vendor's own go on."""
    assert not paths.is_near_miss(method, path)


@given(
    slashes=st.lists(st.sampled_from(["/", "//", "///"]), min_size=3, max_size=3),
    upper=st.sets(st.integers(0, 9)),
    tail=st.sampled_from(["", "/", "//", "."]),
)
def test_a2_slashes_and_letters_go_around_nothing(slashes, upper, tail):
    """A2: it is the endpoint, or a near miss."""
    word = "".join(c.upper() if at in upper else c for at, c in enumerate("embeddings"))
    path = f"{slashes[0]}v1{slashes[1]}{word}{tail}"
    assert path == names.PATH_EMBEDDINGS or paths.is_near_miss("POST", path)


class Unasked:
    """What is in force, which no near miss may come to."""

    def runtime(self):
        raise AssertionError("it would be passed through")


@pytest.mark.parametrize("path", NEAR)
def test_a2_router_refuses_near_miss_before_anything_is_passed_through(path):
    """A2."""
    application = app.Application(current=cast("Any", Unasked()), metrics=Metrics())
    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    scope |= {"query_string": b"", "server": ("127.0.0.1", 8484), "scheme": "http"}
    with pytest.raises(errors.Rejected) as caught:
        asyncio.run(application.pass_through(Request(scope)))
    assert (caught.value.status, caught.value.code) == (404, "unknown_url")


HALF = "\\ud83d"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (f'{{"model":"m","input":["fine","cut {HALF}"]}}', "input[1]"),
        (f'{{"model":"m","input":"cut {HALF}"}}', "input"),
        # Siblings: the other half, another field, a pair the wrong way round, one not escaped.
        ('{"model":"m","input":["\\ude00 late"]}', "input[0]"),
        (f'{{"model":"m","input":"x","user":"{HALF}"}}', "user"),
        ('{"model":"m","input":["\\ude00\\ud83d"]}', "input[0]"),
        (b'{"model":"m","input":["a","\xed\xa0\xbd"]}', "input[1]"),
    ],
)
def test_a3_half_surrogate_pair_is_named_by_its_item(body, param):
    """A3."""
    with pytest.raises(errors.Rejected) as caught:
        openai_json.parse(body if isinstance(body, bytes) else body.encode())
    assert (caught.value.status, caught.value.param) == (400, param)
    assert f"'{param}'" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b'{"input": "\\ud83d"', b"[" * 100_000 + b"\\ud800"])
def test_a3_other_faults_of_body_are_told_as_ever(body):
    """A3."""
    with pytest.raises(errors.Rejected, match="not valid JSON") as caught:
        openai_json.parse(body)
    assert caught.value.param is None


def test_a3_whole_pair_is_character():
    """A3."""
    asked = openai_json.parse(json.dumps({"model": "m", "input": ["\U0001f600"]}).encode())
    assert asked.ask.items == ("\U0001f600",)


def test_a4_token_arrays_that_backup_does_not_take_are_told_as_reason():
    """A4: with what to do."""
    world = World(one("p"), one("q", "n", kind="Voyage"), crossing=True)
    world.net["p"].fault = errors.Unreachable("no_connection", billed=False)
    message = world.refusal((1, 2)).message
    assert "q: takes_no_tokens: Voyage takes texts, not token arrays" in message
    assert "check_embedding_ctx_length=False" in message
