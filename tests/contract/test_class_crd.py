"""ClusterEmbeddingProvider, as a real API server takes it, and as the operator reads it."""

from pathlib import Path

import pytest
import yaml

from embedding_contract import document
from embedding_operator import errors
from embedding_operator.policy import classes, policy, provider_class
from tests.conftest import CLASS_CRD
from tests.parts import crd, crd_cases, policies

BAD, GOOD = crd_cases.of("class-bad"), crd_cases.of("class-good")
REFUSED, ADMITTED = crd_cases.refused(BAD), crd_cases.admitted(BAD)
KIND = "clusterembeddingprovider"


@pytest.fixture
def admit(api_server):
    """Creates a class and returns it with its defaults; deleted afterwards."""
    made: list[str] = []

    def admitted(case: Path):
        name = yaml.safe_load(case.read_text(encoding="utf-8"))["metadata"]["name"]
        made.append(name)
        api_server("create", "--validate=strict", "-f", str(case))
        return api_server.get(KIND, name)

    yield admitted
    for name in made:
        api_server("delete", KIND, name, "--ignore-not-found")


def test_every_bad_class_says_who_refuses_it():
    assert sorted(REFUSED + ADMITTED) == BAD
    assert len(REFUSED) >= 30
    assert ADMITTED


@pytest.mark.cluster
@pytest.mark.parametrize("case", REFUSED, ids=crd_cases.stem)
def test_api_server_refuses_bad_class_and_says_why(api_server, case):
    crd_cases.check_refused_by_api_server(api_server, case)


@pytest.mark.cluster
@pytest.mark.parametrize("case", ADMITTED, ids=crd_cases.stem)
def test_operator_refuses_class_that_only_it_can_judge(admit, case):
    with pytest.raises(errors.InvalidPolicy) as refusal:
        classes.check(provider_class.parse(admit(case)))
    crd_cases.check_reason(refusal.value, case)


@pytest.mark.cluster
@pytest.mark.parametrize("case", GOOD, ids=crd_cases.stem)
def test_policy_of_good_class_becomes_document_that_sidecars_read(admit, monkeypatch, case):
    found = admit(case)
    classes.check(provider_class.parse(found))
    name, models = found["metadata"]["name"], found["spec"]["models"]
    labels = {"team": "shop", "embedding": "allowed", "kubernetes.io/metadata.name": "shop"}
    usable = classes.Classes(namespace="shop", labels=labels, find={name: found}.get)
    wanted = policies.parsed(
        providers=[
            {"ref": name, "model": it["model"], "name": f"p{i}"} for i, it in enumerate(models)
        ],
        failover={"enabled": False, "acrossSpaces": False},
        sidecar={"logLevel": "info"},
    )
    made = policy.to_document(classes.resolve(wanted, usable))
    assert "class" in made.requires
    monkeypatch.setattr(document, "FEATURES", frozenset(made.requires))
    assert document.parse(document.dump(made)) == made


@pytest.mark.cluster
def test_kubectl_shows_class_by_short_name(api_server, admit):
    admit(crd_cases.CASES / "class-good" / "smallest.yaml")
    shown = api_server("get", "cembp").splitlines()
    assert shown[0].split() == [
        "NAME",
        "READY",
        "REASON",
        "TYPE",
        "POLICIES",
        "NAMESPACES",
        "REFUSED",
        "AGE",
    ]
    assert shown[1].split()[:2] == ["openai", "OpenAI"]


def test_every_field_is_explained_and_bounded():
    schema = yaml.safe_load(CLASS_CRD.read_text(encoding="utf-8"))["spec"]["versions"][0]["schema"]
    properties = schema["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        for path, field in crd.fields(properties[part], part):
            crd.check_field(path, field, is_seen=part == "status")


def test_every_field_of_class_is_in_good_case():
    schema = yaml.safe_load(CLASS_CRD.read_text(encoding="utf-8"))["spec"]["versions"][0]["schema"]
    spec = schema["openAPIV3Schema"]["properties"]["spec"]
    used = {
        crd.in_words(path)
        for case in GOOD
        for path in crd.leaves(yaml.safe_load(case.read_text(encoding="utf-8"))["spec"])
    }
    leaves = {
        path.removeprefix("spec.")
        for path, field in crd.fields(spec, "spec")
        if field.get("type") not in {"object", "array"} and not path.endswith(("*", "[]"))
    }
    assert leaves - used == set()
