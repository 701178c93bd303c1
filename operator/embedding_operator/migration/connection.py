"""Address and token of Vault, by the environment variables of `vault` and `bao`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from embedding_operator.migration.refusal import Refused

TOKEN_FILE: Final = ".vault-token"  # noqa: S105 - its name
_TRUE: Final = frozenset({"1", "t", "true"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """`ca` is a file or a folder of certificate authorities; None means the system's."""

    address: str
    token: str = field(repr=False)
    namespace: str | None = None
    ca: Path | None = None
    certificate: tuple[Path, Path] | None = None


def read(environment: Mapping[str, str], *, home: Path) -> Connection:
    """The connection by VAULT_ADDR, VAULT_TOKEN and the others; ~/.vault-token may hold the token.

    Raises:
        Refused: a variable is missing or cannot be used; the text names it.
    """
    if environment.get("VAULT_SKIP_VERIFY", "").lower() in _TRUE:
        raise Refused("VAULT_SKIP_VERIFY: TLS is always verified; name the CA in VAULT_CACERT")
    certificate = _file(environment, "VAULT_CLIENT_CERT"), _file(environment, "VAULT_CLIENT_KEY")
    if (certificate[0] is None) != (certificate[1] is None):
        raise Refused("VAULT_CLIENT_CERT and VAULT_CLIENT_KEY: one needs the other")
    namespace = environment.get("VAULT_NAMESPACE") or None
    if namespace is not None and not _is_word(namespace):
        raise Refused("VAULT_NAMESPACE: must be printable ASCII without blanks")
    return Connection(
        address=_address(environment.get("VAULT_ADDR", "")),
        token=_token(environment, home),
        namespace=namespace,
        ca=_file(environment, "VAULT_CACERT") or _file(environment, "VAULT_CAPATH"),
        certificate=(certificate[0], certificate[1])
        if certificate[0] is not None and certificate[1] is not None
        else None,
    )


def _address(written: str) -> str:
    try:
        parts = urlsplit(written)
        usable = parts.scheme in {"https", "http"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in written or parts.query or parts.fragment:
        raise Refused(
            "VAULT_ADDR: must be Vault's URL, such as https://vault.example.com:8200; http:// sends"
            " secrets in plain text"
        )
    return written.rstrip("/")


def _token(environment: Mapping[str, str], home: Path) -> str:
    token, where = environment.get("VAULT_TOKEN", ""), "VAULT_TOKEN"
    if not token:
        where = f"~/{TOKEN_FILE}"
        try:
            token = (home / TOKEN_FILE).read_bytes().decode("ascii", "replace").strip()
        except FileNotFoundError:
            raise Refused("VAULT_TOKEN: is not set, and there is no ~/.vault-token") from None
        except OSError as error:
            raise Refused(f"{where}: {error.strerror}") from None
    if not _is_word(token):
        raise Refused(f"{where}: must hold a token of printable ASCII without blanks")
    return token


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and text != "" and " " not in text


def _file(environment: Mapping[str, str], name: str) -> Path | None:
    written = environment.get(name)
    if not written:
        return None
    if not Path(written).exists():
        raise Refused(f"{name}: there is no {written}")
    return Path(written)
