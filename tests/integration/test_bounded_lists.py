"""A real API server's lists and watches, read within bounds: objects too large are skipped."""

import msgspec
import pytest

from embedding_contract import names
from embedding_operator.informers import lines, objects, pages, pod_objects, policy_objects
from embedding_operator.informers.fifo_lock import FifoLock
from embedding_operator.kube import kinds
from tests.parts import reconciling

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

MOST_BYTES = 4000
LARGE = {"large": "x" * 5000}
CONFIG_MAP = {"data": {"a": "b"}}
POLICY = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "spec": {
        "podSelector": {},
        "providers": [
            {"name": "e5", "type": "OpenAICompatible", "model": "e5", "baseURL": "http://e5/v1"}
        ],
    },
}
POD = {"spec": {"containers": [{"name": "app", "image": "app:1"}]}}
SOURCES = [
    (pages.Source(kind=kinds.CONFIG_MAP, label_selector="of=test"), CONFIG_MAP, objects.owned),
    (
        pages.Source(kind=kinds.CONFIG_MAP, label_selector="of=test", metadata_only=True),
        CONFIG_MAP,
        objects.owned,
    ),
    (pages.Source(kind=kinds.POLICY, label_selector="of=test"), POLICY, policy_objects.policy),
    (
        pages.Source(kind=kinds.POLICY, label_selector="of=test", metadata_only=True),
        POLICY,
        policy_objects.policy,
    ),
    (pages.Source(kind=kinds.POD, label_selector="of=test"), POD, pod_objects.pod),
]


@pytest.fixture
def api(api_server, namespace):
    reconciling.wait_for_default_account(api_server, namespace)
    return reconciling.connect(api_server.kubeconfig)


def trimming(trim):
    if trim is objects.owned:
        return lambda raw: objects.owned(raw, is_owner=lambda *_: True)
    return trim


def create(api, namespace, source, body, name, **metadata):
    metadata |= {"name": name, "namespace": namespace, "labels": {"of": "test"}}
    return api.create(source.kind, namespace, body | {"metadata": metadata})


@pytest.mark.parametrize(("source", "body", "trim"), SOURCES)
def test_list_goes_on_behind_object_that_is_too_large(api, namespace, source, body, trim):
    for name in "abcdef":
        annotations = LARGE if name in "ad" else {}
        create(api, namespace, source, body, name, annotations=annotations)
    listed = pages.Pages(
        source, trimming(trim), stream=api.stream, lock=FifoLock(), most_bytes=MOST_BYTES
    )
    found = list(listed.each(namespace))
    assert [it.name for page in found for it in page.kept] == ["b", "c", "e", "f"]
    assert sum(page.skipped for page in found) == 2
    assert len({page.version for page in found}) == 1
    assert int(listed.version()) >= int(found[0].version)


@pytest.mark.parametrize(("source", "body", "trim"), SOURCES)
def test_watch_goes_on_behind_line_that_is_too_long(api, namespace, source, body, trim):
    listed = pages.Pages(source, trimming(trim), stream=api.stream, lock=FifoLock())
    query = source.query(
        watch="1", resourceVersion=listed.version(), allowWatchBookmarks="true", timeoutSeconds="5"
    )
    for name in "abc":
        annotations = LARGE if name == "b" else {}
        create(api, namespace, source, body, name, annotations=annotations)
    accept = pages.METADATA if source.metadata_only else pages.JSON
    seen: list[str | None] = []
    with api.stream(source.kind, namespace, query=query, accept=accept, read_seconds=30) as pieces:
        for line in lines.split(pieces, most_bytes=MOST_BYTES, lock=FifoLock()):
            if line is None:
                seen.append(None)
            elif b'"ADDED"' in line:
                start = line.index(b'"object":') + len(b'"object":')
                raw = msgspec.Raw(bytes(line[start:-1]))
                seen.append(trimming(trim)(raw).name)
            if len(seen) == 3:
                break
    assert seen == ["a", None, "c"]
