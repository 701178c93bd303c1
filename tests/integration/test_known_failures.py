"""Known failures of other gateways and applications do not happen here.

Issues and pull requests are of BerriAI/litellm where no other repository is named. Most tests are
below; of others the path is given, and each has its numbers in its docstring.

| number | what went wrong there | what holds it here |
|---|---|---|
| #2990 | cached and new vectors came out of order | test_vectors_are_in_order_of_their_texts |
| #13250 | null instead of a vector, for a bare string | test_bare_string_is_list_of_one |
| #10424 | usage was wrong on full and partial hits | test_usage_is_what_this_answer_was_billed |
| #29284 | the same index twice on a partial hit | test_every_index_is_there_once |
| #41799 | a mixed batch returned another input's vector | test_no_text_gets_vector_of_another |
| #20456, #29284 | the cache could not be turned off | test_cache_that_is_off_keeps_nothing |
| #16571 | never a hit, though Redis grew | test_entry_kept_in_redis_is_found_there |
| #17495 | one layer had no embeddings | test_every_layer_keeps_embeddings |
| appstrate#436 | a 429 was served from the cache | test_error_is_never_kept |
| appstrate#437 | no cache unless a key of its own was set | test_cache_is_on_by_itself |
| TensorZero #898, #422 | a batch was cached whole or not | test_only_what_is_missing_is_sent |
| #32528, TEI #378 | a batch over a limit was refused | test_batch_over_limit_is_split |
| #42426 | base64 ignored: 768 numbers were 192 | test_base64_may_be_ignored_by_provider |
| lmstudio-bug-tracker#756 | floats where base64 was asked for | test_base64_is_answered_to_who_asks_for_it |
| hindsight#925, cocoindex-code#148 | Voyage refuses OpenAI's words | test_voyage_is_asked_in_its_own_words |
| gbrain#735, streamystats#420 | Voyage has no usage.prompt_tokens | test_usage_of_voyage_has_form_of_openai |
| openclaw#91719 | another space answered, without a word | test_no_other_space_answers_unasked |
| openclaw#53992 | a fallback answered in the primary's name | test_answer_from_another_space_says_so |
| muninndb#582 | two spaces in one store, health said good | test_health_says_who_is_down |
| ollama-client#306 | a fallback's vector under the primary's key | test_vector_of_backup_is_not_served_for_primary |
| remnic#1288 | one answer of two spaces | test_one_answer_is_of_one_space |
| mnemosyne#521 | vectors of another size were taken | test_vectors_of_another_size_are_refused |
| #14403 | a fallback asked the wrong endpoint, and hung | test_backup_is_asked_for_embeddings |
| #6288, #33325, #39390 | each replica allowed the budget again | test_replicas_share_one_limit |
| #34732, #26672, #36926 | checked, then counted | test_burst_never_passes_limit |
| #18730 | 663 tokens against a limit of 100 | test_request_beyond_remaining_tokens_is_not_sent |
| #12977 | calls went on long after the limit | test_request_beyond_limit_is_not_sent |
| #27639 | reservations leaked on errors | test_errors_that_cost_nothing_leave_day_whole |
| #28247 | every pod added the same starting count | test_pod_that_starts_adds_nothing |
| #30460, #27735 | refused within the limit | test_calls_within_limit_are_not_refused |
| #40385 | counts lagged behind their queue | test_call_is_counted_when_it_is_made |
| dev.to, "$2,300 weekend" | retries times fallbacks | test_retries_and_failover_do_not_multiply |

Not a gateway's: AVIDS2/memorix #29 (full-text search instead of another space).
"""  # noqa: E501 - a row of a table is a line

import array
import base64
import itertools
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import redis as redis_client

from embedding_contract import document, names
from tests.fakes import provider
from tests.parts import sidecar
from tests.parts.vectors import MODEL, bits, made

pytestmark = pytest.mark.integration

VOYAGE = "voyage-3-lite"
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (__doc__ or "").splitlines()
    if line.startswith("| ") and not line.startswith("| number")
]
NUMBER = re.compile(r"[\w.-]*#[0-9]+")


def vectors_of(answer):
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(row["embedding"]) for row in answer.json()["data"]]


def down(*models):
    """A fault: the provider of these models answers 503, and has billed nothing."""
    refused = provider.status(503)
    return lambda answer: refused(answer) if answer[2].get("model") in models else answer


def asked(stand_in, model=None):
    """The texts of each call."""
    return [call.body["input"] for call in stand_in.calls if model in (None, call.body["model"])]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_every_number_is_in_test_that_holds_it(row):
    number, _, name = row
    test = globals()[name]
    for one in NUMBER.findall(number):
        assert one in test.__doc__


# --- the cache


def test_vectors_are_in_order_of_their_texts(from_environment):
    """litellm #2990."""
    running = from_environment()
    running.embed("b", "d")
    for texts in itertools.permutations("abcd"):
        assert vectors_of(running.embed(*texts)) == made(*texts)


def test_bare_string_is_list_of_one(from_environment, stand_in):
    """litellm #13250."""
    running = from_environment()
    bare = {"model": MODEL, "input": "x", "encoding_format": "base64"}
    answers = [running.http.post(names.PATH_EMBEDDINGS, json=bare) for _ in range(2)]
    answers.append(running.embed("x"))
    assert [vectors_of(answer) for answer in answers] == [made("x")] * 3
    assert len(stand_in.calls) == 1


def test_usage_is_what_this_answer_was_billed(from_environment):
    """litellm #10424: what was saved is told apart, so that nothing is counted twice."""
    running = from_environment()
    running.embed("one two")
    running.embed("three")
    partial, full = running.embed("one two", "four five six"), running.embed("one two", "three")
    for answer, billed, saved in ((partial, 3, 2), (full, 0, 3)):
        assert answer.json()["usage"] == {"prompt_tokens": billed, "total_tokens": billed}
        assert answer.headers["x-embedding-tokens-saved"] == str(saved)


def test_every_index_is_there_once(from_environment):
    """litellm #29284."""
    running = from_environment()
    running.embed("b")
    for texts in (["a", "b"], ["b", "a", "b", "c"], ["c", "c"], ["b"]):
        indexes = [row["index"] for row in running.embed(*texts).json()["data"]]
        assert indexes == list(range(len(texts)))


def test_no_text_gets_vector_of_another(from_environment):
    """litellm #41799: whatever of a batch is cached, new or there twice."""
    running = from_environment()
    chosen = random.Random(41799)
    for _ in range(100):
        texts = [f"text {chosen.randrange(60)}" for _ in range(chosen.randrange(1, 12))]
        assert vectors_of(running.embed(*texts)) == made(*texts)


def test_cache_that_is_off_keeps_nothing(from_environment, stand_in, redis):
    """litellm #20456, #29284: for all, or for one request."""
    running = from_environment(EMBEDDING_CACHE_TTL_SECONDS="0", REDIS_URL=redis.url)
    for _ in range(2):
        assert running.embed("x").headers["x-embedding-cache"] == "miss"
    assert len(stand_in.calls) == 2
    on = from_environment()
    for _ in range(2):
        assert vectors_of(on.embed("x", cache={"no-store": True})) == made("x")
    assert len(stand_in.calls) == 4
    on.embed("x")
    assert on.embed("x").headers["x-embedding-cache"] == "hit"
    fresh = on.http.post(
        names.PATH_EMBEDDINGS,
        json={"model": MODEL, "input": "x"},
        headers={"Cache-Control": "no-cache"},
    )
    assert fresh.headers["x-embedding-cache"] == "miss"
    assert len(stand_in.calls) == 6


def test_entry_kept_in_redis_is_found_there(from_environment, stand_in, redis):
    """litellm #16571."""
    first, second = (from_environment(REDIS_URL=redis.url) for _ in range(2))
    with redis_client.Redis.from_url(redis.url) as client:
        before = client.dbsize()
        first.embed("a", "b")
        sidecar.wait_until(lambda: client.dbsize() >= before + 2)
        kept = client.dbsize()
        assert second.embed("b", "a").headers["x-embedding-cache"] == "hit"
        assert client.dbsize() == kept
    assert len(stand_in.calls) == 1


def test_every_layer_keeps_embeddings(from_environment, redis):
    """litellm #17495."""
    running, other = (from_environment(REDIS_URL=redis.url) for _ in range(2))
    running.embed("x")
    assert running.embed("x").headers["x-embedding-cache"] == "hit"
    with redis_client.Redis.from_url(redis.url) as client:
        sidecar.wait_until(lambda: any(client.scan_iter("aos:embedding:cache:*")))
    assert other.embed("x").headers["x-embedding-cache"] == "hit"
    assert running.page(names.PATH_CACHE_STATS)["hits"]["memory"] == 1
    assert other.page(names.PATH_CACHE_STATS)["hits"]["redis"] == 1


def test_error_is_never_kept(from_environment, stand_in, redis):
    """appstrate#436."""
    running = from_environment(REDIS_URL=redis.url)
    stand_in.fault = provider.status(429, {"retry-after": "0"})
    assert running.embed("x").status_code == 429
    stand_in.fault = None
    sidecar.wait_until(lambda: running.embed("x").is_success)
    assert vectors_of(running.embed("x")) == made("x")


def test_cache_is_on_by_itself(from_environment):
    """appstrate#437."""
    running = from_environment()
    states = [running.embed("x").headers["x-embedding-cache"] for _ in range(2)]
    assert states == ["miss", "hit"]


def test_only_what_is_missing_is_sent(from_environment, stand_in):
    """TensorZero #898, #422."""
    running = from_environment()
    running.embed("b")
    assert vectors_of(running.embed("a", "b", "a", "c")) == made("a", "b", "a", "c")
    assert asked(stand_in) == [["b"], ["a", "c"]]


def test_batch_over_limit_is_split(from_environment, stand_in):
    """litellm #32528, TEI #378: Voyage takes 1000 items at once, OpenAI's form 2048."""
    running = from_environment(EMBEDDING_BACKUP_PROVIDER="voyage")
    texts = [f"text {number}" for number in range(1260)]
    answer = vectors_of(running.embed(*texts, model=VOYAGE))
    assert answer == [provider.vector(VOYAGE, text) for text in texts]
    assert sorted(itertools.chain(*asked(stand_in))) == sorted(texts)
    assert all(len(part) <= 1000 for part in asked(stand_in))


# --- encoding


def as_floats(answer):
    for row in answer["data"]:
        numbers = array.array("f", base64.b64decode(row["embedding"]))
        if sys.byteorder == "big":
            numbers.byteswap()
        row["embedding"] = numbers.tolist()


def test_base64_may_be_ignored_by_provider(from_environment, stand_in):
    """litellm #42426."""
    stand_in.fault = provider.changed(as_floats)
    client = from_environment().openai()
    answer = client.embeddings.create(model=MODEL, input=["a", "b"], dimensions=768)
    assert [bits(row.embedding) for row in answer.data] == made("a", "b", dimensions=768)


def test_base64_is_answered_to_who_asks_for_it(from_environment):
    """lmstudio-bug-tracker#756."""
    running = from_environment()
    for form, kind in (("base64", str), ("float", list), ("base64", str)):
        row = running.embed("x", encoding_format=form).json()["data"][0]
        assert isinstance(row["embedding"], kind)


def test_voyage_is_asked_in_its_own_words(from_environment, stand_in):
    """hindsight#925, cocoindex-code#148: the stand-in refuses every word that Voyage does."""
    client = from_environment(EMBEDDING_BACKUP_PROVIDER="voyage").openai()
    answer = client.embeddings.create(
        model=VOYAGE, input=["a"], dimensions=32, encoding_format="float", user="u"
    )
    assert [bits(row.embedding) for row in answer.data] == [provider.vector(VOYAGE, "a", 32)]
    assert stand_in.calls[-1].body["output_dimension"] == 32
    assert stand_in.calls[-1].body.keys() <= provider.VOYAGE_KEYS


def test_usage_of_voyage_has_form_of_openai(from_environment):
    """gbrain#735, streamystats#420."""
    running = from_environment(EMBEDDING_BACKUP_PROVIDER="voyage")
    usage = running.embed("one two three", model=VOYAGE).json()["usage"]
    assert usage == {"prompt_tokens": 3, "total_tokens": 3}


# --- spaces


@pytest.fixture
def crossing(from_environment):
    """OpenAI with Voyage as its backup, and the consent to cross spaces."""

    def start():
        return from_environment(
            EMBEDDING_BACKUP_PROVIDER="voyage", EMBEDDING_FALLBACK_ENABLED="true"
        )

    return start


def test_no_other_space_answers_unasked(from_environment, stand_in):
    """openclaw#91719."""
    running = from_environment(EMBEDDING_BACKUP_PROVIDER="voyage")
    stand_in.fault = down(MODEL)
    refused = running.embed("x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "all_providers_failed")
    assert asked(stand_in, VOYAGE) == []


def test_answer_from_another_space_says_so(crossing, stand_in):
    """openclaw#53992."""
    running = crossing()
    stand_in.fault = down(MODEL)
    answer = running.embed("x")
    assert vectors_of(answer) == [provider.vector(VOYAGE, "x")]
    assert answer.json()["model"] == VOYAGE
    said = [answer.headers[f"x-embedding-{word}"] for word in ("provider", "model", "space")]
    assert said == ["voyage", VOYAGE, "voyage/voyage-3-lite@512"]
    crossed = 'aos_embedding_failovers_total{provider="voyage"} 1.0'
    assert crossed in running.admin.get("/metrics").text


def test_health_says_who_is_down(crossing, stand_in):
    """muninndb#582."""
    running = crossing()
    assert running.page(names.PATH_HEALTH)["status"] == "ok"
    stand_in.fault = down(MODEL)
    texts = itertools.count()

    def troubled():
        assert running.embed(f"text {next(texts)}").is_success
        health = running.page(names.PATH_HEALTH)
        return health["status"] == "degraded" and health["providers"]["openai"] != "ok"

    sidecar.wait_until(troubled)
    assert running.page(names.PATH_HEALTH)["providers"]["voyage"] == "ok"


def test_vector_of_backup_is_not_served_for_primary(crossing, stand_in, redis):
    """ollama-client#306."""
    running = crossing()
    stand_in.fault = down(MODEL)
    assert vectors_of(running.embed("x")) == [provider.vector(VOYAGE, "x")]
    stand_in.fault = None
    # A provider that failed is tried last for a while.
    sidecar.wait_until(lambda: running.embed("x").headers["x-embedding-provider"] == "openai")
    for _ in range(2):
        assert vectors_of(running.embed("x")) == made("x")


def test_one_answer_is_of_one_space(crossing, stand_in):
    """remnic#1288: also where a part had been cached of the space that cannot go on."""
    running = crossing()
    running.embed("a")
    stand_in.fault = down(MODEL)
    answer = running.embed("a", "b")
    assert vectors_of(answer) == [provider.vector(VOYAGE, text) for text in ("a", "b")]
    assert answer.headers["x-embedding-space"] == "voyage/voyage-3-lite@512"
    # What is whole in the first choice's space is served of it.
    assert vectors_of(running.embed("a")) == made("a")


def test_vectors_of_another_size_are_refused(from_environment, stand_in):
    """mnemosyne#521; field B10: the caller chose the size; only that is refused, bought once."""

    def longer(answer):
        for row in answer["data"]:
            row["embedding"] = base64.b64encode(bytes(4 * 9)).decode()

    running = from_environment()
    stand_in.fault = provider.changed(longer)
    for text in ("x", "y"):
        refused = running.embed(text, dimensions=8)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")
    assert len(stand_in.calls) == 1
    stand_in.fault = None
    assert vectors_of(running.embed("x")) == made("x")


def test_backup_is_asked_for_embeddings(crossing, stand_in):
    """litellm #14403."""
    running = crossing()
    stand_in.fault = down(MODEL)
    assert running.embed("x").is_success
    assert stand_in.calls[-1].path == "/voyage/v1/embeddings"


# --- budgets


@pytest.fixture
def pods(from_environment, redis):
    """So many sidecars of one policy over one Redis."""

    def start(number, *, limit):
        return [
            from_environment(REDIS_URL=redis.url, EMBEDDING_DAILY_QUOTA=str(limit))
            for _ in range(number)
        ]

    return start


def burst(running, number):
    """The statuses of so many requests at once, spread over these sidecars."""

    def ask(at):
        return running[at % len(running)].embed(f"text {at}").status_code

    with ThreadPoolExecutor(16) as many:
        return list(many.map(ask, range(number)))


def test_replicas_share_one_limit(pods, stand_in):
    """litellm #6288, #33325, #39390."""
    statuses = burst(pods(3, limit=30), 60)
    assert statuses.count(200) == len(stand_in.calls) == 30
    assert statuses.count(429) == 30


def test_burst_never_passes_limit(pods, stand_in):
    """litellm #34732, #26672, #36926: and within it, nobody is refused."""
    stand_in.delay_seconds = 0.05
    statuses = burst(pods(1, limit=10), 40)
    assert statuses.count(200) == len(stand_in.calls) == 10
    assert statuses.count(429) == 30


def test_request_beyond_remaining_tokens_is_not_sent(start, stand_in, provider_url, tmp_path):
    """litellm #18730."""
    policy = document.PolicyDocument(
        namespace="shop",
        name="main",
        providers=(
            document.Provider(name="a", kind="OpenAI", model=MODEL, base_url=f"{provider_url}/v1"),
        ),
        quota=document.Quota(daily_tokens=100),
    )
    (tmp_path / "document.json").write_text(document.dump(policy), encoding="utf-8")
    stand_in.key = None
    running = start("--document", tmp_path / "document.json", "--secrets", tmp_path).wait()
    refused = running.embed("word " * 663)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert stand_in.calls == []
    assert running.embed("word").is_success


def test_request_beyond_limit_is_not_sent(pods, stand_in):
    """litellm #12977."""
    (running,) = pods(1, limit=3)
    statuses = [running.embed(f"text {number}").status_code for number in range(50)]
    assert statuses == [200] * 3 + [429] * 47
    assert len(stand_in.calls) == 3
    refused = running.embed("another")
    assert refused.headers["x-should-retry"] == "false"
    assert int(refused.headers["retry-after"]) > 0


def test_errors_that_cost_nothing_leave_day_whole(pods, stand_in):
    """litellm #27639."""
    (running,) = pods(1, limit=20)
    stand_in.fault = provider.status(400)
    assert {running.embed(f"text {number}").status_code for number in range(40)} == {400}
    assert running.page(names.PATH_QUOTA)["current_count"] == 0
    stand_in.fault = None
    assert [running.embed(f"text {number}").status_code for number in range(21)] == [200] * 20 + [
        429
    ]


def test_pod_that_starts_adds_nothing(pods, stand_in):
    """litellm #28247."""
    (first,) = pods(1, limit=40)
    for number in range(10):
        assert first.embed(f"text {number}").is_success
    assert first.stop() == 0
    for running in pods(4, limit=40):
        assert running.page(names.PATH_QUOTA)["current_count"] == len(stand_in.calls) == 10


def test_calls_within_limit_are_not_refused(pods, stand_in):
    """litellm #30460, #27735: pods that take turns use the day up to its last call."""
    running = pods(3, limit=60)
    statuses = [running[at % 3].embed(f"text {at}").status_code for at in range(60)]
    assert statuses == [200] * 60
    assert running[0].embed("another").status_code == 429
    assert len(stand_in.calls) == 60


def test_call_is_counted_when_it_is_made(pods):
    """litellm #40385."""
    running, other = pods(2, limit=1000)
    for number in range(1, 51):
        running.embed(f"text {number}")
        assert running.page(names.PATH_QUOTA)["current_count"] == number
    # What a pod holds and has not used is told apart from what was used.
    seen = other.page(names.PATH_QUOTA)
    assert seen["current_count"] + seen["reserved"] >= 50


def test_retries_and_failover_do_not_multiply(crossing, stand_in):
    """The "$2,300 weekend" of dev.to: one request asks each provider a few times at most."""
    running = crossing()
    stand_in.fault = down(MODEL, VOYAGE)
    refused = running.embed("x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "all_providers_failed")
    assert len(asked(stand_in, MODEL)) <= 3
    assert len(asked(stand_in, VOYAGE)) <= 3
    # The SDK is told not to add tries of its own to ours.
    with pytest.raises(openai.APIStatusError):
        running.openai().with_options(max_retries=0).embeddings.create(model=MODEL, input="x")
