"""README.md in the order of a platform engineer, with facts that agree with their sources."""

import re
from pathlib import Path

import yaml

from embedding_contract import built_in_alerts
from embedding_operator.policy import crd_schema, policy
from tests.parts import clients

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURES = TEXT.partition("## Four figures\n")[2].partition("\n## ")[0]


def test_readme_answers_in_order_in_which_platform_engineer_asks():
    asked = (
        "docs/architecture.svg",
        "kind: EmbeddingPolicy",
        "kubectl get embpol",
        "helm upgrade --install",
        "## When to use it, and when not",
        "## Guarantees",
        "## Four figures",
        "## Links",
    )
    places = [TEXT.index(it) for it in asked]
    assert places == sorted(places)


def test_readme_links_to_files_that_exist():
    linked = {it for it in re.findall(r"\]\(([^)#\s]+)", TEXT) if "://" not in it}
    assert {it for it in linked if not (ROOT / it).exists()} == set()


def test_figures_of_readme_are_those_of_page_of_benchmarks():
    rows = [line.strip("| ").split(" | ") for line in FIGURES.splitlines() if "`make" in line][1:]
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8").partition("## The whole")[2]
    assert len(rows) == 4
    for _, figure, command in rows:
        assert f"| {figure} | {command} |" in page


def test_policy_of_readme_is_valid():
    (shown,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    read = policy.parse(crd_schema.admit(yaml.safe_load(shown)))
    assert [it.kind for it in read.providers] == ["OpenAI", "Voyage"]


def test_readme_counts_alerts_and_clients_right():
    assert f"{len(built_in_alerts.BUILT_IN)} alerts per policy" in TEXT
    assert f"{len(clients.CLIENTS)} clients of" in TEXT
