"""`embedding-operator render`: the objects of a policy, without a cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dev import cluster
from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.cli import preview
from tests.parts import provider_classes

CASES = Path(__file__).parents[3] / "contract" / "cases" / "good"
GOOD = sorted(it for it in CASES.glob("*.yaml") if it.stem != "provider-of-a-class")
EVERYTHING = CASES / "everything.yaml"


def rendered(file):
    return list(yaml.safe_load_all(preview.objects(preview.read(file, namespace="shop"))))


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_document_of_good_policy_is_one_that_sidecar_reads(file):
    (wanted,) = preview.read(file, namespace="shop")
    # The format is read here; which words of `requires` a sidecar knows is another question.
    shown = document.parse(json.dumps({**json.loads(preview.documents([wanted])), "requires": []}))
    assert (shown.namespace, shown.name) == (wanted.namespace, wanted.name)


def test_provider_of_class_is_not_known_without_cluster():
    with pytest.raises(errors.InvalidPolicy, match="ClusterEmbeddingProvider openai") as refusal:
        preview.documents(preview.read(CASES / "provider-of-a-class.yaml", namespace="shop"))
    assert refusal.value.path == "spec.providers[0].ref"


def test_objects_come_in_order_in_which_they_are_applied():
    kinds = [f"{it['kind']}/{it['metadata']['name']}" for it in rendered(EVERYTHING)]
    name = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))["metadata"]["name"]
    assert kinds[:3] == [
        f"ConfigMap/{names.environment_configmap(name)}",
        f"Secret/{names.owned_secret(name)}",
        f"ConfigMap/{names.document_configmap(name)}",
    ]
    assert [kind.partition("/")[0] for kind in kinds[-2:]] == ["PrometheusRule", "PodMonitor"]


def test_rendered_document_is_one_that_is_applied():
    policies = preview.read(EVERYTHING, namespace="shop")
    (data,) = [
        it["data"] for it in rendered(EVERYTHING) if names.DOCUMENT_KEY in it.get("data", {})
    ]
    assert data[names.DOCUMENT_KEY] == preview.documents(policies)


def test_secret_value_is_told_by_where_it_is(tmp_path):
    file = tmp_path / "policy.yaml"
    raw = yaml.safe_load((CASES / "openai.yaml").read_text(encoding="utf-8"))
    vault = {"mount": "secret", "path": "shop/keys", "key": "OPENAI"}
    raw["spec"]["providers"][0]["apiKey"] = {"vault": vault}
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    owned = next(it for it in rendered(file) if it["kind"] == "Secret")
    (told,) = [it for key, it in owned["stringData"].items() if key.startswith("provider-")]
    assert told == "<key OPENAI of Vault path secret/shop/keys>"


def of_class(tmp_path, *names_of_classes):
    """A file with the policy of a class, and classes of these names."""
    file = tmp_path / "policy.yaml"
    of_policy = yaml.safe_load((CASES / "openai.yaml").read_text(encoding="utf-8"))
    of_policy["spec"]["providers"] = [{"ref": "openai"}]
    selector = {"matchLabels": {"team": "shop"}}
    found = [provider_classes.raw(it, namespaceSelector=selector) for it in names_of_classes]
    for it in found:
        it["metadata"] = {"name": it["metadata"]["name"]}
    file.write_text(yaml.safe_dump_all([of_policy, *found]), encoding="utf-8")
    return file


def test_class_of_file_completes_its_policy(tmp_path):
    owned = next(it for it in rendered(of_class(tmp_path, "openai")) if it["kind"] == "Secret")
    told = owned["stringData"][names.secret_class_key("openai")]
    assert told == "<the value of ClusterEmbeddingProvider openai>"


def test_class_that_file_lacks_is_named(tmp_path):
    with pytest.raises(errors.InvalidPolicy, match="no ClusterEmbeddingProvider openai"):
        rendered(of_class(tmp_path, "azure"))


BAD = {
    "an unknown field": (lambda it: it["spec"].update(provider=1), "provider"),
    "a wrong type": (lambda it: it["spec"]["providers"][0].update(dimensions="x"), "dimensions"),
    "another kind": (lambda it: it.update(kind="Pod"), "kind"),
    "another version": (lambda it: it.update(apiVersion="v1"), "apiVersion"),
    "no name": (lambda it: it["metadata"].pop("name"), "metadata.name"),
    "no providers": (lambda it: it["spec"].update(providers=[]), "spec.providers"),
    "a name that a rule refuses": (
        lambda it: it["spec"]["providers"][0].update(name="A_B"),
        r"spec\.providers\[0\]\.name: must have lower-case letters",
    ),
    "no model": (lambda it: it["spec"]["providers"][0].pop("model"), r"providers\[0\]\.model"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusal_to_render_names_field(case, tmp_path):
    change, field = BAD[case]
    raw = yaml.safe_load((CASES / "openai.yaml").read_text(encoding="utf-8"))
    change(raw)
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(errors.InvalidPolicy, match=field):
        preview.read(file, namespace="shop")


@pytest.mark.parametrize("content", ["", "---\n", "{", "- 1", "text", "a: b: c", "\x00"])
def test_file_without_policy_is_refused(content, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(errors.InvalidPolicy):
        preview.read(file, namespace="shop")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "embedding_operator", "render", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_prints_yaml_or_document():
    whole = command(EVERYTHING)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert list(yaml.safe_load_all(whole.stdout)) == list(
        yaml.safe_load_all(preview.objects(preview.read(EVERYTHING, namespace="default")))
    )
    alone = command(EVERYTHING, "--document", "--namespace", "shop")
    document.parse(alone.stdout)


def test_command_ends_with_1_and_one_line_for_bad_file(tmp_path):
    done = command(tmp_path / "nothing.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "nothing.yaml" in line


def test_start_with_bad_setting_ends_with_2_and_its_name():
    done = subprocess.run(
        [sys.executable, "-m", "embedding_operator", "run"],
        capture_output=True,
        text=True,
        check=False,
        env={"WORKERS": "many"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: WORKERS: ")


def rule_file(file):
    return yaml.safe_load(preview.rule_file(preview.read(file, namespace="shop")))


def test_rule_file_holds_every_group_of_objects():
    groups = [
        group
        for it in rendered(EVERYTHING)
        if it["kind"] == "PrometheusRule"
        for group in it["spec"]["groups"]
    ]
    assert rule_file(EVERYTHING) == {"groups": groups}
    assert len(groups) == 3


@pytest.mark.integration
@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_promtool_takes_rule_file_of_good_policy(file, tmp_path):
    written = tmp_path / "rules.yaml"
    written.write_text(yaml.safe_dump(rule_file(file)), encoding="utf-8")
    promtool = str(cluster.artifact("promtool"))
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(written)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rule_file_is_empty_where_alerts_are_off(tmp_path):
    file = tmp_path / "policy.yaml"
    raw = yaml.safe_load((CASES / "smallest.yaml").read_text(encoding="utf-8"))
    raw["spec"]["alerts"] = {"enabled": False}
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert rule_file(file) == {"groups": []}


def test_refused_alert_ends_printing_of_rule_file(tmp_path):
    file = tmp_path / "policy.yaml"
    raw = yaml.safe_load((CASES / "smallest.yaml").read_text(encoding="utf-8"))
    raw["spec"]["alerts"] = {"additional": [{"name": "Own", "expr": "up == 0"}]}
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(errors.InvalidPolicy, match='up: every selector must have namespace="shop"'):
        rule_file(file)
