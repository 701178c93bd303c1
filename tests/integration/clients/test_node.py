"""OpenAI's own SDK for Node, from the npm registry, as an application has it."""

import base64
import os
from pathlib import Path

import pytest

from embedding_contract import names
from tests.parts import node
from tests.parts.vectors import MODEL, bits, made

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parent / "node"


def asked(*requests):
    environment = {name: os.environ[name] for name in (names.ENV_BASE_URL, names.ENV_API_KEY)}
    return node.run(FOLDER, "embed.mjs", requests, environment)


def rows(outcome):
    return [row["embedding"] for row in outcome["answer"]["data"]]


def test_sdk_gets_models_own_bits_in_every_form(injected, stand_in):
    said = asked(
        {"model": MODEL, "input": ["a", "b c", "a"]},
        {"model": MODEL, "input": ["a", "b c"], "encoding_format": "float"},
        {"model": MODEL, "input": ["a", "b c"], "encoding_format": "base64"},
        {"model": MODEL, "input": "a"},
        {"model": MODEL, "input": [1, 2, 3]},
        {"model": MODEL, "input": [[1, 2], [3]]},
    )
    own, floats, text, bare, tokens, lists = said["outcomes"]
    assert [bits(row) for row in rows(own)] == made("a", "b c", "a")
    assert [bits(row) for row in rows(floats)] == made("a", "b c")
    assert [base64.b64decode(row) for row in rows(text)] == made("a", "b c")
    assert [bits(row) for row in rows(bare)] == made("a")
    assert [bits(row) for row in rows(tokens)] == made([1, 2, 3])
    assert [bits(row) for row in rows(lists)] == made([1, 2], [3])
    assert [it["cache"] for it in (own, floats, text, bare)] == ["miss", "hit", "hit", "hit"]
    assert [call.body["input"] for call in stand_in.calls] == [
        ["a", "b c"],
        [[1, 2, 3]],
        [[1, 2], [3]],
    ]
    assert said["models"] == [MODEL]


def test_refusal_is_exception_sdk_has_for_it(injected):
    said = asked({"model": "unknown", "input": "x"}, {"model": MODEL, "input": ""})
    unknown, empty = said["outcomes"]
    assert (unknown["kind"], unknown["code"], unknown["param"]) == (
        "NotFoundError",
        "model_not_found",
        "model",
    )
    assert (empty["kind"], empty["status"], empty["param"]) == ("BadRequestError", 400, "input")
