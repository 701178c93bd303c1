"""Searches from an application's sidecar to the table and back, and the mode in their answers."""

import dataclasses
import json
import time
from http import HTTPStatus

import pytest

from embedding_contract import document as policy_document
from embedding_contract import fingerprint, index_report, names, proof
from embedding_contract.index_document import Condition, Search, Target
from embedding_vectors.search import query_vector
from tests.fakes import provider
from tests.integration.searches.conftest import TARGET, TEXTS, fill
from tests.parts import searching, sidecar

pytestmark = pytest.mark.integration


def ids(answer):
    return [it["key"]["id"] for it in answer["results"]]


def counted(world, reason, times):
    """Wait until so many fallbacks for this reason are shown."""
    series = f'aos_vector_fallback_total{{reason="{reason}"}}'
    sidecar.wait_until(lambda: world.pod.metrics()[series] == times)


def until(world, **wanted):
    def so() -> bool:
        answer = world.search(TEXTS[3], k=1)
        return all(answer[key] == value for key, value in wanted.items())

    sidecar.wait_until(so)


def test_search_says_what_it_found_and_how(world):
    answer = world.search(TEXTS[3], k=2)
    first = answer["results"][0]
    assert {**answer, "results": []} == {
        "object": "list",
        "index": "docs",
        "mode": "vector",
        "space": "tests/small",
        "reason": None,
        "results": [],
    }
    assert first == {
        "key": {"id": 3},
        "columns": {"body": TEXTS[3]},
        "score": pytest.approx(1.0),
        "score_kind": "cosine_similarity",
    }
    assert len(answer["results"]) == 2
    series = "aos_vector_query_latency_seconds_count"
    sidecar.wait_until(lambda: world.pod.metrics()[series] >= 1)


def test_modes_say_themselves_and_kind_of_their_scores(world):
    text = world.search("whales autumn", mode="text")
    assert (text["mode"], text["space"], text["reason"]) == ("text", None, None)
    assert {it["score_kind"] for it in text["results"]} == {"ts_rank_cd"}
    assert all("whales" in it["columns"]["body"] for it in text["results"])
    counted(world, "error", 0)
    hybrid = world.search("whales autumn", mode="hybrid", k=3)
    assert (hybrid["mode"], hybrid["space"]) == ("hybrid", "tests/small")
    assert {it["score_kind"] for it in hybrid["results"]} == {"reciprocal_rank_fusion"}
    scores = [it["score"] for it in hybrid["results"]]
    assert scores == sorted(scores, reverse=True)


def test_words_of_search_engine_are_understood_and_nothing_is_no_error(world):
    assert ids(world.search('"of whales" -spring', mode="text"))
    assert not ids(world.search("unicorns", mode="text"))
    for query in ("!!!", "& | ! ( )", "' OR 1=1 --", "a:* <-> b"):
        assert world.search(query, mode="text")["mode"] == "text"


@pytest.mark.parametrize(
    "query",
    [
        *("x" * 4_000, "a1 " * 1_300, "a or " * 800, "-" * 4_000, "-a " * 1_300),
        *('"' * 4_000, '"a b" ' * 650, "(" * 4_000, "a@" * 2_000, "a-" * 2_000),
        *("<a" * 2_000, "\U0001f600" * 1_000, "http://" + "a." * 2_000),
    ],
)
def test_no_query_is_taken_for_database_that_is_away(shared_world, query):
    answer = shared_world.ask({"query": query, "mode": "text"})
    # To rank by a thousand words may take longer than the index allows.
    is_late = "took too long" in answer.text or "stands still" in answer.text
    if answer.status_code != 200 and not is_late:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "query")


def test_long_query_of_words_is_refused(shared_world):
    too_long = shared_world.ask({"query": "a " * 2_100, "mode": "text"})
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "query")


def test_filters_hold_in_every_mode(world):
    for mode in searching_modes():
        filters = [
            {"column": "bucket", "operator": "between", "value": [3, 8]},
            {"column": "lang", "operator": "=", "value": "en"},
        ]
        answer = world.search("sentence", k=40, mode=mode, filter=filters)
        assert answer["mode"] == mode
        assert sorted(ids(answer)) == [it for it in range(40) if 3 <= it % 10 <= 8 and it % 3]
        nulls = [{"column": "lang", "operator": "!=", "value": "en"}]
        assert sorted(ids(world.search("sentence", k=40, mode=mode, filter=nulls))) == [
            it for it in range(40) if it % 3 == 0
        ]


def searching_modes():
    return ("vector", "text", "hybrid")


def test_provider_that_is_gone_gives_text_with_reason(world, stand_in):
    stand_in.fault = provider.status(500)
    answer = world.search("whales", k=3)
    assert (answer["mode"], answer["reason"], answer["space"]) == ("text", "provider", None)
    assert len(answer["results"]) == 3
    counted(world, "provider", 1)
    hybrid = world.search("whales", mode="hybrid")
    assert (hybrid["mode"], hybrid["reason"]) == ("text", "provider")
    # Asked for text, nothing was missing.
    assert world.search("whales", mode="text")["reason"] is None
    counted(world, "provider", 2)
    # What the cache has needs no provider.
    assert world.search("x")["mode"] == "vector"


def test_text_search_finds_rows_with_all_words_then_with_any(world, stand_in):
    stand_in.fault = provider.status(500)
    asked = "whales or unicorns, please?"
    world.server.execute("UPDATE docs SET body = 'unicorns please whales or' WHERE id = 7")
    answer = world.search(asked, k=5)
    assert (answer["mode"], len(answer["results"])) == ("text", 5)
    assert ids(answer)[0] == 7
    assert len(set(ids(answer))) == 5
    # Who chooses words means what they say.
    assert not ids(world.search('"whales unicorns"', mode="text"))


def test_provider_that_hangs_gives_text_within_its_time(world, stand_in):
    stand_in.delay_seconds = 3 * query_vector.EMBED_SECONDS
    answer = world.search("whales")
    assert (answer["mode"], answer["reason"]) == ("text", "provider")


def test_quota_that_is_used_up_gives_text_with_reason(make_world):
    quota = policy_document.Quota(daily_requests=0)
    world = make_world(filled=False, policy_changes={"quota": quota})
    world.pod.apply()
    fill(world.server)
    searching.switch(world.server, TARGET)
    until(world, mode="text", reason="quota")
    series = 'aos_vector_fallback_total{reason="quota"}'
    sidecar.wait_until(lambda: world.pod.metrics()[series] >= 1)


def test_table_without_plan_is_searched_by_text(make_world):
    world = make_world(filled=False)
    answer = world.search("whales")
    assert (answer["mode"], answer["reason"]) == ("text", "no_vectors")
    assert answer["results"]
    assert world.pod.report()["serving"] is None


@pytest.mark.parametrize("phase", ["Filling", "Retired"])
def test_target_that_is_not_filled_is_not_searched(world, phase):
    searching.switch(world.server, TARGET, phase=phase)
    until(world, mode="text", reason="no_vectors")


def test_vectors_of_another_space_are_not_compared(world):
    searching.switch(world.server, TARGET, space="tests/other")
    until(world, mode="text", reason="space")
    series = 'aos_vector_fallback_total{reason="space"}'
    sidecar.wait_until(lambda: world.pod.metrics()[series] >= 1)
    searching.switch(world.server, TARGET, space="tests/small")
    until(world, mode="vector", reason=None)


def test_search_after_failover_uses_target_of_that_space(make_world, stand_in):
    backup = Target(
        model="large", dimensions=searching.DIMENSIONS, space="tests/large", column="backup"
    )
    document = searching.index(failover_target=backup)
    base = searching.policy("http://127.0.0.1:9").providers[0]
    world = make_world(document=document)
    providers = (
        world.policy.providers[0],
        dataclasses.replace(
            base,
            name="backup",
            model="large",
            base_url=world.policy.providers[0].base_url,
            declared_space="tests/large",
        ),
    )
    policy = dataclasses.replace(
        world.policy,
        providers=providers,
        failover=policy_document.Failover(enabled=True, across_spaces=True),
    )
    world.files.write(policy)
    fill(world.server, column="backup", model="large")

    def fault(answer):
        status, headers, body = answer
        if body.get("model") != "large":
            return provider.status(500)(answer)
        return status, headers, body

    stand_in.fault = fault

    def answered(query: str, **wanted) -> bool:
        answer = world.search(query, k=1)
        return all(answer[key] == value for key, value in wanted.items())

    numbers = iter(range(10_000))
    # The backup is not filled: nothing holds vectors of the space that the sidecar fails over to.
    sidecar.wait_until(lambda: answered(f"query {next(numbers)}", mode="text", reason="space"))
    searching.switch(world.server, "public.docs.backup", phase="Ready")
    sidecar.wait_until(lambda: answered(f"query {next(numbers)}", mode="vector"))
    found = world.search(TEXTS[8], k=1)
    assert (found["space"], ids(found)) == ("tests/large", [8])
    assert found["results"][0]["score"] == pytest.approx(1.0)


def test_side_table_and_strange_names_are_searched(make_world):
    server_document = searching.index(
        schema='odd "schema" 100%s',
        table='select * from "t"; %(x)s',
        key_columns=("a key", "%"),
        text_columns=("body; --", "query"),
        target=Target(
            model=searching.MODEL,
            dimensions=searching.DIMENSIONS,
            space="tests/small",
            table='side %s "table"',
        ),
        search=Search(filter_columns=("%", "query"), return_columns=("body; --", "query")),
        rows=(Condition(column="query", operator="!=", value="100%"),),
    )
    world = make_world(filled=False, document=server_document)
    with world.server.connect() as connection:
        connection.execute(b'DROP SCHEMA IF EXISTS "odd ""schema"" 100%s" CASCADE')
        connection.execute(b'CREATE SCHEMA "odd ""schema"" 100%s"')
        table = '"odd ""schema"" 100%s"."select * from ""t""; %(x)s"'
        side = '"odd ""schema"" 100%s"."side %s ""table"""'
        connection.execute(
            f'CREATE TABLE {table} ("a key" uuid, "%" int, "body; --" text, query text,'
            f' PRIMARY KEY ("a key", "%"))'.encode()
        )
        for number, text in enumerate(TEXTS[:6]):
            row = f"00000000-0000-0000-0000-{number:012d}"
            connection.execute(
                f"INSERT INTO {table.replace('%', '%%')} VALUES (%s, %s, %s, %s)".encode(),
                (row, number, text, "100%" if number == 5 else "words"),
            )
    world.pod.apply()
    with world.server.connect() as connection:
        for number, text in enumerate(TEXTS[:6]):
            connection.execute(
                f"INSERT INTO {side.replace('%', '%%')} VALUES (%s, %s, %s::vector)".encode(),
                (
                    f"00000000-0000-0000-0000-{number:012d}",
                    number,
                    searching.as_text(provider.numbers("small", text, 16)),
                ),
            )
        connection.execute('UPDATE "odd ""schema"" 100%s".embedding_target SET phase = \'Ready\'')
    until(world, mode="vector")
    answer = world.search(
        TEXTS[3], k=5, filter=[{"column": "%", "operator": "in", "value": [3, 4, 5]}]
    )
    assert answer["mode"] == "vector"
    # The fifth is kept out by the index's own condition.
    assert [it["key"]["%"] for it in answer["results"]] in ([3, 4], [4, 3])
    first = answer["results"][0]
    assert first["key"]["a key"].startswith("00000000-")
    assert first["columns"].keys() == {"body; --", "query"}
    text = world.search("whales", mode="text")
    assert [it["key"]["%"] for it in text["results"]] == [4]


def test_every_type_that_filter_can_name_is_compared_by_database(make_world):
    columns = {
        "i2": "smallint",
        "i8": "bigint",
        "num": "numeric(10,2)",
        "f4": "real",
        "f8": "double precision",
        "vc": "varchar(20)",
        "ch": "char(5)",
        "ok": "boolean",
        "uid": "uuid",
        "day": "date",
        "at": "timestamp",
        "attz": "timestamptz",
        "feel": "mood",
        "dom": "short",
    }
    values = {
        "i2": 5,
        "i8": 2**40,
        "num": 1.25,
        "f4": 0.5,
        "f8": 1e-300,
        "vc": "O'Hara %s",
        "ch": "ab",
        "ok": True,
        "uid": "5e0c9e0c-6a3f-4f0e-9a52-3b0f1d8f7c11",
        "day": "2026-11-29",
        "at": "2026-11-29T23:30:00",
        "attz": "2026-11-30T01:30:00+02:00",
        "feel": "calm",
        "dom": "xyz",
    }
    search = Search(filter_columns=tuple(columns), return_columns=tuple(columns))
    world = make_world(filled=False, document=searching.index(search=search))
    server = world.server
    server.execute("DROP DOMAIN IF EXISTS short")
    server.execute("DROP TYPE IF EXISTS mood")
    server.execute("CREATE TYPE mood AS ENUM ('calm', 'cross')")
    server.execute("CREATE DOMAIN short AS varchar(5) CHECK (value <> 'no')")
    for name, kind in columns.items():
        server.execute(f"ALTER TABLE docs ADD COLUMN {name} {kind}")
    for name, value in values.items():
        server.execute(f"UPDATE docs SET {name} = %s WHERE id = 4", (value,))
    for name, value in values.items():
        for operator, given in (("=", value), ("in", [value]), ("between", [value, value])):
            if operator == "between" and name in ("ok", "feel"):
                continue
            answer = world.search(
                "whales",
                mode="text",
                filter=[{"column": name, "operator": operator, "value": given}],
            )
            assert ids(answer) == [4], (name, operator)
        unlike = [{"column": name, "operator": "!=", "value": value}]
        assert 4 not in ids(world.search("whales", mode="text", filter=unlike))
        wrong = [{"column": name, "operator": "=", "value": [value]}]
        refused = world.ask({"query": "x", "filter": wrong})
        assert refused.json()["error"]["param"] == "filter[0].value"
    (shown,) = world.search(
        "whales", mode="text", filter=[{"column": "i2", "operator": "=", "value": 5}]
    )["results"]
    assert shown["columns"]["num"] == 1.25
    assert shown["columns"]["attz"] == "2026-11-29T23:30:00+00:00"


BAD = [
    ({"query": ""}, 400, "query"),
    ({"query": "x", "k": 0}, 400, "k"),
    ({"query": "x", "k": 1001}, 400, "k"),
    ({"query": "x", "index": "others"}, 400, "index"),
    (
        {"query": "x", "filter": [{"column": "no", "operator": "=", "value": 1}]},
        400,
        "filter[0].column",
    ),
    (
        {"query": "x", "filter": [{"column": "bucket", "operator": "=", "value": "1"}]},
        400,
        "filter[0].value",
    ),
    ({"query": "x", "sql": "DROP TABLE docs"}, 400, "sql"),
    (b"{", 400, None),
    (b"[]", 400, None),
    (b'{"query": "' + b"x" * 65_536 + b'"}', 413, None),
]


@pytest.mark.parametrize(("body", "status", "param"), BAD)
def test_bad_input_is_refused_in_openais_form(shared_world, body, status, param):
    refused = shared_world.ask(body)
    assert refused.status_code == status
    error = refused.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert refused.headers["x-request-id"]


@pytest.fixture(scope="module")
def shared_world(server, tmp_path_factory):
    """For what changes nothing."""
    server.execute("CREATE TABLE IF NOT EXISTS docs (id bigint PRIMARY KEY, body text, bucket int)")
    with (
        sidecar.served(provider.StandIn().app()) as url,
        searching.running(
            tmp_path_factory.mktemp("shared"),
            server=server,
            provider_url=f"{url}/v1",
            document=searching.index(),
        ) as made,
    ):
        yield made


def signed(world, body: bytes, **changes) -> dict[str, str]:
    fields = {
        "method": "POST",
        "path": names.PATH_SEARCH,
        "nonce": f"{time.monotonic_ns():032x}",
        "time": int(time.time()),
        "pod": world.pod.document.uid,
        "body": body,
        **changes,
    }
    token = fields.pop("token", sidecar.TOKEN)
    return {"Authorization": proof.sign_request(token, **fields).render()}


def test_search_pod_answers_proofs_of_its_index_and_body_alone(shared_world):
    world, body = shared_world, searching.body(query="whales", mode="text")

    def ask(headers, content=body):
        return world.pod.http.post(names.PATH_SEARCH, content=content, headers=headers)

    good = signed(world, body)
    answer = ask(good)
    assert answer.status_code == 200
    nonce = good["Authorization"].partition("nonce=")[2][:32]
    assert proof.is_answer_signed(
        sidecar.TOKEN,
        answer.headers[proof.ANSWER_HEADER],
        nonce=nonce,
        status=200,
        body=answer.content,
    )
    for refused in (
        ask({}),
        ask(good),  # used before
        ask({"Authorization": f"Bearer {sidecar.TOKEN}"}),
        ask(signed(world, body, token="another")),
        ask(signed(world, b"another body")),
        ask(signed(world, body, pod=searching.POD_UID)),
        ask(signed(world, body, time=int(time.time()) - 301)),
        ask(signed(world, body, path=names.PATH_INDEX)),
        ask(signed(world, body), content=body + b" "),
    ):
        assert refused.status_code == HTTPStatus.UNAUTHORIZED
        assert sidecar.TOKEN not in refused.text
    # A refusal of a body that is proved is proved too.
    wrong = searching.body(query="")
    refused = ask(signed(world, wrong), content=wrong)
    assert refused.status_code == 400
    assert refused.headers[proof.ANSWER_HEADER]


def test_report_names_document_and_what_is_searched(world):
    text = world.pod.document_file.read_bytes()
    world.server.execute("UPDATE embedding_target SET rows = 40, done = 38, parked = 1")
    sidecar.wait_until(lambda: world.pod.report()["targets"][0]["rows"] == 40)
    report = index_report.parse(json.dumps(world.pod.report()))
    assert report.document == fingerprint.of_document(text)
    assert (report.serving, report.problems) == (TARGET, ())
    (target,) = report.targets
    assert (target.id, target.phase, target.rows, target.done, target.parked) == (
        *(TARGET, "Switched"),
        *(40, 38, 1),
    )
    assert (target.space, target.dimensions) == ("tests/small", 16)

    def counted() -> bool:
        metrics = world.pod.metrics()
        sizes = (metrics["aos_vector_index_size"], metrics["aos_vector_index_null_count"])
        return sizes == (38, 1)

    sidecar.wait_until(counted)


def test_document_that_changes_is_obeyed(world):
    search = Search(filter_columns=(), return_columns=("bucket",))
    world.pod.obey(dataclasses.replace(world.pod.document, search=search))
    sidecar.wait_until(lambda: "bucket" in world.search("x", k=1)["results"][0]["columns"])
    world.pod.document_file.write_text("{", encoding="utf-8")
    assert world.search("x", k=1)["mode"] == "vector"
    assert sidecar.TOKEN not in world.pod.said()


def test_sidecar_says_whether_there_is_anything_to_search(shared_world, from_environment):
    page = shared_world.sidecar.page(names.PATH_QUOTA)
    assert (page["vector_search_enabled"], page["fallback_enabled"]) == (True, True)
    bare = from_environment(EMBEDDING_FALLBACK_ENABLED="true")
    page = bare.page(names.PATH_QUOTA)
    assert (page["vector_search_enabled"], page["fallback_enabled"]) == (False, False)
    refused = bare.http.post(names.PATH_SEARCH, json={"query": "x"})
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "no_index"


def test_search_refuses_requests_of_web_page(shared_world):
    for headers, param in (
        ({"Origin": "https://evil.example"}, "Origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "Sec-Fetch-Site"),
        ({"Host": "evil.example"}, "Host"),
    ):
        refused = shared_world.ask({"query": "x"}, headers=headers)
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, param)
    refused = shared_world.ask(b'{"query": "x"}', headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415


def test_switch_under_load_leaves_no_answer_failed_or_of_two_spaces(world):
    world.server.execute("ALTER TABLE docs ADD COLUMN next vector(16)")
    fill(world.server, column="next", model="small")
    world.server.execute(
        "INSERT INTO embedding_target (target, index_uid, index_name, model, dimensions, space,"
        " target_column, phase) SELECT 'public.docs.next', index_uid, index_name, model,"
        " dimensions, space, 'next', 'Ready' FROM embedding_target"
    )
    for number in range(120):
        if number % 30 == 0:
            old, new = (TARGET, "public.docs.next")[:: 1 if number % 60 == 0 else -1]
            world.server.execute(
                "WITH gone AS (UPDATE embedding_target SET phase = 'Retired' WHERE target = %s"
                " RETURNING 1) SELECT count(*) FROM gone",
                (old,),
            )
            searching.switch(world.server, new)
        answer = world.search(TEXTS[number % 40], k=1)
        assert (answer["mode"], ids(answer)) == ("vector", [number % 40])
