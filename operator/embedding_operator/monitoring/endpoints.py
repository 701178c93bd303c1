"""The Prometheus and Alertmanager servers to ask, from the file that the chart mounts.

The file holds URLs and paths of mounted files, but no credential.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

SERVERS_LIMIT: Final = 8
MEBIBYTE: Final = 1_048_576
BODY_MIB: Final = range(1, 257)
LARGEST_BYTES: Final = BODY_MIB[-1] * MEBIBYTE
_KEYS: Final = frozenset(
    {"url", "caFile", "bearerFile", "basicAuthDirectory", "headersDirectory", "allowInsecureHTTP"}
)
_URL: Final = re.compile(r"https?://[!-~]+")


class InvalidEndpoints(ValueError):  # noqa: N818 - says what is wrong with what
    """The file is not valid; the text names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server. Credentials are read from files at each request, so they may be rotated.

    `basic_directory` holds the files `username` and `password`, `headers_directory` one file for
    each header, with its name.
    """

    url: str
    ca_file: Path | None = None
    bearer_file: Path | None = None
    basic_directory: Path | None = None
    headers_directory: Path | None = None

    @property
    def host(self) -> str:
        """Host and port, as messages name the server."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """All servers; answers of more than `body_bytes` are not read."""

    prometheus: tuple[Endpoint, ...] = ()
    alertmanager: tuple[Endpoint, ...] = ()
    body_bytes: int = 8 * MEBIBYTE


def load(file: Path) -> Endpoints:
    """The endpoints of a YAML file.

    Raises:
        InvalidEndpoints: it cannot be read, or a field is not valid; the text names the field.
    """
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidEndpoints(f"{file}: {error}") from None
    return parse(raw or {})


def parse(raw: Any) -> Endpoints:
    """The endpoints of an already parsed file.

    Raises:
        InvalidEndpoints: a field is not valid; the text names it.
    """
    if not isinstance(raw, dict) or raw.keys() - {"prometheus", "alertmanager", "maxBodyMiB"}:
        raise InvalidEndpoints("monitoring: has prometheus, alertmanager and maxBodyMiB only")
    body_mib = raw.get("maxBodyMiB", 8)
    if not isinstance(body_mib, int) or body_mib not in BODY_MIB:
        raise InvalidEndpoints("monitoring.maxBodyMiB: must be a whole number from 1 to 256")
    return Endpoints(
        prometheus=_servers(raw.get("prometheus"), "monitoring.prometheus"),
        alertmanager=_servers(raw.get("alertmanager"), "monitoring.alertmanager"),
        body_bytes=body_mib * MEBIBYTE,
    )


def endpoint(url: str, *, where: str, **files: Path | None) -> Endpoint:
    """A server by its URL and the files of its credentials.

    Raises:
        InvalidEndpoints: the URL is not valid; the text begins with `where`.
    """
    try:
        parts = urlsplit(url)
        usable = bool(_URL.fullmatch(url) and parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidEndpoints(f"{where}: must be a URL that begins with https:// or http://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidEndpoints(f"{where}: must have no user, password, query or fragment")
    return Endpoint(url=url.rstrip("/"), **files)


def _servers(raw: Any, where: str) -> tuple[Endpoint, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or len(raw) > SERVERS_LIMIT:
        raise InvalidEndpoints(f"{where}: must be a list of at most {SERVERS_LIMIT} servers")
    return tuple(_server(entry, f"{where}[{index}]") for index, entry in enumerate(raw))


def _server(raw: Any, where: str) -> Endpoint:
    if not isinstance(raw, dict) or raw.keys() - _KEYS:
        raise InvalidEndpoints(f"{where}: has {', '.join(sorted(_KEYS))} only")
    if not isinstance(raw.get("url"), str):
        raise InvalidEndpoints(f"{where}.url: is missing")

    def file(key: str) -> Path | None:
        written = raw.get(key)
        if written is not None and not isinstance(written, str):
            raise InvalidEndpoints(f"{where}.{key}: must be a path")
        return Path(written) if written else None

    made = endpoint(
        raw["url"],
        where=f"{where}.url",
        ca_file=file("caFile"),
        bearer_file=file("bearerFile"),
        basic_directory=file("basicAuthDirectory"),
        headers_directory=file("headersDirectory"),
    )
    check_credentials(made, where=where, insecure=raw.get("allowInsecureHTTP") is True)
    return made


def check_credentials(made: Endpoint, *, where: str, insecure: bool) -> None:
    """Refuse credentials that contradict each other or would travel in plain text.

    Raises:
        InvalidEndpoints: the text begins with `where`.
    """
    if made.bearer_file is not None and made.basic_directory is not None:
        raise InvalidEndpoints(f"{where}: has a bearer token and basic auth; give one of them")
    secret = (made.bearer_file, made.basic_directory, made.headers_directory)
    if made.url.startswith("http://") and any(secret) and not insecure:
        raise InvalidEndpoints(
            f"{where}.url: is http://, so credentials would travel in plain text: use https://, or"
            " set allowInsecureHTTP: true"
        )
