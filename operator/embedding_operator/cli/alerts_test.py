"""`kubectl embedding alerts test NAME`: have the operator send a test alert, and print the result.

Exit codes: 0 delivered, 1 not delivered, 2 not sent, or not in time.
"""

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

from embedding_contract import names
from embedding_operator import terminal
from embedding_operator.kube import client, kinds
from embedding_operator.monitoring import alert_test

DELIVERED, NOT_DELIVERED, CANNOT = 0, 1, 2
TAKEN_SECONDS: Final = 60.0
ENDED_SECONDS: Final = 420.0
LOOK_SECONDS: Final = 1.0
_CANNOT: Final = frozenset({"CannotAsk", "NotConfigured", "Interrupted"})


def run(options: argparse.Namespace, api: client.KubeClient, namespace: str) -> int:
    """Request a test alert, and wait for its end."""
    found = api.get(kinds.POLICY, namespace, options.name)
    if found is None:
        return _cannot(f"there is no {names.KIND} {options.name} in namespace {namespace}")
    wait_seconds = alert_test.seconds_until_next(_test(found), now=datetime.now(UTC))
    if wait_seconds > 0:
        return _cannot(
            f"the last test alert of {namespace}/{options.name} is too recent; try again in"
            f" {wait_seconds:.0f} s"
        )
    value = datetime.now(UTC).isoformat(timespec="microseconds")
    annotation = {names.ANNOTATION_TEST_ALERT: value}
    api.annotate(kinds.POLICY, namespace, options.name, annotation)
    sys.stderr.write("Sending a test alert; Alertmanager waits for its group_wait.\n")
    return _follow(api, namespace, options.name, value)


def _follow(api: client.KubeClient, namespace: str, name: str, value: str) -> int:
    since = time.monotonic()
    while True:
        test = _test(api.get(kinds.POLICY, namespace, name) or {})
        taken = test.get("value") == value
        if taken and test["result"] != alert_test.RUNNING:
            break
        waited_seconds = time.monotonic() - since
        if waited_seconds > (ENDED_SECONDS if taken else TAKEN_SECONDS):
            return _cannot(
                "the operator has not "
                + ("ended the test; see status.alertTest" if taken else "begun it; is it running?")
            )
        time.sleep(LOOK_SECONDS)
    told = f"{namespace}/{name}: {test['result']}: {test.get('message', '')}"
    sys.stdout.write(f"{terminal.shown(told)}\n")
    if test["result"] == alert_test.DELIVERED:
        return DELIVERED
    return CANNOT if test["result"] in _CANNOT else NOT_DELIVERED


def _test(found: dict[str, Any]) -> dict[str, Any]:
    return dict((found.get("status") or {}).get("alertTest") or {})


def _cannot(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return CANNOT
