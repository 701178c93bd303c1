"""Little is kept of Jobs and ended pods, whatever a tenant wrote into them."""

import pytest

from embedding_contract import index_report, names
from embedding_operator.informers import run_objects
from embedding_operator.informers.kept import encode


def pod(message, *, container=names.VECTORS_CONTAINER, state="state", **metadata):
    ended = {"terminated": {"message": message, "exitCode": 0, "finishedAt": "t"}}
    return {
        "metadata": {"name": "a", "namespace": "shop", "uid": "u", **metadata},
        "spec": {"containers": [{"name": "x" * 100_000}]},
        "status": {
            "containerStatuses": [
                {"name": "another", "state": {"terminated": {"message": "not of the worker"}}},
                {"name": container, state: ended},
            ]
        },
    }


@pytest.mark.parametrize("state", ["state", "lastState"])
def test_last_words_of_worker_alone_are_kept(state):
    (kept,) = run_objects.run(encode(pod("words", state=state))).value()["status"][
        "containerStatuses"
    ]
    assert kept[state]["terminated"]["message"] == "words"
    assert kept["name"] == names.VECTORS_CONTAINER


def test_words_that_kubelet_would_not_keep_are_dropped():
    found = run_objects.run(encode(pod("x" * (index_report.MAX_BYTES + 1))))
    assert found.content is not None
    assert len(found.content) < 1_000


def test_only_controller_of_many_owners_is_kept():
    mine = {"uid": "mine", "kind": "Job", "controller": True}
    owners = [*({"uid": f"uid-{number}", "kind": "Job"} for number in range(1_000)), mine]
    found = run_objects.run(encode(pod("words", ownerReferences=owners)))
    assert [it["uid"] for it in found.value()["metadata"]["ownerReferences"]] == ["mine"]
    assert len(found.content or b"") < 1_000


def test_owner_and_end_of_job_are_kept():
    conditions = [{"type": f"T{number}", "status": "True"} for number in range(1_000)]
    found = run_objects.job(
        encode(
            {
                "metadata": {
                    "name": "j",
                    "namespace": "shop",
                    "uid": "u",
                    "annotations": {"a": "x" * 200_000},
                },
                "spec": {"template": {"spec": {"containers": [{"name": "x" * 100_000}]}}},
                "status": {"conditions": [{"type": "Complete", "status": "True"}, *conditions]},
            }
        )
    )
    assert len(found.content or b"") < 5_000
    assert found.value()["status"]["conditions"][0]["type"] == "Complete"
