"""A cluster of an earlier minor has its own API server and controllers, and the newest's rest."""

import pytest

from dev.cluster import artifacts


def test_newest_minor_has_every_program_under_its_own_name():
    for form, programs in artifacts.BY_FORM.items():
        assert artifacts.names_of(form) == {name: name for name in programs}


def test_earlier_minor_brings_its_api_server_and_controllers():
    assert artifacts.names_of("control-plane", "1.29") == {
        "etcd": "etcd",
        "kube-apiserver": "kube-apiserver-1.29",
        "kube-controller-manager": "kube-controller-manager-1.29",
        "kubectl": "kubectl",
    }


@pytest.mark.parametrize(
    ("form", "minor"), [("node", "1.29"), ("control-plane", "1.12"), ("control-plane", "v1.29")]
)
def test_minor_that_is_not_built_is_refused_by_name(form, minor):
    with pytest.raises(artifacts.UnknownVersionError, match=f"KUBERNETES={minor}: there are 1"):
        artifacts.names_of(form, minor)
