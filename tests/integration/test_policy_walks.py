"""A policy that was edited is as a fresh one: random walks of three policies with their indexes.

A failing walk is printed in its smallest form. A run is repeated with its seed:

    EMBEDDING_WALKS_SEED=17 pytest -m cluster tests/integration/test_policy_walks.py
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest

from dev import cluster as throwaway
from embedding_contract import names
from tests.parts import operating, policy_walks, shipped_roles, walking
from tests.parts import vault as real

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.integration,
    pytest.mark.needs_kubernetes("1.36", "MutatingAdmissionPolicy v1"),
]

LANES, SOAK_LANES = 4, 16
WALKS, SOAK_WALKS = 20, 2_000
KINDS = ("prometheusrules", "podmonitors", "prometheuses", "prometheusagents", "thanosrulers")
CLASS = {
    "apiVersion": names.API_VERSION,
    "kind": names.CLASS_KIND,
    "metadata": {"name": policy_walks.CLASS},
    "spec": {
        "type": "OpenAICompatible",
        "baseURL": "http://platform.models.svc/v1",
        "models": [{"model": "e5", "dimensions": 384}],
        "namespaceSelector": {"matchLabels": {names.LABEL_INJECTION: "enabled"}},
    },
}


@pytest.fixture(scope="module")
def lanes(api_server, tmp_path_factory):
    """Namespaces to walk in, under one operator: walks wait more than they work."""
    folder = throwaway.artifact("prometheus-operator-crds")
    for plural in KINDS:
        api_server.define(folder / f"monitoring.coreos.com_{plural}.yaml")
    api_server.apply(CLASS)
    made = [
        walking.Lane(api_server.kubeconfig, name=f"lane-{number}") for number in range(SOAK_LANES)
    ]
    with real.running(tmp_path_factory.mktemp("vault")) as server:
        for lane in made:
            lane.furnish(server)
            for namespace in lane.namespaces:
                shipped_roles.grant_in(api_server, namespace)
        operator = operating.Operator(
            tmp_path_factory.mktemp("operator"), api_server.kubeconfig, server
        )
        operator.environment |= {
            "VECTORS_NAMESPACES": ",".join(name for lane in made for name in lane.namespaces),
            "ADDITIONAL_ALERTS": "true",
            "SIDECAR_POLICY_NETWORK": "true",
            "INJECTION_BY": "policy+webhook",
            # Pods without a sidecar, such as an index's here, are looked at in a resync alone.
            "RESYNC_SECONDS": "5",
        }
        try:
            operator.start()
            yield made
        finally:
            operator.stop()


def walk(lanes, *, walks, say):
    """So many walks, shared by the lanes."""
    seed = int(os.environ.get("EMBEDDING_WALKS_SEED", "0")) or time.time_ns() % 10**9
    print(f"seed {seed}")

    def in_lane(number):
        lane = lanes[number]

        @hypothesis.seed(seed + number)
        @hypothesis.settings(
            max_examples=walks // len(lanes),
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(walk=policy_walks.walks(lane.judge.admits))
        def equals_fresh_one(walk):
            try:
                lane.walk(walk)
            except AssertionError as error:
                # Hypothesis prints nothing of a walk that it gave up to shorten.
                error.add_note(repr(walk))
                raise

        equals_fresh_one()

    with ThreadPoolExecutor(len(lanes)) as at_once:
        list(at_once.map(in_lane, range(len(lanes))))
    admitted = sum(lane.judge.admitted for lane in lanes)
    refused = sum(lane.judge.refused for lane in lanes)
    ends = sum(lane.refused_ends for lane in lanes)
    say(
        f"{walks} walks of policies in {len(lanes)} lanes, seed {seed}: equal to fresh ones, {ends}"
        f" of them refused by the operator; of what was made of the schemas the API server admitted"
        f" {admitted} objects and refused {refused}"
    )


@pytest.mark.timeout(900)
def test_policy_that_was_edited_equals_fresh_one(lanes, say):
    walk(lanes[:LANES], walks=WALKS, say=say)


@pytest.mark.soak
@pytest.mark.timeout(2 * 3_600)
def test_policy_that_was_edited_equals_fresh_one_on_long_walks(lanes, say):
    walk(lanes, walks=SOAK_WALKS, say=say)
