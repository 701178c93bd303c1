"""The headers of answers and refusals."""

from dataclasses import replace
from typing import Any

import pytest

from embedding_sidecar import allowance, errors
from embedding_sidecar.api import response_headers
from embedding_sidecar.engine.answer import Answer

LEFT = allowance.Allowance(
    requests=1000,
    requests_left=12,
    tokens=None,
    tokens_left=None,
    resets_in_seconds=3_725.2,
)
BOTH = allowance.Allowance(
    requests=1000,
    requests_left=12,
    tokens=5000,
    tokens_left=0,
    resets_in_seconds=59.0,
)


class Day:
    def __init__(self) -> None:
        self.asked = 0

    def left(self, *, background=False):
        self.asked += 1
        return LEFT


def answer(*, attempts):
    return Answer(
        vectors=(b"",),
        provider="main",
        kind="OpenAI",
        model="m",
        space="m@8",
        hits=0 if attempts else 1,
        coalesced=0,
        items=1,
        tokens=1,
        tokens_saved=0,
        attempts=attempts,
        upstream_seconds=0.0,
    )


def test_refusal_says_when_to_come_back_and_what_is_left():
    refusal = response_headers.refusal_headers(errors.QuotaExhausted("used up", left=LEFT))
    assert refusal == {
        "retry-after": "3726",
        "x-should-retry": "false",
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-requests": "1h2m6s",
    }


def test_each_limit_has_headers_of_its_own():
    assert response_headers.ratelimit_lines(BOTH).splitlines() == [
        "x-ratelimit-limit-requests: 1000",
        "x-ratelimit-remaining-requests: 12",
        "x-ratelimit-reset-requests: 59s",
        "x-ratelimit-limit-tokens: 5000",
        "x-ratelimit-remaining-tokens: 0",
        "x-ratelimit-reset-tokens: 59s",
    ]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (1, "1s"),
        (59, "59s"),
        (60, "1m0s"),
        (3_599, "59m59s"),
        (3_600, "1h0m0s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds, written):
    assert response_headers.go_duration(seconds) == written


def test_answer_that_took_call_tells_what_is_left_of_day():
    day: Any = Day()
    head = response_headers.head(answer(attempts=1), day, seconds=0.0)
    assert b"\r\nx-ratelimit-remaining-requests: 12\r\n" in head


def test_answer_out_of_cache_does_not_ask_for_it():
    day: Any = Day()
    assert b"ratelimit" not in response_headers.head(answer(attempts=0), day, seconds=0.0)
    assert day.asked == 0


def test_answer_beyond_observed_limits_names_them():
    day: Any = Day()
    beyond = replace(answer(attempts=1), beyond=frozenset({"minute.tokens", "minute.requests"}))
    head = response_headers.head(beyond, day, seconds=0.1)
    assert b"x-embedding-quota-observed: minute.requests,minute.tokens\r\n" in head
    head = response_headers.head(answer(attempts=1), day, seconds=0.1)
    assert b"x-embedding-quota-observed" not in head
