"""The parts of the holder's work, as the settings choose them."""

import pytest

from embedding_operator import metrics, settings
from embedding_operator.controller import workers
from embedding_operator.holder import Holder
from tests.parts.informing import API, World


@pytest.mark.parametrize(
    ("by", "reconciles"), [("webhook", False), ("policy", True), ("policy+webhook", True)]
)
def test_injections_are_reconciled_only_where_api_server_injects(by, reconciles):
    """By the webhook the operator has no right to them."""
    queues = workers.Queues.made(workers=4)
    led = Holder(
        settings.read({"INJECTION_BY": by}),
        api=API(),
        free=API(),
        seen=World().caches,
        queues=queues,
        measured=metrics.Metrics(),
    )
    worked = [part.queue for part in led._workers._parts]
    assert (queues.injections in worked) == reconciles
    assert [queues.policies, queues.indexes, queues.classes] == worked[:3]
