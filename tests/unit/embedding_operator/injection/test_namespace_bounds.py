"""The sidecar's resources within LimitRanges and ResourceQuotas."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.injection import namespace_bounds, resources
from embedding_operator.kube.quantities import amount

CHART = {
    "requests": {"cpu": "25m", "memory": "96Mi"},
    "limits": {"cpu": "500m", "memory": "384Mi"},
}
APP = {"name": "app", "resources": CHART}


def ranged(*items: dict[str, Any]) -> namespace_bounds.Bounds:
    return namespace_bounds.Bounds(limit_ranges=[{"spec": {"limits": [item]}} for item in items])


def quota(hard, used=None, **spec):
    status = {"hard": hard, "used": used or {}}
    found = {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": status}
    return namespace_bounds.Bounds(quotas=[found])


def fit(within, *, amounts=CHART, **spec):
    spec = {"containers": [APP], **spec}
    return namespace_bounds.fit(amounts, chart=CHART, spec=spec, bounds=within)


def numbers(found):
    return {kind: {name: amount(it) for name, it in named.items()} for kind, named in found.items()}


def test_namespace_without_bounds_changes_nothing():
    assert fit(namespace_bounds.Bounds()) == CHART


def test_case_from_field_is_fitted():
    """field.md, C7: a ratio of 10, max 250m, max 256Mi."""
    found = fit(
        ranged(
            {
                "type": "Container",
                "max": {"cpu": "250m", "memory": "256Mi"},
                "maxLimitRequestRatio": {"cpu": "10"},
            }
        )
    )
    assert numbers(found) == numbers(
        {
            "requests": {"cpu": "25m", "memory": "96Mi"},
            "limits": {"cpu": "250m", "memory": "256Mi"},
        }
    )


def test_ratio_raises_request_and_not_limit():
    found = fit(ranged({"type": "Container", "maxLimitRequestRatio": {"cpu": "4"}}))
    assert found["requests"]["cpu"] == "125m"
    assert found["limits"]["cpu"] == "500m"


def test_least_raises_request():
    found = fit(ranged({"type": "Container", "min": {"memory": "128Mi"}}))
    assert numbers(found)["requests"]["memory"] == amount("128Mi")


def test_default_stands_in_for_limit_that_policy_lacks():
    item = {"type": "Container", "default": {"cpu": "200m"}}
    found = fit(ranged(item), amounts={"requests": {"cpu": "300m"}})
    assert found["requests"]["cpu"] == found["limits"]["cpu"] == "200m"


def test_guaranteed_pod_stays_guaranteed():
    both = {"cpu": "500m", "memory": "384Mi"}
    item = {"type": "Container", "max": {"cpu": "250m"}}
    found = fit(ranged(item), amounts={"requests": both, "limits": both})
    assert found["requests"] == found["limits"] == {"cpu": "250m", "memory": "384Mi"}


def test_guaranteed_pod_stays_so_by_defaults_that_differ():
    item = {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}}
    both = {"memory": "384Mi"}
    found = fit(ranged(item), amounts={"requests": both, "limits": both})
    assert found["requests"] == found["limits"] == {"cpu": "200m", "memory": "384Mi"}


def test_pod_with_budget_of_its_own_is_left_alone():
    item = {"type": "Container", "max": {"memory": "1Mi"}}
    assert fit(ranged(item), amounts={}, resources={"limits": {"memory": "1Gi"}}) == {}


@pytest.mark.parametrize("name", ["cpu", "memory"])
def test_too_small_container_is_no_room(name):
    small = {"cpu": "49m", "memory": "127Mi"}
    found = fit(ranged({"type": "Container", "max": {name: small[name]}}))
    assert isinstance(found, namespace_bounds.DoesNotFit)
    assert found.reason == "LimitRange"
    assert f"of {name}, and a sidecar needs" in found.message


def test_rest_of_pod_bounds_sidecar():
    item = {"type": "Pod", "max": {"memory": "640Mi"}}
    assert numbers(fit(ranged(item)))["limits"]["memory"] == amount("256Mi")
    two = fit(ranged(item), containers=[APP, APP])
    assert isinstance(two, namespace_bounds.DoesNotFit)
    assert "leaves 0 of memory" in two.message


def test_smallest_of_several_ranges_holds():
    found = fit(
        ranged(
            {"type": "Container", "max": {"cpu": "400m"}},
            {"type": "Container", "max": {"cpu": "300m"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
        )
    )
    assert found["limits"]["cpu"] == "300m"


# --- quotas


def test_quota_with_room_changes_nothing():
    assert fit(quota({"limits.memory": "1Gi"}, {"limits.memory": "256Mi"})) == CHART


@pytest.mark.parametrize("counted", ["limits.memory", "requests.memory", "memory"])
def test_quota_that_only_pod_fits_into_is_no_room(counted):
    within = quota({counted: "1Gi"}, {counted: "640Mi"})
    found = fit(within)
    if counted == "limits.memory":
        assert isinstance(found, namespace_bounds.DoesNotFit)
        assert found.reason == "ResourceQuota"
        assert "team admits the pod" in found.message
    else:
        assert found == CHART
    full = fit(quota({counted: "1Gi"}, {counted: "900Mi"}))
    # Where the pod alone does not fit either, the API server says so.
    assert isinstance(full, namespace_bounds.DoesNotFit) is (counted != "limits.memory")


def test_quota_that_is_full_for_pod_too_is_left_to_server():
    assert fit(quota({"cpu": "1"}, {"cpu": "1"})) == CHART


def test_amount_that_quota_wants_comes_from_chart():
    found = fit(quota({"limits.cpu": "2"}), amounts={"requests": {"cpu": "700m"}})
    assert found == {"requests": {"cpu": "500m"}, "limits": {"cpu": "500m"}}


def test_amount_that_nobody_has_is_no_room():
    found = fit(quota({"limits.ephemeral-storage": "2Gi"}))
    assert isinstance(found, namespace_bounds.DoesNotFit)
    assert "counts limits.ephemeral-storage" in found.message


@pytest.mark.parametrize(
    ("spec", "pod", "counts"),
    [
        ({"scopes": ["BestEffort"]}, {}, False),
        ({"scopes": ["NotBestEffort"]}, {}, True),
        ({"scopes": ["Terminating"]}, {}, False),
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 9}, True),
        ({"scopes": ["NotTerminating"]}, {"activeDeadlineSeconds": 9}, False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
        ({"scopeSelector": {"matchExpressions": [("In", ["high"])]}}, {}, False),
        (
            {"scopeSelector": {"matchExpressions": [("In", ["high"])]}},
            {"priorityClassName": "high"},
            True,
        ),
        (
            {"scopeSelector": {"matchExpressions": [("NotIn", ["high"])]}},
            {"priorityClassName": "high"},
            False,
        ),
        (
            {"scopeSelector": {"matchExpressions": [("Exists", [])]}},
            {"priorityClassName": "high"},
            True,
        ),
        ({"scopeSelector": {"matchExpressions": [("DoesNotExist", [])]}}, {}, True),
    ],
)
def test_quota_of_another_scope_does_not_count(spec, pod, counts):
    if "scopeSelector" in spec:
        spec = {
            "scopeSelector": {
                "matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": operator, "values": values}
                    for operator, values in spec["scopeSelector"]["matchExpressions"]
                ]
            }
        }
    within = quota({"limits.memory": "400Mi"}, {}, **spec)
    assert isinstance(fit(within, **pod), namespace_bounds.DoesNotFit) is counts


# --- any range

CPU = st.integers(1, 4000).map("{}m".format)
MEMORY = st.integers(1, 2000).map("{}Mi".format)
NAMED = st.fixed_dictionaries({}, optional={"cpu": CPU, "memory": MEMORY})
RATIO = st.fixed_dictionaries(
    {}, optional={"cpu": st.integers(1, 30).map(str), "memory": st.integers(1, 30).map(str)}
)
ITEM = st.fixed_dictionaries(
    {"type": st.just("Container")},
    optional={"max": NAMED, "min": NAMED, "default": NAMED, "maxLimitRequestRatio": RATIO},
)
WRITTEN = st.fixed_dictionaries({"requests": NAMED, "limits": NAMED})


def violations(found, item):
    """As LimitRanger finds them: plugin/pkg/admission/limitranger/admission.go."""
    limits = {**(item.get("default") or {}), **(found.get("limits") or {})}
    requests = {**limits, **(found.get("requests") or {})}
    for name, least in (item.get("min") or {}).items():
        if name not in requests or amount(requests[name]) < amount(least):
            yield f"min {name}"
    for name, most in (item.get("max") or {}).items():
        if name not in limits or amount(limits[name]) > amount(most):
            yield f"max {name}"
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        if name in limits and amount(limits[name]) / amount(requests[name]) > Decimal(ratio):
            yield f"ratio {name}"
    for name, wanted in requests.items():
        if name in limits and amount(wanted) > amount(limits[name]):
            yield f"request {name}"


@given(ITEM, WRITTEN)
def test_fitted_sidecar_breaks_no_range(item, written):
    fitted = resources.fit(written, chart=CHART, spec={"containers": [{"name": "app"}]})
    found = namespace_bounds.fit(
        fitted, chart=CHART, spec={"containers": [APP]}, bounds=ranged(item)
    )
    if isinstance(found, namespace_bounds.DoesNotFit):
        most, least = item.get("max") or {}, item.get("min") or {}
        # It is too small for the sidecar, or contradicts itself.
        assert any(
            amount(most[name])
            < max(amount(namespace_bounds.LEAST[name]), amount(least.get(name, "0")))
            for name in most
        )
    else:
        assert list(violations(found, item)) == []
