"""The pods of a policy, and those whose sidecar is still starting."""

import pytest

from embedding_contract import names
from embedding_operator.injection import coverage, injector, selection
from embedding_operator.status import policy_status

SIDECAR = injector.Sidecar(image="sidecar:1", pull_policy="Never", resources={})
ENABLED = {names.LABEL_INJECTION: "enabled"}
OWN = selection.Candidate(
    name="search", created_at="2026-01-01T00:00:00Z", pod_selector={"matchLabels": {"app": "x"}}
)
YOUNGER = selection.Candidate(name="other", created_at="2026-02-01T00:00:00Z", pod_selector={})


def pod(name="a", *, phase="Running", labels=None, spec=None, **metadata):
    labels = {"app": "x"} if labels is None else labels
    return {
        "metadata": {"name": name, "labels": labels, **metadata},
        "spec": {"containers": [{"name": "app"}], **(spec or {})},
        "status": {"phase": phase, "podIP": "10.0.0.1"},
    }


def injected(bare, candidate=OWN, sidecar=SIDECAR):
    return injector.inject(bare, sidecar=sidecar, candidate=candidate)


def seen(
    *pods, name="search", among=(OWN, YOUNGER), namespace_labels=ENABLED, created=None, since=None
):
    return coverage.of(
        name=name,
        pods=pods,
        namespace_labels=namespace_labels,
        among=among,
        server_version=(1, 37),
        sidecar=SIDECAR,
        environment_since=created,
        covering_since=since,
    )


def test_pod_with_sidecar_is_covered_and_one_without_is_missing():
    found = seen(injected(pod("a")), pod("b"))
    assert (found.matching, found.covered, found.missing) == (2, 1, ("b",))


def test_pod_that_policy_does_not_select_is_nothing_to_it():
    assert seen(pod(labels={"app": "y"})) == policy_status.Coverage()


def test_pod_keeps_counting_when_policy_no_longer_selects_it():
    found = seen(injected(pod(labels={"app": "y"})))
    assert (found.matching, found.covered) == (1, 1)


@pytest.mark.parametrize(
    "gone",
    [pod(phase="Succeeded"), pod(phase="Failed"), pod(deletionTimestamp="2026-01-01T00:00:00Z")],
    ids=["succeeded", "failed", "being deleted"],
)
def test_pod_that_has_ended_does_not_count(gone):
    assert seen(gone, injected(gone)) == policy_status.Coverage()


def test_pod_that_cannot_have_sidecar_is_missing_with_reason():
    assert seen(pod(spec={"hostNetwork": True})).missing == ("a (HostNetwork)",)


def test_pods_in_namespace_not_enabled_are_missing_with_reason():
    assert seen(pod(), namespace_labels={}).missing == ("a (NamespaceNotEnabled)",)


def test_pod_that_opted_out_is_not_missed():
    out = pod(labels={"app": "x", names.LABEL_INJECTION: "disabled"})
    assert seen(out) == policy_status.Coverage()


def test_older_policy_has_pod_and_younger_is_told_its_name():
    assert seen(pod()).missing == ("a",)
    lost = seen(pod(), name="other")
    assert (lost.matching, lost.lost_to) == (0, "search")


def test_pod_that_carries_anothers_sidecar_is_lost_to_that_one():
    assert seen(injected(pod(), YOUNGER)).lost_to == "other"


def test_pod_of_older_sidecar_is_outdated():
    older = injector.Sidecar(image="sidecar:0", pull_policy="Never", resources={})
    assert seen(injected(pod()), injected(pod("b"), sidecar=older)).outdated == 1


def test_application_that_started_before_its_environment_bypasses():
    early = injected(pod())
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    early["status"]["containerStatuses"] = [{"name": "app", "state": running}]
    assert seen(early, created="2026-01-02T00:00:00Z").bypassing == 1
    assert seen(early, created="2025-12-31T00:00:00Z").bypassing == 0


def test_policy_that_was_deleted_moment_ago_has_no_pods():
    assert seen(injected(pod()), among=(YOUNGER,)) == policy_status.Coverage()


def with_sidecar(**container):
    starting = injected(pod())
    seen = {"name": names.CONTAINER, "restartCount": 0, **container}
    starting["status"]["initContainerStatuses"] = [{"name": "other", "started": True}, seen]
    return starting


def waiting(reason):
    return {"waiting": {"reason": reason}}


STARTING = {
    "has no address": {**pod(), "status": {"phase": "Pending"}},
    "creates its container": with_sidecar(state=waiting("ContainerCreating")),
    "waits for an earlier one": with_sidecar(state=waiting("PodInitializing")),
    "has not passed its startup probe": with_sidecar(state={"running": {}}, started=False),
}
STARTED = {
    "has passed its startup probe": with_sidecar(state={"running": {}}, started=True),
    "cannot pull its image": with_sidecar(state=waiting("ImagePullBackOff")),
    "crashes": with_sidecar(state=waiting("CrashLoopBackOff"), restartCount=3),
    "starts for the second time": with_sidecar(state={"running": {}}, restartCount=1),
    "says nothing of its containers": injected(pod()),
}


@pytest.mark.parametrize("case", STARTING)
def test_pod_is_starting_that(case):
    assert coverage.is_starting(STARTING[case])


@pytest.mark.parametrize("case", STARTED)
def test_pod_should_answer_that(case):
    assert not coverage.is_starting(STARTED[case])


def test_pod_of_index_is_counted_by_policy_that_it_names_and_by_no_other():
    labels = {names.LABEL_INDEX: "articles", names.LABEL_POLICY: "search"}
    working = pod("a", labels=labels)
    assert seen(working).missing == ("a",)
    assert seen(injected(working)).covered == 1
    # Of the other, which selects every pod.
    assert seen(working, name="other") == policy_status.Coverage()
    assert coverage.selects_any([OWN], [working])
    assert not coverage.selects_any([YOUNGER], [working])


SINCE = "2026-01-02T00:00:00Z"
LATER, EARLIER = "2026-01-02T00:00:01Z", "2026-01-01T23:59:59Z"


def test_pod_made_when_each_new_one_should_be_covered_is_missed():
    """C1: a rollout left pods without a sidecar while Ready was True."""
    found = seen(
        pod("new", creationTimestamp=LATER),
        pod("old", creationTimestamp=EARLIER),
        pod("same", creationTimestamp=SINCE),
        since=SINCE,
    )
    assert (found.missing, found.missed) == (("new", "old", "same"), ("new",))


@pytest.mark.parametrize(
    ("bare", "more"),
    [
        (pod(spec={"hostNetwork": True}, creationTimestamp=LATER), {}),
        (pod(labels={"app": "x", names.LABEL_INJECTION: "disabled"}, creationTimestamp=LATER), {}),
        (pod(labels={"app": "y"}, creationTimestamp=LATER), {"among": (OWN,)}),
        (pod(creationTimestamp=LATER), {"namespace_labels": {}}),
        (pod(creationTimestamp=LATER), {"since": None}),
        (pod(creationTimestamp=LATER), {"name": "other"}),
        (pod(creationTimestamp=LATER, deletionTimestamp=LATER), {}),
    ],
    ids=["told", "opted out", "not selected", "not enabled", "not yet", "another's", "going"],
)
def test_pod_that_was_skipped_for_reason_is_not_missed(bare, more):
    """C1, siblings."""
    assert not seen(bare, **({"since": SINCE} | more)).missed


def test_detours_count_as_bypassing_once_per_pod():
    """C2 and C14: counted as covered and as bypassing, and named."""
    variables = [{"name": "OPENAI_BASE_URL", "value": "https://api.openai.com/v1"}]
    own = pod("own", spec={"containers": [{"name": "app", "env": variables}]})
    early = injected(own)
    early["status"]["containerStatuses"] = [{"state": {"running": {"startedAt": EARLIER}}}]
    found = seen(early, injected(pod("fine")), created=SINCE)
    assert (found.covered, found.bypassing) == (2, 1)
    assert found.detours == ("own: container app sets OPENAI_BASE_URL itself",)
