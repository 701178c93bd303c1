"""The API server that a person's command talks to."""

import kubernetes
import pytest

from embedding_operator import errors
from embedding_operator.kube import client, kubeconfig


@pytest.fixture(autouse=True)
def no_kubeconfig(monkeypatch, tmp_path):
    missing = str(tmp_path / "nothing")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", missing)


def test_cluster_of_pod_is_used_without_kubeconfig(monkeypatch, tmp_path):
    file = tmp_path / "namespace"
    file.write_text("shop", encoding="utf-8")
    api = client.KubeClient(kubernetes.client.ApiClient())
    monkeypatch.setattr(kubeconfig, "IN_CLUSTER_NAMESPACE", file)
    monkeypatch.setattr(kubeconfig, "connect", lambda: api)
    assert kubeconfig.connect_as_user(None, None) == (api, "shop")
    # What was named and is not there is not replaced by something else.
    for path, context in ((str(tmp_path / "none"), None), (None, "ours")):
        with pytest.raises(errors.Denied):
            kubeconfig.connect_as_user(path, context)


def test_missing_kubeconfig_and_pod_credentials_are_told():
    with pytest.raises(errors.Denied, match="no cluster is configured"):
        kubeconfig.connect_as_user(None, None)
