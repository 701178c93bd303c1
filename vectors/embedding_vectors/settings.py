"""The settings of a command: files of the pod, or flags and environment at a terminal."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from embedding_contract import fingerprint, index_document, names
from embedding_contract.index_document import IndexDocument
from embedding_contract.json_fields import InvalidDocument

ENV_DSN: Final = "EMBEDDING_DATABASE_DSN"
"""A person's own DSN, at a terminal; never in a pod's spec."""
SIDECAR_URL: Final = f"http://127.0.0.1:{names.API_PORT}"
TERMINATION_LOG: Final = Path("/dev/termination-log")
TOKEN_FILE: Final = Path(names.TOKEN_DIRECTORY) / names.SECRET_API_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The places of a command's document, database and sidecar.

    `dsn` is given in place of `dsn_file` by the environment. `ca_file` need not exist. `token_file`
    holds the policy's API token, by which proofs are signed.
    """

    document: Path
    dsn_file: Path
    ca_file: Path
    sidecar_url: str
    pod_uid: str
    token_file: Path = TOKEN_FILE
    dsn: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A document as it was read; `fingerprint` is of its bytes."""

    document: IndexDocument
    fingerprint: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that all commands share."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="must be the index's, where given")
    parser.add_argument(
        "--document",
        type=Path,
        default=Path(names.INDEX_DIRECTORY) / names.INDEX_KEY,
        metavar="FILE",
        help="the index document",
    )
    parser.add_argument(
        "--dsn-file",
        type=Path,
        default=Path(names.DATABASE_DIRECTORY) / names.DSN_FILE,
        metavar="FILE",
        help=f"holds the connection string; {ENV_DSN} goes before it",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        default=TOKEN_FILE,
        metavar="FILE",
        help="holds the policy's API token, by which proofs are signed",
    )
    parser.add_argument(
        "--sidecar", default=SIDECAR_URL, metavar="URL", help="where embeddings are asked for"
    )


def of(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of parsed flags."""
    return Settings(
        document=options.document,
        dsn_file=options.dsn_file,
        ca_file=options.dsn_file.parent / names.DATABASE_CA_FILE,
        sidecar_url=options.sidecar,
        pod_uid=environment.get(names.ENV_POD_UID, ""),
        token_file=options.token_file,
        dsn=environment.get(ENV_DSN) or None,
    )


def load(settings: Settings, *, name: str | None = None) -> Loaded:
    """Read the document.

    Raises:
        OSError: the file cannot be read.
        InvalidDocument: it is no index document, or of another index than `name`.
    """
    text = settings.document.read_bytes()
    found = index_document.parse(text)
    if name not in (None, found.name):
        message = f"the document is of {found.name}, not of {name}"
        raise InvalidDocument("index.name", message)
    return Loaded(document=found, fingerprint=fingerprint.of_document(text))


def token(settings: Settings) -> str:
    """The policy's API token as the file has it now; empty where there is none."""
    try:
        return settings.token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
