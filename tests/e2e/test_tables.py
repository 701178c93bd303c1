"""A table of PostgreSQL becomes searchable on a node, and stays so without a provider.

This comes late in the order of names: later tests would meet the pods of the index.
"""

import re
import uuid

import pytest

from tests.parts import installation, sentences

pytestmark = pytest.mark.node

ROWS = 200


@pytest.fixture(scope="module")
def searchable(shop):
    """The shop, with a table of sentences that an index keeps embedded."""
    shop.enable_vectors()
    shop.fill_table(sentences.cut(ROWS))
    shop.apply_index()
    shop.wait_for_index()
    return shop


def answered(text):
    """Mode and reason that the application prints, and its rows."""
    first, *rows = text.splitlines()
    found = re.fullmatch(r"mode (\S+)  space (\S+)  reason (\S+)", first)
    assert found is not None, text
    return found[1], found[3], [row.strip().partition("  ")[2] for row in rows]


def test_index_is_ready_when_its_job_is_done_and_every_row_has_vector(searchable):
    status = searchable.index_status()
    shown = {key: status[key] for key in ("phase", "serving", "rows", "done", "parked")}
    assert shown == {
        "phase": "Switched",
        "serving": "public.articles.embedding",
        "rows": ROWS,
        "done": ROWS,
        "parked": 0,
    }
    installation.wait(
        lambda: searchable.index_status()["run"]["result"] == "Complete", "the Job's end"
    )
    missing = "SELECT count(*) FROM articles WHERE embedding IS NULL"
    assert searchable.parts.database.execute(missing, database="shop") == [(0,)]
    assert "articles" in searchable.kubectl("get", "embidx", "-n", "shop")


def test_application_finds_by_meaning_through_its_own_sidecar(searchable):
    words = "an elderly lady who is looking for a naughty child"
    installation.wait(lambda: answered(searchable.ask("search", words)), "a search")
    mode, reason, rows = answered(searchable.ask("search", words))
    assert (mode, reason) == ("vector", "None")
    assert len(rows) == 3
    # What it found shares hardly a word with what was asked.
    assert not any("elderly" in row or "naughty" in row for row in rows)


def test_search_goes_on_as_text_with_its_reason_while_no_provider_answers(searchable):
    searchable.parts.stop_provider("primary")
    searchable.parts.stop_provider("backup")
    try:
        mode, reason, rows = answered(searchable.ask("search", "Aunt Polly"))
    finally:
        searchable.parts.start_provider("primary")
        searchable.parts.start_provider("backup")
    assert (mode, reason) == ("text", "provider")
    assert rows
    assert all("Polly" in row for row in rows)


def test_new_row_is_found_after_run_by_hand(searchable):
    text = "The zeppelin landed on the beach beside the old lighthouse."
    searchable.parts.database.execute(
        f"INSERT INTO articles (body) VALUES ('{text}')", database="shop"
    )
    job = f"by-hand-{uuid.uuid4().hex[:8]}"
    cron_job = "cronjob/embedding-index-articles"
    searchable.kubectl("create", "job", job, f"--from={cron_job}", "-n", "shop")
    searchable.kubectl(
        *("wait", "--for=condition=Complete", f"job/{job}", "-n", "shop", "--timeout=90s"),
        timeout=120,
    )
    mode, _, rows = answered(searchable.ask("search", "a zeppelin comes down near a lighthouse"))
    assert (mode, rows[0]) == ("vector", text)


def test_pods_of_index_carry_their_sidecar_and_database_is_in_no_other(searchable):
    selector = "embedding.agenticverz.io/index=articles"
    pods = searchable.kubectl.get("pods", "-n", "shop", "-l", selector)["items"]
    assert pods
    for pod in pods:
        assert pod["spec"]["initContainers"][0]["name"] == "embedding-sidecar"
    others = searchable.kubectl.get("pods", "-n", "shop", "-l", f"!{selector.partition('=')[0]}")
    assert others["items"]
    assert "articles-database" not in str([it["spec"] for it in others["items"]])


def test_sidecar_says_that_it_can_search(searchable):
    assert searchable.sidecar("quota")["vector_search_enabled"] is True
