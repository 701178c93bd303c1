"""The policy of docs/migration.md: the API server takes it, and it says what the file did."""

import re
from pathlib import Path

import pytest
import yaml

from embedding_operator.policy import crd_schema, policy

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
THEIRS, OURS = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_policy_says_what_file_of_litellm_said():
    made = policy.to_document(policy.parse(crd_schema.admit(OURS)))
    entries = [it["litellm_params"] for it in THEIRS["model_list"]]
    first, second = made.providers
    assert {it["model_name"] for it in THEIRS["model_list"]} == {first.model, second.model}
    assert (first.rate.requests_per_minute, first.rate.tokens_per_minute) == (
        entries[0]["rpm"],
        entries[0]["tpm"],
    )
    assert entries[1]["api_base"] in str(second)
    assert entries[1]["api_version"] in str(second)
    settings = THEIRS["litellm_settings"]
    assert made.quota.monthly_cost == settings["max_budget"] * 10**9
    assert OURS["spec"]["cache"]["ttlSeconds"] == settings["cache_params"]["ttl"]
    host = f"{settings['cache_params']['host']}:{settings['cache_params']['port']}"
    assert OURS["spec"]["cache"]["redis"]["url"] == f"redis://{host}"


@pytest.mark.cluster
def test_api_server_takes_policy_of_page(api_server, namespace):
    api_server.apply({**OURS, "metadata": {**OURS["metadata"], "namespace": namespace}})
    stored = api_server.get("embeddingpolicy", "from-litellm", "-n", namespace)
    assert stored["spec"]["quota"]["monthly"] == {"cost": "40"}


def test_every_field_of_ours_that_page_names_is_of_resource():
    reference = (Path(__file__).parents[2] / "docs" / "resource.md").read_text(encoding="utf-8")
    fields = set(re.findall(r"^\| `([\w.\[\]]+)`", reference, re.MULTILINE))
    table = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    named = {
        it
        for cells in table
        for it in re.findall(
            r"`((?:providers\[\]\.|quota|cache|alerts|failover)[\w.\[\]]*)", cells[1]
        )
    }
    assert len(named) > 12
    assert named - fields == set()
