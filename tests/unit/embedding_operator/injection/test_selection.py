"""The choice of a policy for each pod."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_contract import names
from embedding_operator.injection import selection

ENABLED = {names.LABEL_INJECTION: "enabled"}
NEW = (1, 37)


def candidate(name="search", *, created_at="2026-01-01T00:00:00Z", selector=None):
    return selection.Candidate(name=name, created_at=created_at, pod_selector=selector or {})


def pod(*, labels=None, annotations=None, **spec):
    return {
        "metadata": {"labels": labels or {}, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
    }


def decide(a_pod, *among, namespace_labels=ENABLED, server_version=NEW):
    return selection.decide(
        a_pod, namespace_labels=namespace_labels, among=among, server_version=server_version
    )


def test_selected_pod_is_covered():
    assert decide(pod(), candidate()) == selection.Covered(candidate())


def test_oldest_policy_wins_then_first_by_name_and_others_lose():
    young = candidate("a", created_at="2026-02-01T00:00:00Z")
    old_b, old_c = candidate("b"), candidate("c")
    assert decide(pod(), young, old_c, old_b) == selection.Covered(old_b, (old_c, young))


def test_pod_that_names_its_policy_gets_it_and_nobody_loses():
    first, second = candidate("a"), candidate("b")
    asking = pod(labels={names.LABEL_POLICY: "b"})
    assert decide(asking, first, second) == selection.Covered(second)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"matchLabels": {"app": "other"}}, "does not select this pod"),
        (None, "is not in this namespace"),
    ],
)
def test_pod_that_names_policy_it_cannot_have_gets_no_other(selector, message):
    named = [candidate("b", selector=selector)] if selector else []
    decided = decide(pod(labels={names.LABEL_POLICY: "b"}), candidate("a"), *named)
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "PolicyNotFound"
    assert message in decided.message
    assert "'b'" in decided.message


OBSTACLES = {
    "MirrorPod": pod(annotations={"kubernetes.io/config.mirror": "x"}),
    "HostNetwork": pod(hostNetwork=True),
    "Windows": pod(os={"name": "windows"}),
}


@pytest.mark.parametrize(("reason", "a_pod"), OBSTACLES.items())
def test_pod_that_cannot_have_it_is_skipped_and_says_whose_it_would_be(reason, a_pod):
    decided = decide(a_pod, candidate())
    assert isinstance(decided, selection.Skipped)
    assert (decided.reason, decided.candidate) == (reason, candidate())


def test_node_selector_for_windows_counts_too():
    decided = decide(pod(nodeSelector={"kubernetes.io/os": "windows"}), candidate())
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "Windows"


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"initContainers": [{"name": names.CONTAINER}]}, "container 'embedding-sidecar'"),
        ({"ephemeralContainers": [{"name": names.CONTAINER}]}, "container 'embedding-sidecar'"),
        (
            {"containers": [{"name": "app", "ports": [{"containerPort": 8484}]}]},
            "port 8484 (container 'app')",
        ),
        (
            {"containers": [{"name": "app", "ports": [{"containerPort": 8485}]}]},
            "port 8485 (container 'app')",
        ),
        (
            {
                "containers": [
                    {"name": "app", "ports": [{"name": "embed-admin", "containerPort": 1}]}
                ]
            },
            "port named 'embed-admin' (container 'app')",
        ),
        ({"volumes": [{"name": names.VOLUME_SECRETS}]}, "volume 'embedding-secrets'"),
    ],
)
def test_pod_that_uses_our_names_itself_is_skipped_and_told_which(spec, what):
    decided = decide(pod(**spec), candidate())
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "NameTaken"
    assert decided.message.endswith(what)


def test_our_own_sidecar_is_no_obstacle_to_itself():
    carrying = pod(
        labels={names.LABEL_INJECTED: "search"},
        annotations={names.ANNOTATION_SIDECAR_HASH: "x"},
        initContainers=[{"name": names.CONTAINER, "ports": [{"containerPort": 8485}]}],
    )
    assert selection.carries_sidecar(carrying)
    assert decide(carrying, candidate()) == selection.Covered(candidate())
    assert decide(carrying, candidate(), server_version=(1, 20)) == selection.Covered(candidate())


def test_server_without_native_sidecars_gets_none():
    decided = decide(pod(), candidate(), server_version=(1, 28))
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "ServerTooOld"
    assert "1.29" in decided.message
    assert isinstance(decide(pod(), candidate(), server_version=(1, 29)), selection.Covered)


def test_namespace_or_pod_that_does_not_want_it_is_left_alone():
    elsewhere = decide(pod(), candidate(), namespace_labels={})
    opted_out = decide(pod(labels={names.LABEL_INJECTION: "disabled"}), candidate())
    assert isinstance(elsewhere, selection.Skipped)
    assert isinstance(opted_out, selection.Skipped)
    assert (elsewhere.reason, opted_out.reason) == ("NamespaceNotEnabled", "OptedOut")


def test_invalid_policy_still_covers_its_pods_but_deleted_one_does_not():
    invalid = {
        "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"podSelector": {}, "providers": "nonsense"},
    }
    going = {
        "metadata": {"name": "b", "deletionTimestamp": "2026-01-02T00:00:00Z"},
        "spec": {"podSelector": {}},
    }
    assert [found.name for found in selection.candidates([invalid, going])] == ["a"]


def test_policys_own_resources_are_read():
    policy = {
        "metadata": {"name": "a"},
        "spec": {"podSelector": {}, "sidecar": {"resources": {"limits": {"cpu": "1"}}}},
    }
    assert selection.candidates([policy])[0].resources == {"limits": {"cpu": "1"}}


@given(st.permutations([candidate("a"), candidate("b"), candidate("c", created_at="2025")]))
def test_order_in_which_policies_are_listed_decides_nothing(listed):
    decided = decide(pod(), *listed)
    assert isinstance(decided, selection.Covered)
    assert [found.name for found in (decided.candidate, *decided.losers)] == ["c", "a", "b"]


def test_pod_of_index_has_policy_it_names_whatever_its_selector_says():
    narrow = candidate("b", selector={"matchLabels": {"app": "other"}})
    working = pod(labels={names.LABEL_INDEX: "articles", names.LABEL_POLICY: "b"})
    assert decide(working, candidate("a"), narrow) == selection.Covered(narrow)


def test_pod_of_index_is_of_no_policy_that_it_does_not_name():
    working = pod(labels={names.LABEL_INDEX: "articles"})
    decided = decide(working, candidate("a"))
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "NoPolicyMatches"
    asking = pod(labels={names.LABEL_INDEX: "articles", names.LABEL_POLICY: "gone"})
    decided = decide(asking, candidate("a"))
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "PolicyNotFound"


def test_pod_of_index_needs_namespaces_consent_too():
    working = pod(labels={names.LABEL_INDEX: "articles", names.LABEL_POLICY: "a"})
    decided = decide(working, candidate("a"), namespace_labels={})
    assert isinstance(decided, selection.Skipped)
    assert decided.reason == "NamespaceNotEnabled"
