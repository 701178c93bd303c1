"""Answers to callers where servers behave as their published references say.

Each server is played over HTTP after tests/exchanges/NAME.yaml, to a real sidecar, of which each
case begins with a policy that nobody had before.
"""

import base64
from collections.abc import Iterator
from dataclasses import replace

import pytest

from embedding_contract import document, provider_terms
from tests.fakes import provider as stand_in
from tests.parts import exchanges, obeying, sidecar
from tests.parts.compatibility import BY_REFERENCE, Row, Section
from tests.parts.exchanges import Case, Player, Server
from tests.parts.obeying import Obeying

pytestmark = [pytest.mark.integration, pytest.mark.compatibility]

CASES = [
    pytest.param(server, case, id=f"{server.file}: {case.name}")
    for server in exchanges.servers()
    for case in server.cases
]
WRONG_KEY = "sk-wrong-0123456789abcdef"
PRIVATE = "private private"
"""Of which long texts are made."""
_NOT_SENT = frozenset({"input", "texts", "characters", "again"})


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Iterator[Obeying]:
    with obeying.obeying(tmp_path_factory.mktemp("sidecar") / "files") as made:
        yield made


def texts(send) -> list:
    """What is sent: `input`, or so many texts, the first one as long as is said."""
    if "input" in send:
        return list(send["input"])
    made = [f"text {number}" for number in range(send.get("texts", 1))]
    if "characters" in send:
        made[-1] = "private " * (send["characters"] // 8 + 1)
    return made


def obey(followed: Obeying, server: Server, case: Case, *, address: str) -> str:
    """Put the case's policy in force; the model that is asked for."""
    policy = dict(case.policy)
    host = server.base_url.split("/", 3)[2]
    base_url, network = server.base_url, document.Network()
    if server.by_name:
        network = document.Network(http_proxy=address)
    else:
        base_url = base_url.replace(f"https://{host}", address).replace(f"http://{host}", address)
    fields = tuple(provider_terms.PassThroughField(name=it) for it in policy.pop("pass_on", ()))
    model: str = policy.pop("model", server.model)
    key = WRONG_KEY if policy.pop("wrong_key", False) else server.key
    limits = provider_terms.Limits(**policy.pop("limits", {}))
    of_type: dict[str, object] = {}
    if server.kind is not None:
        of_type = {"kind": server.kind, **stand_in.terms(server.kind, model)}
    if server.azure is not None:
        deployment = policy.pop("deployment", server.azure.deployment)
        azure = replace(server.azure, deployment=deployment)
        of_type = {"kind": "AzureOpenAI", "azure": azure}
    assert not policy, f"unknown: {policy}"
    followed.obey(
        base_url=base_url,
        model=model,
        key=key,
        network=network,
        limits=limits,
        pass_through_fields=fields,
        **of_type,
    )
    return model


def is_answered(answer, told: dict, *, items, model: str, asked) -> None:
    """Vectors bit for bit the player's own, in order, and usage as is told."""
    size = asked.get("dimensions", exchanges.DIMENSIONS)
    wanted: list = [exchanges.vector(model, item, dimensions=size) for item in items]
    if asked.get("encoding_format") == "float":
        wanted = [list(memoryview(base64.b64decode(it)).cast("f")) for it in wanted]
    said = answer.json()
    assert [it["embedding"] for it in said["data"]] == wanted
    assert [it["index"] for it in said["data"]] == list(range(len(items)))
    assert said["model"] == model
    tokens = told.pop("tokens", said["usage"]["total_tokens"])
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def is_refused(answer, told: dict) -> None:
    """In OpenAI's form, with the words that are told, and none of what was sent."""
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    for name in ("type", "param", "code"):
        if name in told:
            assert error[name] == told.pop(name), answer.text
    for words in told.pop("says"):
        assert words in error["message"]
    assert PRIVATE not in answer.text


@pytest.mark.parametrize(("server", "case"), CASES)
def test_caller_is_told_of_exchange(server, case, followed, record_row):
    player = Player(server)
    told, items = dict(case.told), texts(case.send)
    asked = {name: it for name, it in case.send.items() if name not in _NOT_SENT}
    with sidecar.served(player.app()) as address:
        model = obey(followed, server, case, address=address)
        if case.send.get("again"):
            assert followed.running.embed("before", model=model, **asked).status_code == 200
            player.calls.clear()
        answer = followed.running.embed(*items, model=model, **asked)
    assert answer.status_code == told.pop("status"), answer.text
    if answer.is_success:
        is_answered(answer, told, items=items, model=model, asked=asked)
    else:
        is_refused(answer, told)
    for name, value in told.pop("headers", {}).items():
        assert answer.headers.get(name) == value, name
    assert player.calls == told.pop("calls", player.calls)
    assert set(told.pop("played", ())) <= set(player.played), player.played
    assert not told, f"unknown: {told}"
    log = followed.running.said()
    assert not [it for it in (WRONG_KEY, server.key, PRIVATE) if it is not None and it in log]
    record_row(
        Row(
            section=Section.SERVERS,
            name=server.name,
            version=server.version,
            kind=BY_REFERENCE,
            asked=case.name,
            result=_result(answer),
        )
    )


def _result(answer) -> str:
    if answer.status_code == 200:
        estimated = answer.headers.get("x-embedding-usage") == "estimated"
        return "vectors in order" + ("; usage estimated" if estimated else "; usage")
    return f"{answer.status_code} in its words"
