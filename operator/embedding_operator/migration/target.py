"""The place in Vault, MOUNT/PATH, and which part of it is the mount."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedding_operator.migration.refusal import Refused

# The resource's rule for mounts and paths, so that a policy can sync a migrated secret. It leaves
# nothing for a server to decode or normalise into another path.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Target:
    """A path of a KV mount; `version` is the engine's, 1 or 2."""

    mount: str
    path: str
    version: int

    def __str__(self) -> str:
        return f"{self.mount}/{self.path}"


def plain(to: str) -> str:
    """`to`, once it is checked to be MOUNT/PATH.

    Raises:
        Refused: it is not, or a server could normalise it into another path.
    """
    if not _PLAIN.fullmatch(to):
        raise Refused(
            f"--to {to!r}: must be MOUNT/PATH, with segments of letters, digits, _, - and . that do"
            " not begin with - or ., joined by single slashes, and without data/ of the API"
        )
    return to


def longest(to: str, mounts: Mapping[str, Any]) -> str:
    """The mount that `to` begins with, without slashes; the longest where several do.

    Raises:
        Refused: none does, or nothing is left for the path.
    """
    found = [mount for mount in mounts if to.startswith(mount) and mount.endswith("/")]
    if found:
        return max(found, key=len).rstrip("/")
    shown = ", ".join(sorted(mounts)[:SHOWN]) or "none"
    raise Refused(
        f"--to {to}: begins with no mount that Vault lists for this token ({shown});"
        " --mount MOUNT says which part is the mount"
    )


def given(to: str, mount: str) -> str:
    """The mount that `--mount` names.

    Raises:
        Refused: `to` does not begin with it.
    """
    name = mount.removesuffix("/")
    if not name or not to.startswith(f"{name}/"):
        raise Refused(f"--mount {mount!r}: --to must be MOUNT/PATH and begin with it")
    return name
