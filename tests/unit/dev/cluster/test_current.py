"""``CLUSTER=current`` takes a cluster that is there, and leaves it alone."""

import pytest

from dev import cluster
from dev.cluster import current, images


@pytest.fixture(autouse=True)
def chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("CLUSTER", "current")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMBEDDING_OPERATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("CLUSTER_HOST_ADDRESS", raising=False)


def test_up_gives_kubeconfig_in_use(monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.touch()
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("CLUSTER_HOST_ADDRESS", "192.0.2.1")
    found = cluster.up(form="node")
    assert (found.kubeconfig, found.host_address) == (config, "192.0.2.1")


def test_default_kubeconfig_is_users(tmp_path):
    config = tmp_path / ".kube" / "config"
    config.parent.mkdir()
    config.touch()
    assert cluster.up().kubeconfig == config


def test_current_cluster_without_kubeconfig_is_refused():
    with pytest.raises(current.NoContextError, match="no kubeconfig at"):
        cluster.up()


def test_list_of_them_is_refused(monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    with pytest.raises(current.NoContextError, match="name one file"):
        cluster.up()


def test_another_word_is_refused(monkeypatch):
    monkeypatch.setenv("CLUSTER", "yes")
    with pytest.raises(current.NoContextError, match="may only be"):
        cluster.up()


def test_down_does_nothing(tmp_path):
    cluster.down("one")
    assert not (tmp_path / "cache").exists()


def test_loading_image_says_what_to_do(capsys, tmp_path):
    images.load(tmp_path / "image.tar", name="one")
    assert f"kind load image-archive {tmp_path}/image.tar" in capsys.readouterr().err
