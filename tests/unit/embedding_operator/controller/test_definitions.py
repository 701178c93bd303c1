"""Definitions older than the operator, and those of another installation."""

import copy
import threading
from typing import Any

import pytest

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import definitions
from embedding_operator.kube import kinds
from embedding_operator.policy import crd_schema

OWN = "system/mine"


def schema(definition):
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def without(*path):
    """The packaged definition of policies, without a field of its spec."""
    live = crd_schema.load()
    *outer, last = path
    found = schema(live)["properties"]["spec"]
    for name in outer:
        found = found["properties"][name]
        found = found.get("items", found)
    del found["properties"][last]
    return live


class Server:
    """An API server's definitions."""

    def __init__(self, owner=""):
        self.live = {
            f"{plural}.{names.GROUP}": crd_schema.load(kind)
            for kind, plural in crd_schema.PLURALS.items()
        }
        if owner:
            self.policies["metadata"]["annotations"] = {names.ANNOTATION_INSTALLATION: owner}

    @property
    def policies(self):
        return self.live[f"{names.PLURAL}.{names.GROUP}"]

    def get(self, kind, namespace, name):
        assert kind is kinds.DEFINITION
        return copy.deepcopy(self.live.get(name))

    def find(self, kind, namespace):
        return [{}] * 3


def made(server, *, own=OWN, lacks=lambda *_: None):
    return definitions.Definitions(objects=server, own=own, lacks=lacks)


@pytest.mark.parametrize("kind", crd_schema.PLURALS)
def test_packaged_definition_lacks_nothing(kind):
    assert definitions.missing(crd_schema.load(kind), crd_schema.load(kind)) == ()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("quota",), "spec.quota"),
        (("quota", "monthly"), "spec.quota.monthly"),
        (("providers", "weight"), "spec.providers[].weight"),
        (("providers", "timeouts", "callSeconds"), "spec.providers[].timeouts.callSeconds"),
    ],
)
def test_field_that_definition_lacks_is_named_by_its_path(path, named):
    assert definitions.missing(without(*path), crd_schema.load()) == (named,)


def test_word_that_enumeration_lacks_is_named():
    live = crd_schema.load()
    kind = schema(live)["properties"]["spec"]["properties"]["providers"]["items"]["properties"]
    kind["type"]["enum"].remove("Jina")
    assert definitions.missing(live, crd_schema.load()) == ("spec.providers[].type: Jina",)


def test_newer_definition_lacks_nothing():
    newer = crd_schema.load()
    schema(newer)["properties"]["spec"]["properties"]["later"] = {"type": "string"}
    assert definitions.missing(newer, crd_schema.load()) == ()


def test_absent_definition_and_version_are_named():
    assert definitions.missing(None, crd_schema.load()) == ("the whole definition",)
    other = crd_schema.load()
    other["spec"]["versions"][0]["name"] = "v1"
    assert definitions.missing(other, crd_schema.load()) == ("version v1alpha1",)


def test_older_definition_is_counted_and_told_once(caplog):
    server: Any = Server()
    counted: dict[str, int] = {}
    looking = made(server, lacks=counted.__setitem__)
    looking.check()
    assert set(counted.values()) == {0}
    server.live[f"{names.PLURAL}.{names.GROUP}"] = without("quota", "monthly")
    looking.check()
    looking.check()
    assert counted[f"{names.PLURAL}.{names.GROUP}"] == 1
    told = [it.getMessage() for it in caplog.records if it.levelname == "WARNING"]
    assert len(told) == 1
    assert "lacks spec.quota.monthly." in told[0]


@pytest.mark.parametrize(("owner", "own"), [("", OWN), (OWN, OWN), ("other/theirs", "")])
def test_definition_without_other_owner_is_served(owner, own):
    made(Server(owner), own=own).check()


def test_definition_of_another_installation_is_told_with_its_policies():
    with pytest.raises(definitions.ForeignError) as found:
        made(Server("other/theirs")).check()
    told = str(found.value)
    assert "the 3 policies of this cluster, belong to" in told
    assert "installation theirs in namespace other" in told
    assert OWN in told


def test_installation_that_is_taken_over_ends(monkeypatch, caplog):
    monkeypatch.setattr(definitions, "CHECK_SECONDS", 0.01)
    server, ended = Server(OWN), threading.Event()
    looking = made(server)
    stopping = threading.Event()
    running = threading.Thread(target=looking.run, args=(stopping, ended.set))
    running.start()
    server.policies["metadata"]["annotations"][names.ANNOTATION_INSTALLATION] = "b/b"
    assert ended.wait(10)
    running.join(10)
    assert "belong to the installation b in namespace b" in caplog.text


def test_api_server_that_is_away_ends_nothing(monkeypatch, caplog):
    monkeypatch.setattr(definitions, "CHECK_SECONDS", 0.01)
    asked = threading.Semaphore(0)

    class Away(Server):
        def get(self, kind, namespace, name):
            asked.release()
            raise errors.Unavailable("away")

    stopping = threading.Event()
    running = threading.Thread(target=made(Away()).run, args=(stopping, pytest.fail))
    running.start()
    for _ in range(3):
        assert asked.acquire(timeout=10)
    stopping.set()
    running.join(10)
    assert caplog.text.count("the definitions cannot be read: away") == 1


def test_definition_is_compared_again_only_when_it_has_changed():
    server, lacked = Server(), list[str]()
    for live in server.live.values():
        live["metadata"]["resourceVersion"] = "1"
    found = made(server, lacks=lambda name, _: lacked.append(name))
    found.check()
    found.check()
    assert sorted(lacked) == sorted(server.live)
    server.policies["metadata"]["resourceVersion"] = "2"
    found.check()
    assert lacked[len(server.live) :] == [f"{names.PLURAL}.{names.GROUP}"]


def test_definition_whose_comparison_failed_is_compared_again(monkeypatch):
    server, counted = Server(), []
    for live in server.live.values():
        live.setdefault("metadata", {})["resourceVersion"] = "1"
    checked = made(server, lacks=lambda name, count: counted.append(name))
    with monkeypatch.context() as broken:
        broken.setattr(definitions, "missing", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checked.check()
    checked.check()
    assert len(counted) == len(server.live)
