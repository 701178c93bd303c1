"""The formulas of the model of many pods, and how the page tells them."""

import dataclasses

import pytest

from embedding_operator.sidecars import pace
from embedding_sidecar.quota import quota_store
from embedding_sidecar.rate import window
from tests.scale import results
from tests.scale.model import cluster, counting, formulas, parts, section
from tests.scale.model.quantities import QUANTITIES

VALUES = {
    "claimMicroseconds": {2: 22.0, 48: 68.0, 200: 30.0},
    "messageMicroseconds": {10: 100.0},
    "pollMicroseconds": {3_000: 10.0},
    "readMicroseconds": {3_000: 12.0},
    "writeMicroseconds": {3_000: 18.0},
    "vectorBytes": {512: 2_960.0},
    "connections": {1: 5.0},
    "idleRequests": {1_000: 300.0},
    "editRequests": {1_000: 1_300.0},
    "editAsks": {200: 1_200.0, 1_000: 10_000.0},
    "idleCores": {200: 0.03, 1_000: 0.06},
    "residentMiB": {200: 110.0, 1_000: 126.0},
}
PART = parts.Part(
    name="redis",
    machine="2 cores",
    date="2026-01-01",
    commit="abc",
    load=0.5,
    values=VALUES,
)


def deviation(model, measured):
    return abs(model / measured - 1)


def test_busy_pod_claims_sixteenth_of_each_call_and_idle_one_twice():
    assert formulas.claims_of_call(10) == pytest.approx(1 / 16)
    assert formulas.claims_of_call(1e-6) == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("calls_an_hour", [36, 360, 3_600])
def test_claims_of_call_are_those_of_quota(calls_an_hour):
    counted = counting.claims_of_call(calls_an_hour, calls=500)
    assert deviation(formulas.claims_of_call(calls_an_hour / 3_600), counted) < 0.1


def test_rest_of_draw_goes_with_next_one_of_busy_pod_and_alone_of_idle_one():
    assert formulas.draws_of_call(100) == pytest.approx(1, abs=1e-4)
    assert formulas.draws_of_call(0.001) == pytest.approx(2, abs=1e-3)


def test_claims_are_of_calls_reports_and_looks_of_operator():
    idle = formulas.claims_a_second(300, calls_a_second=0, policy_pods=10)
    assert idle == pytest.approx(300 / 30 + 30 / 15)
    busy = formulas.claims_a_second(300, calls_a_second=16, policy_pods=10)
    assert busy - idle == pytest.approx(300)


def test_claim_costs_more_with_each_lease_that_is_added_up():
    most = quota_store.MAX_SUMMED
    assert formulas.claim_microseconds(VALUES, 16) == 36
    assert formulas.claim_microseconds(VALUES, most) == 20 + most
    assert formulas.claim_microseconds(VALUES, most + 1) == 30
    assert formulas.claim_microseconds(VALUES, 100_000) == 30


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [(1, 16), (16, 16), (128, 128), (129, 160), (160, 160), (6_300, 7_168), (8_193, 10_240)],
)
def test_allocator_has_four_classes_between_powers_of_two(size, bytes_):
    assert formulas.allocated(size) == bytes_


def test_item_is_its_value_and_same_beside_at_each_length():
    beside = VALUES["vectorBytes"][512] - formulas.value_bytes(512)
    assert formulas.item_bytes(VALUES, 1_536) == formulas.value_bytes(1_536) + beside
    assert formulas.item_bytes(VALUES, 512) == VALUES["vectorBytes"][512]


def test_sidecars_are_asked_in_resync_until_there_are_too_many():
    assert formulas.idle_asks_a_second(270) == pytest.approx(10 + 27 / 15)
    many = formulas.idle_asks_a_second(100_000)
    assert many == pytest.approx(pace.MOST_A_SECOND / 0.9 + pace.MOST_QUOTAS_A_SECOND)


def test_edit_asks_each_pod_once_at_least():
    low, high = formulas.POD_FITS
    line = [formulas.edit_asks({"editAsks": {low: 300, high: 1_100}}, it) for it in (low, 5_000)]
    assert line == pytest.approx([300, 5_100])
    assert formulas.edit_asks({"editAsks": {low: 100, high: 500}}, 400) == 400


def test_core_is_full_with_pods_that_model_says():
    pods = cluster.pods_of_core(VALUES, calls_a_second=1)
    full = cluster.Cluster(values=VALUES, pods=pods)
    assert full.claim_cores == pytest.approx(1, rel=1e-3)
    pods = cluster.pods_of_core(VALUES, calls_a_second=1, has_rate=True)
    full = cluster.Cluster(values=VALUES, pods=pods)
    assert full.claim_cores + full.draw_cores == pytest.approx(1, rel=1e-3)


def test_window_has_place_for_its_buckets_and_most_pods():
    touched = window.WINDOW_MS // window.BUCKET_MS + 1
    assert cluster.most_pods_of_window() + touched == 16_384


def test_operator_takes_time_for_each_request_and_memory_for_each_pod():
    of_each = 0.03 / (formulas.idle_asks_a_second(1_000) - formulas.idle_asks_a_second(200))
    more = formulas.idle_asks_a_second(5_000) - formulas.idle_asks_a_second(1_000)
    assert formulas.idle_cores(VALUES, 5_000) == pytest.approx(0.06 + of_each * more)
    assert formulas.resident_mib(VALUES, 5_000) == pytest.approx(126 + 4_000 * 0.02)


def test_operator_reaches_limit_of_chart():
    found = dict(cluster.limits(VALUES))
    most = found[f"the chart's {cluster.CHART_LIMIT_MIB}Mi of the operator"]
    assert most == pytest.approx(1_000 + (cluster.CHART_LIMIT_MIB - 126) / 0.02)
    assert found["each live quota asked in 15 s, beyond it less often"] == 7_500


def test_limits_begin_with_that_of_fewest_pods():
    found = cluster.limits(VALUES)
    assert [pods for _, pods in found] == sorted(pods for _, pods in found)
    assert dict(found)["10,000 connections, the default of Redis"] == 2_000


def test_no_size_is_checked_that_was_fitted():
    for quantity in QUANTITIES.values():
        assert len(quantity.checks) == 3
        assert not set(quantity.fits) & set(quantity.checks)


def test_part_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    parts.write(PART)
    assert parts.read_all() == [PART]
    assert parts.values(parts.read_all()) == VALUES


def test_check_point_tells_measured_model_and_deviation():
    values = {**VALUES, "claimMicroseconds": {**VALUES["claimMicroseconds"], 16: 40.0}}
    text = section.checks([dataclasses.replace(PART, values=values)])
    line = next(it for it in text.splitlines() if "| 16 pods" in " ".join(it.split()))
    assert [it.strip() for it in line.split("|")[3:-1]] == ["40.0", "36.0", "-10 %"]


def test_page_names_parts_that_did_not_run():
    text = section.text([])
    assert "Nothing was measured: not run." in text
    assert text.count("not run") > len(QUANTITIES)
