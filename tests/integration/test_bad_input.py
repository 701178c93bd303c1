"""Input that must be refused, over real sockets: each refusal says what is wrong."""

import json
from typing import Any

import pytest

from embedding_contract import names
from embedding_sidecar.openai_format import openai_json
from tests.fakes import provider
from tests.parts import raw_http, sidecar
from tests.parts.vectors import MODEL, bits, made

pytestmark = pytest.mark.integration

RIGHT: dict[str, Any] = {"model": MODEL, "input": "x"}

REFUSED: list[tuple[Any, tuple[int, str | None, str | None]]] = [
    (b"{", (400, None, None)),
    (b"[" * 100_000, (400, None, None)),
    (b'{"model": "m", "input": "\\ud800"}', (400, None, "input")),
    (b'{"model": "m", "input": ["a", "b\\udc00"]}', (400, None, "input[1]")),
    (b'{"model": "m", "input": "x", "dimensions": NaN}', (400, None, None)),
    ({**RIGHT, "dimensions": 10**30}, (400, None, "dimensions")),
    ({**RIGHT, "input": []}, (400, None, "input")),
    ({**RIGHT, "input": ["a", [1]]}, (400, None, "input")),
    ({**RIGHT, "stream": True}, (400, None, "stream")),
    ({**RIGHT, "output_dimension": 8}, (400, None, "output_dimension")),
    ({**RIGHT, "cache": {"ttl": "1h"}}, (400, None, "cache.ttl")),
    ({**RIGHT, "cache": {"namespace": "a"}}, (400, None, "cache.namespace")),
    ({**RIGHT, "model": "a\r\nset-cookie: b"}, (404, "model_not_found", "model")),
]


def posted(running, body=None, **headers):
    """POST of this body, JSON unless it is bytes already."""
    content = body if isinstance(body, bytes) else json.dumps(body or RIGHT).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return running.http.post(
        names.PATH_EMBEDDINGS,
        content=content,
        headers={"content-type": "application/json", **named},
    )


def refusal(answer):
    """Status, code and param of a refusal in OpenAI's form."""
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    return answer.status_code, error["code"], error["param"]


def test_every_refusal_names_field_or_header(from_environment, stand_in):
    running = from_environment()
    for body, wanted in REFUSED:
        assert refusal(posted(running, body)) == wanted
    assert refusal(posted(running, content_type="text/plain")) == (
        415,
        "unsupported_content_type",
        "Content-Type",
    )
    assert refusal(posted(running, content_encoding="gzip")) == (
        415,
        "unsupported_content_encoding",
        "Content-Encoding",
    )
    assert stand_in.calls == []


def test_caller_cannot_say_where_provider_is(from_environment, stand_in):
    """As with litellm before CVE-2024-6587, where a caller's `api_base` was sent the key."""
    running = from_environment()
    for name in ("api_base", "base_url", "api_key", "organization", "extra_headers"):
        assert refusal(posted(running, {**RIGHT, name: "http://127.0.0.1:1"})) == (400, None, name)
    answer = posted(
        running,
        authorization="Bearer sk-of-the-caller",
        host="127.0.0.1:1",
        x_forwarded_host="127.0.0.1:1",
        x_portkey_custom_host="http://127.0.0.1:1",
        openai_organization="org",
    )
    assert answer.is_success
    assert [call.key for call in stand_in.calls] == [provider.KEY]


def test_body_too_large_is_refused_before_it_has_come(from_environment):
    running = from_environment()

    def asked(line, body):
        raw = raw_http.request(b"POST /v1/embeddings HTTP/1.1", line, body=body)
        return raw_http.answer(running.port, raw)

    said = asked(b"content-length: %d" % (openai_json.MAX_BODY_BYTES + 1), b"{")
    assert said.status == 413
    chunk = b"%x\r\n%b\r\n" % (2**20, b" " * 2**20)
    assert asked(b"transfer-encoding: chunked", chunk * 17).status == 413


@pytest.mark.parametrize("raw", raw_http.WHOLE[:3], ids=["plain", "chunked", "HTTP/1.0"])
def test_every_way_to_send_body_is_understood(from_environment, raw):
    running = from_environment(EMBEDDING_MODEL="small")
    answer = raw_http.answer(running.port, raw)
    assert answer.status == 200
    assert len(json.loads(answer.body)["data"]) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        raw_http.request(
            b"POST /v1/embeddings HTTP/1.1",
            b"content-length: 1",
            b"transfer-encoding: chunked",
            body=b"0\r\n\r\n",
        ),
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: [::1]\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-request-id: a\x00b\r\n\r\n",
        b"GET /v1/m\xc3\xb6dels HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_refused_in_same_form(from_environment, raw):
    answer = raw_http.answer(from_environment().port, raw)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"


def test_request_id_comes_back_and_carries_nothing_else(from_environment):
    running = from_environment()
    assert posted(running, x_request_id="mine-1").headers["x-request-id"] == "mine-1"
    for given in ("a b", "a\tb", "x" * 257, ""):
        made_anew = posted(running, x_request_id=given).headers["x-request-id"]
        assert made_anew.startswith("req_")
        assert given[:3] not in made_anew or not given
    refused = posted(running, b"{", x_request_id="mine-2")
    assert refused.headers["x-request-id"] == "mine-2"
    raw = raw_http.request(b"GET /v1/models HTTP/1.1", "x-request-id: \u00e4".encode())
    assert b"\xc3" not in raw_http.answer(running.port, raw).head


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", names.PATH_EMBEDDINGS, "POST"),
        ("DELETE", names.PATH_EMBEDDINGS, "POST"),
        ("TRACE", names.PATH_EMBEDDINGS, "POST"),
        ("POST", names.PATH_MODELS, "GET, HEAD"),
    ],
)
def test_own_paths_do_not_pass_through_by_another_method(
    from_environment, stand_in, method, path, allowed
):
    answer = from_environment().http.request(method, path, headers={"authorization": "Bearer sk"})
    assert refusal(answer) == (405, None, None)
    assert {*answer.headers["allow"].split(", ")} == {*allowed.split(", ")}
    assert stand_in.calls == []


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/../embeddings",
        b"/v1/%2e%2e/secret",
        b"/v1/..%2fsecret",
        b"/v1/..%5csecret",
        b"/%76%31/files",
        b"//evil.example/v1/files",
        b"http://169.254.169.254/latest/meta-data",
        b"http://169.254.169.254/v1/../latest",
    ],
)
def test_no_path_leads_anywhere_else(from_environment, target):
    line = b"GET %b HTTP/1.1" % target
    raw = raw_http.request(line, b"authorization: Bearer sk-own")
    answer = raw_http.answer(from_environment().port, raw)
    assert answer.status in {400, 404}
    assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    # It is ours, and no server behind the pass-through has seen it.
    assert b"server:" not in answer.head


def test_token_that_is_no_ascii_is_only_wrong(from_environment):
    running = from_environment()
    for given in ("", "Bearer", "Bearer ", "Basic x", "Bearer \u00e4", f"bearer {sidecar.TOKEN}x"):
        raw = raw_http.request(
            f"GET {names.PATH_QUOTA} HTTP/1.1".encode(), f"authorization: {given}".encode()
        )
        assert raw_http.answer(running.port, raw).status == 401
    right = f"authorization: bearer {sidecar.TOKEN}".encode()
    raw = raw_http.request(f"GET {names.PATH_QUOTA} HTTP/1.1".encode(), right)
    assert raw_http.answer(running.port, raw).status == 200


def test_last_of_repeated_field_counts(from_environment):
    body = b'{"model": "a", "input": "y", "model": "%b", "input": "x"}' % MODEL.encode()
    data = posted(from_environment(), body).json()["data"]
    assert [bits(row["embedding"]) for row in data] == made("x")
