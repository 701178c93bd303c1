"""The texts of search statements are a closed set, whatever a search holds: pg_stat_statements."""

import collections
import random
import re
from collections.abc import Iterator, Mapping

import pytest

from embedding_contract.index_document import OPERATORS, Search
from tests.fakes import provider
from tests.integration.searches.conftest import TARGET, TEXTS, fill, write
from tests.parts import postgres, searching, sidecar

pytestmark = pytest.mark.integration

SHORT, LONG = 1_000, 10_000
SEED = 20261129
COLUMNS = ("bucket", "lang", "ok", "at", "num", "feel")


@pytest.fixture(scope="module")
def tricked(tmp_path_factory) -> Iterator[searching.World]:
    search = Search(filter_columns=COLUMNS, return_columns=("body",))
    with (
        postgres.running(settings={"pg_stat_statements.max": "5000"}) as server,
        sidecar.served(provider.StandIn().app()) as url,
        searching.running(
            tmp_path_factory.mktemp("tricked"),
            server=server,
            provider_url=f"{url}/v1",
            document=searching.index(search=search),
        ) as world,
    ):
        server.execute("CREATE EXTENSION vector")
        server.execute("CREATE EXTENSION pg_stat_statements")
        server.execute("CREATE ROLE searcher LOGIN")
        server.execute("CREATE TYPE mood AS ENUM ('calm', 'cross')")
        write(server)
        server.execute(
            "ALTER TABLE docs ADD ok bool DEFAULT true, ADD at timestamptz DEFAULT now(),"
            " ADD num numeric DEFAULT 1.5, ADD feel mood DEFAULT 'calm'"
        )
        world.pod.apply()
        fill(server)
        searching.switch(server, TARGET)
        server.execute("GRANT SELECT ON docs, embedding_target TO searcher")
        # As hostile as can be: the role may do what it likes, and nobody asks it to.
        server.execute("GRANT ALL ON docs TO searcher")
        world.pod.set_dsn(server.dsn_of(user="searcher"))
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'embedding-vectors%%' AND pid <> pg_backend_pid()",
            (),
        )
        sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")
        yield world


def one(column="lang", operator="=", value="en"):
    return {"column": column, "operator": operator, "value": value}


INJECTED = "en' OR '1'='1"
TRICKS: list[dict] = [
    {"filter": [one(value=INJECTED)]},
    {"filter": [one(value="'; DROP TABLE docs; --")]},
    {"filter": [one(value="$1")]},
    {"filter": [one(value="%s")]},
    {"filter": [one(value="%(x)s")]},
    {"filter": [one(value="\\'; SELECT pg_sleep(10); --")]},
    {"filter": [one(value="E'\\\\x27'")]},
    {"filter": [one(value="$$; DELETE FROM docs; $$")]},
    {"filter": [one(value="/* */ OR TRUE")]},
    {"filter": [one(value="\u02bc OR 1=1")]},
    {"filter": [one(value="en\u0000' OR 1=1")]},
    {"filter": [one(value="\\")]},
    {"filter": [one(value="{en,NULL}")]},
    {"filter": [one(operator="in", value=["en", "'); DROP TABLE docs; --"])]},
    {"filter": [one(operator="in", value=['{"en"}', "}", ",", '"'])]},
    {"filter": [one(operator="in", value="SELECT lang FROM docs")]},
    {"filter": [one(operator="in", value=[["en"]])]},
    {"filter": [one(operator="between", value=["a' AND 'z", "z"])]},
    {"filter": [one(operator="= ANY", value=["en"])]},
    {"filter": [one(operator="=; DROP TABLE docs; --")]},
    {"filter": [one(operator="= 'en' OR")]},
    {"filter": [one(operator="~")]},
    {"filter": [one(operator="IN")]},
    {"filter": [one(operator="")]},
    {"filter": [one(column="lang\" = 'en' OR \"lang")]},
    {"filter": [one(column="lang; --")]},
    {"filter": [one(column="t.lang")]},
    {"filter": [one(column="lang::text")]},
    {"filter": [one(column="LANG")]},
    {"filter": [one(column="ctid")]},
    {"filter": [one(column="body")]},
    {"filter": [one(column="lang\u0000")]},
    {"filter": [one(column="pg_sleep(10)")]},
    {"filter": [one(column="feel", value="calm' OR TRUE --")]},
    {"filter": [one(column="bucket", value="1 OR 1=1")]},
    {"filter": [one(column="bucket", value=True)]},
    {"filter": [one(column="bucket", value=1e308)]},
    {"filter": [one(column="num", value="NaN")]},
    {"filter": [one(column="at", value="now() - interval '1 year'")]},
    {"filter": [one(column="at", value="infinity")]},
    {"filter": [one(column="ok", value="true OR true")]},
    {"query": "'; DROP TABLE docs; --"},
    {"query": "x') || pg_sleep(10) || ('", "mode": "text"},
    {"query": "%s %(x)s $1 %%", "mode": "text"},
    {"query": "a & | ! ( ) <-> :* ' \" \\", "mode": "hybrid"},
    {"k": "1; DROP TABLE docs"},
    {"k": 10.5},
    {"mode": "vector; DROP TABLE docs"},
    {"index": "docs; DROP TABLE docs"},
    {"index": "../embedding-index-other"},
    {"table": "pg_shadow"},
    {"__proto__": {"columns": ["body"]}},
]


def test_list_has_forty_tricks():
    assert len(TRICKS) >= 40


def holds(row: dict, condition: dict) -> bool:
    """Whether a row passes a condition on its language, the one column whose values we know."""
    if condition["column"] != "lang":
        return True
    value, operator, given = row["lang"], condition["operator"], condition["value"]
    if operator == "=":
        return bool(value == given)
    if operator == "!=":
        return bool(value != given)
    if operator == "in":
        return value in given
    return value is not None


LANGUAGES = {number: "en" if number % 3 else None for number in range(len(TEXTS))}


def ask(world: searching.World, body: Mapping) -> int:
    answer = world.ask({"query": "whales of autumn", **body})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        for found in answer.json()["results"]:
            row = {"lang": LANGUAGES[found["key"]["id"]]}
            assert all(holds(row, it) for it in body.get("filter") or []), body
    else:
        assert answer.json()["error"]["type"] == "invalid_request_error"
    return int(answer.status_code)


N = r"\$\d+"
CONDITION = (
    r'"t"\."(?:bucket|lang|ok|at|num|feel)" '
    r"(?:IS NULL|IS NOT NULL"
    rf'|(?:=|<|>|IS DISTINCT FROM) {N}::"(?:pg_catalog|public)"\."\w+"'
    rf'|= ANY \({N}::"(?:pg_catalog|public)"\."\w+"\[\]\)'
    rf'|BETWEEN {N}::"pg_catalog"\."\w+" AND {N}::"pg_catalog"\."\w+")'
)
# A constant counts as a parameter there: the index's own conditions, and no filter.
WHERE = rf"{N} AND (?:{N}|{CONDITION}(?: AND {CONDITION})*)"


def literally(text: str) -> str:
    return re.escape(text).replace(re.escape("§"), N)


def words(asked: str) -> str:
    return (
        literally(
            'SELECT pg_catalog.to_json("t"."id")::text AS "c0",'
            ' pg_catalog.to_json("t"."body")::text AS "c1",'
            ' pg_catalog.ts_rank_cd(to_tsvector(§::regconfig, coalesce("body"::text, §)),'
            f" {asked}) AS score"
            ' FROM "public"."docs" AS t WHERE to_tsvector(§::regconfig, coalesce("body"::text, §))'
            f" @@ {asked} AND "
        )
        + WHERE
        + literally(' ORDER BY score DESC, "t"."id" LIMIT §')
    )


CLOSED = {
    "begin": literally("BEGIN READ ONLY"),
    "commit": literally("COMMIT"),
    "rollback": literally("ROLLBACK"),
    "settings": literally(
        "SELECT pg_catalog.set_config(§, §, §), pg_catalog.set_config(§, §, §),"
        " pg_catalog.set_config(§, §, §)"
    ),
    "columns": r"\s*WITH RECURSIVE columns AS \((?:[^;])*",
    "targets": r"SELECT target, index_uid, [a-z_, ]* FROM "
    rf'"public"\."embedding_target" WHERE index_uid = {N} ORDER BY target',
    "vectors": literally(
        'WITH found AS MATERIALIZED (SELECT pg_catalog.to_json("t"."id")::text AS "c0",'
        ' pg_catalog.to_json("t"."body")::text AS "c1", "t"."id" AS "k0",'
        ' "t"."embedding" OPERATOR("public".<=>) §::"public"."vector" AS distance'
        ' FROM "public"."docs" AS t WHERE "t"."embedding" IS NOT NULL AND '
    )
    + WHERE
    + literally(
        ' ORDER BY distance LIMIT §) SELECT "c0", "c1", distance FROM found'
        ' ORDER BY distance + §, "k0"'
    ),
    "text": words("pg_catalog.websearch_to_tsquery(§::regconfig, §)"),
    "any word": words(
        "pg_catalog.replace(pg_catalog.plainto_tsquery(§::regconfig, §)::text, §, §)"
        "::pg_catalog.tsquery"
    ),
}


def kinds_of_statements(server: postgres.Postgres) -> collections.Counter:
    """Of all that the role has run: how many texts there are of each kind. There is no other."""
    texts = server.execute(
        "SELECT query FROM pg_stat_statements WHERE userid = 'searcher'::regrole AND toplevel"
    )
    found: collections.Counter = collections.Counter()
    for (text,) in texts:
        kinds = [kind for kind, pattern in CLOSED.items() if re.fullmatch(pattern, text)]
        assert len(kinds) == 1, text
        found[kinds[0]] += 1
    ((dropped,),) = server.execute("SELECT dealloc FROM pg_stat_statements_info")
    assert dropped == 0
    return found


def untouched(server: postgres.Postgres) -> tuple:
    """Everything that a trick could have changed."""
    rows = "SELECT md5(string_agg(d::text, '|' ORDER BY id)) FROM docs d"
    relations = "SELECT count(*) FROM pg_class"
    roles = "SELECT count(*) FROM pg_roles"
    return tuple(server.execute(it)[0][0] for it in (rows, relations, roles))


def test_tricks_change_no_text_of_statement(tricked, say):
    before = untouched(tricked.server)
    statuses = collections.Counter(ask(tricked, body) for body in TRICKS)
    assert untouched(tricked.server) == before
    found = kinds_of_statements(tricked.server)
    assert {"begin", "commit", "settings", "vectors", "text"} <= found.keys()
    # No value that somebody sent stands in any text, whoever ran it.
    texts = tricked.server.execute(
        "SELECT query FROM pg_stat_statements WHERE userid = 'searcher'::regrole"
    )
    assert not [text for (text,) in texts if "DROP" in text or "1=1" in text or "sleep" in text]
    say(f"{len(TRICKS)} tricks: {dict(statuses)}, {sum(found.values())} texts of statements")


WORDS = [
    *("en", "de", "calm", "cross", "", " ", "'", '"', "''", "\\", ";", "--", "/*", "*/", "$$"),
    *("%s", "%", "$1", "{", "}", "NULL", "null", "true", "(SELECT 1)", "'; DROP TABLE docs; --"),
    *("\u0000", "\ud7ff", "é", "\u2028", "0", "1", "-1", "1e9", "NaN", "infinity"),
    *("2026-11-29", "2026-11-29T23:30:00Z", "now", "\n", "x" * 300),
]


def scalar(dice: random.Random) -> object:
    kind = dice.randrange(8)
    if kind < 4:
        return "".join(dice.choices(WORDS, k=dice.randrange(1, 4)))
    if kind == 4:
        return dice.choice([0, 1, -1, 5, 2**31, 2**63, -(2**63), 10**30])
    if kind == 5:
        return dice.uniform(-1e6, 1e6)
    return dice.choice([None, True, False])


def anything(dice: random.Random) -> object:
    kind = dice.randrange(10)
    if kind < 6:
        return scalar(dice)
    if kind < 9:
        return [scalar(dice) for _ in range(dice.randrange(4))]
    return {"a": scalar(dice)}


def fitting(dice: random.Random, column: str) -> object:
    return {
        "bucket": dice.randrange(12),
        "lang": dice.choice(WORDS[:12]),
        "ok": dice.random() < 0.5,
        "at": "2026-11-29T23:30:00Z",
        "num": dice.uniform(0, 3),
        "feel": dice.choice(["calm", "cross"]),
    }[column]


def condition(dice: random.Random) -> dict:
    column, operator = dice.choice(COLUMNS), dice.choice(OPERATORS)
    value = fitting(dice, column)
    if operator in ("in", "between"):
        value = [value, fitting(dice, column)]
    made = {"column": column, "operator": operator, "value": value}
    if dice.random() < 0.4:
        broken = dice.choice(["column", "operator", "value", "more"])
        words = "".join(dice.choices(WORDS, k=2))
        made[broken] = words if broken != "value" else anything(dice)
    return made


def fuzzed(dice: random.Random) -> dict:
    """A search whose filter is anything, and often nearly right."""
    conditions: object = [condition(dice) for _ in range(dice.randrange(4))]
    if dice.random() < 0.1:
        conditions = anything(dice)
    mode = dice.choice(["vector", "text", "hybrid"])
    return {"filter": conditions, "mode": mode, "k": dice.choice([1, 5, 40])}


def campaign(world: searching.World, count: int, say) -> None:
    dice = random.Random(SEED)
    before = untouched(world.server)
    statuses = collections.Counter(ask(world, fuzzed(dice)) for _ in range(count))
    assert untouched(world.server) == before
    found = kinds_of_statements(world.server)
    # Half of them are searches that were run, or nothing was tried.
    assert statuses[200] > count / 4
    assert statuses[400] > count / 10
    say(f"{count} fuzzed filters: {dict(statuses)}, texts of statements by kind: {dict(found)}")


def test_fuzzed_filters_change_no_text_of_statement(tricked, say):
    campaign(tricked, SHORT, say)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fuzzed_filters_change_no_text_of_statement_for_long(tricked, say):
    campaign(tricked, LONG, say)
