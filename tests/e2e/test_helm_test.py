"""`helm test` on a real node: an injected pod asks its own sidecar, and nothing of it stays."""

import pytest

from tests.parts import installation
from tests.parts.installation import SYSTEM_NAMESPACE, wait

pytestmark = pytest.mark.node

RELEASE = "embedding-operator"
SPACE = f"{RELEASE}-test"


def test_helm_test_sees_sidecar_answer_and_leaves_nothing(
    installed: installation.Installation,
) -> None:
    # The chart itself was installed with --wait, by Helm 4.
    said = installed.helm("test", RELEASE, "-n", SYSTEM_NAMESPACE, "--timeout", "150s")
    assert "Phase:          Succeeded" in said
    wait(
        lambda: not installed.kubectl("get", "namespace", SPACE, "--ignore-not-found").strip(),
        "no namespace of the test",
    )
