"""A webhook that answers only to the API server, which shows its certificate."""

import base64
import json
import os

import pytest
import yaml

from dev import cluster
from dev.cluster.certificates import Authority
from embedding_contract import names
from tests.conftest import CRD
from tests.parts import admitting
from tests.parts.api_server import ApiServer
from tests.parts.installation import wait
from tests.parts.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

NAMESPACE = "shop"


@pytest.fixture
def api_server():
    """One of our own, as it is restarted with other options."""
    cluster.down_stale()
    name = f"clients-{os.getpid()}"
    up = cluster.up(form="control-plane", name=name, owner_pid=os.getpid())
    try:
        asked = Kubectl(up.kubeconfig)
        asked.define(CRD)
        asked("create", "namespace", NAMESPACE)
        yield asked, ApiServer(name)
    finally:
        cluster.down(name)


def test_only_api_server_that_shows_certificate_gets_sidecar(api_server, tmp_path):
    asked, server = api_server
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.pair.certificate)
    operator = admitting.Operator(asked, tmp_path)
    admitting.lead(asked, operator.webhook_port)
    admitting.open_shop(asked, NAMESPACE)
    operator.start(WEBHOOK_CLIENT_CA=str(tmp_path / "ca.crt"))
    try:
        wait(lambda: admitting.is_trusted(asked), "a trusted authority", last=operator.log)
        assert admitting.sidecars(admitting.create(asked, NAMESPACE)) == []
        server.stop()
        server.start(f"--admission-control-config-file={shown(authority, tmp_path)}")
        wait(
            lambda: admitting.sidecars(admitting.create(asked, NAMESPACE)) == [names.CONTAINER],
            "a pod with a sidecar",
            last=operator.log,
        )
    finally:
        operator.stop()


def shown(authority, folder):
    """The file that has the API server show a certificate of this authority to webhooks."""
    pair = authority.issue("kube-apiserver-webhook-client")
    user = {
        "client-certificate-data": base64.b64encode(pair.certificate).decode(),
        "client-key-data": base64.b64encode(pair.key).decode(),
    }
    kubeconfig = folder / "webhooks.kubeconfig"
    config = {"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]}
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    file = folder / "admission.json"
    plugin = {
        "name": "MutatingAdmissionWebhook",
        "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": str(kubeconfig),
        },
    }
    file.write_text(
        json.dumps(
            {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "AdmissionConfiguration",
                "plugins": [plugin],
            }
        ),
        encoding="utf-8",
    )
    return file
