"""The next provider to ask, the wait before it, the end, and the providers cooling down."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import document
from embedding_sidecar import errors
from embedding_sidecar.engine import breaker, failover, retry_schedule

DOWN = errors.Unreachable("server_error", billed=False)
RATE = errors.RateLimited("rate_limited", retry_after_seconds=None)
KEY = errors.ConfigurationError("key_refused")
CREDIT = errors.OutOfCredit("no_credit")
NONSENSE = errors.Unusable("bad_answer", billed=True)


def as_error(seconds):
    return errors.RateLimited("rate_limited", retry_after_seconds=seconds)


def candidates(*named):
    """`choices("p", "q/t")`: q is of space t, p of s."""
    made = []
    for one in named:
        name, _, space = one.partition("/")
        served = document.Provider(name=name, kind="OpenAI", model="m", base_url=f"http://{name}")
        made.append(
            failover.Candidate(provider=served, dimensions=None, space=space or "s", label="openai")
        )
    return made


class Way:
    """A course that says names instead of choices."""

    def __init__(self, *named, known=None, ends_at=50.0, share=1.0) -> None:
        self.candidates = candidates(*named)
        self.known = known or breaker.Breaker()
        self.schedule = retry_schedule.RetrySchedule(
            self.candidates, known=self.known, ends_at=ends_at, share=lambda: share
        )

    def next(self, now=0.0, held=None):
        step = self.schedule.next(now=now, held=held)
        return step.provider.name if isinstance(step, failover.Candidate) else step

    def failed(self, name, failure, now=0.0):
        candidate = next(it for it in self.candidates if it.provider.name == name)
        self.schedule.failed(candidate, failure, now=now)


# --- one request


def test_everybody_is_asked_once_in_order_before_anybody_is_asked_again():
    way = Way("p", "q")
    asked = []
    now = 0.0
    while (step := way.next(now)) is not None:
        if isinstance(step, retry_schedule.Wait):
            now += step.seconds
        else:
            asked.append(step)
            way.failed(step, DOWN, now)
    assert asked == ["p", "q", "p", "q", "p", "q"]


def test_provider_is_not_waited_for_while_another_may_answer():
    way = Way("p", "q")
    way.failed("p", as_error(2))
    assert way.next() == "q"
    way.failed("q", DOWN)
    assert way.next() == retry_schedule.Wait(0.5)


def test_waits_double_with_random_part():
    way, lucky = Way("p"), Way("p", share=0.1)
    for tries in range(1, retry_schedule.MOST_TRIES):
        way.failed("p", DOWN)
        lucky.failed("p", DOWN)
        assert way.next() == retry_schedule.Wait(0.5 * 2 ** (tries - 1))
        assert lucky.next() == retry_schedule.Wait(0.5 * 2 ** (tries - 1) * 0.1)
    way.failed("p", DOWN)
    assert way.next() is None


def test_wait_is_that_of_provider_and_little_more():
    way = Way("p")
    way.failed("p", as_error(3))
    assert way.next() == retry_schedule.Wait(3.5)
    assert way.next(3.6) == "p"


@pytest.mark.parametrize("asked_for", [retry_schedule.MOST_WAIT_SECONDS + 1, 3600])
def test_provider_that_asks_for_long_wait_is_given_up(asked_for):
    way = Way("p")
    way.failed("p", as_error(asked_for))
    assert way.next() is None


def test_no_wait_goes_past_end():
    way = Way("p", ends_at=2.0)
    way.failed("p", as_error(3))
    assert way.next() is None
    assert Way("p", ends_at=2.0).next(2.0) is None


@pytest.mark.parametrize(
    "final",
    [KEY, CREDIT, NONSENSE, errors.Rejected("no"), errors.UnsupportedInput("x", obstacle="x")],
)
def test_final_failure_is_not_tried_again(final):
    way = Way("p", "q")
    way.failed("p", final)
    assert way.next() == "q"
    way.failed("q", final)
    assert way.next() is None
    assert way.schedule.failures() == {"p": final, "q": final}


def test_time_is_left_for_next_one():
    way = Way("p", "q")
    assert way.schedule.time(way.candidates[0], now=0.0) == (25, 25, 37.5)
    way.failed("p", KEY)
    assert way.schedule.time(way.candidates[1], now=10.0) == (50, math.inf, 50)


def test_space_in_which_part_is_paid_for_comes_before_another():
    way = Way("p", "q/t", "r")
    way.failed("p", DOWN)
    assert way.next(held="s") == "r"
    way.failed("r", DOWN)
    assert way.next(held="s") == retry_schedule.Wait(0.5)
    assert way.next() == "q"
    for name in ("p", "r"):
        way.failed(name, KEY)
    assert way.next(held="s") == "q"


# --- what others have found out


def test_provider_with_failures_in_row_is_asked_last():
    known = breaker.Breaker()
    for _ in range(breaker.FAILURES_TO_OPEN):
        assert Way("p", "q", known=known).next() == "p"
        known.failed("p", DOWN, now=0.0)
    way = Way("p", "q", known=known)
    assert way.next() == "q"
    way.failed("q", DOWN)
    assert way.next() == "p"


def test_success_in_between_resets_failures():
    known = breaker.Breaker()
    for _ in range(10):
        known.failed("p", DOWN, now=0.0)
        known.succeeded("p")
    assert Way("p", "q", known=known).next() == "p"


@pytest.mark.parametrize("certain", [KEY, CREDIT])
def test_dead_key_is_remembered_and_probed_by_one_later(certain):
    known = breaker.Breaker()
    known.failed("p", certain, now=0.0)
    way = Way("p", known=known)
    assert way.next() is None
    assert way.schedule.failures() == {"p": certain}
    later = breaker.OPEN_SECONDS
    assert Way("p", known=known).next(later) == "p"
    assert known.probe("p")
    assert isinstance(Way("p", known=known).next(later), retry_schedule.Wait)
    known.failed("p", certain, now=later)
    known.left("p")
    assert Way("p", known=known).next(later) is None


def test_retry_after_holds_for_everybody():
    known = breaker.Breaker()
    known.failed("p", as_error(3), now=0.0)
    assert Way("p", "q", known=known).next(1.0) == "q"
    assert Way("p", known=known).next(1.0) == retry_schedule.Wait(2.5)
    way = Way("p", known=known)
    known.failed("p", as_error(30), now=0.0)
    assert way.next(10.0) is None
    [failure] = way.schedule.failures().values()
    assert isinstance(failure, errors.RateLimited)
    assert failure.retry_after_seconds == 20


def test_no_retry_after_is_believed_for_day():
    known = breaker.Breaker()
    known.failed("p", as_error(86_400), now=0.0)
    assert Way("p", known=known, ends_at=99).next(breaker.MOST_SECONDS) == "p"


def test_one_request_probes_provider_and_others_go_elsewhere_or_wait():
    known = breaker.Breaker()
    for _ in range(breaker.FAILURES_TO_OPEN):
        known.failed("p", DOWN, now=0.0)
    back = breaker.OPEN_SECONDS
    assert Way("p", "q", known=known).next(back) == "p"
    assert known.probe("p")
    assert not known.probe("p")
    assert Way("p", "q", known=known).next(back) == "q"
    alone = Way("p", known=known)
    assert isinstance(alone.next(back), retry_schedule.Wait)
    known.succeeded("p")
    known.left("p")
    assert alone.next(back) == "p"


def test_wait_for_probe_is_bounded():
    known = breaker.Breaker()
    for _ in range(breaker.FAILURES_TO_OPEN):
        known.failed("p", DOWN, now=0.0)
    known.probe("p")
    way = Way("p", known=known)
    now = 0.0
    while isinstance(step := way.next(now), retry_schedule.Wait):
        now += step.seconds
    assert step is None
    assert retry_schedule.PROBE_SECONDS <= now < 2 * retry_schedule.PROBE_SECONDS
    assert way.schedule.failures() == {"p": DOWN}


FAILURES = st.sampled_from([DOWN, RATE, KEY, CREDIT, NONSENSE]) | st.builds(
    as_error, st.floats(0, 100)
)


@given(
    st.lists(st.tuples(FAILURES, st.floats(0, 30)), max_size=40),
    st.lists(st.tuples(st.sampled_from("pqr"), FAILURES, st.floats(0, 5)), max_size=8),
    st.floats(0, 1),
)
def test_every_schedule_ends_in_time_with_reasons(failing, before, share):
    known = breaker.Breaker()
    for name, failure, at in before:
        known.failed(name, failure, now=at)
    way = Way("p", "q/t", "r", known=known, ends_at=55.0, share=share)
    now, steps, last = 5.0, iter(failing), DOWN
    asked = dict.fromkeys("pqr", 0)
    while (step := way.next(now)) is not None:
        if isinstance(step, retry_schedule.Wait):
            assert 0 < step.seconds <= retry_schedule.MOST_WAIT_SECONDS
            now += step.seconds
            assert now < 55
            continue
        asked[step] += 1
        last, seconds = next(steps, (DOWN, 0.1))
        now += seconds
        known.failed(step, last, now=now)
        way.failed(step, last, now)
    assert max(asked.values()) <= retry_schedule.MOST_TRIES
    assert now >= 55 or way.schedule.failures().keys() == set("pqr")
