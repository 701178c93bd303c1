"""`embedding-operator test-sidecar`, which `helm test` runs in an injected pod."""

import argparse
import http.server
import json
import threading

import pytest

from embedding_contract import names
from embedding_operator.cli import sidecar_test


@pytest.fixture
def sidecar():
    """Answers as a sidecar does on GET /v1/models."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"data": [{"id": "helm-test"}]}).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def run(*arguments):
    parser = argparse.ArgumentParser()
    sidecar_test.add_to(parser.add_subparsers())
    options = parser.parse_args(["test-sidecar", "--wait-seconds=0", *arguments])
    return options.run(options)


def test_sidecar_with_model_passes(sidecar, monkeypatch, capsys):
    monkeypatch.setenv(names.ENV_BASE_URL, sidecar)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert run("--model=helm-test") == 0
    assert "has the model helm-test" in capsys.readouterr().out


def test_other_models_are_named(sidecar, monkeypatch, capsys):
    monkeypatch.setenv(names.ENV_BASE_URL, sidecar)
    assert run("--model=other") == 1
    assert "helm-test" in capsys.readouterr().err


def test_pod_without_sidecar_fails_and_says_so(monkeypatch, capsys):
    monkeypatch.delenv(names.ENV_BASE_URL, raising=False)
    assert run("--model=helm-test") == 1
    assert "without the sidecar" in capsys.readouterr().err


def test_sidecar_that_does_not_answer_fails(monkeypatch, capsys):
    monkeypatch.setenv(names.ENV_BASE_URL, "http://127.0.0.1:1/v1")
    assert run("--model=helm-test") == 1
    assert "GET http://127.0.0.1:1/v1/models" in capsys.readouterr().err
