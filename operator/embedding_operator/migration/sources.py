"""Sources of a migration: a .env file, the environment, or a Secret of the cluster."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.migration import env_files
from embedding_operator.migration.refusal import Refused
from embedding_operator.render import secrets

STANDARD_INPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """Values by key; `place` names the source in messages."""

    place: str
    values: Mapping[str, str] = field(repr=False)


def file(name: str) -> Source:
    """The values of a .env file; `-` names standard input.

    Raises:
        Refused: it cannot be read, or a line of it.
    """
    place = "standard input" if name == STANDARD_INPUT else name
    try:
        raw = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except OSError as error:
        raise Refused(f"--from-file {name}: {error.strerror}") from None
    return Source(place, env_files.parse(raw, place=place))


def environment(variables: Mapping[bytes, bytes], keys: Iterable[str]) -> Source:
    """The values of these variables.

    Raises:
        Refused: a value is not UTF-8.
    """
    found = {key: variables[key.encode()] for key in keys if key.encode() in variables}
    return _text("the environment", found)


def secret(objects: KubeClient, address: str, keys: Iterable[str] | None) -> Source:
    """The values of a Secret by NAMESPACE/NAME: these keys of it, or all.

    Raises:
        Refused: there is none, or a value is not UTF-8.
        errors.Denied, errors.Unavailable: the API server refuses, or is away.
    """
    namespace, _, name = address.partition("/")
    if not namespace or not name or "/" in name:
        raise Refused(f"--from-secret {address!r}: must be NAMESPACE/NAME")
    place = f"Secret {address}"
    found = objects.get(kinds.SECRET, namespace, name)
    if found is None:
        raise Refused(f"--from-secret: there is no {place}")
    values = secrets.decode(found)
    wanted = values if keys is None else {key: values[key] for key in keys if key in values}
    return _text(place, wanted)


def _text(place: str, values: Mapping[str, bytes]) -> Source:
    text = {}
    for key, value in values.items():
        try:
            text[key] = value.decode()
        except UnicodeDecodeError:
            # Not the error itself, which carries the value.
            raise Refused(f"{place}: {key} is not UTF-8, and Vault's KV holds text") from None
    return Source(place, text)
