"""The worker against real parts: rows that it fills, parks and removes, and its waits."""

import dataclasses
import signal

import pytest

from embedding_contract import document
from embedding_contract.index_document import Condition, Limits
from tests.fakes import provider
from tests.parts import filling
from tests.parts.sidecar import wait_until

pytestmark = pytest.mark.integration

SMALL = "public.docs.small"
LARGE = "public.docs.large"
SIDE = "public.docs_large"


def completes(texts: filling.Texts) -> None:
    assert texts.run() == 0, texts.said()


def reasons(texts: filling.Texts) -> list[str]:
    return [it.reason for it in texts.report().problems]


def test_all_rows_get_vector_of_their_text_and_each_text_is_bought_once(texts):
    texts.insert({number: f"text {number % 40}" for number in range(100)})
    completes(texts)
    assert texts.wrong() == []
    assert texts.counts(SMALL) == texts.true_counts(SMALL) == (100, 100, 0)
    assert texts.phases() == {SMALL: "Switched"}
    assert len(texts.billed()) == 40
    assert set(texts.billed().values()) == {1}
    (target,) = texts.report().targets
    assert (target.phase, target.done, target.expected_end) == ("Switched", 100, None)
    assert texts.report().serving == SMALL


def test_text_columns_are_joined_by_empty_line_and_null_is_left_out(texts):
    texts.server.execute(
        "INSERT INTO docs VALUES (1, 'title', 'body'), (2, NULL, 'body'), (3, 'title', NULL)"
    )
    completes(texts)
    assert set(texts.billed()) == {"title\n\nbody", "body", "title"}


def test_changed_text_is_embedded_again_and_deleted_row_is_forgotten(texts):
    texts.insert({number: f"text {number}" for number in range(20)})
    completes(texts)
    texts.server.execute("UPDATE docs SET body = 'changed' WHERE id < 3")
    texts.server.execute("DELETE FROM docs WHERE id >= 15")
    completes(texts)
    assert texts.wrong() == []
    assert texts.counts(SMALL) == texts.true_counts(SMALL) == (15, 15, 0)
    assert texts.billed()["changed"] == 1


def test_rows_outside_conditions_have_no_vector(texts):
    texts.server.execute('ALTER TABLE docs ADD COLUMN "live%" boolean DEFAULT true')
    texts.insert({number: f"text {number}" for number in range(10)})
    texts.write(rows=(Condition(column="live%", operator="=", value=True),))
    completes(texts)
    texts.server.execute('UPDATE docs SET "live%" = false WHERE id < 4')
    completes(texts)
    left = texts.server.execute("SELECT id FROM docs WHERE small IS NOT NULL ORDER BY id")
    assert [it[0] for it in left] == list(range(4, 10))
    assert texts.counts(SMALL) == (6, 6, 0)
    texts.server.execute('UPDATE docs SET "live%" = true')
    completes(texts)
    assert texts.wrong() == []


def test_side_table_is_filled_and_loses_what_table_loses(texts):
    texts.write(target=filling.SIDE)
    texts.insert({number: f"text {number}" for number in range(20)})
    completes(texts)
    assert texts.wrong(filling.SIDE) == []
    texts.server.execute("DELETE FROM docs WHERE id < 5")
    texts.server.execute("UPDATE docs SET body = 'changed' WHERE id = 7")
    completes(texts)
    assert texts.wrong(filling.SIDE) == []
    assert texts.server.execute("SELECT count(*) FROM docs_large") == [(15,)]
    assert texts.counts(SIDE) == texts.true_counts(SIDE) == (15, 15, 0)


def test_trigger_marks_change_at_once_and_forgets_deleted_rows(texts):
    texts.write(trigger=True)
    texts.insert({number: f"text {number}" for number in range(10)})
    completes(texts)
    texts.insert({20: "new"})
    texts.server.execute("UPDATE docs SET body = 'changed' WHERE id = 1")
    texts.server.execute("UPDATE docs SET id = 30 WHERE id = 2")
    texts.server.execute("DELETE FROM docs WHERE id = 3")
    marked = texts.server.execute(
        "SELECT key, state FROM embedding_state WHERE state <> 'done' ORDER BY key"
    )
    assert marked == [
        ('["1"]', "pending"),
        ('["20"]', "pending"),
        ('["2"]', "deleted"),
        ('["30"]', "pending"),
        ('["3"]', "deleted"),
    ] or sorted(marked) == sorted(
        [
            ('["1"]', "pending"),
            ('["2"]', "deleted"),
            ('["20"]', "pending"),
            ('["3"]', "deleted"),
            ('["30"]', "pending"),
        ]
    )
    completes(texts)
    assert texts.wrong() == []
    assert texts.counts(SMALL) == texts.true_counts(SMALL) == (10, 10, 0)
    # Nobody's vector is a change of text.
    assert texts.server.execute("SELECT count(*) FROM embedding_state WHERE state <> 'done'") == [
        (0,)
    ]


def test_faulty_rows_are_parked_and_others_of_batch_are_not(texts):
    texts.write(limits=Limits(batch_rows=16, text_bytes=1_000))
    texts.insert({number: f"text {number}" for number in range(16)})
    texts.server.execute("UPDATE docs SET body = ' ' WHERE id = 3")
    texts.server.execute("UPDATE docs SET body = NULL WHERE id = 4")
    texts.server.execute("UPDATE docs SET body = repeat('x', 1001) WHERE id = 5")
    # The stand-in refuses it with a 400, as providers do.
    texts.server.execute("UPDATE docs SET body = 'too long' WHERE id = 6")
    completes(texts)
    parked = texts.server.execute(
        "SELECT key, reason FROM embedding_state WHERE state = 'parked' ORDER BY key"
    )
    assert parked == [
        ('["3"]', "Empty"),
        ('["4"]', "Empty"),
        ('["5"]', "TooLong"),
        ('["6"]', "FailedFourTimes"),
    ]
    assert texts.counts(SMALL) == texts.true_counts(SMALL) == (16, 12, 4)
    alone = [it for it in texts.stand_in.calls if it.body["input"] == ["too long"]]
    assert len(alone) == 4
    texts.server.execute("UPDATE docs SET body = 'short' WHERE id IN (5, 6)")
    completes(texts)
    assert texts.counts(SMALL) == (16, 14, 2)


def test_row_whose_text_became_empty_loses_its_vector(texts):
    texts.insert({1: "text"})
    completes(texts)
    texts.server.execute("UPDATE docs SET body = ''")
    completes(texts)
    assert texts.server.execute("SELECT small FROM docs") == [(None,)]


def test_failing_provider_parks_nobody(texts):
    texts.insert({number: f"text {number}" for number in range(30)})
    texts.stand_in.fault = provider.status(500)
    worker = texts.start()
    # Enough to have halved a batch down to one row, had it been blamed.
    wait_until(lambda: len(texts.stand_in.calls) > 18, seconds=60)
    assert texts.true_counts(SMALL) == (30, 0, 0)
    assert texts.server.execute("SELECT max(attempts) FROM embedding_state") == [(0,)]
    texts.stand_in.fault = None
    assert worker.wait(filling.ENDED_SECONDS) == 0, texts.said()
    assert texts.wrong() == []


def test_run_in_which_nothing_succeeds_ends_and_is_not_complete(texts):
    texts.insert({1: "text"})
    texts.stand_in.fault = provider.status(500)
    assert texts.run("backfill", "--patience-seconds", "1") == 1
    assert reasons(texts) == ["ProviderFailing"]
    assert texts.leases() == []


@pytest.mark.timeout(180)
def test_text_that_breaks_its_provider_is_parked_and_others_are_filled(texts):
    def breaks(answer: provider.Answer) -> provider.Answer:
        is_poison = "poison" in texts.stand_in.calls[-1].body["input"]
        return (500, {}, {"error": {"message": "no"}}) if is_poison else answer

    texts.write(limits=Limits(batch_rows=4))
    texts.insert({number: f"text {number}" for number in range(12)})
    texts.server.execute("UPDATE docs SET body = 'poison' WHERE id = 5")
    texts.stand_in.fault = breaks
    assert texts.start().wait(150) == 0, texts.said()
    assert texts.counts(SMALL) == (12, 11, 1)


def test_used_up_quota_is_awaited_without_leases_and_reported(texts):
    texts.write_policy(dataclasses.replace(texts.policy, quota=document.Quota(daily_requests=2)))
    texts.start_sidecar()
    texts.insert({number: f"text {number}" for number in range(40)})
    worker = texts.start()
    wait_until(lambda: texts.true_counts(SMALL)[1] == 16 if texts.has_states() else False)
    wait_until(lambda: not texts.leases())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 1
    report = texts.report()
    assert report.waits_until is not None
    assert "QuotaExhausted" in reasons(texts)
    assert texts.counts(SMALL) == (40, 16, 0)


def test_reserve_of_applications_is_left_to_them(texts):
    quota = document.Quota(daily_requests=5, reserved_requests=3)
    texts.write_policy(dataclasses.replace(texts.policy, quota=quota))
    texts.start_sidecar()
    texts.insert({number: f"text {number}" for number in range(40)})
    worker = texts.start()
    wait_until(lambda: texts.has_states() and texts.true_counts(SMALL)[1] == 16)
    wait_until(lambda: not texts.leases())
    # What is left is left for such as this.
    assert texts.sidecar.embed("asked by an application", model="small").status_code == 200
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 1
    assert "QuotaExhausted" in reasons(texts)
    assert texts.counts(SMALL) == (40, 16, 0)


def test_four_workers_together_keep_to_minute(texts):
    texts.write(limits=Limits(batch_rows=1, requests_per_minute=5))
    texts.insert({number: f"text {number}" for number in range(40)})
    for _ in range(4):
        texts.start()
    wait_until(lambda: len(texts.stand_in.calls) >= 5)
    wait_until(lambda: not texts.leases())
    (counted,) = texts.server.execute(
        "SELECT sum(requests), count(*), max(requests) FROM embedding_minute"
    )
    asked, minutes, most = counted
    assert most == 5
    assert len(texts.stand_in.calls) == asked <= 5 * minutes


def test_ended_worker_gives_its_leases_back(texts):
    texts.stand_in.delay_seconds = 20
    texts.insert({number: f"text {number}" for number in range(40)})
    worker = texts.start("backfill", "--lease-seconds", "500")
    wait_until(lambda: texts.has_states() and texts.leases())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 1
    assert not texts.leases()


def changes_its_model(texts: filling.Texts, *, rows: int) -> None:
    texts.insert({number: f"text {number}" for number in range(rows)})
    completes(texts)
    texts.write(target=texts.large, trigger=True)
    texts.stand_in.delay_seconds = 0.3
    worker = texts.start()
    wait_until(lambda: texts.phases().get(LARGE) == "Filling" and texts.counts(LARGE)[1] > 0)
    assert texts.phases()[SMALL] == "Switched"
    texts.server.execute("UPDATE docs SET body = 'changed ' || id WHERE id % 10 = 0")
    texts.stand_in.delay_seconds = 0
    assert worker.wait(filling.ENDED_SECONDS) == 0, texts.said()
    assert texts.wrong(texts.large) == []
    # Written until the switch: the change came before it.
    assert texts.wrong(texts.small) == []
    assert texts.phases() == {SMALL: "Retired", LARGE: "Switched"}
    texts.server.execute("UPDATE docs SET body = 'after' WHERE id = 1")
    completes(texts)
    assert texts.wrong(texts.small) == [1]
    assert texts.wrong(texts.large) == []


def test_changed_model_fills_second_target_and_switches_once(texts):
    changes_its_model(texts, rows=50)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_model_of_384_dimensions_is_changed_for_one_of_3072(texts):
    texts.use_dimensions(384, 3072)
    texts.write(limits=Limits(batch_rows=64))
    changes_its_model(texts, rows=1_000)


def test_aborted_change_of_model_is_retired_and_goes_on_where_it_was(texts):
    texts.insert({number: f"text {number}" for number in range(30)})
    completes(texts)
    texts.write(target=filling.LARGE)
    texts.stand_in.delay_seconds = 0.3
    worker = texts.start()
    wait_until(lambda: LARGE in texts.phases() and texts.counts(LARGE)[1] > 0)
    texts.write(target=filling.SMALL)
    assert worker.wait(filling.ENDED_SECONDS) == 0, texts.said()
    assert texts.phases() == {SMALL: "Switched", LARGE: "Retired"}
    texts.server.execute("UPDATE docs SET body = 'changed' WHERE id = 0")
    texts.write(target=filling.LARGE)
    completes(texts)
    assert texts.wrong(filling.LARGE) == []
    assert texts.phases() == {SMALL: "Retired", LARGE: "Switched"}
    assert max(texts.billed().values()) <= 2  # once for each model


def test_retired_target_is_dropped_by_name_alone(texts):
    texts.insert({1: "text"})
    completes(texts)
    texts.write(target=filling.LARGE, drops=(SMALL,))
    # It still served when the run began.
    completes(texts)
    assert texts.phases() == {SMALL: "Retired", LARGE: "Switched"}
    texts.write(drops=(SMALL, LARGE))
    completes(texts)
    assert texts.phases() == {LARGE: "Switched"}
    columns = texts.server.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'docs'"
    )
    assert ("small",) not in columns
    assert texts.server.execute("SELECT DISTINCT target FROM embedding_state") == [(LARGE,)]


def test_failover_target_is_kept_filled_and_never_switched_to(texts):
    texts.write(failover_target=filling.LARGE)
    texts.insert({number: f"text {number}" for number in range(20)})
    completes(texts)
    assert texts.phases() == {SMALL: "Switched", LARGE: "Ready"}
    texts.server.execute("UPDATE docs SET body = 'changed'")
    completes(texts)
    assert texts.wrong(filling.SMALL) == texts.wrong(filling.LARGE) == []


def test_column_of_another_space_is_refused_and_never_overwritten(texts):
    texts.insert({1: "text"})
    completes(texts)
    texts.write(target=dataclasses.replace(filling.SMALL, model="large", space="other@8"))
    assert texts.run() == 1
    assert reasons(texts) == ["SpaceDiffers"]
    assert texts.wrong() == []


def test_vectors_of_another_space_than_targets_are_not_written(texts):
    others = tuple(
        dataclasses.replace(it, declared_space="moved@8") for it in texts.policy.providers
    )
    texts.write_policy(dataclasses.replace(texts.policy, providers=others))
    texts.start_sidecar()
    texts.insert({1: "text"})
    assert texts.run("backfill", "--patience-seconds", "1") == 1
    assert "SpaceDiffers" in reasons(texts)
    assert texts.counts(SMALL) == (1, 0, 0)
    assert texts.server.execute("SELECT small FROM docs") == [(None,)]


def test_model_that_policy_lacks_stops_its_target_alone(texts):
    texts.insert({number: f"text {number}" for number in range(10)})
    completes(texts)
    small = tuple(it for it in texts.policy.providers if it.model == "small")
    texts.write_policy(dataclasses.replace(texts.policy, providers=small))
    texts.start_sidecar()
    texts.write(target=filling.LARGE)
    texts.server.execute("UPDATE docs SET body = 'changed'")
    assert texts.run() == 1
    assert reasons(texts) == ["ModelMissing"]
    assert texts.wrong(filling.SMALL) == []
    assert texts.phases() == {SMALL: "Switched", LARGE: "Filling"}


def test_plan_is_pending_without_leave_to_change_schema(texts):
    texts.write(applies_plan=False)
    assert texts.run() == 1
    assert reasons(texts) == ["PlanPending"]
    assert texts.run("apply") == 0
    texts.insert({1: "text"})
    completes(texts)
    assert texts.wrong() == []


def test_wrong_password_is_reported_by_its_sqlstate_and_never_dsn(texts):
    texts.dsn = texts.server.dsn_of(user="nobody-knows")
    assert texts.run() == 1
    (problem,) = texts.report().problems
    assert (problem.reason, problem.sqlstate) == ("AuthenticationFailed", "28000")
    assert "nobody-knows" not in texts.said()
