"""The Secrets of others, however many and large, cost the operator no memory."""

import base64
import os
import time

import pytest

from embedding_operator.kube import kinds
from tests.parts import estate
from tests.parts.installation import wait

pytestmark = [pytest.mark.cluster, pytest.mark.integration]

MIB = 1024**2
POLICIES = 8
SPARE_BYTES = 30 * MIB
"""One run differs from the next by a few MiB; what would be kept of all is 200 MiB or more."""
SETTLED_SECONDS = 8


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.soak)])
def test_foreign_secrets_of_one_mib_take_no_memory(tmp_path, count, say):
    with estate.standing(tmp_path, policies=POLICIES, namespaces=2) as (built, operator):
        without = memory(built, operator)
        for number in range(count):
            built.objects.create(kinds.SECRET, "default", foreign(number))
        with_them = memory(built, operator, meanwhile=lambda: touch(built))
    say(
        f"{count:,} foreign Secrets of 1 MiB: the operator holds {shown(with_them)} with them, "
        f"{shown(without)} without"
    )
    for before, after in zip(without, with_them, strict=True):
        assert after - before < SPARE_BYTES


def memory(built, operator, *, meanwhile=lambda: None):
    """Bytes that a new operator holds when it has come to rest, and the most that it held."""
    operator.start(RESYNC_SECONDS="1", VAULT_POLL_SECONDS="1")
    try:
        with built.watched() as arrivals:
            wait(lambda: arrivals.count() == built.secrets, "all Secrets")
            meanwhile()
            own = built.paths[0]
            arrivals.wait(built.secret_of(own), built.write(own), timeout_seconds=60)
        held = []
        for _ in range(SETTLED_SECONDS):
            time.sleep(1)
            held.append(operator.resident_bytes())
        return min(held), operator.most_resident_bytes()
    finally:
        operator.stop()


def touch(built):
    """Change some of the foreign Secrets while the operator watches."""
    for number in range(20):
        live = built.objects.get(kinds.SECRET, "default", f"foreign-{number}")
        built.objects.replace(kinds.SECRET, "default", live | {"data": content()})


def foreign(number):
    # As Helm labels the Secrets of its releases, which are many and large.
    labels = {"owner": "helm", "app.kubernetes.io/managed-by": "Helm"}
    metadata = {"name": f"foreign-{number}", "labels": labels}
    return {"metadata": metadata, "type": "Opaque", "data": content()}


def content():
    return {"release": base64.b64encode(os.urandom(MIB)).decode()}


def shown(memory):
    held, most = memory
    return f"{held / MIB:.0f} MiB ({most / MIB:.0f} at most)"
