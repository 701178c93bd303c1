"""The applications' reserve, by real sidecars over a real Redis."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as client_of_redis

from embedding_contract import names
from tests.parts import sidecar

pytestmark = pytest.mark.integration

MODEL = "text-embedding-3-small"
BACKGROUND = {names.HEADER_CLASS: names.CLASS_BACKGROUND}
LIMIT, RESERVE = 400, 100
CEILING = LIMIT - RESERVE
CALLERS = 8


def post(running, text, *, background=False, **headers):
    return running.http.post(
        names.PATH_EMBEDDINGS,
        json={"model": MODEL, "input": text},
        headers={**(BACKGROUND if background else {}), **headers},
    )


def code(answer):
    return None if answer.is_success else answer.json()["error"]["code"]


class Claims:
    """What the script did in Redis, claim by claim, as Redis itself tells it."""

    def __init__(self, url: str) -> None:
        self.client = client_of_redis.Redis.from_url(url, decode_responses=True)
        self.commands: list[list[str]] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        with self.client.monitor() as monitor:
            reading = threading.Thread(target=self._read, args=(monitor,))
            reading.start()
            try:
                yield
            finally:
                self.client.echo("the end")
                reading.join()
        self.client.close()

    def _read(self, monitor) -> None:
        for heard in monitor.listen():
            words = heard["command"].split(" ")
            if words[0] == "ECHO":
                return
            self.commands.append(words)

    def grants(self) -> list[tuple[bool, int]]:
        """Of each claim that was given more: whether it is background work's, and the sum then."""
        found, held = [], dict[str, int]()
        limit = 0
        for words in self.commands:
            if words[0].startswith("EVAL"):
                # Script, one key, its name; lease, sequence, day and the limit of calls.
                limit = int(words[7])
            elif words[0] == "HSET":
                total, lease = int(words[3]), words[words.index("forgot") + 2]
                has = int(words[words.index("forgot") + 4])
                if has > held.get(lease, 0):
                    found.append((limit == CEILING, total))
                held[lease] = has
        return found


def test_background_work_and_8_callers_until_day_is_used_up(from_environment, redis, stand_in):
    running = [
        from_environment(
            REDIS_URL=redis.url,
            EMBEDDING_DAILY_QUOTA=str(LIMIT),
            EMBEDDING_RESERVE_FOR_APPLICATIONS=f"{100 * RESERVE // LIMIT}%",
        )
        for _ in range(2)
    ]
    numbers = itertools.count()
    over = threading.Event()
    claims = Claims(redis.url)

    def fill(one):
        """Background work, which goes on when it is refused."""
        codes = []
        while not over.is_set():
            codes.append(code(post(one, f"background {next(numbers)}", background=True)))
        return codes

    def ask(one):
        """An application, until it is refused; what Redis has counted then."""
        with client_of_redis.Redis.from_url(redis.url) as asked:
            while (said := code(post(one, f"application {next(numbers)}"))) is None:
                pass
            (key,) = asked.keys("aos:embedding:quota:*")
            return said, int(asked.hget(key, "calls"))

    with claims.watched(), ThreadPoolExecutor(CALLERS + 2) as many:
        filling = [many.submit(fill, one) for one in running]
        asking = [many.submit(ask, running[at % 2]) for at in range(CALLERS)]
        try:
            refusals = [it.result() for it in asking]
        finally:
            over.set()
        codes = list(itertools.chain.from_iterable(it.result() for it in filling))

    # Applications were refused when nothing was left, not even of the reserve.
    assert refusals == [("insufficient_quota", LIMIT)] * CALLERS
    assert set(codes) >= {None, "quota_reserved_for_applications"}
    assert set(codes) <= {None, "quota_reserved_for_applications", "insufficient_quota"}
    grants = claims.grants()
    of_background = [total for is_background, total in grants if is_background]
    of_applications = [total for is_background, total in grants if not is_background]
    assert max(of_background) <= CEILING
    assert max(of_applications) == LIMIT
    asked = [call.body["input"][0].split()[0] for call in stand_in.calls]
    assert len(asked) <= LIMIT
    assert asked.count("background") == codes.count(None) <= CEILING
    assert asked.count("application") >= RESERVE


def test_refusal_of_background_work_says_why_and_until_when(from_environment, redis, stand_in):
    running = from_environment(
        REDIS_URL=redis.url,
        EMBEDDING_DAILY_QUOTA="10",
        EMBEDDING_RESERVE_FOR_APPLICATIONS="8",
    )
    answers = [post(running, f"text {number}", background=True) for number in range(3)]
    *made, refused = answers
    left = [it.headers["x-ratelimit-remaining-requests"] for it in answers]
    assert [it.status_code for it in answers] == [200, 200, 429]
    assert left == ["1", "0", "0"]
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == (
        "insufficient_quota",
        "quota_reserved_for_applications",
    )
    assert "10 calls a day, of which 8 are reserved for applications" in error["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["x-should-retry"] == "false"
    # What is in the cache is free, and an application has the rest.
    assert post(running, "text 0", background=True).headers["x-embedding-cache"] == "hit"
    assert post(running, "text 2").headers["x-ratelimit-remaining-requests"] == "7"
    assert len(stand_in.calls) == len(made) + 1
    quota = running.page(names.PATH_QUOTA)
    assert quota["reserve_for_applications"] == {"requests": 8, "tokens": 0}
    assert quota["background"] == {"remaining": 0, "tokens_remaining": None, "exceeded": True}
    assert (quota["current_count"], quota["exceeded"]) == (3, False)
    assert running.page(names.PATH_CONFIG)["reserve_for_applications"]["requests"] == 8
    assert running.page(names.PATH_HEALTH)["background"] == "waits_for_reset"
    shown = running.admin.get("/metrics").text
    assert 'aos_embedding_errors_total{provider="",type="quota_reserved_for_applications"} 1' in (
        shown
    )
    # The day is not used up, and nobody is to be woken.
    assert "aos_embedding_quota_exhausted_total 0" in shown


def test_class_is_read_on_every_way_to_answer(from_environment, stand_in):
    running = from_environment(EMBEDDING_DAILY_QUOTA="4", EMBEDDING_RESERVE_FOR_APPLICATIONS="100%")
    assert running.page(names.PATH_HEALTH)["background"] == "waits_for_reset"

    def ways(text, **headers):
        body = f'{{"model": "{MODEL}", "input": "{text}"}}'.encode()
        whole = {"content-type": "application/json", **headers}
        # One that is held for its end, one whose head is known by then, and one in pieces.
        yield running.http.post(names.PATH_EMBEDDINGS, content=body, headers=whole)
        yield running.http.post(names.PATH_EMBEDDINGS, content=body, headers=whole)
        yield running.http.post(
            names.PATH_EMBEDDINGS, content=iter([body[:9], body[9:]]), headers=whole
        )
        yield running.http.post(
            names.PATH_EMBEDDINGS, json={"model": MODEL, "input": [text, "two"]}, headers=headers
        )

    assert [code(it) for it in ways("a", **BACKGROUND)] == ["quota_reserved_for_applications"] * 4
    for answer in ways("a", **{names.HEADER_CLASS: "batch"}):
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == names.HEADER_CLASS
    assert [code(it) for it in ways("a")] == [None] * 4
    # Now all is in memory, and a class that is none is still none.
    assert [code(it) for it in ways("a", **BACKGROUND)] == [None] * 4
    for answer in ways("a", **{names.HEADER_CLASS: "batch"}):
        assert answer.status_code == 400
    assert len(stand_in.calls) == 2
    sidecar.wait_until(lambda: running.page(names.PATH_QUOTA)["current_count"] == 2)
