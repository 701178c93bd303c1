"""The database of the vectors tests: a real PostgreSQL with pgvector."""

import pytest

from tests.parts import postgres

pytestmark = pytest.mark.integration


def test_postgres_has_extensions_and_survives_kill():
    with postgres.running() as server:
        for extension in ("vector", "pg_trgm", "unaccent", "pg_stat_statements"):
            server.execute(f"CREATE EXTENSION {extension}")
        server.execute("CREATE TABLE kept (id int primary key, embedding halfvec(3072))")
        server.kill()
        server.start()
        assert server.execute("SELECT count(*) FROM kept") == [(0,)]
        found = server.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        assert found == [("0.8.6",)]
