"""`embedding-operator test-sidecar`: an injected pod asks its own sidecar which models it has.

The chart's `helm test` runs it in a pod without any right. Exit codes: 0 the sidecar answers and
has the model, 1 the pod has no sidecar or its answer is another one.
"""

import argparse
import json
import os
import sys
import time
import urllib.request
from typing import Any, Final

from embedding_contract import names

WAIT_SECONDS: Final = 60.0
"""For a policy's document to reach a sidecar that has started before it."""
PAUSE_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0


def add_to(commands: Any) -> None:
    """Add `test-sidecar` to a parser's subcommands."""
    test = commands.add_parser("test-sidecar", help="ask the sidecar of this pod for its models")
    test.add_argument("--model", required=True, metavar="NAME", help="the model that it must have")
    test.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="by default 60")
    test.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    address = os.environ.get(names.ENV_BASE_URL)
    if not address:
        sys.stderr.write(
            f"error: {names.ENV_BASE_URL} is not set: this pod was created without the sidecar."
            " Look at the events of the pod and the status of its policy.\n"
        )
        return 1
    deadline = time.monotonic() + options.wait_seconds
    while (fault := _fault(f"{address}/models", options.model)) is not None:
        if time.monotonic() > deadline:
            sys.stderr.write(f"error: {fault}\n")
            return 1
        time.sleep(PAUSE_SECONDS)
    sys.stdout.write(f"the sidecar answers on {address} and has the model {options.model}\n")
    return 0


def _fault(url: str, model: str) -> str | None:
    """The fault of the answer; None if there is none."""
    try:
        # Past any proxy of the environment: the sidecar is on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            found = [it["id"] for it in json.load(answer)["data"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"GET {url}: {error}"
    return None if model in found else f"the sidecar has the models {found}, not {model}"
