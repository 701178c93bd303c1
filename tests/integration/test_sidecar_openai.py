"""A sidecar as the unmodified OpenAI SDK sees it, over real sockets."""

import array
import asyncio
import base64
import json
import socket
import struct

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from embedding_contract import formats, names
from tests.fakes import provider
from tests.parts import ports, sidecar

pytestmark = pytest.mark.integration

MODEL = "text-embedding-3-small"


def expected(*texts, model=MODEL):
    return [provider.vector(model, text) for text in texts]


def as_float32(answer):
    return [array.array("f", row.embedding).tobytes() for row in answer.data]


def test_sdk_gets_models_own_bits(from_environment):
    client = from_environment().openai()
    answer = client.embeddings.create(model=MODEL, input=["one", "two words"])
    assert as_float32(answer) == expected("one", "two words")
    assert answer.usage.total_tokens == 3
    floats = client.embeddings.create(model=MODEL, input=["one"], encoding_format="float")
    assert as_float32(floats) == expected("one")


def test_second_time_no_provider_is_asked(from_environment, stand_in):
    client = from_environment().openai().embeddings.with_raw_response
    first, second = (client.create(model=MODEL, input="hello") for _ in range(2))
    assert as_float32(first.parse()) == as_float32(second.parse()) == expected("hello")
    assert len(stand_in.calls) == 1
    assert [answer.headers["x-embedding-cache"] for answer in (first, second)] == ["miss", "hit"]
    assert second.parse().usage.total_tokens == 0
    assert second.headers["x-embedding-tokens-saved"] == "1"


def test_only_what_is_missing_is_sent_and_each_text_once(from_environment, stand_in):
    running = from_environment()
    running.embed("b")
    answer = running.embed("a", "b", "a", "c")
    assert [base64.b64decode(row["embedding"]) for row in answer.json()["data"]] == expected(
        "a", "b", "a", "c"
    )
    assert stand_in.calls[-1].body["input"] == ["a", "c"]
    assert answer.headers["x-embedding-cache"] == "partial"
    assert answer.headers["x-embedding-cache-hits"] == "1/4"
    assert answer.json()["usage"]["total_tokens"] == 2


def test_unknown_model_is_answered_with_known_ones(from_environment):
    client = from_environment().openai()
    with pytest.raises(openai.NotFoundError, match=MODEL) as refused:
        client.embeddings.create(model="gpt-embed", input="x")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert [model.id for model in client.models.list()] == [MODEL]


def test_bad_request_is_told_by_its_field(from_environment, stand_in):
    client = from_environment().openai()
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input=[""])
    assert refused.value.param == "input"
    assert stand_in.calls == []


def test_body_without_end_is_refused_while_it_is_read(from_environment):
    def endless():
        for _ in range(1000):
            yield b" " * 100_000

    answer = from_environment().http.post(names.PATH_EMBEDDINGS, content=endless())
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_used_up_quota_is_final_for_sdk_and_cache_goes_on(from_environment, stand_in):
    running = from_environment(EMBEDDING_DAILY_QUOTA="1")
    client = running.openai()
    client.embeddings.create(model=MODEL, input="one")
    with pytest.raises(openai.RateLimitError) as refused:
        client.embeddings.create(model=MODEL, input="two")
    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_400
    assert as_float32(client.embeddings.create(model=MODEL, input="one")) == expected("one")
    assert len(stand_in.calls) == 1
    quota = running.page(names.PATH_QUOTA)
    assert quota | {"reset_at": "", "exact_reason": ""} == {
        "daily_quota": 1,
        "current_count": 1,
        "remaining": 0,
        "exceeded": True,
        "reset_at": "",
        "vector_search_enabled": False,
        "fallback_enabled": False,
        "reserved": 0,
        "exact": False,
        "exact_reason": "",
        "tokens": {"limit": None, "used": 1},
        "reserve_for_applications": {"requests": 1, "tokens": 0},
        "background": {"remaining": 0, "tokens_remaining": None, "exceeded": True},
        "mode": "Enforce",
        "limits": [
            {
                "period": "day",
                "unit": "requests",
                "limit": 1,
                "used": 1,
                "reserved": 0,
                "reset_at": quota["reset_at"],
            }
        ],
    }
    assert quota["exact_reason"].startswith("NoSharedStore")
    assert "aos_embedding_quota_exhausted_total 1.0" in running.admin.get("/metrics").text


def test_backup_answers_in_its_own_name_while_primary_is_down(from_environment, provider_url):
    running = from_environment(
        OPENAI_BASE_URL=f"http://127.0.0.1:{ports.free()}/v1",
        EMBEDDING_BACKUP_PROVIDER="voyage",
        EMBEDDING_FALLBACK_ENABLED="true",
    )
    answer = running.embed("x")
    assert answer.json()["model"] == "voyage-3-lite"
    assert answer.headers["x-embedding-provider"] == "voyage"
    assert base64.b64decode(answer.json()["data"][0]["embedding"]) == provider.vector(
        "voyage-3-lite", "x"
    )
    # A refused connection costs nothing; the backup's call counts.
    assert running.page(names.PATH_QUOTA)["current_count"] == 1
    assert running.page(names.PATH_CONFIG) | {"policy": 0, "providers": 0} == {
        "format": formats.CURRENT,
        "provider": "openai",
        "model": MODEL,
        "backup_provider": "voyage",
        "backup_model": "voyage-3-lite",
        "provider_fallback_enabled": True,
        "policy": 0,
        "document_fingerprint": running.page(names.PATH_HEALTH)["document"],
        "secrets_fingerprint": running.page(names.PATH_CONFIG)["secrets_fingerprint"],
        "rejected": None,
        "keys_refused": [],
        "failures": {"openai": "connection_refused"},
        "reserve_for_applications": {"requests": 2_000, "tokens": 0},
        "providers": 0,
    }


def test_other_space_answers_only_with_consent(from_environment, stand_in):
    running = from_environment(
        OPENAI_BASE_URL=f"http://127.0.0.1:{ports.free()}/v1",
        EMBEDDING_BACKUP_PROVIDER="voyage",
    )
    answer = running.embed("x")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "all_providers_failed"
    assert stand_in.calls == []


def test_providers_complaint_about_caller_reaches_caller(from_environment):
    answer = from_environment().embed("too long")
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "maximum context length is 8192 tokens",
        "type": "invalid_request_error",
        "param": "input",
        "code": None,
    }


def test_providers_own_words_are_no_label(from_environment, stand_in):
    def fault(_):
        error = {"message": "no", "type": "x", "param": None, "code": "word-of-the-provider"}
        return 400, {}, {"error": error}

    stand_in.fault = fault
    running = from_environment()
    assert running.embed("x").json()["error"]["code"] == "word-of-the-provider"
    shown = running.admin.get("/metrics").text
    assert "word-of-the-provider" not in shown
    assert 'aos_embedding_errors_total{provider="",type="invalid_request_error"} 1.0' in shown


@pytest.mark.parametrize("path", [names.PATH_QUOTA, names.PATH_CONFIG, names.PATH_CACHE_STATS])
def test_management_wants_token_on_both_ports(from_environment, path):
    running = from_environment()
    for http in (running.http, running.admin):
        refused = http.get(path, headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer, EmbeddingProof"
        assert refused.json()["error"]["code"] == "invalid_api_key"
        allowed = http.get(path, headers={"Authorization": f"Bearer {sidecar.TOKEN}"})
        assert allowed.status_code == 200


def test_management_without_configured_token_refuses_all(from_environment):
    running = from_environment(EMBEDDING_API_TOKEN="")
    refused = running.http.get(names.PATH_QUOTA, headers={"Authorization": "Bearer x"})
    assert refused.status_code == 401
    assert "No API token is configured" in refused.json()["error"]["message"]


def test_caller_that_goes_away_while_clearing_cache_is_no_error_of_ours(from_environment):
    running = from_environment()
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        head = f"DELETE {names.PATH_CACHE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9"
        token = f"authorization: Bearer {sidecar.TOKEN}"
        connection.sendall(f"{head}\r\n{token}\r\n\r\n".encode())
    assert running.stop() == 0
    assert "Traceback" not in running.said()


def test_cache_is_cleared_on_loopback_only(from_environment, stand_in):
    running = from_environment()
    running.embed("x")
    assert running.admin.delete(names.PATH_CACHE).status_code == 405
    assert running.http.delete(names.PATH_CACHE).status_code == 401
    token = {"Authorization": f"Bearer {sidecar.TOKEN}"}
    by_text = running.http.delete(names.PATH_CACHE, params={"text": "x"}, headers=token)
    assert (by_text.status_code, by_text.json()["error"]["param"]) == (400, "text")
    assert running.http.delete(names.PATH_CACHE, headers=token).json() == {"cleared": "all"}
    running.embed("x")
    assert len(stand_in.calls) == 2


class Chat:
    """An upstream that streams, and knows what came of it."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.loop = None
        self.gone = False
        self.seen = None

    def app(self):
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/{path:path}", self.echo, methods=["GET", "POST", "DELETE"]),
            ]
        )

    async def chat(self, request: Request):
        self.loop = asyncio.get_running_loop()
        self.seen = dict(request.headers)
        return StreamingResponse(self.words(), media_type="text/event-stream")

    async def words(self):
        try:
            yield _chunk("first")
            await self.go_on.wait()
            yield _chunk("second")
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.gone = True
            raise

    async def echo(self, request: Request):
        body = await request.body()
        return JSONResponse(
            {
                "method": request.method,
                "target": request.scope["raw_path"].decode(),
                "query": request.url.query,
                "authorization": request.headers.get("authorization"),
                "body": body.decode(),
            },
            418,
            headers={"x-upstream": "yes"},
        )


def _chunk(word):
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps(body | {'choices': [choice]})}\n\n"


@pytest.fixture
def chat():
    return Chat()


@pytest.fixture
def chat_url(chat):
    with sidecar.served(chat.app()) as url:
        yield f"{url}/v1"


def stream(client):
    return client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )


def test_chat_streams_through_as_it_comes(from_environment, chat, chat_url):
    running = from_environment(EMBEDDING_PASSTHROUGH_BASE_URL=chat_url)
    words = iter(stream(running.openai(api_key="sk-own")))
    assert next(words).choices[0].delta.content == "first"
    chat.loop.call_soon_threadsafe(chat.go_on.set)
    assert next(words).choices[0].delta.content == "second"
    assert next(words, None) is None
    assert chat.seen["authorization"] == "Bearer sk-own"
    assert chat.seen["host"] in chat_url


def test_caller_that_goes_away_takes_upstream_along(from_environment, chat, chat_url):
    running = from_environment(EMBEDDING_PASSTHROUGH_BASE_URL=chat_url)
    answer = stream(running.openai(api_key="sk-own"))
    next(iter(answer))
    answer.close()
    sidecar.wait_until(lambda: chat.gone)


def test_passed_through_request_is_not_changed(from_environment, chat_url):
    running = from_environment(EMBEDDING_PASSTHROUGH_BASE_URL=chat_url)
    answer = running.http.request(
        "POST",
        "/v1/files/a%20b?x=1&y=%2F",
        content=b"payload",
        headers={"Authorization": "Bearer sk-own"},
    )
    assert answer.status_code == 418
    assert answer.headers["x-upstream"] == "yes"
    assert answer.json() == {
        "method": "POST",
        "target": "/v1/files/a%20b",
        "query": "x=1&y=%2F",
        "authorization": "Bearer sk-own",
        "body": "payload",
    }


def test_placeholder_key_never_passes_through(from_environment, chat, chat_url):
    running = from_environment(EMBEDDING_PASSTHROUGH_BASE_URL=chat_url)
    with pytest.raises(openai.AuthenticationError, match="OPENAI_API_KEY"):
        stream(running.openai())
    assert chat.seen is None


def test_pass_through_can_be_off(from_environment):
    running = from_environment(EMBEDDING_PASSTHROUGH_BASE_URL="off")
    with pytest.raises(openai.NotFoundError) as refused:
        stream(running.openai(api_key="sk-own"))
    assert refused.value.code == "passthrough_disabled"


def test_pass_through_nobody_answers_is_502(from_environment):
    nobody = f"http://127.0.0.1:{ports.free()}/v1"
    running = from_environment(EMBEDDING_PASSTHROUGH_BASE_URL=nobody)
    answer = running.http.get("/v1/files", headers={"Authorization": "Bearer sk-own"})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "passthrough_unreachable"


def test_large_batch_is_whole(from_environment):
    texts = [f"text {number}" for number in range(2048)]
    answer = from_environment().embed(*texts).json()
    rows = [base64.b64decode(row["embedding"]) for row in answer["data"]]
    assert rows == expected(*texts)
    assert struct.calcsize("<16f") == len(rows[0])


def test_refused_key_is_told_by_providers_name(from_environment):
    wrong = "sk-not-the-one-it-wants"
    running = from_environment(OPENAI_API_KEY=wrong)
    told = running.http.get(names.PATH_HEALTH).json()
    assert (told["status"], told["keys_refused"]) == ("ok", [])
    assert running.embed("x").status_code == 502
    token = {"Authorization": f"Bearer {sidecar.TOKEN}"}
    pages = [
        running.admin.get(path, headers=token) for path in (names.PATH_HEALTH, names.PATH_CONFIG)
    ]
    (name,) = pages[1].json()["keys_refused"]
    assert name in {it["name"] for it in pages[1].json()["providers"]}
    assert pages[0].json()["keys_refused"] == [name]
    assert pages[0].json()["status"] == "degraded"
    shown = running.admin.get("/metrics").text
    assert f'aos_embedding_key_refused{{provider="{name}"}} 1.0' in shown
    assert wrong not in shown + "".join(page.text for page in pages)
