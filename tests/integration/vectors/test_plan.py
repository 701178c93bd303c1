"""Plans carried out on a real PostgreSQL: printed, applied, cut short and applied again."""

import dataclasses
import subprocess

import psycopg
import pytest

from embedding_contract.index_document import Search
from tests.parts import filling

pytestmark = pytest.mark.integration

WHOLE = {
    "target": filling.LARGE,
    "failover_target": dataclasses.replace(filling.SIDE, table="docs side"),
    "search": Search(text_configuration="english", return_columns=("title",)),
    "trigger": True,
}


def plan(texts: filling.Texts) -> str:
    done = subprocess.run(
        texts.command("plan", "docs"),
        env={"EMBEDDING_DATABASE_DSN": texts.dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pending(texts: filling.Texts) -> list[str]:
    lines = plan(texts).splitlines()
    return [it for it in lines if it.startswith("-- ") and not it.endswith(": done")]


def invalid_indexes(texts: filling.Texts) -> int:
    return len(texts.server.execute("SELECT indexrelid FROM pg_index WHERE NOT indisvalid"))


def test_printed_plan_is_what_apply_does(texts):
    texts.write(**WHOLE)
    for statement in plan(texts).split(";\n"):
        # A function's body has ends of statements too; here none stands at the end of a line alone.
        if "CREATE OR REPLACE FUNCTION" in statement:
            break
        if statement.strip():
            texts.server.execute(statement)
    assert [it.split()[1] for it in pending(texts)] == ["trigger"]
    assert texts.run("apply") == 0
    assert pending(texts) == []


def test_apply_killed_after_any_step_goes_on_where_it_was(texts):
    texts.write(**WHOLE)
    texts.insert({1: "text"})
    steps = len(pending(texts))
    assert steps >= 10
    for step in range(1, steps + 1):
        running = subprocess.Popen(
            texts.command("apply"),
            env={"EMBEDDING_DATABASE_DSN": texts.dsn, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert running.stdout is not None
        # One more step each time, and the end falls before or into it.
        for _ in range(min(2, steps - step + 1)):
            running.stdout.readline()
        running.kill()
        running.wait()
        running.stdout.close()
    assert texts.run("apply") == 0, texts.said()
    assert pending(texts) == []
    assert invalid_indexes(texts) == 0
    assert texts.run() == 0, texts.said()


def test_index_whose_build_was_cut_short_is_built_again(texts):
    texts.write(applies_plan=True)
    texts.insert({1: "text"})
    assert texts.run("apply") == 0
    (name,) = texts.server.execute("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%hnsw%'")
    texts.server.execute(f'DROP INDEX "{name[0]}"')
    with texts.server.connect() as writer, texts.server.connect() as builder:
        writer.execute("BEGIN")
        writer.execute("UPDATE docs SET body = 'held'")
        builder.execute("SET statement_timeout = '300ms'")
        # On a loaded machine it may be cut short before there is anything of it.
        while not invalid_indexes(texts):
            with pytest.raises(psycopg.errors.QueryCanceled):
                builder.execute(
                    f'CREATE INDEX CONCURRENTLY "{name[0]}" ON docs'
                    " USING hnsw (small vector_cosine_ops)"
                )
        writer.execute("ROLLBACK")
    assert invalid_indexes(texts) == 1
    assert texts.run("apply") == 0, texts.said()
    assert invalid_indexes(texts) == 0
    assert pending(texts) == []


def test_several_workers_apply_same_plan_at_once(texts):
    texts.write(**WHOLE)
    texts.insert({number: f"text {number}" for number in range(20)})
    workers = [texts.start() for _ in range(4)]
    assert [it.wait(filling.ENDED_SECONDS) for it in workers] == [0] * 4, texts.said()
    assert pending(texts) == []
    assert invalid_indexes(texts) == 0
    assert texts.wrong(filling.LARGE) == []


def test_more_than_2000_dimensions_are_halfvec_and_indexed(texts):
    texts.write(target=dataclasses.replace(filling.LARGE, dimensions=3072, space="large@3072"))
    assert texts.run("apply") == 0, texts.said()
    (definition,) = texts.server.execute(
        "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'"
    )
    assert "halfvec_cosine_ops" in definition[0]


def test_target_of_other_index_is_refused_and_own_taken_over(texts):
    assert texts.run("apply") == 0
    texts.write(name="others", uid="uid-2")
    assert texts.run() == 1
    assert [it.reason for it in texts.report().problems] == ["TargetTaken"]
    texts.write(name="docs", uid="uid-3")
    texts.insert({1: "text"})
    assert texts.run() == 0, texts.said()
    assert texts.server.execute("SELECT index_uid FROM embedding_target") == [("uid-3",)]


def test_trigger_of_other_columns_replaces_old_one(texts):
    triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    texts.write(trigger=True)
    assert texts.run("apply") == 0
    old = texts.server.execute(triggers)
    texts.write(text_columns=("body",))
    assert texts.run("apply") == 0
    new = texts.server.execute(triggers)
    assert len(old) == len(new) == 1
    assert old != new
    texts.write(trigger=False)
    assert texts.run("apply") == 0
    assert texts.server.execute(triggers) == []


def test_names_of_any_kind_are_quoted_everywhere(texts):
    body, key, target = 'b"o%s;dy', "k e'y", "v%(x)s"
    texts.server.execute('CREATE TABLE "T a%b" ("k e\'y" text PRIMARY KEY, "b""o%s;dy" text)')
    texts.server.execute("INSERT INTO \"T a%b\" VALUES ('a%s\"[]', 'one'), ('b', 'two')")
    texts.write(
        table="T a%b",
        key_columns=(key,),
        text_columns=(body,),
        target=dataclasses.replace(filling.SMALL, column=target),
        failover_target=dataclasses.replace(filling.SIDE, table='s"i%de'),
        search=Search(),
        trigger=True,
    )
    assert texts.run() == 0, texts.said()
    texts.server.execute('UPDATE "T a%b" SET "b""o%s;dy" = \'three\' WHERE "k e\'y" = \'b\'')
    texts.server.execute('DELETE FROM "T a%b" WHERE "k e\'y" <> \'b\'')
    assert texts.run() == 0, texts.said()
    assert texts.server.execute('SELECT "v%(x)s" IS NOT NULL FROM "T a%b"') == [(True,)]
    assert texts.server.execute('SELECT count(*) FROM "s""i%de"') == [(1,)]
    assert set(texts.billed()) == {"one", "two", "three"}
