"""Sidecars of older releases: what they tell without a proof, and what they do not obey."""

import asyncio

import pytest

from embedding_contract import formats, names
from embedding_operator import errors
from embedding_operator.sidecars import config_request, pages, report, targets
from embedding_operator.sidecars.pages import InForce
from embedding_operator.status import config_in_force
from tests.parts import answering

METRICS = """\
# TYPE aos_embedding_policy_info gauge
aos_embedding_policy_info{document="d1"} 1.0
# TYPE aos_embedding_policy_rejected gauge
aos_embedding_policy_rejected 0.0
aos_embedding_key_refused{provider="openai"} 1.0
aos_embedding_key_refused{provider="voyage"} 0.0
"""
BY_METRICS = InForce(
    document="d1",
    secrets=None,
    rejected=None,
    keys_refused=frozenset({"openai"}),
    format=formats.FIRST,
)
POD = targets.Pod(namespace="shop", name="pod-1", uid="uid-1", address="127.0.7.9")


def wanted(**more):
    return targets.Wanted(document="d1", secrets="s1", token="t", **more)


def verdict(force):
    return config_in_force.verdict(force, stale=False, generation=1, previous={})


def test_metrics_page_tells_document_and_refused_keys():
    assert pages.in_force_by_metrics(METRICS.encode()) == BY_METRICS
    rejecting = METRICS.replace("rejected 0.0", "rejected 1.0")
    told = pages.in_force_by_metrics(rejecting.encode()).rejected
    assert told == "rejects the newest document"


@pytest.mark.parametrize(
    "page",
    [
        "",
        METRICS.replace("aos_embedding_policy_info", "aos_other"),
        METRICS.replace("aos_embedding_policy_rejected", "aos_other"),
        METRICS + 'aos_embedding_policy_info{document="d2"} 1.0\n',
        METRICS.replace('"d1"', '"not hexadecimal"'),
        METRICS.replace('"openai"', '"-openai"'),
        METRICS + "ä",
    ],
)
def test_page_that_is_no_sidecars_is_refused(page):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is not told
        pages.in_force_by_metrics(page.encode())


def test_sidecar_that_knows_bearer_alone_is_read_by_its_metrics():
    bare = answering.rendered(401, b"", www_authenticate="Bearer")

    async def answer(head, _, writer):
        is_metrics = answering.target(head) == names.PATH_METRICS
        writer.write(answering.rendered(200, METRICS.encode()) if is_metrics else bare)
        # No request shows the token.
        assert b"token-of-the-policy" not in head

    with answering.answering() as there:
        there.at(POD.address, answer)
        client = config_request.Client(port=there.port)
        found = asyncio.run(client.in_force(POD, token="token-of-the-policy"))
    assert found == BY_METRICS


@pytest.mark.parametrize(
    "known",
    [formats.PROVEN, formats.CURRENT, formats.CURRENT + 1],
)
def test_page_tells_format_and_lacks_it_before_it_was_told(known):
    page = '{"document_fingerprint": "d", "secrets_fingerprint": "s", "rejected": null%s}'
    assert pages.in_force((page % f', "format": {known}').encode()).format == known
    assert pages.in_force((page % "").encode()).format == formats.PROVEN


@pytest.mark.parametrize("strange", ["0", "-1", "true", '"2"', "1e3", "null", str(10**9)])
def test_strange_format_is_refused(strange):
    page = f'{{"document_fingerprint": "d", "secrets_fingerprint": "s", "format": {strange}}}'
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        pages.in_force(page.encode())


def test_policy_in_force_without_proof_is_told_by_its_reason():
    found = verdict(report.force([(POD, BY_METRICS)], wanted()))
    assert (found.status, found.reason) == ("True", "InForceUnproven")
    assert "pod-1" in found.message


def test_ignored_key_is_never_in_force():
    force = report.force([(POD, BY_METRICS)], wanted(later=(("network", 2), ("quota.mode", 2))))
    assert (force.in_force, force.unproven) == (0, ())
    found = verdict(force)
    assert (found.status, found.reason) == ("False", "SidecarsBehind")
    assert "pod-1 ignores network, quota.mode, as its release is older" in found.message


def test_proven_sidecar_with_format_of_key_obeys_it():
    newer = InForce(document="d1", secrets="s1", rejected=None, format=2)
    force = report.force([(POD, newer)], wanted(later=(("network", 2), ("new", 3))))
    assert force.behind == ("pod-1 ignores new, as its release is older: restart the pod",)
    assert report.force([(POD, newer)], wanted(later=(("network", 2),))).in_force == 1


def test_silent_metrics_leave_problem_as_it_is():
    with answering.answering() as there:
        there.at(POD.address, answering.HOSTILE["bearer only"])
        client = config_request.Client(port=there.port)
        found = asyncio.run(client.in_force(POD, token="t"))
    assert isinstance(found, errors.Problem)
    assert found.reason == config_in_force.OUTDATED
