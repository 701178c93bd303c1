"""The command `embedding-sidecar`: runs the program, without OpenTelemetry where tracing is off.

redis-py imports OpenTelemetry wherever it is installed, which takes 2 MB of every pod. It does
without where the import is marked as missing
(https://docs.python.org/3/reference/import.html#the-module-cache).
"""

import os
import sys
from importlib import import_module
from typing import Any, Final, cast

from embedding_sidecar.policy import settings

_SDK: Final = "opentelemetry"


def main() -> int:
    """Run the sidecar; the exit code."""
    if not settings.names_a_collector(os.environ):
        cast("dict[str, Any]", sys.modules).setdefault(_SDK, None)
    program = import_module("embedding_sidecar.__main__")
    return int(program.main())
