"""Proxies and certificate authorities of sidecars: the administrator's, or those of a policy.

They are part of the document, so that they reach running pods. The document is a ConfigMap, so a
proxy cannot have a password.
"""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from embedding_contract import document
from embedding_operator import errors
from embedding_operator.policy import policy

NOT_ALLOWED: Final = "NetworkNotAllowed"
MAX_BYTES: Final = 524_288
"""The limit for authorities, half a ConfigMap. All public ones together have 220 KB."""
IN_CLUSTER: Final = ".svc,.svc.cluster.local,127.0.0.1,localhost,::1"
"""Hosts inside the cluster, which no proxy reaches: added to NO_PROXY."""
_FIELD: Final = "spec.sidecar.network"
_PROXY: Final = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?")


class InvalidNetwork(ValueError):  # noqa: N818 - says what is wrong with what
    """A proxy or a file of certificates is not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The chart's values; `ca_file`, a mounted ConfigMap, is read each time.

    `by_policies`: whether a policy may have its own. `is_guarded`: the allowed hosts are limited.
    Then no policy may, as a proxy receives requests to other hosts.
    """

    http: str | None = None
    https: str | None = None
    no: str | None = None
    ca_file: Path | None = None
    by_policies: bool = False
    is_guarded: bool = False
    _last: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    def of(
        self, wanted: policy.EmbeddingPolicy, *, ca_of: Callable[[str], str | None]
    ) -> document.Network:
        """The network part of a policy's document; `ca_of` reads `ca.crt` of a ConfigMap.

        Raises:
            errors.InvalidPolicy: it names a proxy or an authority that is forbidden or not valid.
        """
        own = wanted.network
        if own is None:
            return _made(self.http, self.https, self.no, authorities=self._authorities())
        if self.is_guarded or not self.by_policies:
            why = (
                "providers.allowedHosts of the chart is set, and a proxy receives the requests to"
                " those hosts"
                if self.is_guarded
                else "sidecar.policyNetwork of the chart is off"
            )
            message = f"may not be set, as {why}: have the administrator set sidecar.proxy"
            raise errors.InvalidPolicy(_FIELD, message, reason=NOT_ALLOWED)
        try:
            http, https = (None if it is None else proxy(it) for it in (own.http, own.https))
        except InvalidNetwork as error:
            raise errors.InvalidPolicy(f"{_FIELD}.proxy", str(error)) from None
        authorities = self._authorities()
        if own.ca_config_map is not None:
            field_of_map = f"{_FIELD}.caConfigMap"
            found = ca_of(own.ca_config_map)
            if found is None:
                message = f"there is no ConfigMap {own.ca_config_map} with a key ca.crt"
                raise errors.InvalidPolicy(field_of_map, message, reason="ConfigMapMissing")
            try:
                authorities = certificates(found)
            except InvalidNetwork as error:
                raise errors.InvalidPolicy(field_of_map, str(error)) from None
        return _made(
            http or self.http, https or self.https, own.no or self.no, authorities=authorities
        )

    def _authorities(self) -> str | None:
        """The chart's authorities; the last valid ones if the file is not valid."""
        if self.ca_file is None:
            return None
        try:
            self._last[self.ca_file] = certificates(self.ca_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self._last.get(self.ca_file)
        return self._last[self.ca_file]


def proxy(value: str) -> str:
    """A proxy's URL.

    Raises:
        InvalidNetwork: sidecars cannot use it. The text does not quote the value.
    """
    if "@" in value:
        raise InvalidNetwork(
            "must not have a user or password, as the policy document is not a Secret"
        )
    if "://" not in value:
        raise InvalidNetwork("proxy_without_scheme: must begin with http:// or https://")
    if not value.startswith(("http://", "https://")):
        raise InvalidNetwork("proxy_not_http: must begin with http:// or https://")
    if not _PROXY.fullmatch(value):
        raise InvalidNetwork("proxy_not_a_url: must be http://HOST:PORT")
    return value.rstrip("/")


def certificates(text: str) -> str:
    """Certificates in PEM.

    Raises:
        InvalidNetwork: there are none, or they are too long.
    """
    if len(text) > MAX_BYTES:
        raise InvalidNetwork(f"ca.crt is longer than {MAX_BYTES} bytes")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise InvalidNetwork("ca.crt holds no PEM certificates") from None
    return text


def _made(
    http: str | None, https: str | None, no: str | None, *, authorities: str | None
) -> document.Network:
    no_proxy = ",".join(it for it in (no, IN_CLUSTER) if it) if http or https else None
    return document.Network(
        http_proxy=http, https_proxy=https, no_proxy=no_proxy, authorities=authorities
    )
