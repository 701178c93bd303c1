"""A search on its way to its index: signed, bounded, and no answer without a proof."""

import asyncio

import pytest

from embedding_contract import document, index_document, names, proof
from embedding_sidecar import errors
from embedding_sidecar.api import search
from embedding_sidecar.upstream import http_client

TOKEN = "the-api-token"
BODY = b'{"query": "x"}'
ANSWER = b'{"object": "list"}'


def policy(*indexes: str) -> document.PolicyDocument:
    provider = document.Provider(name="a", kind="OpenAI", model="m", base_url="http://x")
    return document.PolicyDocument(
        namespace="shop",
        name="main",
        providers=(provider,),
        indexes=tuple(
            document.Index(name=it, uid=f"uid-of-{it}", url=f"http://{it}:8486") for it in indexes
        ),
    )


class Index:
    """Stands in for a search pod behind Upstream.stream."""

    def __init__(self, **changes):
        self.asked = []
        self.status = changes.get("status", 200)
        self.body = changes.get("body", ANSWER)
        self.token = changes.get("token", TOKEN)
        self.headers = changes.get("headers", [])
        self.signed = changes.get("signed")
        self.failure = changes.get("failure")
        self.piece_bytes = changes.get("piece_bytes", 65_536)
        self.wait = changes.get("wait")

    async def stream(self, *, method, url, headers, body):
        sent = b"".join([chunk async for chunk in body])
        given = dict(headers)
        self.asked.append((method, url, given, sent))
        if self.failure:
            raise self.failure
        credentials = proof.parse(given["authorization"])
        assert credentials is not None
        signature = proof.sign_answer(
            self.token, nonce=credentials.nonce, status=self.status, body=self.signed or self.body
        )
        lines = [(proof.ANSWER_HEADER, signature), *self.headers]
        return http_client.StreamedAnswer(status=self.status, headers=lines, chunks=self._chunks())

    async def _chunks(self):
        for at in range(0, len(self.body), self.piece_bytes):
            if self.wait is not None:
                await self.wait.wait()
            yield self.body[at : at + self.piece_bytes]


def forward(index, body=BODY, *, indexes=("docs",), token=TOKEN, searches=None):
    return asyncio.run(
        (searches or search.Searches(clock=lambda: 1_800_000_000.9)).forward(
            body,
            policy=policy(*indexes),
            token=token,
            upstream=index,
            request_id="req-1",
        )
    )


def test_search_sends_proof_and_never_token():
    index = Index(headers=[("Retry-After", "7")], status=503)
    answer = forward(index)
    assert (answer.status_code, answer.body, answer.headers["retry-after"]) == (503, ANSWER, "7")
    ((method, url, headers, sent),) = index.asked
    assert (method, url, sent) == ("POST", f"http://docs:8486{names.PATH_SEARCH}", BODY)
    assert TOKEN not in str(headers)
    credentials = proof.parse(headers["authorization"])
    assert credentials is not None
    assert (credentials.pod, credentials.time) == ("uid-of-docs", 1_800_000_000)
    for body, good in ((BODY, True), (b"", False), (BODY + b" ", False)):
        signed = credentials.is_signed(TOKEN, method="POST", path=names.PATH_SEARCH, body=body)
        assert signed is good
    again = Index()
    forward(again)
    assert again.asked[0][2]["authorization"] != headers["authorization"]


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "another"},
        {"token": "another", "status": 302},
        {"token": "another", "status": 401},
        {"signed": b"{}"},
    ],
)
def test_answer_without_proof_is_not_believed(changes):
    index = Index(**changes)
    with pytest.raises(errors.Unavailable) as refused:
        forward(index)
    assert (refused.value.status, refused.value.code) == (502, "index_not_proved")
    assert TOKEN not in refused.value.message


def test_index_is_one_that_is_named_or_only_one():
    for body, name in (
        (b'{"index": "b"}', "b"),
        (b'{"index": "a", "query": 5}', "a"),
    ):
        index = Index()
        forward(index, body, indexes=("a", "b"))
        assert index.asked[0][1].startswith(f"http://{name}:")
    index = Index()
    forward(index, b'{"index": null}', indexes=("only",))
    assert index.asked[0][1].startswith("http://only:")


@pytest.mark.parametrize(
    ("body", "indexes", "status", "param"),
    [
        (BODY, (), 404, "index"),
        (BODY, ("a", "b"), 400, "index"),
        (b'{"index": "c"}', ("a", "b"), 400, "index"),
        (b'{"index": 5}', ("a",), 400, "index"),
        (b'{"index": "http://evil/"}', ("a",), 400, "index"),
        (b"{", ("a",), 400, None),
        (b"[]", ("a",), 400, None),
    ],
)
def test_no_such_index_is_refused_before_anything_is_sent(body, indexes, status, param):
    index = Index()
    with pytest.raises(errors.Rejected) as refused:
        forward(index, body, indexes=indexes)
    assert (refused.value.status, refused.value.param) == (status, param)
    assert index.asked == []
    if status == 400 and param and len(indexes) == 2:
        assert "a, b" in refused.value.message


def test_search_without_token_is_not_sent():
    index = Index()
    with pytest.raises(errors.Unavailable) as refused:
        forward(index, token="")
    assert (refused.value.code, index.asked) == ("api_token_missing", [])


def test_index_that_is_away_is_said_to_be_so_soon():
    with pytest.raises(errors.Unavailable) as refused:
        forward(Index(failure=errors.Unreachable("no_connection", billed=False)))
    assert (refused.value.status, refused.value.code) == (503, "index_unreachable")
    assert refused.value.retry_after_seconds
    index = Index(wait=asyncio.Event())
    with pytest.raises(errors.Unavailable) as refused:
        forward(index, searches=search.Searches(whole_seconds=0.01))
    assert refused.value.code == "index_unreachable"


def test_answers_have_bound_each_and_together():
    whole = Index(body=b"x" * index_document.MAX_ANSWER_BYTES)
    assert len(forward(whole).body) == index_document.MAX_ANSWER_BYTES
    with pytest.raises(errors.Unavailable) as refused:
        forward(Index(body=b"x" * (index_document.MAX_ANSWER_BYTES + 1)))
    assert refused.value.code == "index_answer_too_long"
    searches = search.Searches(max_held_bytes=1_000)
    with pytest.raises(errors.Unavailable) as refused:
        forward(Index(body=b"x" * 1_001, piece_bytes=100), searches=searches)
    assert (refused.value.code, refused.value.retry_after_seconds) == ("memory_exhausted", 1.0)
    # What was held is let go of, whatever became of it.
    assert searches._held_bytes == 0
    assert len(forward(Index(body=b"x" * 1_000), searches=searches).body) == 1_000
    assert "x" * 8 not in repr(forward(Index(body=b"x" * 8)))
