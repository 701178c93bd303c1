"""A worker whose role owns nothing: the owner applies the plan and grants what it lists."""

import pytest

from embedding_contract.index_document import Search
from tests.parts import filling

pytestmark = pytest.mark.integration


@pytest.fixture
def limited(texts):
    """A role that may read the table and write the bookkeeping, once the owner applied the plan."""
    texts.server.execute("DROP ROLE IF EXISTS limited")
    texts.server.execute("CREATE ROLE limited LOGIN")
    texts.server.execute("GRANT SELECT ON docs TO limited")
    texts.server.execute("GRANT USAGE ON SCHEMA public TO limited")
    yield texts
    texts.server.execute("DROP OWNED BY limited")
    texts.server.execute("DROP ROLE limited")


def becomes_limited(texts: filling.Texts, *granted: str) -> None:
    assert texts.run("apply") == 0, texts.said()
    for table in ("embedding_target", "embedding_state", "embedding_minute"):
        texts.server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO limited")
    for grant in granted:
        texts.server.execute(f"GRANT {grant} TO limited")
    texts.dsn = texts.server.dsn_of(user="limited")
    texts.write(applies_plan=False)


def test_schema_that_role_may_not_use_is_named_with_its_grant(limited):
    becomes_limited(limited, "UPDATE (small) ON docs")
    limited.server.execute("REVOKE USAGE ON SCHEMA public FROM limited")
    assert limited.run() == 1
    (problem,) = limited.report().problems
    assert problem.message.endswith('GRANT USAGE ON SCHEMA "public" TO "limited"')


def test_column_is_filled_with_right_to_update_it_alone(limited):
    becomes_limited(limited, "UPDATE (small) ON docs")
    limited.insert({number: f"text {number}" for number in range(20)})
    assert limited.run() == 0, limited.said()
    assert limited.wrong() == []
    limited.server.execute("UPDATE docs SET body = 'changed' WHERE id < 3")
    limited.server.execute("DELETE FROM docs WHERE id > 15")
    assert limited.run() == 0, limited.said()
    assert limited.wrong() == []
    assert limited.phases() == {"public.docs.small": "Switched"}


def test_side_table_is_filled_without_any_right_to_write_table(limited):
    limited.write(target=filling.SIDE)
    becomes_limited(limited, "SELECT, INSERT, UPDATE, DELETE ON docs_large")
    limited.insert({number: f"text {number}" for number in range(20)})
    assert limited.run() == 0, limited.said()
    limited.server.execute("UPDATE docs SET body = 'changed' WHERE id < 3")
    limited.server.execute("UPDATE docs SET body = NULL WHERE id = 4")
    limited.server.execute("DELETE FROM docs WHERE id > 15")
    assert limited.run() == 0, limited.said()
    assert limited.wrong(filling.SIDE) == []


def test_text_index_that_only_owner_may_build_is_warning(limited):
    limited.write(search=Search())
    becomes_limited(limited, "UPDATE (small) ON docs")
    limited.insert({1: "text"})
    assert limited.run() == 0, limited.said()
    (problem,) = limited.report().problems
    assert (problem.reason, problem.is_warning) == ("PermissionDenied", True)


def test_side_table_of_old_model_is_written_until_switch(texts):
    texts.write(target=filling.SIDE)
    texts.insert({number: f"text {number}" for number in range(20)})
    assert texts.run() == 0, texts.said()
    texts.write(target=filling.SMALL)
    texts.server.execute("UPDATE docs SET body = 'changed' WHERE id = 1")
    assert texts.run() == 0, texts.said()
    assert texts.wrong(filling.SIDE) == texts.wrong(filling.SMALL) == []
    assert texts.phases() == {"public.docs.small": "Switched", "public.docs_large": "Retired"}
