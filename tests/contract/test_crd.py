"""The resource, as a real API server takes it, and as the operator and the sidecar read it."""

import contextlib
import copy
import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from embedding_contract import document
from embedding_operator import errors
from embedding_operator.policy import crd_schema, policy
from tests.conftest import CRD
from tests.parts import crd, crd_cases

EXAMPLES = Path(__file__).parents[2] / "examples"
BAD, GOOD = crd_cases.of("bad"), crd_cases.of("good")
REFUSED, ADMITTED = crd_cases.refused(BAD), crd_cases.admitted(BAD)
OF_A_CLASS = crd_cases.CASES / "good" / "provider-of-a-class.yaml"
LIMITS_AND_PROVIDERS = (
    *("cost-", "month-", "quota-", "rate-", "weight-"),
    *("azure-", "bedrock-", "region-", "gemini-", "cohere-", "mistral-", "jina-"),
    *("provider-without", "provider-of-nothing", "ref-"),
)
COMPLETE = [case for case in GOOD if case != OF_A_CLASS]
"""Good cases whose document needs no ClusterEmbeddingProvider."""
READ_BY_SELECTION = ("podSelector", "sidecar.resources")


def admitted(api_server, namespace, case: Path):
    """The policy as it stands in the API server, defaults filled in."""
    return crd_cases.admit(api_server, namespace, case, kind="embeddingpolicy")


def test_every_bad_case_says_who_refuses_it():
    assert sorted(REFUSED + ADMITTED) == BAD
    assert len(REFUSED) >= 25
    assert len(GOOD) >= 10


@pytest.mark.cluster
@pytest.mark.parametrize("case", REFUSED, ids=crd_cases.stem)
def test_api_server_refuses_bad_policy_and_says_why(api_server, case):
    crd_cases.check_refused_by_api_server(api_server, case)


@pytest.mark.cluster
@pytest.mark.parametrize("case", ADMITTED, ids=crd_cases.stem)
def test_operator_refuses_what_only_it_can_know(api_server, namespace, case):
    read = policy.parse(admitted(api_server, namespace, case))
    with pytest.raises(errors.InvalidPolicy) as refusal:
        policy.to_document(read)
    crd_cases.check_reason(refusal.value, case)


@pytest.mark.cluster
@pytest.mark.parametrize("case", COMPLETE, ids=crd_cases.stem)
def test_sidecar_reads_document_of_good_policy(api_server, namespace, case):
    made = policy.to_document(policy.parse(admitted(api_server, namespace, case)))
    # The reader of this test knows the format; what it can carry out is another question.
    plain = dataclasses.replace(made, requires=())
    assert document.parse(document.dump(plain)) == plain


@pytest.mark.cluster
@pytest.mark.parametrize("case", GOOD, ids=crd_cases.stem)
def test_good_policy_gets_same_defaults_without_cluster(api_server, namespace, case):
    shown = yaml.safe_load(case.read_text(encoding="utf-8"))
    assert crd_schema.admit(shown)["spec"] == admitted(api_server, namespace, case)["spec"]


@pytest.mark.parametrize("case", BAD, ids=crd_cases.stem)
def test_bad_policy_without_cluster_is_refused_or_read(case):
    """Rules in CEL are the API server's alone; whatever passes without them must not confuse us."""
    shown = yaml.safe_load(case.read_text(encoding="utf-8"))
    with contextlib.suppress(errors.InvalidPolicy):
        alone = crd_schema.admit(shown)
        alone["metadata"]["namespace"] = "shop"
        policy.to_document(policy.parse(alone))


@pytest.mark.parametrize(
    "case", [it for it in BAD if it.stem.startswith(LIMITS_AND_PROVIDERS)], ids=crd_cases.stem
)
def test_bad_limit_or_provider_is_refused_without_cluster_too(case):
    shown = yaml.safe_load(case.read_text(encoding="utf-8"))
    shown["metadata"]["namespace"] = "shop"
    with pytest.raises(errors.InvalidPolicy, match=r"^spec\.(providers|quota)"):
        policy.to_document(policy.parse(crd_schema.admit(shown)))


@pytest.mark.cluster
@pytest.mark.parametrize("example", ["self-hosted", "openai-voyage", "azure-openai"])
def test_example_is_good_policy(api_server, namespace, tmp_path, example):
    shown = yaml.safe_load((EXAMPLES / example / "policy.yaml").read_text(encoding="utf-8"))
    shown["metadata"]["namespace"] = namespace
    case = tmp_path / "policy.yaml"
    case.write_text(yaml.safe_dump(shown), encoding="utf-8")
    policy.to_document(policy.parse(admitted(api_server, namespace, case)))


@pytest.mark.cluster
def test_unset_field_has_its_default(api_server, namespace):
    read = policy.parse(admitted(api_server, namespace, crd_cases.CASES / "good" / "smallest.yaml"))
    defaults = document.PolicyDocument(
        namespace=namespace,
        name="good",
        providers=policy.to_document(read).providers,
        quota=document.Quota(reserved_requests=2_000),
    )
    assert policy.to_document(read) == defaults
    assert read.vault_service_account == "embedding-vault"
    assert read.alerts_enabled


@pytest.mark.cluster
def test_limits_may_be_lifted_after_default_was_stored(api_server, namespace):
    admitted(api_server, namespace, crd_cases.CASES / "good" / "smallest.yaml")
    api_server("apply", "-n", namespace, "-f", str(crd_cases.CASES / "good" / "smallest.yaml"))
    api_server("apply", "-n", namespace, "-f", str(crd_cases.CASES / "good" / "unlimited.yaml"))
    read = policy.parse(api_server.get("embeddingpolicy", "good", "-n", namespace))
    assert read.quota.requests is None
    assert read.quota.tokens == 1_000_000


@pytest.mark.cluster
def test_kubectl_shows_what_matters(api_server, namespace):
    admitted(api_server, namespace, crd_cases.CASES / "good" / "smallest.yaml")
    status = {
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "VaultSealed",
                "message": "secret/shop",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
        "provider": "OpenAICompatible/e5",
        "quota": {"used": 5, "limit": 10, "summary": "5/10"},
        "pods": {"summary": "1/2"},
        "secrets": {"summary": "2/3"},
    }
    patch = yaml.safe_dump({"status": status})
    command = ("patch", "embpol", "good", "-n", namespace, "--subresource=status", "--type=merge")
    api_server(*command, "-p", patch)
    header, row = api_server("get", "embpol", "good", "-n", namespace).splitlines()
    assert header.split() == [
        "NAME",
        "READY",
        "REASON",
        "PROVIDER",
        "QUOTA",
        "PODS",
        "SECRETS",
        "AGE",
    ]
    assert row.split()[:-1] == [
        "good",
        "False",
        "VaultSealed",
        "OpenAICompatible/e5",
        "5/10",
        "1/2",
        "2/3",
    ]


def schema_of(section):
    definition = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    version = definition["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"][section]


SPEC = dict(crd.fields(schema_of("spec"), "spec"))
STATUS = dict(crd.fields(schema_of("status"), "status"))


@pytest.mark.parametrize("path", [*SPEC, *STATUS])
def test_every_field_is_bounded_and_explained(path):
    crd.check_field(path, {**SPEC, **STATUS}[path], is_seen=path in STATUS)


def specs_of_good_cases():
    return [yaml.safe_load(case.read_text(encoding="utf-8"))["spec"] for case in GOOD]


def test_good_cases_use_every_field_there_is():
    used = {
        f"spec.{crd.in_words(path)}" for spec in specs_of_good_cases() for path in crd.leaves(spec)
    }
    used = {
        re.sub(r"(matchLabels|labels|annotations|template\.data)\..+", r"\1.*", path)
        for path in used
    }
    parents = {path[: mark.start()] for path in SPEC for mark in re.finditer(r"\.|\[", path)}
    assert SPEC.keys() - parents - used == set()


def everything():
    case = yaml.safe_load(
        (crd_cases.CASES / "good" / "everything.yaml").read_text(encoding="utf-8")
    )
    case["metadata"]["namespace"] = "shop"
    return case


EVERY_LEAF = [
    path
    for path in crd.leaves(everything()["spec"])
    if not crd.in_words(path).startswith(READ_BY_SELECTION)
]


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return {"Deny": "Allow", "5m": "6m", "10m": "1h"}.get(value, f"{value}x")


@pytest.mark.parametrize("path", EVERY_LEAF, ids=crd.in_words)
def test_no_field_is_ignored_by_operator(path):
    """Another value makes another policy, so each field of the resource is read."""
    changed = copy.deepcopy(everything())
    parent = changed["spec"]
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = another(parent[path[-1]])
    assert policy.parse(changed) != policy.parse(everything())


@pytest.mark.parametrize("file", sorted(CRD.parent.glob("*.yaml")), ids=crd_cases.stem)
def test_no_list_item_has_default(file):
    """C10: a default inside an item makes each `kubectl apply` a change."""
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    schema = raw["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert not list(_defaults(schema["properties"]["spec"], inside=False))


def _defaults(schema, *, inside):
    if inside and "default" in schema:
        yield schema
    for name, child in schema.get("properties", {}).items():
        for found in _defaults(child, inside=inside):
            yield name, found
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _defaults(schema[key], inside=True)
