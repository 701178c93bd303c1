"""/openapi.json against the process that serves it: the answers are as it describes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from embedding_contract import names
from tests.parts import sidecar

pytestmark = pytest.mark.integration

SHORT, LONG = 40, 2_000
# Wrong data that is also larger than a body may be is refused for that.
SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 404, 405, 413, 415]
"""


@pytest.fixture
def running(from_environment):
    """Of two providers, so that the words of both kinds of models are described."""
    return from_environment(
        EMBEDDING_BACKUP_PROVIDER="voyage",
        EMBEDDING_DAILY_QUOTA="1000000000",
        EMBEDDING_PASSTHROUGH_BASE_URL="off",
    )


def campaign(running, examples, folder, say):
    """Every check of schemathesis: examples, bounds, wrong and right data, sequences of calls."""
    (folder / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run"),
            f"http://127.0.0.1:{running.port}{names.PATH_OPENAPI}",
            *("--max-examples", str(examples)),
            *("--header", f"Authorization: Bearer {sidecar.TOKEN}"),
            *("--generation-database", "none", "--no-color"),
        ],
        cwd=folder,  # where it finds its settings, and keeps what it found
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (counted,) = re.findall(r"\d+ generated.*", done.stdout)
    say(f"schemathesis: {counted}")
    assert "Traceback" not in running.said()


def test_schemathesis_finds_nothing(running, tmp_path, say):
    campaign(running, SHORT, tmp_path, say)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing_for_long(running, tmp_path, say):
    campaign(running, LONG, tmp_path, say)


def test_description_names_models_of_policy(running):
    body = running.http.get(names.PATH_OPENAPI).json()
    model = body["components"]["schemas"]["EmbeddingRequest"]["properties"]["model"]
    assert model["enum"] == ["text-embedding-3-small", "voyage-3-lite"]


def test_every_header_of_answer_is_described(running):
    operation = running.http.get(names.PATH_OPENAPI).json()["paths"][names.PATH_EMBEDDINGS]["post"]
    for answer in (running.embed("x"), running.embed("x", model="unknown")):
        described = operation["responses"][str(answer.status_code)]["headers"]
        assert {name for name in answer.headers if name.startswith("x-")} <= described.keys()


def test_api_is_described_before_policy_is_loaded(start, tmp_path):
    bare = start("--document", tmp_path / "absent.json", "--secrets", tmp_path).wait()
    body = bare.http.get(names.PATH_OPENAPI).json()
    assert "enum" not in body["components"]["schemas"]["EmbeddingRequest"]["properties"]["model"]
